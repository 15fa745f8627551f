package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dunglas/httpsfv"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

var routeless = fiber.New()

// with calls f for a request with these headers, "Name: value".
func with(f func(*fiber.Ctx), headers ...string) {
	c := routeless.AcquireCtx(&fasthttp.RequestCtx{})
	defer routeless.ReleaseCtx(c)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		c.Request().Header.Add(name, value)
	}
	f(c)
}

// wantCoded checks that a refusal says what is wrong.
func wantCoded(t *testing.T, input any, err error) {
	t.Helper()
	if codeOf(err) == "" {
		t.Errorf("%q is refused without a code: %v", input, err)
	}
}

// A name that is taken from the header is taken from the header that names it.
func FuzzContentDisposition(f *testing.F) {
	for _, seed := range []string{
		`attachment; filename="film.mp4"`, "attachment; filename=film.mp4", "inline; filename*=UTF-8''p%C3%A8re.mp4", `attachment; filename="a\"b"; filename*=iso-8859-1'en'%A3`,
		`attachment; filename*0*=UTF-8''a%20; filename*1=b`, "attachment; filename=", ";", "attachment; filename=a; filename=b", "attachment; FILENAME=\"../../etc/passwd\"", "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		name, err := dispositionName(header)
		if err != nil {
			wantCoded(t, header, err)
			return
		}
		if written := mime.FormatMediaType("attachment", map[string]string{"filename": name}); written != "" {
			if again, err := dispositionName(written); err != nil || again != name {
				t.Errorf("%q is the name %q, and %q is %q, %v", header, name, written, again, err)
			}
		}
	})
}

// A key that is taken is taken for the same in either form in which it can be written.
func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{
		`"8e03978e-40d5-43e8-bc93-6894a57f9324"`, "8e03978e-40d5-43e8-bc93-6894a57f9324", `"a b"`, `"a\"b\\c"`, `"`, `""`, `"a";v=1`, "a,b", "12", ":YQ==:", "?1", " x ", "père", strings.Repeat("k", 300),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key := func(header string) (key string, err error) {
			with(func(c *fiber.Ctx) { key, err = idempotencyKey(c) }, "Idempotency-Key: "+header)
			return key, err
		}
		got, err := key(header)
		if err != nil {
			wantCoded(t, header, err)
			return
		}
		if n := len(got); n < 1 || n > maxKeyBytes || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q is the key %q", header, got)
		}
		written, err := httpsfv.Marshal(httpsfv.NewItem(got))
		if err != nil {
			t.Fatalf("%q is the key %q, which is no string: %v", header, got, err)
		}
		if again, err := key(written); err != nil || again != got {
			t.Errorf("%q is the key %q, and %s is %q, %v", header, got, written, again, err)
		}
	})
}

// A digest that is taken has its algorithm's length, and is the one that the header has.
func FuzzContentDigest(f *testing.F) {
	for _, seed := range []string{
		"sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:", "crc32c=:yZRlqg==:", "sha-256=:AAAA:", "md5=:AAAA:, crc32c=:AAAAAA==:", "sha-256=1", "sha-256", "sha-256=(:AAAA:)", "crc32c=:AAAAAA==:;a=1", "=", ",",
	} {
		f.Add(seed, "")
	}
	f.Add("crc32c=:yZRlqg==:", "crc32c=:AAAAAA==:")
	f.Fuzz(func(t *testing.T, content, repr string) {
		read := func(headers ...string) (d ingest.Digest, err error) {
			with(func(c *fiber.Ctx) { d, err = declaredDigest(c) }, headers...)
			return d, err
		}
		d, err := read("Content-Digest: "+content, "Repr-Digest: "+repr)
		if err != nil {
			wantCoded(t, content, err)
			return
		}
		written := httpsfv.NewDictionary()
		if d.SHA256 != nil {
			written.Add("sha-256", httpsfv.NewItem(d.SHA256))
		}
		if d.CRC32C != nil {
			written.Add("crc32c", httpsfv.NewItem(d.CRC32C))
		}
		text, err := httpsfv.Marshal(written)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read("Repr-Digest: " + text); err != nil || !bytes.Equal(again.SHA256, d.SHA256) || !bytes.Equal(again.CRC32C, d.CRC32C) {
			t.Errorf("%q and %q are %+v, and %s is %+v, %v", content, repr, d, text, again, err)
		}
		if n, m := len(d.SHA256), len(d.CRC32C); n != 0 && n != 32 || m != 0 && m != 4 {
			t.Errorf("%q and %q are digests of %d and %d bytes", content, repr, n, m)
		}
	})
}

// A wait is within bounds, and what the answer says was heard is what a client may say.
func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{
		"wait=10", "respond-async, wait=10", `wait="7"; a=b`, "WAIT = 600", "wait", "wait=", "wait=-1", "wait=99999999999999999999", "handling=lenient", ",,;=", "respond-async;x, wait=1, wait=2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		read := func(header string) (wait time.Duration, asked bool, applied string) {
			with(func(c *fiber.Ctx) {
				wait, asked = preferredWait(c)
				applied = string(c.Response().Header.Peek("Preference-Applied"))
			}, "Prefer: "+header)
			return wait, asked, applied
		}
		wait, asked, applied := read(header)
		if wait < 0 || wait > maxWait || asked != (applied != "") || wait > 0 && !asked {
			t.Errorf("%q is a wait of %s, asked for %t, applied %q", header, wait, asked, applied)
		}
		if again, askedAgain, said := read(applied); again != wait || askedAgain != asked || said != applied {
			t.Errorf("%q is applied as %q, which is a wait of %s, applied as %q", header, applied, again, said)
		}
	})
}

// Whoever names the current version has it, whatever else the header names; whoever names none does not.
func FuzzIfNoneMatch(f *testing.F) {
	for _, seed := range []string{`"12"`, `W/"12"`, "*", `"1", "2"`, `"1,2"`, "", " , ", `"`, "W/"} {
		f.Add(seed, int64(12))
	}
	f.Fuzz(func(t *testing.T, header string, version int64) {
		read := func(header string) (current, older bool) {
			with(func(c *fiber.Ctx) { current, older = copyOf(c, etag(upload.Upload{Version: version})) }, "If-None-Match: "+header)
			return current, older
		}
		current, older := read(header)
		tag := etag(upload.Upload{Version: version})
		switch {
		case current && older:
			t.Errorf("%q is the current version and an older one", header)
		case current && !strings.Contains(header, tag) && !strings.Contains(header, "*"):
			t.Errorf("%q names %s", header, tag)
		}
		if current, _ := read(header + ", W/" + tag); !current {
			t.Errorf("%q and %s do not name %s", header, tag, tag)
		}
	})
}

// A cursor opens the place that was sealed, for the user and the list that it was made for, and no other text does.
func FuzzCursors(f *testing.F) {
	k, err := NewCursors([]byte(jwtSecret), "slipway-test")
	must(f, err)
	f.Add("alice", "0193f1c2-0000-7000-8000-000000000000", k.seal("alice", uploadsPath, "x"))
	f.Add("", "", "")
	f.Add("alice\x00/v1/files", "1 uploadcare 7", "AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("bob", "\xff", "not base64!")
	f.Fuzz(func(t *testing.T, user, place, cursor string) {
		sealed := k.seal(user, uploadsPath, place)
		if got, err := k.open(user, uploadsPath, sealed); err != nil || got != place {
			t.Errorf("%q is sealed as %s, which opens as %q, %v", place, sealed, got, err)
		}
		for _, stranger := range []struct{ user, list string }{{user + "x", uploadsPath}, {user, filesPath}} {
			if got, err := k.open(stranger.user, stranger.list, sealed); err == nil {
				t.Errorf("the cursor of %q opens as %q for %+v", user, got, stranger)
			}
		}
		got, err := k.open(user, uploadsPath, cursor)
		switch {
		case err != nil:
			wantCoded(t, cursor, err)
		case k.seal(user, uploadsPath, got) != cursor:
			t.Errorf("%q opens as %q, which is sealed otherwise", cursor, got)
		}
	})
}

// What is taken for an id is its only spelling.
func FuzzIDs(f *testing.F) {
	for _, seed := range []string{
		"0193f1c2-0000-7000-8000-000000000000", "0193F1C2-0000-7000-8000-000000000000", "{0193f1c2-0000-7000-8000-000000000000}", "urn:uuid:0193f1c2-0000-7000-8000-000000000000",
		"uploadcare-7", "cloudinary-007", "cloudinary-+7", "uploadcare--1", "uploadcare-2147483648", "dropbox-1", "../../etc/passwd", "0193f1c2\x00", "1700000000000000 uploadcare 7", " cloudinary 7", "1 uploadcare",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parseFileID(text)
		switch {
		case err != nil:
			wantCoded(t, text, err)
		case id.upload != "" && string(id.upload) != text, id.upload == "" && fmt.Sprintf("%s-%d", id.provider, id.row) != text:
			t.Errorf("%q is the id %+v", text, id)
		}
		key, err := parseFileKey(text)
		if err != nil {
			wantCoded(t, text, err)
			return
		}
		again, err := parseFileKey(fileKey(postgres.File{Provider: key.Provider, Row: key.Row, UploadedAt: key.UploadedAt}))
		if err != nil || again.Provider != key.Provider || again.Row != key.Row || (again.UploadedAt == nil) != (key.UploadedAt == nil) ||
			key.UploadedAt != nil && !again.UploadedAt.Equal(*key.UploadedAt) {
			t.Errorf("%q is the place %+v, and that again %+v, %v", text, key, again, err)
		}
	})
}

// JSON that is let through is never deeper than is allowed, by the count of another reader.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"paramsToSign":{"timestamp":1}}`, strings.Repeat("[", 33), strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32), `"[[[[\"[[["`, `["\\",[]]`, `{"a":"}"}`, "\x00", "null", `"\ud800"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v any
		if err := parseJSON(text, &v); err != nil {
			wantCoded(t, text, err)
			return
		}
		depth, deepest := 0, 0
		dec := json.NewDecoder(bytes.NewReader(text))
		for {
			token, err := dec.Token()
			if err != nil {
				break
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
				deepest = max(deepest, depth)
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
		}
		if deepest > maxDepth {
			t.Errorf("%q is %d deep", text, deepest)
		}
	})
}

// A parameter is signed as text in one line, if it may be signed at all.
func FuzzWidgetParameters(f *testing.F) {
	f.Add("timestamp", []byte(fmt.Sprint(time.Now().Unix())))
	f.Add("tags", []byte(`["a","b"]`))
	f.Add("folder", []byte(`"a/../b"`))
	f.Add("eval", []byte(`"x"`))
	f.Add("overwrite", []byte("false"))
	f.Add("context", []byte(`"a\u0000b\ud800"`))
	f.Add("source", []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		value, err := widgetValue(name, raw)
		if err != nil {
			wantCoded(t, name, err)
			return
		}
		if _, allowed := widgetParams[name]; !allowed || len(value) > maxWidgetValue || !utf8.ValidString(value) || strings.ContainsAny(value, "\r\n\x00") {
			t.Errorf("%s=%q is signed", name, value)
		}
	})
}

// Whatever a query says, its token goes no further, and what is read of it is text, once each.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"provider=uploadcare&file_name=p%C3%A8re.mp4&tags=a,b,,a&metadata[album]=7", "token=slt_x&limit=5", "metadata[]=1&metadata[a]]=2&metadata[[]=3", "a=%ff", "a=%zz", "a;b", "&&==", "fileName=a&file_name=b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var query url.Values
		var err error
		with(func(c *fiber.Ctx) {
			c.Request().URI().SetQueryString(text)
			query, err = queryOf(c)
		})
		if err != nil {
			wantCoded(t, text, err)
			return
		}
		r := described(query, nil, -1)
		seen := map[string]bool{}
		for _, tag := range r.Tags {
			if tag == "" || strings.Contains(tag, ",") || seen[tag] || !utf8.ValidString(tag) {
				t.Errorf("%q has the tags %q", text, r.Tags)
			}
			seen[tag] = true
		}
		if query.Has(formToken) || !utf8.ValidString(r.FileName) {
			t.Errorf("%q is %+v", text, r)
		}
		if again := described(mustQuery(t, query.Encode()), nil, -1); fmt.Sprint(again) != fmt.Sprint(r) {
			t.Errorf("%q is %+v, and written anew %+v", text, r, again)
		}
		if _, err := pageSize(query); err != nil {
			wantCoded(t, text, err)
		}
	})
}

func mustQuery(t *testing.T, text string) url.Values {
	t.Helper()
	query, err := url.ParseQuery(text)
	must(t, err)
	return query
}
