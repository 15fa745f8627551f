package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// tus is alice with a tus client.
func (s *site) tus(t *testing.T) *tusUser { return &tusUser{site: s, t: t, name: "alice"} }

// beginPatch sends the head of a PATCH and these bytes of a longer body, and waits until they are being received.
func (p *tusUser) beginPatch(path string, offset, length int, sent string) *client {
	p.t.Helper()
	c := p.dial(p.t)
	c.send(head("PATCH", path, as(p.t, p.name), ofTus, octets, fmt.Sprintf("Upload-Offset: %d", offset), fmt.Sprintf("Content-Length: %d", length)) + sent)
	p.await(p.t, "the PATCH", `SELECT receive_held FROM slipway.uploads WHERE id = $1`, path[len(tusRoot):])
	return c
}

func TestANewerTusRequestInterruptsTheOlder(t *testing.T) {
	first := open(t, nil)
	for name, second := range map[string]*site{"in the same process": first, "in another": first.twin(t)} {
		t.Run(name, func(t *testing.T) {
			body := strings.Repeat("0123456789", 40_000)
			p, q := first.tus(t), second.tus(t)
			path := p.create(fmt.Sprintf("Upload-Length: %d", len(body)))
			for at, rounds := 0, 0; at < 300_000; rounds++ { // a request that is interrupted at once has read nothing yet
				if rounds == 100 {
					t.Fatalf("no more than %d bytes were kept", at)
				}
				c := p.beginPatch(path, at, len(body)-at, body[at:at+100_000])
				began := time.Now()
				r := q.head(path)
				t.Logf("took over in %s", time.Since(began))
				q.want(r, 200)
				wantCode(t, c.answer(), 423, upload.Interrupted)
				now, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
				must(t, err)
				if now < at || now > at+100_000 {
					t.Fatalf("from %d to %d", at, now)
				}
				at = now
			}
			at, err := strconv.Atoi(q.head(path).Header.Get("Upload-Offset"))
			must(t, err)
			c := p.beginPatch(path, at, len(body)-at, body[at:at+20_000])
			r := q.patch(path, at+20_000, body[at+20_000:])
			wantCode(t, c.answer(), 423, upload.Interrupted)
			if r.StatusCode == 409 { // the older one had not read as far
				at, err = strconv.Atoi(q.head(path).Header.Get("Upload-Offset"))
				must(t, err)
				r = q.patch(path, at, body[at:])
			}
			q.want(r, 204, fmt.Sprintf("Upload-Offset: %d", len(body)))
			q.wantDelivery(path, body)
		})
	}
}

// A client that gets anything else than these from HEAD begins again with the first byte.
func TestATusHEADIsNeverAnsweredWithAServersError(t *testing.T) {
	unreachable := func(t *testing.T, s *site) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		must(t, ln.Close())
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: "postgres://nobody@" + ln.Addr().String() + "/none"})
		must(t, err)
		t.Cleanup(pool.Close)
		s.api.Pool, s.api.Ingest.Pool = pool, pool
	}
	for name, spoil := range map[string]func(*testing.T, *site){
		"the database is down": unreachable,
		"the server is cut":    func(_ *testing.T, s *site) { s.cut() },
		"staging is away": func(t *testing.T, s *site) {
			must(t, os.Rename(s.folder, s.folder+".away"))
		},
		"no job can be made": func(t *testing.T, s *site) {
			s.exec(t, `ALTER TABLE slipway.river_job RENAME TO away`)
		},
		"something is wrong here": func(t *testing.T, s *site) {
			s.exec(t, `ALTER TABLE slipway.tus_uploads RENAME TO away`)
		},
		"too many ask": func(t *testing.T, s *site) {
			s.api.holdTo(postgres.Limits{Requests: most(1)})
			s.do(t, "GET", "/v1/usage", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			p := s.tus(t)
			path := p.create("Upload-Length: 5")
			p.want(p.patch(path, 0, "hello"), 204)
			s.exec(t, `UPDATE slipway.uploads SET status = 'receiving', job_id = NULL, staged_at = NULL`) // whose commit is pending
			spoil(t, s)
			for range 2 {
				p.want(p.head(path), 423, "Upload-Offset: ")
			}
			if r := p.patch(path, 5, ""); r.StatusCode != 423 && r.StatusCode != 429 {
				t.Errorf("a PATCH is answered %d %s", r.StatusCode, r.text)
			}
		})
	}
}

func TestADrainKeepsWhatCameByTus(t *testing.T) {
	s := open(t, func(_ *API, o *Options) { o.DrainTimeout = 500 * time.Millisecond })
	p := s.tus(t)
	path := p.create("Upload-Length: 400000")
	sent := strings.Repeat("0123456789", 10_000)
	c := p.beginPatch(path, 0, 400_000, sent)
	s.end()
	if r := c.answer(); r.StatusCode != 423 {
		t.Errorf("it is answered %d %s", r.StatusCode, r.text)
	}
	s.twin(t).tus(t).wantOffset(path, len(sent))
}

func TestAResetKeepsWhatCameByTus(t *testing.T) {
	s := open(t, nil)
	p := s.tus(t)
	path := p.create("Upload-Length: 400000")
	c := p.beginPatch(path, 0, 400_000, strings.Repeat("0123456789", 30_000))
	must(t, c.SetLinger(0))
	must(t, c.Close())
	p.await(t, "its end", `SELECT NOT receive_held FROM slipway.uploads WHERE id = $1`, path[len(tusRoot):])
	r := p.head(path)
	at, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
	must(t, err)
	p.want(p.patch(path, at, strings.Repeat("x", 400_000-at)), 204)
	p.wantDelivery(path, strings.Repeat("0123456789", 30_000)[:at]+strings.Repeat("x", 400_000-at))
}

func TestWhatComesByTusIsSeenAsAnUpload(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.UnfinishedTTL = 2 * time.Hour })
	p := s.tus(t)
	r := p.ask("POST", tusRoot, "he", octets, "Upload-Length: 5",
		"Upload-Metadata: filename "+base64Of("père.txt")+",type "+base64Of("text/plain")+",provider "+base64Of("cloudinary")+",resource_type "+base64Of("raw")+
			",tags "+base64Of("trip, sea")+",album "+base64Of("7")+",empty ")
	path := p.pathOf(r)
	if !strings.HasPrefix(r.Header.Get("Location"), "/") {
		t.Errorf("the Location is %q, want it relative", r.Header.Get("Location"))
	}
	status := fmt.Sprintf(`<%s>; rel="status"`, uploadPath(upload.ID(path[len(tusRoot):])))
	for _, r := range []reply{r, p.head(path), p.patch(path, 1, ""), p.patch(path, 2, "l")} {
		if r.Header.Get("Link") != status {
			t.Errorf("%s is answered with Link: %q", r.Request.Method, r.Header.Get("Link"))
		}
	}
	u := p.upload(path)
	if u.Status != upload.Receiving || u.Size != 5 || u.Received != 3 || u.Progress != 0.3 || u.FileName != "père.txt" || u.ContentType != "text/plain" || u.Provider != "cloudinary" ||
		u.ResourceType != upload.Raw || fmt.Sprint(u.Tags, u.Metadata) != "[trip sea] map[album:7]" || u.Links.Cancel == nil || u.CRC32C != "" {
		t.Errorf("the upload is %+v", u)
	}
	expires, err := http.ParseTime(p.head(path).Header.Get("Upload-Expires"))
	if err != nil || u.ExpiresAt == nil || u.ExpiresAt.Sub(expires).Abs() > time.Minute || time.Until(expires).Round(time.Hour) != 2*time.Hour {
		t.Errorf("it expires at %v, or at %v, %v", u.ExpiresAt, expires, err)
	}
	into[uploadView](t, s.do(t, "POST", uploadPath(u.ID)+"/cancel", nil), 202)
	p.want(p.head(path), 410)
}

func TestAnUploadTokenIsGoodForTus(t *testing.T) {
	s := open(t, nil)
	token := "Authorization: Bearer " + s.uploadToken(t, auth.Grant{User: "alice", MaxBytes: 10, Provider: "cloudinary"})
	p := s.tus(t)
	p.want(p.ask("POST", tusRoot, "", token, "Upload-Length: 11"), 413)
	p.want(p.ask("POST", tusRoot, "", token, "Upload-Length: 5", "Upload-Metadata: provider "+base64Of("uploadcare")), 403)
	p.wantNothing()

	deferred := p.create(token, "Upload-Defer-Length: 1")
	p.want(p.patch(deferred, 0, strings.Repeat("x", 11), token), 413)
	p.want(p.patch(deferred, 0, "hello", token, "Upload-Length: 11"), 413)
	p.want(p.patch(deferred, 0, "hello", token, "Upload-Length: 10"), 204)
	if u := p.upload(deferred); u.Provider != "cloudinary" {
		t.Errorf("it goes to %s", u.Provider)
	}
	p.want(p.ask("DELETE", deferred, "", token), 204)

	whole := p.create(token, "Upload-Length: 5")
	p.want(p.patch(whole, 0, "hello", token), 204)
	p.want(p.head(whole), 200, "Upload-Offset: 5")
	p.want(p.ask("DELETE", whole, "", token), 403)
	p.want(p.ask("DELETE", whole, ""), 204)
}

func TestTusIsHeldToQuotas(t *testing.T) {
	s := openWithin(t, postgres.Limits{StagedBytes: most(100), StoredBytes: most(1000), Uploads: most(10)})
	p := s.tus(t)
	p.want(p.ask("POST", tusRoot, "", "Upload-Length: 101"), 413)
	first := p.create("Upload-Length: 60")
	wantCode(t, p.ask("POST", tusRoot, "", "Upload-Length: 60"), 429, upload.StagedQuota)
	p.want(p.ask("DELETE", first, ""), 204)
	second := p.create("Upload-Length: 60")
	p.want(p.patch(second, 0, strings.Repeat("x", 60)), 204)
	wantCode(t, p.ask("POST", tusRoot, "", "Upload-Length: 60"), 429, upload.StagedQuota)
	if u := s.usage(t); u.Staged.Bytes != 60 {
		t.Errorf("the usage is %+v", u)
	}
	deferred := p.create("Upload-Defer-Length: 1")
	if r := p.patch(deferred, 0, strings.Repeat("x", 41)); r.StatusCode != 429 {
		t.Errorf("more than there is room for is answered %d %s", r.StatusCode, r.text)
	}
}

// An upload that is being received is one of the day's, and not another one because room is held for it.
func TestWhatComesByTusCountsOnceADay(t *testing.T) {
	s := openWithin(t, postgres.Limits{Uploads: most(3)})
	p := s.tus(t)
	first := p.create("Upload-Length: 5")
	p.create("Upload-Length: 5")
	a, b := p.partial("hello"), p.partial(" world")
	p.create(fmt.Sprintf("Upload-Concat: final;%s %s", a, b))
	wantCode(t, p.ask("POST", tusRoot, "", "Upload-Length: 5"), 429, upload.DailyQuota)
	p.want(p.patch(first, 0, "hello"), 204)
}
