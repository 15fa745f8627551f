package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func withKey(key string) string { return headerIdempotencyKey + ": " + key }

func TestKeysAreStrings(t *testing.T) {
	s := open(t, nil)
	longest := strings.Repeat("k", maxKeyBytes)
	for key, same := range map[string]string{ // which is the same, written in another way
		`"8e03978e-40d5-43e8-bc93-6894a57f9324"`: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`"order 7: film"`:                        `"order 7: film";attempt=2`,
		`"a\"b\\c"`:                              `   "a\"b\\c"   `,
		`"x/y=z+~"`:                              "x/y=z+~",
		longest:                                  `"` + longest + `"`,
	} {
		first := into[uploadView](t, s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), withKey(key)), 202)
		again := s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), withKey(same))
		if u := into[uploadView](t, again, 202); u.ID != first.ID || again.Header.Get(headerReplayed) != "true" {
			t.Errorf("%s and %s are two keys", key, same)
		}
	}
	made := s.count(t, "slipway.uploads")
	for _, header := range []string{
		"", `""`, `"open`, `"two" "strings"`, `"two", "strings"`, `"more"than`, "two words", "one,two", "one;two", `o"ne`, `b\c`,
		`"clé"`, "clé", `"` + longest + `k"`, longest + "k", "k\r\nIdempotency-Key: k",
	} {
		for name, body := range map[string][]string{
			"a body": {"/v1/uploads", "hello", ""},
			"a form": {"/upload", formBody, "Content-Type: multipart/form-data; boundary=b\r\n"},
		} {
			c := s.dial(t)
			c.send(post(body[0], len(body[1]), as(t, "alice"), body[2]+withKey(header)) + body[1])
			a := c.answer()
			if p := a.problem(t); a.StatusCode != 400 || p.Code != upload.InvalidKey {
				t.Errorf("%s with the key %q: %d %s", name, header, a.StatusCode, a.text)
			}
		}
	}
	if n := s.count(t, "slipway.uploads"); n != made {
		t.Errorf("%d uploads were made", n-made)
	}
}

// creation is a request that makes an upload. Each sends five bytes under a name.
type creation func(name string, headers ...string) reply

func (s *site) creations(t *testing.T) map[string]creation {
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	return map[string]creation{
		"a body": func(name string, headers ...string) reply {
			return s.do(t, "POST", "/v1/uploads?file_name="+name, strings.NewReader("hello"), headers...)
		},
		"chunks": func(name string, headers ...string) reply {
			return s.do(t, "POST", "/v1/uploads?file_name="+name, unsized{strings.NewReader("hello")}, headers...)
		},
		"a form": func(name string, headers ...string) reply {
			return s.post(t, "/v1/uploads", newForm().field("fileName", name).file("x", "hello"), headers...)
		},
		"the guides' form": func(name string, headers ...string) reply {
			return s.post(t, "/upload", newForm().file(name, "hello"), headers...)
		},
		"a form that says who sends it": func(name string, headers ...string) reply {
			return s.post(t, "/v1/uploads", newForm().field("token", token).file(name, "hello"), append(headers, as(t, ""))...)
		},
	}
}

// What a key has come to decides what the same request gets, and another one.
func TestWhatAKeyHasComeTo(t *testing.T) {
	s := open(t, nil)
	const (
		makes   = "makes an upload"
		replays = "is answered again"
		waits   = "409 " + string(upload.KeyInFlight)
		differs = "422 " + string(upload.KeyReused)
		gone    = "410 " + string(upload.Gone)
	)
	set := func(what string) func(*site, string) {
		return func(s *site, key string) {
			s.exec(t, `UPDATE slipway.idempotency_keys SET `+what+` WHERE key = $1`, key)
		}
	}
	turns := func(what string) func(*site, string) {
		return func(s *site, key string) {
			s.exec(t, `UPDATE slipway.uploads SET version = version + 1, `+what+` WHERE id = (SELECT upload_id FROM slipway.idempotency_keys WHERE key = $1)`, key)
		}
	}
	const (
		held   = `final_at = NULL, upload_id = gen_random_uuid(), held_until = now() + interval '20 s'`
		lapsed = `final_at = NULL, upload_id = gen_random_uuid(), held_until = now() - interval '1 ms'`
		over   = `expires_at = now() - interval '1 ms'`
	)
	tests := map[string]struct {
		then        func(s *site, key string) // after the first request
		same, other string
	}{
		"an upload was made":    {nil, replays, differs},
		"one that is delivered": {turns(`status = 'completed'`), replays, differs},
		"one that failed":       {turns(`status = 'failed', error_code = 'provider_rejected', error_message = 'No.', error_retryable = false`), replays, differs},
		"one that was deleted":  {turns(`status = 'deleted'`), replays, differs},
		"one that is forgotten": {func(s *site, key string) {
			s.exec(t, `DELETE FROM slipway.uploads WHERE id = (SELECT upload_id FROM slipway.idempotency_keys WHERE key = $1)`, key)
		}, makes, makes},
		"one that became a piece of another":     {turns(`status = 'joined'`), gone, differs},
		"it is being made":                       {set(held), waits, differs},
		"nobody makes it any more":               {set(lapsed), makes, differs},
		"its time is over":                       {set(over), makes, makes},
		"nobody makes it and its time is over":   {set(lapsed + ", " + over), makes, makes},
		"it is being made and its time was over": {set(held + ", " + over), waits, differs},
		"it was forgotten":                       {func(s *site, key string) { s.exec(t, `DELETE FROM slipway.idempotency_keys WHERE key = $1`, key) }, makes, makes},
		"it is another user's":                   {set(`user_id = 'bob'`), makes, makes},
	}
	for by, send := range s.creations(t) {
		for name, tt := range tests {
			for asks, want := range map[string]string{"same": tt.same, "other": tt.other} {
				t.Run(by+", "+name+", "+asks, func(t *testing.T) {
					key := string(upload.NewID())
					first := send("same", withKey(key))
					if first.StatusCode != 202 || first.Header.Get(headerReplayed) != "" {
						t.Fatalf("the first request got %d %v %s", first.StatusCode, first.Header, first.text)
					}
					if tt.then != nil {
						tt.then(s, key)
					}
					before := s.count(t, "slipway.uploads")
					again := send(asks, withKey(key))
					got, replayed := makes, again.Header.Get(headerReplayed) == "true"
					switch {
					case strings.Contains(again.Header.Get("Content-Type"), "problem") && !replayed:
						got = fmt.Sprint(again.StatusCode, " ", again.problem(t).Code)
					case replayed:
						got = replays
						if a, b := first.Header.Get("Location"), again.Header.Get("Location"); again.StatusCode < 300 && again.StatusCode != 200 && a != b {
							t.Errorf("it is at %s, and was at %s", b, a)
						}
					}
					if made := s.count(t, "slipway.uploads") - before; got != want || (made == 1) != (want == makes) {
						t.Errorf("it %s and %d uploads were made (%d %s), want that it %s", got, made, again.StatusCode, again.text, want)
					}
					if want == waits && again.Header.Get("Retry-After") == "" {
						t.Error("nothing says when to come again")
					}
				})
			}
		}
	}
}

func TestAReplayShowsTheUploadAsItIs(t *testing.T) {
	s := open(t, nil)
	send := func() reply {
		return s.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader("hello"), withKey("k"))
	}
	u := into[uploadView](t, send(), 202)
	queued := send()
	if again := into[uploadView](t, queued, 202); again.Version != u.Version || again.Status != upload.Queued || queued.Header.Get("Retry-After") == "" {
		t.Errorf("while it waits: %d %v %s", queued.StatusCode, queued.Header, queued.text)
	}
	to := s.complete(t, u.ID)
	done := send()
	if again := into[uploadView](t, done, 201); again.Status != upload.Completed || again.Asset.URL != to || done.Header.Get("Location") != s.url+"/v1/uploads/"+string(u.ID) {
		t.Errorf("when it is delivered: %d %v %s", done.StatusCode, done.Header, done.text)
	}
	form := func() reply { return s.post(t, "/upload", newForm().file("a", "hello"), withKey("form")) }
	g := into[guideAnswer](t, form(), 202)
	to = s.complete(t, g.ID)
	if again := into[guideAnswer](t, form(), 200); again.FileURL != to || again.ID != g.ID {
		t.Errorf("the guides' call: %+v, want %s", again, to)
	}
}

func TestWhatMakesARequestTheSame(t *testing.T) {
	s := open(t, nil)
	raw := func(path, body string, headers ...string) func(string) reply {
		return func(key string) reply {
			return s.do(t, "POST", path, strings.NewReader(body), append(headers, withKey(key))...)
		}
	}
	form := func(boundary string, parts ...string) func(string) reply { // name and value, of the file "=name"
		return func(key string) reply {
			f := newForm()
			must(t, f.parts.SetBoundary(boundary))
			for n := 0; n+1 < len(parts); n += 2 {
				if name, isFile := strings.CutPrefix(parts[n], "="); isFile {
					f.file(name, parts[n+1])
				} else {
					f.field(parts[n], parts[n+1])
				}
			}
			return s.post(t, "/v1/uploads", f, withKey(key))
		}
	}
	hello, hullo := "Content-Digest: sha-256=:"+sha256Of("hello")+":", "Content-Digest: sha-256=:"+sha256Of("hullo")+":"
	const a, b = "----boundary-of-one-length", "----boundary-of-another-length"
	tests := map[string]struct {
		first, second func(string) reply
		same          bool
	}{
		"the same":                           {raw("/v1/uploads?file_name=a", "hello"), raw("/v1/uploads?file_name=a", "hello"), true},
		"the name said in another way":       {raw("/v1/uploads?file_name=a", "hello"), raw("/v1/uploads", "hello", `Content-Disposition: attachment; filename="a"`), true},
		"another wish":                       {raw("/v1/uploads", "hello"), raw("/v1/uploads", "hello", "Prefer: respond-async"), true},
		"other bytes, so many":               {raw("/v1/uploads", "hello"), raw("/v1/uploads", "hullo"), true},
		"other bytes, of which a digest is":  {raw("/v1/uploads", "hello", hello), raw("/v1/uploads", "hullo", hullo), false},
		"a digest of what had none":          {raw("/v1/uploads", "hello"), raw("/v1/uploads", "hello", hello), false},
		"another name":                       {raw("/v1/uploads?file_name=a", "hello"), raw("/v1/uploads?file_name=b", "hello"), false},
		"another provider":                   {raw("/v1/uploads?provider=uploadcare", "hello"), raw("/v1/uploads?provider=cloudinary", "hello"), false},
		"more bytes":                         {raw("/v1/uploads", "hello"), raw("/v1/uploads", "hello!"), false},
		"another route":                      {form(a, "=a", "hello"), func(key string) reply { return s.post(t, "/upload", newForm().file("a", "hello"), withKey(key)) }, false},
		"a form and a body":                  {form(a, "=a", "hello"), raw("/v1/uploads?file_name=a", "hello"), false},
		"a form parted in another way":       {form(a, "=a", "hello"), form(b, "=a", "hello"), true},
		"with fields before and behind it":   {form(a, "provider", "uploadcare", "=a", "hello", "tags", "x"), form(b, "provider", "uploadcare", "=a", "hello", "tags", "x"), true},
		"a form parted by something shorter": {form(b, "=a", "hello", "tags", "x"), form(a, "=a", "hello", "tags", "x"), true},
		"a form with one byte more":          {form(a, "=a", "hello"), form(a, "=a", "hello!"), false},
		"parted in another way as well":      {form(a, "=a", "hello"), form(b, "=a", "hello!"), false},
		"a form with another name":           {form(a, "=a", "hello"), form(a, "=b", "hello"), false},
		"with another name in a field":       {form(a, "fileName", "a", "=x", "hello"), form(a, "fileName", "b", "=x", "hello"), false},
		"with another provider in a field":   {form(a, "provider", "cloudinary", "=x", "hello"), form(a, "provider", "uploadcare", "=x", "hello"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			key := string(upload.NewID())
			if r := tt.first(key); r.StatusCode != 202 {
				t.Fatalf("the first got %d %s", r.StatusCode, r.text)
			}
			r := tt.second(key)
			if tt.same && (r.StatusCode != 202 || r.Header.Get(headerReplayed) != "true") || !tt.same && r.StatusCode != 422 {
				t.Errorf("got %d %s", r.StatusCode, r.text)
			}
		})
	}
}

// A key is free as soon as nothing is going to be made with it.
func TestARefusalFreesItsKey(t *testing.T) {
	kib := func(n int) string { return strings.Repeat("x", n<<10) }
	s := open(t, func(a *API, _ *Options) { a.holdTo(postgres.Limits{StoredBytes: most(100 << 10)}) })
	roomless := s.twin(t)
	roomless.api.Quotas.Disk = full{s.api.Ingest.Staging}
	refused := map[string]struct {
		send   func(key string) reply
		status int
	}{
		"a file over the limit": {func(key string) reply {
			return s.do(t, "POST", "/v1/uploads", strings.NewReader(kib(1100)), withKey(key))
		}, 413},
		"one of unknown length over it": {func(key string) reply {
			return s.do(t, "POST", "/v1/uploads", unsized{strings.NewReader(kib(1100))}, withKey(key))
		}, 413},
		"a file over the quota": {func(key string) reply {
			return s.do(t, "POST", "/v1/uploads", strings.NewReader(kib(101)), withKey(key))
		}, 413},
		"no room": {func(key string) reply {
			return roomless.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), withKey(key))
		}, 507},
		"no room for a form": {func(key string) reply { return roomless.post(t, "/upload", newForm().file("a", "hello"), withKey(key)) }, 507},
		"another digest": {func(key string) reply {
			return s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), withKey(key), "Content-Digest: crc32c=:AAAAAA==:")
		}, 422},
		"an empty file": {func(key string) reply { return s.post(t, "/upload", newForm().file("a", ""), withKey(key)) }, 422},
		"an unknown provider": {func(key string) reply {
			return s.do(t, "POST", "/v1/uploads?provider=s3", strings.NewReader("hello"), withKey(key))
		}, 422},
		"a bad field behind the file": {func(key string) reply {
			return s.post(t, "/upload", newForm().file("a", "hello").field("metadata[a b]", "1"), withKey(key))
		}, 422},
		"a field like none behind the file": {func(key string) reply {
			return s.post(t, "/upload", newForm().file("a", "hello").field("provider", "s3"), withKey(key))
		}, 422},
		"a second file": {func(key string) reply {
			return s.post(t, "/upload", newForm().file("a", "hello").file("b", "hello"), withKey(key))
		}, 422},
	}
	for name, tt := range refused {
		t.Run(name, func(t *testing.T) {
			key := string(upload.NewID())
			if r := tt.send(key); r.StatusCode != tt.status {
				t.Fatalf("got %d %s, want %d", r.StatusCode, r.text, tt.status)
			}
			if n := s.count(t, "slipway.idempotency_keys WHERE final_at IS NULL"); n > 0 {
				t.Error("the key is still held")
			}
			r := s.do(t, "POST", "/v1/uploads?file_name=mended", strings.NewReader("hello"), withKey(key))
			if r.StatusCode != 202 || r.Header.Get(headerReplayed) != "" {
				t.Errorf("what was mended got %d %s", r.StatusCode, r.text)
			}
		})
	}
	t.Run("a body that is cut", func(t *testing.T) {
		c := s.begin(t, "cut")
		must(t, c.Close())
		s.await(t, "the key to be free", `SELECT NOT EXISTS (SELECT FROM slipway.idempotency_keys WHERE key = 'cut')`)
		if r := s.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader(half+half), withKey("cut")); r.StatusCode != 202 {
			t.Errorf("got %d %s", r.StatusCode, r.text)
		}
	})
	t.Run("what was made before is not refused", func(t *testing.T) {
		s.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader("hello"), withKey("made"))
		if r := roomless.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader("hello"), withKey("made")); r.StatusCode != 202 {
			t.Errorf("where there is no room it got %d %s", r.StatusCode, r.text)
		}
	})
}

// half of a file: more of it than is read before a handler is called.
var half = strings.Repeat("01234567", 2<<10)

// begin sends half of a file, and waits until its key is held.
func (s *site) begin(t *testing.T, key string) *client {
	t.Helper()
	c := s.dial(t)
	c.send(post("/v1/uploads?file_name=a", 2*len(half), as(t, "alice"), withKey(key)) + half)
	s.await(t, "the key to be held", `SELECT count(*) = 1 FROM slipway.idempotency_keys WHERE key = $1 AND final_at IS NULL`, key)
	return c
}

// await waits until a query says true.
func (s *site) await(t testing.TB, what, sql string, a ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ok := false; !ok; {
		if err := s.pool.QueryRow(ctx, sql, a...).Scan(&ok); err != nil {
			t.Fatalf("wait for %s: %v", what, err)
		}
	}
}

// lapse is the end of a key's lease.
func (s *site) lapse(t *testing.T, key string) {
	t.Helper()
	s.exec(t, `UPDATE slipway.idempotency_keys SET held_until = now() - interval '1 ms' WHERE key = $1 AND final_at IS NULL`, key)
}

// wantOne checks that there is one upload, and nothing else in staging.
func (s *site) wantOne(t *testing.T) {
	t.Helper()
	if uploads, staged := s.count(t, "slipway.uploads"), s.staged(t); uploads != 1 || len(staged) != 1 {
		t.Errorf("there are %d uploads, and %v in staging; want one", uploads, staged)
	}
}

func TestAKeyIsTakenOverFromTheDead(t *testing.T) {
	whole := func() io.Reader { return strings.NewReader(half + half) }
	first := open(t, func(a *API, _ *Options) { a.holdTo(postgres.Limits{Receiving: most(1)}) })
	second := first.twin(t)
	c := first.begin(t, "k")
	first.await(t, "room to be held", `SELECT count(*) = 1 FROM slipway.staging_reservations`)
	for deadline := time.Now().Add(patience); len(first.staged(t)) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no byte is in staging")
		}
	}
	r := second.do(t, "POST", "/v1/uploads?file_name=a", whole(), withKey("k"))
	if wantCode(t, r, 409, upload.KeyInFlight); r.Header.Get("Retry-After") == "" {
		t.Error("nothing says when to come again")
	}
	first.lapse(t, "k")
	u := into[uploadView](t, second.do(t, "POST", "/v1/uploads?file_name=a", whole(), withKey("k")), 202)
	first.wantOne(t)

	c.send(half) // it was not dead, only silent
	wantCode(t, c.answer(), 409, upload.KeyInFlight)
	first.wantOne(t)
	if again := into[uploadView](t, first.do(t, "POST", "/v1/uploads?file_name=a", whole(), withKey("k")), 202); again.ID != u.ID {
		t.Errorf("the key is that of %s, want %s", again.ID, u.ID)
	}
}

func TestASilentSenderWhoIsNotTakenOverGoesOn(t *testing.T) {
	s := open(t, nil)
	c := s.begin(t, "k")
	s.lapse(t, "k")
	c.send(half)
	if a := c.answer(); a.StatusCode != 202 {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	c = s.begin(t, "forgotten")
	s.exec(t, `DELETE FROM slipway.idempotency_keys WHERE key = 'forgotten'`)
	c.send(half)
	if a := c.answer(); a.StatusCode != 202 {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	if n := s.count(t, "slipway.idempotency_keys WHERE final_at IS NOT NULL"); n != 2 {
		t.Errorf("%d keys are final, want 2", n)
	}
}

// Bytes renew the lease, now and then; the other half of the body is a trickle.
func TestBytesKeepTheKey(t *testing.T) {
	t.Parallel()
	s := open(t, func(a *API, _ *Options) { a.Ingest.KeyLease = 3 * time.Second })
	c := s.dial(t)
	c.send(post("/v1/uploads?file_name=a", 2*len(half), as(t, "alice"), withKey("k")) + half)
	s.await(t, "the key to be held", `SELECT count(*) = 1 FROM slipway.idempotency_keys`)
	var was, until time.Time
	const read = `SELECT held_until FROM slipway.idempotency_keys`
	must(t, s.pool.QueryRow(t.Context(), read).Scan(&was))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent, renewed := 0, 0
	for ; renewed < 2; sent++ {
		if sent > 200 {
			t.Fatalf("in 10 s the lease was renewed %d times", renewed)
		}
		<-tick.C
		c.send("x")
		must(t, s.pool.QueryRow(t.Context(), read).Scan(&until))
		if until.After(was) {
			renewed++
			was = until
		}
	}
	if sent < 20 {
		t.Errorf("the lease was renewed %d times for %d reads", renewed, sent)
	}
	wantCode(t, s.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader(half+half), withKey("k")), 409, upload.KeyInFlight)
	c.send(half[sent:])
	if a := c.answer(); a.StatusCode != 202 {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	s := open(t, nil)
	c := s.begin(t, "k")
	c.send(half)
	must(t, c.Close())
	s.await(t, "the upload", `SELECT count(*) = 1 FROM slipway.uploads`)
	r := s.do(t, "POST", "/v1/uploads?file_name=a", strings.NewReader(half+half), withKey("k"))
	if r.StatusCode != 202 || r.Header.Get(headerReplayed) != "true" {
		t.Errorf("got %d %s", r.StatusCode, r.text)
	}
	s.wantOne(t)
}

// A file that comes quickly asks nothing about its key in between, and a replay does not wait for the bytes that come
// with it.
func TestAReplayDoesNotReadTheFile(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.Ingest.MaxBytes, a.Ingest.KeyLease = 1<<30, time.Hour })
	const size = 64 << 20
	file := func() io.Reader { return bytes.NewReader(make([]byte, size)) }
	u := into[uploadView](t, s.do(t, "POST", "/v1/uploads?file_name=a", file(), withKey("k")), 202)
	if n := s.count(t, `slipway.idempotency_keys WHERE held_until <> created_at + interval '1 hour'`); n > 0 {
		t.Error("the lease was renewed at once")
	}
	c := s.dial(t)
	c.send(post("/v1/uploads?file_name=a", size, as(t, "alice"), withKey("k")) + half) // the rest never comes
	if a := c.answer(); a.StatusCode != 202 || !strings.Contains(a.text, string(u.ID)) {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	if a := s.do(t, "POST", "/v1/uploads?file_name=a", file(), withKey("k")); a.StatusCode != 202 || a.Header.Get(headerReplayed) == "" {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
}

// Two processes are asked at random, at the same time, by senders who come to the end, who break off, and who mean
// another file: whatever happens, a key makes one upload, and who is told of one is told of that.
func TestAKeyMakesOneUploadWhoeverIsAsked(t *testing.T) {
	const keys, senders = 12, 8
	first := open(t, nil)
	sites := []*site{first, first.twin(t)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	told := map[string]map[upload.ID]bool{} // by key
	var all sync.WaitGroup
	for k := range keys {
		key := fmt.Sprintf("key-%d", k)
		told[key] = map[upload.ID]bool{}
		for n := range senders {
			chance := rand.New(rand.NewPCG(seed, uint64(k*senders+n)))
			at, name, breaks := sites[chance.IntN(2)], []string{"a", "a", "a", "b"}[chance.IntN(4)], chance.IntN(3) == 0
			all.Go(func() {
				var body io.Reader = strings.NewReader(half + half)
				if breaks {
					body = io.MultiReader(strings.NewReader(half), broken{})
				}
				req, err := http.NewRequestWithContext(t.Context(), "POST", at.url+"/v1/uploads?file_name="+name, body)
				if err != nil {
					t.Error(err)
					return
				}
				req.ContentLength = int64(2 * len(half))
				req.Header.Set("Authorization", "Bearer "+tokenOf(t, "alice"))
				req.Header.Set(headerIdempotencyKey, key)
				resp, err := at.client.Do(req)
				if err != nil {
					if !breaks {
						t.Errorf("%s: %v", key, err)
					}
					return
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				r := reply{resp, string(text)}
				switch resp.StatusCode {
				case 202:
					u := into[uploadView](t, r, 202)
					mu.Lock()
					told[key][u.ID] = true
					mu.Unlock()
				case 400, 409, 422: // cut, in flight, another's
				default:
					t.Errorf("%s: got %d %s", key, r.StatusCode, r.text)
				}
			})
		}
	}
	all.Wait()
	first.await(t, "those who broke off to let go", `SELECT count(*) = 0 FROM slipway.idempotency_keys WHERE final_at IS NULL`)
	for key, ids := range told {
		for i, name := range []string{"a", "b"} { // one of them is the key's
			r := sites[i].do(t, "POST", "/v1/uploads?file_name="+name, strings.NewReader(half+half), withKey(key))
			if r.StatusCode == 202 {
				ids[into[uploadView](t, r, 202).ID] = true
			}
		}
		if len(ids) != 1 {
			t.Errorf("%s made %v", key, ids)
		}
	}
	if uploads, staged := first.count(t, "slipway.uploads"), first.staged(t); uploads != keys || len(staged) != keys {
		t.Errorf("%d keys made %d uploads, and staging holds %d files", keys, uploads, len(staged))
	}
}

// broken is where a file cannot be read any further.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAKeyMakesOneUploadByTus(t *testing.T) {
	s := open(t, nil)
	create := func(body string, headers ...string) reply {
		return s.do(t, "POST", "/v1/tus/", strings.NewReader(body), append([]string{"Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"}, headers...)...)
	}
	first := create("", "Upload-Length: 5", withKey("k"))
	again := create("", "Upload-Length: 5", withKey("k"))
	at := first.Header.Get("Location")
	if first.StatusCode != 201 || again.StatusCode != 201 || at == "" || again.Header.Get("Location") != at || again.Header.Get(headerReplayed) == "" || again.Header.Get("Upload-Offset") != "0" {
		t.Fatalf("got %d %v and then %d %v", first.StatusCode, first.Header, again.StatusCode, again.Header)
	}
	wantCode(t, create("", "Upload-Length: 6", withKey("k")), 422, upload.KeyReused)
	wantCode(t, create("", "Upload-Length: 5", "Upload-Concat: partial", withKey("k")), 422, upload.KeyReused)
	wantCode(t, create("", "Upload-Length: 5", withKey(`""`)), 400, upload.InvalidKey)

	half := create("hel", "Upload-Length: 5", withKey("with-bytes"))
	if again := create("hel", "Upload-Length: 5", withKey("with-bytes")); half.Header.Get("Upload-Offset") != "3" || again.Header.Get("Upload-Offset") != "3" || again.Header.Get("Location") != half.Header.Get("Location") {
		t.Errorf("with bytes: %d %v and then %d %v", half.StatusCode, half.Header, again.StatusCode, again.Header)
	}
	if r := create("", "Upload-Length: 2000000", withKey("refused")); r.StatusCode != 413 {
		t.Errorf("a file that is too large got %d %s", r.StatusCode, r.text)
	}
	if r := create("", "Upload-Length: 7", withKey("refused")); r.StatusCode != 201 || r.Header.Get(headerReplayed) != "" {
		t.Errorf("after a refusal: %d %s", r.StatusCode, r.text)
	}

	piece := func(name string) string {
		return create("hello", "Upload-Length: 5", "Upload-Concat: partial", withKey(name)).Header.Get("Location")
	}
	concat := "Upload-Concat: final;" + piece("piece-1") + " " + piece("piece-2")
	joined, same := create("", concat, withKey("final")), create("", concat, withKey("final"))
	if joined.StatusCode != 201 || same.StatusCode != 201 || joined.Header.Get("Location") != same.Header.Get("Location") || same.Header.Get(headerReplayed) == "" {
		t.Errorf("joined: %d %v and then %d %v", joined.StatusCode, joined.Header, same.StatusCode, same.Header)
	}
	wantCode(t, create("hello", "Upload-Length: 5", "Upload-Concat: partial", withKey("piece-1")), 410, upload.Gone)
	if n := s.count(t, "slipway.idempotency_keys WHERE final_at IS NULL"); n > 0 {
		t.Errorf("%d keys are held", n)
	}
}
