package httpapi

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/internal/crc32c"
)

var tusCreation = []clause{
	{"Creation", "an upload is made at offset 0, and the answer says where", func(p *tusUser) {
		r := p.ask("POST", tusRoot, "", "Upload-Length: 11")
		p.want(r, 201)
		p.wantOffset(p.pathOf(r), 0)
	}},
	{"Creation", "the length is given, or deferred, and not both", func(p *tusUser) {
		p.want(p.ask("POST", tusRoot, ""), 400)
		p.want(p.ask("POST", tusRoot, "", "Upload-Length: 11", "Upload-Defer-Length: 1"), 400)
		p.wantNothing()
	}},
	{"Upload-Defer-Length", "any other value than 1 is 400", func(p *tusUser) {
		for _, v := range []string{"0", "2", "true", "01", "1.0"} {
			p.want(p.ask("POST", tusRoot, "", "Upload-Defer-Length: "+v), 400)
		}
		p.wantNothing()
	}},
	{"Creation Defer Length", "as long as the length is unknown, HEAD says that it is deferred", func(p *tusUser) {
		path := p.create("Upload-Defer-Length: 1")
		p.want(p.head(path), 200, "Upload-Defer-Length: 1", "Upload-Length: ", "Upload-Offset: 0")
		p.want(p.patch(path, 0, "hello"), 204, "Upload-Offset: 5")
		p.want(p.head(path), 200, "Upload-Defer-Length: 1", "Upload-Length: ", "Upload-Offset: 5")
		p.want(p.patch(path, 5, " wor", "Upload-Length: 11"), 204, "Upload-Offset: 9")
		p.want(p.head(path), 200, "Upload-Defer-Length: ", "Upload-Length: 11", "Upload-Offset: 9")
		p.want(p.patch(path, 9, "ld"), 204, "Upload-Offset: 11")
		p.wantDelivery(path, "hello world")
	}},
	{"Creation Defer Length", "the length may come once all bytes are there", func(p *tusUser) {
		path := p.create("Upload-Defer-Length: 1")
		p.want(p.patch(path, 0, "hello"), 204)
		p.want(p.patch(path, 5, "", "Upload-Length: 5"), 204, "Upload-Offset: 5")
		p.wantDelivery(path, "hello")
	}},
	{"Creation Defer Length", "the length never changes once it is set, and is never less than what came", func(p *tusUser) {
		path := p.create("Upload-Defer-Length: 1")
		p.want(p.patch(path, 0, "hello"), 204)
		p.wantRefused(p.patch(path, 5, "", "Upload-Length: 4"))
		p.want(p.patch(path, 5, " wor", "Upload-Length: 11"), 204)
		p.wantRefused(p.patch(path, 9, "ld!", "Upload-Length: 12"))
		p.want(p.head(path), 200, "Upload-Length: 11", "Upload-Offset: 9")
		p.want(p.patch(path, 9, "ld"), 204, "Upload-Offset: 11")
		p.wantDelivery(path, "hello world")
	}},
	{"Upload-Metadata", "what was given comes back with HEAD as it was", func(p *tusUser) {
		for _, given := range []string{
			"filename " + base64Of("world_domination_plan.pdf") + ",is_confidential",
			"album " + base64Of("7") + ",filename " + base64Of("père & fils.mp4") + ",filetype " + base64Of("video/mp4") + ",note ",
		} {
			path := p.create("Upload-Length: 11", "Upload-Metadata: "+given)
			p.want(p.head(path), 200, "Upload-Metadata: "+strings.TrimSpace(given))
		}
		p.want(p.head(p.create("Upload-Length: 11")), 200, "Upload-Metadata: ")
	}},
	{"Upload-Metadata", "the file's name and type are the upload's", func(p *tusUser) {
		path := p.create("Upload-Length: 5", "Upload-Metadata: filename "+base64Of("film.mp4")+",filetype "+base64Of("video/mp4")+",album "+base64Of("7"))
		p.want(p.patch(path, 0, "hello"), 204)
		if u := p.upload(path); u.FileName != "film.mp4" || u.ContentType != "video/mp4" || u.Metadata["album"] != "7" {
			p.t.Errorf("the upload is %+v", u)
		}
	}},
	{"Upload-Metadata", "a key is unique, not empty and without a space or comma, and a value is base64", func(p *tusUser) {
		for _, given := range []string{
			"filename !!!!", "filename aGVsbG8", "a b c", " aGVsbG8=", ",filename aGVsbG8=", "filename aGVsbG8=,", "filename aGVsbG8=,,album Nw==",
			"album Nw==,album Nw==", "album Nw==,album", ",",
		} {
			if r := p.ask("POST", tusRoot, "", "Upload-Length: 11", "Upload-Metadata: "+given); r.StatusCode < 400 || r.StatusCode > 499 {
				p.t.Errorf("Upload-Metadata: %s is answered %d", given, r.StatusCode)
			}
		}
		p.wantNothing()
	}},
	{"Upload-Metadata", "a value never becomes a header of ours", func(p *tusUser) {
		for _, name := range []string{"filename", "filetype", "provider", "note"} {
			r := p.ask("POST", tusRoot, "", "Upload-Length: 11", "Upload-Metadata: "+name+" "+base64Of("a\r\nX-Smuggled: yes\r\n\r\nHTTP/1.1 200 OK"))
			if r.StatusCode == 201 {
				r = p.head(p.pathOf(r))
			}
			if r.Header.Get("X-Smuggled") != "" {
				p.t.Errorf("%s: the answer has %v", name, r.Header)
			}
		}
	}},
	{"Creation", "more than the limit is 413, at once or when the length comes", func(p *tusUser) {
		p.want(p.ask("POST", tusRoot, "", fmt.Sprintf("Upload-Length: %d", mib+1)), 413)
		p.wantNothing()
		path := p.create("Upload-Defer-Length: 1")
		p.want(p.patch(path, 0, "hello", fmt.Sprintf("Upload-Length: %d", mib+1)), 413)
		p.want(p.patch(path, 0, strings.Repeat("x", mib+1)), 413)
		p.want(p.head(p.create(fmt.Sprintf("Upload-Length: %d", mib))), 200)
	}},
	{"Creation With Upload", "the bytes that come with the creation count", func(p *tusUser) {
		r := p.ask("POST", tusRoot, "hello", octets, "Upload-Length: 11")
		p.want(r, 201, "Upload-Offset: 5")
		path := p.pathOf(r)
		p.wantOffset(path, 5)
		p.want(p.patch(path, 5, " world"), 204, "Upload-Offset: 11")
		p.wantDelivery(path, "hello world")
	}},
	{"Creation With Upload", "the whole file may come with the creation", func(p *tusUser) {
		r := p.ask("POST", tusRoot, "hello world", octets, "Upload-Length: 11")
		p.want(r, 201, "Upload-Offset: 11")
		p.wantDelivery(p.pathOf(r), "hello world")
	}},
	{"Creation With Upload", "the length may be deferred", func(p *tusUser) {
		r := p.ask("POST", tusRoot, "hello", octets, "Upload-Defer-Length: 1")
		p.want(r, 201, "Upload-Offset: 5")
		p.want(p.patch(p.pathOf(r), 5, " world", "Upload-Length: 11"), 204, "Upload-Offset: 11")
		p.wantDelivery(p.pathOf(r), "hello world")
	}},
	{"Creation With Upload", "bytes of another content type are refused", func(p *tusUser) {
		p.want(p.ask("POST", tusRoot, "hello", "Content-Type: text/plain", "Upload-Length: 11"), 415)
		p.wantNothing()
	}},
	{"Creation With Upload", "more bytes than the length are refused", func(p *tusUser) {
		p.wantRefused(p.ask("POST", tusRoot, "hello world", octets, "Upload-Length: 5"))
	}},
}

var tusChecksum = []clause{
	{"Checksum", "the algorithms are listed, sha1 among them", func(p *tusUser) {
		algorithms := listed(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: "), "Tus-Checksum-Algorithm")
		if !slices.Contains(algorithms, "sha1") {
			p.t.Errorf("the algorithms are %q", algorithms)
		}
		for _, a := range algorithms {
			if !regexp.MustCompile(`^[!-@\[-~]+$`).MatchString(a) {
				p.t.Errorf("%q is no name of an algorithm", a)
			}
		}
	}},
	{"Checksum", "bytes with their checksum are taken", func(p *tusUser) {
		path := p.create("Upload-Length: 16")
		p.want(p.patch(path, 0, "hello", sha1Of("hello")), 204, "Upload-Offset: 5")
		p.want(p.patch(path, 5, " world", "Upload-Checksum: sha256 "+sha256Of(" world")), 204, "Upload-Offset: 11")
		p.want(p.patch(path, 11, "again", "Upload-Checksum: crc32c "+crc32c.Base64(crc32c.Update(0, []byte("again")))), 204, "Upload-Offset: 16")
		p.wantDelivery(path, "hello worldagain")
	}},
	{"Checksum", "bytes with another checksum are 460 and discarded", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.patch(path, 0, "hello", sha1Of("hello")), 204)
		for range 2 {
			p.want(p.patch(path, 5, " wurld", sha1Of(" world")), 460)
			p.wantOffset(path, 5)
		}
		p.want(p.patch(path, 5, " world", sha1Of(" world")), 204, "Upload-Offset: 11")
		p.wantDelivery(path, "hello world")
	}},
	{"Checksum", "an algorithm that is not supported is 400, and so is what is no checksum", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		for _, sum := range []string{"md5 XUFAKrxLKna5cZ2REBfFkg==", "SHA1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha1", "sha1 not-base64!", "sha1 AAAA", "qvTGHdzF6KLavt4PO0gs2a6pQ00="} {
			p.want(p.patch(path, 0, "hello", "Upload-Checksum: "+sum), 400)
			p.wantOffset(path, 0)
		}
	}},
	{"Checksum", "bytes that are cut short have not got their checksum", func(p *tusUser) {
		path := p.create("Upload-Length: 200000")
		body := strings.Repeat("hello", 40_000)
		c := p.dial(p.t)
		c.send(head("PATCH", path, as(p.t, p.name), "Tus-Resumable: 1.0.0", octets, "Upload-Offset: 0", "Content-Length: 200000", sha1Of(body)) + body[:150_000])
		must(p.t, c.Close())
		p.want(p.patch(path, 0, body, sha1Of(body)), 204, "Upload-Offset: 200000")
		p.wantDelivery(path, body)
	}},
	{"Checksum", "bytes that come with the creation have one too", func(p *tusUser) {
		r := p.ask("POST", tusRoot, "hullo", octets, "Upload-Length: 11", sha1Of("hello"))
		if r.StatusCode == http.StatusCreated {
			p.wantOffset(p.pathOf(r), 0)
			return
		}
		p.want(r, 460)
		p.wantNothing()
	}},
}

var tusExpirationAndTermination = []clause{
	{"Upload-Expires", "the creation and each PATCH tell when an unfinished upload expires, as HTTP writes times", func(p *tusUser) {
		created := p.ask("POST", tusRoot, "", "Upload-Length: 11")
		for _, r := range []reply{created, p.patch(p.pathOf(created), 0, "hello")} {
			if at, err := http.ParseTime(r.Header.Get("Upload-Expires")); err != nil || !strings.HasSuffix(r.Header.Get("Upload-Expires"), " GMT") || !at.After(time.Now()) {
				p.t.Errorf("%s: Upload-Expires is %q, %v", r.Request.Method, r.Header.Get("Upload-Expires"), err)
			}
		}
	}},
	{"Upload-Expires", "what is complete does not expire", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.want(p.patch(path, 0, "hello"), 204, "Upload-Expires: ")
	}},
	{"Upload-Expires", "what has expired is gone", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.patch(path, 0, "hello"), 204)
		p.exec(p.t, `UPDATE slipway.uploads SET status = 'expired', version = version + 1 WHERE user_id = $1`, p.name)
		p.want(p.head(path), 410, "Upload-Offset: ")
		p.want(p.patch(path, 5, " world"), 410)
	}},

	{"Termination", "an upload that is terminated is gone, and its bytes", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.patch(path, 0, "hello"), 204)
		p.want(p.ask("DELETE", path, ""), 204)
		p.wantGone(p.head(path))
		p.wantGone(p.patch(path, 5, " world"))
		p.wantGone(p.ask("DELETE", path, ""))
		if id := path[len(tusRoot):]; slices.Contains(p.staged(p.t), id) {
			p.t.Error("the bytes are kept")
		}
	}},
	{"Termination", "it ends what is complete too", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.want(p.patch(path, 0, "hello"), 204)
		p.want(p.ask("DELETE", path, ""), 204)
		p.wantGone(p.head(path))
	}},
	{"Termination", "what is not there, or somebody else's, is 404", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.want(p.ask("DELETE", ofUnknown, ""), 404)
		p.want(p.ask("DELETE", path, "", as(p.t, "somebody_else")), 404)
		p.wantOffset(path, 0)
	}},
}

var tusConcatenation = []clause{
	{"Concatenation", "partial uploads become one, in the order that is asked for, as long as all of them", func(p *tusUser) {
		a, b, c := p.partial("hello"), p.partial(" wor"), p.partial("ld")
		r := p.ask("POST", tusRoot, "", fmt.Sprintf("Upload-Concat: final;%s %s %s", a, b, c))
		p.want(r, 201)
		p.want(p.head(p.pathOf(r)), 200, "Upload-Offset: 11", "Upload-Length: 11")
		p.wantDelivery(p.pathOf(r), "hello world")

		a, b = p.partial("hello"), p.partial(" world")
		p.wantDelivery(p.create(fmt.Sprintf("Upload-Concat: final;%s %s", b, a)), " worldhello")
	}},
	{"Concatenation", "a partial upload may be named by its whole URL", func(p *tusUser) {
		p.wantDelivery(p.create(fmt.Sprintf("Upload-Concat: final;%s%s %s", p.url, p.partial("hello"), p.partial(" world"))), "hello world")
	}},
	{"Concatenation", "nothing is done with partial uploads before they are put together", func(p *tusUser) {
		p.partial("hello")
		var jobs int
		must(p.t, p.pool.QueryRow(p.t.Context(), `SELECT count(*) FROM slipway.uploads WHERE user_id = $1 AND (job_id IS NOT NULL OR status = 'queued')`, p.name).Scan(&jobs))
		list := into[struct{ Uploads []uploadView }](p.t, p.do(p.t, "GET", "/v1/uploads", nil, as(p.t, p.name)), 200)
		if jobs > 0 || len(list.Uploads) > 0 {
			p.t.Errorf("%d jobs are made, and the list has %+v", jobs, list.Uploads)
		}
	}},
	{"Concatenation", "a final upload has no length of its own", func(p *tusUser) {
		a := p.partial("hello")
		p.want(p.ask("POST", tusRoot, "", "Upload-Length: 5", "Upload-Concat: final;"+a), 400)
		p.wantOffset(a, 5)
	}},
	{"Concatenation", "partial uploads that are not complete cannot be put together", func(p *tusUser) {
		a, b := p.partial("hello"), p.create("Upload-Concat: partial", "Upload-Length: 6")
		p.wantRefused(p.ask("POST", tusRoot, "", fmt.Sprintf("Upload-Concat: final;%s %s", a, b)))
		p.want(p.patch(b, 0, " world"), 204)
		p.wantDelivery(p.create(fmt.Sprintf("Upload-Concat: final;%s %s", a, b)), "hello world")
	}},
	{"Concatenation", "the metadata of partial uploads is not the final one's", func(p *tusUser) {
		a := p.partial("hello", "Upload-Metadata: filename "+base64Of("part.bin")+",album "+base64Of("7"))
		path := p.create("Upload-Concat: final;"+a, "Upload-Metadata: filename "+base64Of("film.mp4"))
		p.want(p.head(path), 200, "Upload-Metadata: filename "+base64Of("film.mp4"))
		if u := p.upload(path); u.FileName != "film.mp4" || len(u.Metadata) > 0 {
			p.t.Errorf("the upload is %s with %v", u.FileName, u.Metadata)
		}
	}},
	{"Concatenation", "a PATCH of a final upload is 403, and changes nothing", func(p *tusUser) {
		path := p.create("Upload-Concat: final;" + p.partial("hello"))
		p.want(p.patch(path, 5, " world"), 403)
		p.want(p.patch(path, 0, "world"), 403)
		p.wantOffset(path, 5)
		p.wantDelivery(path, "hello")
	}},
	{"Concatenation", "HEAD says what an upload is, in the words of its creation", func(p *tusUser) {
		a, b := p.create("Upload-Concat: partial", "Upload-Length: 5"), p.partial(" world")
		p.want(p.head(a), 200, "Upload-Concat: partial", "Upload-Offset: 0", "Upload-Length: 5")
		p.want(p.patch(a, 0, "hello"), 204)
		final := fmt.Sprintf("Upload-Concat: final;%s %s%s", a, p.url, b)
		p.want(p.head(p.create(final)), 200, final)
		p.want(p.head(p.create("Upload-Length: 5")), 200, "Upload-Concat: ")
	}},
	{"Upload-Concat", "it is partial, or final and a list", func(p *tusUser) {
		whole := p.create("Upload-Length: 5")
		p.want(p.patch(whole, 0, "hello"), 204)
		for _, value := range []string{"whole", "final", "final;", "final; ", "final;" + whole, "final;" + ofUnknown, "final;/v1/uploads/" + noUploadID, "final;http://example.com/1", "partial;" + whole} {
			if r := p.ask("POST", tusRoot, "", "Upload-Concat: "+value); r.StatusCode < 400 || r.StatusCode > 499 {
				p.t.Errorf("Upload-Concat: %s is answered %d %s", value, r.StatusCode, r.text)
			}
		}
		p.wantOffset(whole, 5)
	}},
	{"Concatenation", "nobody puts together what is somebody else's", func(p *tusUser) {
		a := p.partial("hello")
		p.wantRefused(p.ask("POST", tusRoot, "", "Upload-Concat: final;"+a, as(p.t, "somebody_else")))
		p.wantOffset(a, 5)
	}},
}
