package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/postgres"
)

func TestPagesOfOtherSitesChangeNothingWithoutAToken(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		a.Auth = auth.New(auth.Options{Secret: jwtSecret, DevUser: "alice"})
		o.AllowedOrigins = []string{"*", "https://app.example.com"}
	})
	noToken := as(t, "")
	tests := map[string]struct {
		method  string
		headers []string
		status  int
	}{
		"a program may":                    {"POST", []string{noToken}, 202},
		"a page of ours may":               {"POST", []string{noToken, "Origin: " + s.url}, 202},
		"a browser says that it is ours":   {"POST", []string{noToken, "Origin: null", "Sec-Fetch-Site: same-origin"}, 202},
		"a page that is allowed by name":   {"POST", []string{noToken, "Origin: https://app.example.com", "Sec-Fetch-Site: cross-site"}, 202},
		"a page of another site":           {"POST", []string{noToken, "Origin: https://evil.example"}, 403},
		"a page that hides where it is":    {"POST", []string{noToken, "Origin: null"}, 403},
		"a page that a browser calls else": {"POST", []string{noToken, "Sec-Fetch-Site: cross-site"}, 403},
		"a page of another site may read":  {"GET", []string{noToken, "Origin: https://evil.example"}, 200},
		"a page with a token may":          {"POST", []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 202},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if r := s.do(t, tt.method, "/v1/uploads", strings.NewReader("hello"), tt.headers...); r.StatusCode != tt.status {
				t.Errorf("got %d %s, want %d", r.StatusCode, r.text, tt.status)
			}
		})
	}
}

func TestScriptsOfAllowedPagesCanUseTheAPI(t *testing.T) {
	s := open(t, func(_ *API, o *Options) { o.AllowedOrigins = []string{"https://app.example.com"} })
	const origin = "Origin: https://app.example.com"
	r := s.do(t, "OPTIONS", "/v1/uploads", nil, as(t, ""), origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,prefer")
	if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("the preflight got %d %v", r.StatusCode, r.Header)
	}
	r = s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), origin)
	if exposed := r.Header.Get("Access-Control-Expose-Headers"); r.StatusCode != 202 || !strings.Contains(exposed, "Location") || !strings.Contains(exposed, "Retry-After") {
		t.Errorf("got %d exposing %q", r.StatusCode, exposed)
	}
	r = s.do(t, "GET", "/v1/uploads", nil, as(t, ""), origin)
	if r.StatusCode != 401 || r.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a refusal that the page cannot read: %d %v", r.StatusCode, r.Header)
	}
	if r := s.do(t, "GET", "/v1/uploads", nil, "Origin: https://evil.example"); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page may read: %v", r.Header)
	}
}

func TestReadiness(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.Auth = auth.New(auth.Options{DevUser: "user_123"}) })
	deadline := time.Now().Add(patience)
	for !s.api.Hub.Listening() && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	must(t, postgres.PauseProvider(t.Context(), s.pool, "uploadcare", "provider_account", "Uploadcare refuses the keys.", time.Hour))
	if r := s.do(t, "GET", "/readyz", nil, as(t, "")); r.StatusCode != 200 || r.text != "ok\n" {
		t.Errorf("got %d %q", r.StatusCode, r.text)
	}
	r := into[readiness](t, s.do(t, "GET", "/readyz?verbose", nil, as(t, "")), 200)
	p := r.Providers[0]
	if !r.Ready || !r.Database.OK || !r.Staging.OK || r.Staging.FreeBytes <= 0 || r.Events != "listening" || r.DevUser != "user_123" ||
		p.Name != "uploadcare" || p.OK || p.PauseReason != "Uploadcare refuses the keys." || p.PausedUntil == nil {
		t.Errorf("got %+v", r)
	}
	s.draining.Store(true)
	if r := s.do(t, "GET", "/readyz", nil, as(t, "")); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("while draining: %d %q", r.StatusCode, r.text)
	}
}

func TestPagesShowAndEscape(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		a.Auth = auth.New(auth.Options{Secret: jwtSecret, DevUser: "alice"})
		o.PublicURL = "https://media.example.com"
	})
	noToken := as(t, "")
	const name = `<script>alert("1")</script> & père.mp4`
	u := into[uploadView](t, s.post(t, "/v1/uploads", newForm().file("a", "hello").field("fileName", strings.ReplaceAll(name, "/", "")), noToken), 202)
	page := func(path string) reply {
		t.Helper()
		r := s.do(t, "GET", path, nil, noToken)
		csp := r.Header.Get("Content-Security-Policy")
		if r.StatusCode != 200 || !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
		if strings.Contains(r.text, "<script") || strings.Contains(r.text, "ZgotmplZ") || !strings.Contains(r.text, "&lt;script&gt;") {
			t.Errorf("%s is not escaped: %s", path, r.text)
		}
		return r
	}
	home := page("/")
	for _, want := range []string{
		`curl -X POST https://media.example.com/upload -F &#34;file=@film.mp4&#34; -F &#34;fileName=film.mp4&#34;`,
		`href="/uploads/` + string(u.ID), `value="uploadcare" checked`, `value="cloudinary">`, `action="/upload"`, "queued",
	} {
		if !strings.Contains(home.text, want) {
			t.Errorf("the first page has no %s: %s", want, home.text)
		}
	}
	self := "/uploads/" + string(u.ID)
	if pending := page(self); !strings.Contains(pending.text, `http-equiv="refresh"`) || !strings.Contains(pending.text, `<progress value="5" max="5">`) {
		t.Errorf("the page of a pending upload: %s", pending.text)
	}
	s.change(t, u.ID, `status = 'failed', error_code = 'provider_rejected', error_message = 'It is no <video>.', error_retryable = false, error_fixable_by = 'you'`)
	failed := page(self)
	for _, want := range []string{"It is no &lt;video&gt;.", "choose another provider", `action="/v1/uploads/` + string(u.ID) + `/retry"`, "provider_rejected"} {
		if !strings.Contains(failed.text, want) {
			t.Errorf("the page of a failed upload has no %q: %s", want, failed.text)
		}
	}
	to := s.complete(t, u.ID)
	if done := page(self); !strings.Contains(done.text, `href="`+to+`"`) || strings.Contains(done.text, "refresh") {
		t.Errorf("the page of a completed upload: %s", done.text)
	}
	if r := s.do(t, "GET", "/uploads/nothing", nil, noToken, "Accept: text/html"); r.StatusCode != 404 || !strings.Contains(r.text, "There is no upload with this id.") || !strings.Contains(r.text, "<html") {
		t.Errorf("an unknown upload's page: %d %s", r.StatusCode, r.text)
	}
}

func TestEveryRequestIsLoggedWithoutItsSecrets(t *testing.T) {
	var log logged
	s := open(t, func(_ *API, o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	r := s.do(t, "POST", "/v1/uploads?file_name=a&token="+token, strings.NewReader("hello"), as(t, ""))
	u := into[uploadView](t, r, 202)
	s.do(t, "GET", "/v1/uploads/"+string(u.ID)+"?token="+token, nil, as(t, ""))
	s.do(t, "GET", "/v1/uploads/"+string(u.ID)+"?token="+token+"secret", nil, as(t, ""))
	s.do(t, "GET", "/nowhere?token="+token, nil)
	lines := log.String()
	for _, want := range []string{
		"level=INFO msg=request method=POST route=/v1/uploads status=202",
		"level=DEBUG msg=request method=GET route=/v1/uploads/:id status=200",
		"level=DEBUG msg=request method=GET route=none status=404",
		fmt.Sprintf("request_id=%s upload_id=%s", r.Header.Get("X-Request-Id"), u.ID),
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("the log has no %q:\n%s", want, lines)
		}
	}
	if strings.Contains(lines, token) || strings.Contains(lines, "secret") || strings.Contains(lines, "Bearer") {
		t.Errorf("the log has a token:\n%s", lines)
	}
}

func TestPreferences(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	s.complete(t, u.ID)
	for header, want := range map[string]string{
		"":                          "",
		"wait=7":                    "wait=7",
		`WAIT = "7"`:                "wait=7",
		"wait=600":                  "wait=55",
		"handling=lenient, wait=7":  "wait=7",
		"respond-async, wait=7":     "wait=7",
		"respond-async; foo":        "respond-async",
		"wait=soon":                 "",
		"wait=-1":                   "",
		"wait=99999999999999999999": "",
		"return=minimal":            "",
	} {
		r := s.do(t, "GET", u.Links.Self, nil, "Prefer: "+header)
		if got := r.Header.Get("Preference-Applied"); r.StatusCode != http.StatusOK || got != want {
			t.Errorf("Prefer: %s is applied as %q, want %q", header, got, want)
		}
	}
}
