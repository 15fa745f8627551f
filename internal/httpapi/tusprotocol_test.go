package httpapi

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"slipway/internal/crc32c"
	"slipway/internal/upload"
)

// clause is something that tus 1.0.0 (2016-03-25) demands of servers, as the section of that name says.
type clause struct {
	section, demands string
	hold             func(p *tusUser)
}

// TestTusProtocol goes through the protocol's text. Each clause is tried by a user of its own.
func TestTusProtocol(t *testing.T) {
	s := open(t, nil)
	for n, c := range slices.Concat(tusCore, tusCreation, tusExpirationAndTermination, tusChecksum, tusConcatenation) {
		t.Run(c.section+": "+c.demands, func(t *testing.T) {
			c.hold(&tusUser{site: s, t: t, name: fmt.Sprintf("user_%d", n)})
		})
	}
}

// tusUser speaks tus by hand.
type tusUser struct {
	*site
	t    *testing.T
	name string
}

const (
	tusRoot   = "/v1/tus/"
	octets    = "Content-Type: application/offset+octet-stream"
	ofUnknown = tusRoot + noUploadID
)

// ask sends a request of tus 1.0.0, unless headers say otherwise, and checks what every answer has to have.
func (p *tusUser) ask(method, path, body string, headers ...string) reply {
	p.t.Helper()
	all := append([]string{as(p.t, p.name), "Tus-Resumable: 1.0.0"}, headers...)
	r := p.do(p.t, method, path, strings.NewReader(body), all...)
	if got := r.Header.Get("Tus-Resumable"); got != "1.0.0" && method != http.MethodOptions {
		p.t.Errorf("%s %s is answered %d with Tus-Resumable %q", method, path, r.StatusCode, got)
	}
	return r
}

// create makes an upload and returns its path.
func (p *tusUser) create(headers ...string) (path string) {
	p.t.Helper()
	return p.pathOf(p.ask("POST", tusRoot, "", headers...))
}

// pathOf is where the upload is that an answer says was made.
func (p *tusUser) pathOf(r reply) string {
	p.t.Helper()
	if r.StatusCode != http.StatusCreated || r.Header.Get("Location") == "" || r.text != "" {
		p.t.Fatalf("got %d %q %s, want 201, a Location and nothing more", r.StatusCode, r.Header.Get("Location"), r.text)
	}
	at, err := r.Request.URL.Parse(r.Header.Get("Location"))
	must(p.t, err)
	return at.RequestURI()
}

func (p *tusUser) patch(path string, offset int, body string, headers ...string) reply {
	p.t.Helper()
	return p.ask("PATCH", path, body, append([]string{octets, fmt.Sprintf("Upload-Offset: %d", offset)}, headers...)...)
}

func (p *tusUser) head(path string) reply {
	p.t.Helper()
	return p.ask("HEAD", path, "")
}

// partial makes a partial upload of content.
func (p *tusUser) partial(content string, headers ...string) (path string) {
	p.t.Helper()
	path = p.create(append(headers, "Upload-Concat: partial", fmt.Sprintf("Upload-Length: %d", len(content)))...)
	p.want(p.patch(path, 0, content), 204)
	return path
}

// want checks an answer's status and headers; "Name: " is one that must not be there.
func (p *tusUser) want(r reply, status int, headers ...string) {
	p.t.Helper()
	if r.StatusCode != status {
		p.t.Errorf("%s is answered %d %s, want %d", r.Request.Method, r.StatusCode, r.text, status)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if got := r.Header.Get(name); got != value || value == "" && r.Header.Values(name) != nil {
			p.t.Errorf("%s is answered %d with %s: %q, want %q", r.Request.Method, r.StatusCode, name, r.Header.Values(name), value)
		}
	}
}

// wantRefused checks that an answer is one of the client's errors, where the protocol says no more.
func (p *tusUser) wantRefused(r reply) {
	p.t.Helper()
	if r.StatusCode < 400 || r.StatusCode > 499 {
		p.t.Errorf("%s is answered %d %s, want a refusal", r.Request.Method, r.StatusCode, r.text)
	}
}

// wantGone checks that there is no upload.
func (p *tusUser) wantGone(r reply) {
	p.t.Helper()
	if r.StatusCode != 404 && r.StatusCode != 410 || r.Header.Get("Upload-Offset") != "" {
		p.t.Errorf("%s is answered %d with Upload-Offset %q, want 404 or 410 and none", r.Request.Method, r.StatusCode, r.Header.Get("Upload-Offset"))
	}
}

func (p *tusUser) wantOffset(path string, want int) {
	p.t.Helper()
	p.want(p.head(path), 200, fmt.Sprintf("Upload-Offset: %d", want))
}

// wantNothing checks that nothing was made for the user.
func (p *tusUser) wantNothing() {
	p.t.Helper()
	var n int
	must(p.t, p.pool.QueryRow(p.t.Context(), `SELECT count(*) FROM slipway.uploads WHERE user_id = $1`, p.name).Scan(&n))
	if n > 0 {
		p.t.Errorf("%d uploads were made", n)
	}
}

// upload is what the rest of the API says of an upload.
func (p *tusUser) upload(path string) uploadView {
	p.t.Helper()
	id := path[strings.LastIndex(path, "/")+1:]
	return into[uploadView](p.t, p.do(p.t, "GET", "/v1/uploads/"+id, nil, as(p.t, p.name)), 200)
}

// wantDelivery checks that an upload is on its way to its provider with this content.
func (p *tusUser) wantDelivery(path, content string) {
	p.t.Helper()
	u := p.upload(path)
	if sum := crc32c.Base64(crc32c.Update(0, []byte(content))); u.Status != upload.Queued || u.Size != int64(len(content)) || u.CRC32C != sum {
		p.t.Errorf("the upload is %s with %d bytes and the sum %s, want it queued with %d and %s", u.Status, u.Size, u.CRC32C, len(content), sum)
	}
}

// listed splits a header that is a list.
func listed(r reply, name string) []string { return strings.Split(r.Header.Get(name), ",") }

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func sha1Of(s string) string {
	sum := sha1.Sum([]byte(s))
	return "Upload-Checksum: sha1 " + base64.StdEncoding.EncodeToString(sum[:])
}

var tusCore = []clause{
	{"Upload-Offset", "what is no non-negative integer is no offset", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		for _, offset := range []string{"-1", "0.5", "0x0", "zero", "+0", "18446744073709551616", ""} {
			p.wantRefused(p.ask("PATCH", path, "hello", octets, "Upload-Offset: "+offset))
		}
		p.wantOffset(path, 0)
	}},
	{"Upload-Length", "what is no non-negative integer is no length", func(p *tusUser) {
		for _, length := range []string{"-1", "1.5", "0x5", "five", "+5", "18446744073709551616"} {
			p.wantRefused(p.ask("POST", tusRoot, "", "Upload-Length: "+length))
		}
		p.wantNothing()
	}},
	{"Tus-Version", "the versions are listed, the preferred one first", func(p *tusUser) {
		if got := listed(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: "), "Tus-Version"); got[0] != "1.0.0" {
			p.t.Errorf("the versions are %q", got)
		}
	}},
	{"Tus-Resumable", "every answer names the version, refusals too", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.wantRefused(p.ask("POST", tusRoot, ""))
		p.wantRefused(p.ask("GET", tusRoot, ""))
		p.wantRefused(p.ask("PUT", path, "hello"))
		p.want(p.ask("HEAD", path, "", as(p.t, "")), 401)
		p.want(p.ask("PATCH", path, "hello", as(p.t, "somebody_else"), octets, "Upload-Offset: 0"), 404)
		p.want(p.patch(path, 5, "hello"), 409)
		p.want(p.patch(path, 0, "hello"), 204)
		p.want(p.ask("DELETE", path, ""), 204)
		p.wantGone(p.head(path))
	}},
	{"Tus-Resumable", "a version that is not supported is 412 with those that are, and nothing is done", func(p *tusUser) {
		for _, version := range []string{"0.2.2", "1.0.1", "2.0.0", "one", ""} {
			p.want(p.ask("POST", tusRoot, "", "Upload-Length: 11", "Tus-Resumable: "+version), 412, "Tus-Version: 1.0.0", "Location: ")
		}
		p.wantNothing()
		path := p.create("Upload-Length: 11")
		for _, version := range []string{"0.2.2", "2.0.0", ""} {
			p.want(p.patch(path, 0, "hello", "Tus-Resumable: "+version), 412, "Tus-Version: 1.0.0")
			p.want(p.ask("HEAD", path, "", "Tus-Resumable: "+version), 412, "Tus-Version: 1.0.0")
			p.want(p.ask("DELETE", path, "", "Tus-Resumable: "+version), 412, "Tus-Version: 1.0.0")
		}
		p.wantOffset(path, 0)
	}},
	{"Tus-Extension", "the extensions are listed", func(p *tusUser) {
		got := listed(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: "), "Tus-Extension")
		slices.Sort(got)
		want := []string{"checksum", "concatenation", "creation", "creation-defer-length", "creation-with-upload", "expiration", "termination"}
		if !slices.Equal(got, want) {
			p.t.Errorf("the extensions are %q, want %q", got, want)
		}
	}},
	{"Tus-Max-Size", "the limit is told in bytes", func(p *tusUser) {
		p.want(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: "), 204, fmt.Sprintf("Tus-Max-Size: %d", mib))
	}},
	{"X-HTTP-Method-Override", "it is the method, whatever the request's is", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.ask("POST", path, "hello", "X-HTTP-Method-Override: PATCH", octets, "Upload-Offset: 0"), 204, "Upload-Offset: 5")
		p.want(p.ask("PUT", path, " worl", "X-HTTP-Method-Override: PATCH", octets, "Upload-Offset: 5"), 204, "Upload-Offset: 10")
		p.want(p.ask("POST", path, "", "X-HTTP-Method-Override: HEAD"), 200, "Upload-Offset: 10")
		p.want(p.ask("POST", path, "", "X-HTTP-Method-Override: DELETE"), 204)
		p.wantGone(p.head(path))
	}},

	{"HEAD", "the offset is told, of a new upload and of one that is complete", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.wantOffset(path, 0)
		p.want(p.patch(path, 0, "hello"), 204)
		p.wantOffset(path, 5)
		p.wantDelivery(path, "hello")
	}},
	{"HEAD", "the length is told where it is known", func(p *tusUser) {
		p.want(p.head(p.create("Upload-Length: 11")), 200, "Upload-Length: 11", "Upload-Defer-Length: ")
	}},
	{"HEAD", "what is not there has no offset", func(p *tusUser) {
		p.wantGone(p.head(ofUnknown))
		for _, id := range []string{"1", "%00", strings.Repeat("a", 10_000), strings.ToUpper(noUploadID) + "x"} {
			p.wantGone(p.head(tusRoot + id))
		}
		p.wantGone(p.do(p.t, "HEAD", tusRoot+"..%2f..%2fsecret", nil, as(p.t, p.name), "Tus-Resumable: 1.0.0")) // leads away from here
	}},
	{"HEAD", "nobody may keep the answer", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.head(path), 200, "Cache-Control: no-store")
		p.want(p.head(ofUnknown), 404, "Cache-Control: no-store")
	}},

	{"PATCH", "the bytes are put at the offset", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.patch(path, 0, "hello"), 204, "Upload-Offset: 5")
		p.wantOffset(path, 5)
		p.want(p.patch(path, 5, " world"), 204, "Upload-Offset: 11")
		p.wantDelivery(path, "hello world")
	}},
	{"PATCH", "bytes of another content type are 415", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		for _, kind := range []string{"application/octet-stream", "text/plain", ""} {
			p.want(p.ask("PATCH", path, "hello", "Content-Type: "+kind, "Upload-Offset: 0"), 415)
		}
		p.wantOffset(path, 0)
	}},
	{"PATCH", "at another offset than the upload's it is 409, and changes nothing", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		p.want(p.patch(path, 0, "hello"), 204)
		p.want(p.patch(path, 0, "world"), 409)
		p.want(p.patch(path, 6, "world"), 409)
		p.wantOffset(path, 5)
		p.want(p.patch(path, 5, " world"), 204)
		p.wantDelivery(path, "hello world")
		p.want(p.patch(path, 0, "hello"), 409)
	}},
	{"PATCH", "the new offset is the old one and the bytes that came", func(p *tusUser) {
		path := p.create("Upload-Length: 11")
		for n, c := range "hello world" {
			p.want(p.patch(path, n, string(c)), 204, fmt.Sprintf("Upload-Offset: %d", n+1))
		}
		p.wantDelivery(path, "hello world")
	}},
	{"PATCH", "no bytes change nothing", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.want(p.patch(path, 0, ""), 204, "Upload-Offset: 0")
		p.want(p.patch(path, 0, "hello"), 204, "Upload-Offset: 5")
		p.want(p.patch(path, 5, ""), 204, "Upload-Offset: 5")
	}},
	{"PATCH", "an upload never has more bytes than its length", func(p *tusUser) {
		path := p.create("Upload-Length: 5")
		p.wantRefused(p.patch(path, 0, "hello world"))
		if offset := p.head(path).Header.Get("Upload-Offset"); offset != "0" && offset != "5" {
			p.t.Errorf("the offset is %s", offset)
		}
	}},
	{"PATCH", "of what is not there it is 404", func(p *tusUser) {
		p.want(p.patch(ofUnknown, 0, "hello"), 404)
	}},
	{"PATCH", "what comes before the connection ends is stored", func(p *tusUser) {
		path := p.create("Upload-Length: 300000")
		sent := strings.Repeat("hello world ", 10_000)
		c := p.dial(p.t)
		c.send(head("PATCH", path, as(p.t, p.name), "Tus-Resumable: 1.0.0", octets, "Upload-Offset: 0", "Content-Length: 300000") + sent)
		must(p.t, c.Close())
		p.awaitOffset(path, len(sent))
		p.want(p.patch(path, len(sent), strings.Repeat("x", 300_000-len(sent))), 204)
		p.wantDelivery(path, sent+strings.Repeat("x", 300_000-len(sent)))
	}},

	{"OPTIONS", "the version of the request is ignored", func(p *tusUser) {
		for _, version := range []string{"1.0.0", "0.2.2", "no version", ""} {
			p.want(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: "+version), 204, "Tus-Version: 1.0.0")
		}
	}},
	{"OPTIONS", "nobody has to say who asks", func(p *tusUser) {
		p.want(p.ask("OPTIONS", tusRoot, "", "Tus-Resumable: ", as(p.t, "")), 204, "Tus-Version: 1.0.0")
	}},
}

// awaitOffset waits for an offset that the server comes to by itself.
func (p *tusUser) awaitOffset(path string, want int) {
	p.t.Helper()
	waitFor(p.t, func() bool { return p.head(path).Header.Get("Upload-Offset") == fmt.Sprint(want) })
}
