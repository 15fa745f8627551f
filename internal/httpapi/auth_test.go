package httpapi

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

// by opens further ways in beside those of the test.
func by(change func(*auth.Options)) func(*API) {
	return func(a *API) {
		o := a.Auth.Options
		change(&o)
		a.Auth = auth.New(o)
	}
}

func TestACookieCountsForPagesOfOurs(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		by(func(o *auth.Options) { o.Cookie = "session" })(a)
		o.AllowedOrigins, o.Cookies = []string{"https://app.example.com"}, true
	})
	cookie := "Cookie: theme=dark; session=" + tokenOf(t, "alice")
	const (
		page      = "https://app.example.com"
		elsewhere = "https://evil.example"
	)
	tests := map[string]struct {
		request string
		headers []string
		status  int
	}{
		"reading":                            {"GET /v1/uploads", nil, 200},
		"reading by a link from elsewhere":   {"GET /v1/uploads", []string{"Sec-Fetch-Site: cross-site"}, 200},
		"a page of ours":                     {"POST /v1/uploads", []string{"Origin: {own}", "Sec-Fetch-Site: same-origin"}, 202},
		"a page of ours in an old browser":   {"POST /v1/uploads", []string{"Origin: {own}"}, 202},
		"a browser that hides the origin":    {"POST /v1/uploads", []string{"Origin: null", "Sec-Fetch-Site: same-origin"}, 202},
		"a page that is allowed by name":     {"POST /v1/uploads", []string{"Origin: " + page, "Sec-Fetch-Site: cross-site"}, 202},
		"a page of another site":             {"POST /v1/uploads", []string{"Origin: " + elsewhere, "Sec-Fetch-Site: cross-site"}, 403},
		"the same in an old browser":         {"POST /v1/uploads", []string{"Origin: " + elsewhere}, 403},
		"a page that hides where it is":      {"POST /v1/uploads", []string{"Origin: null"}, 403},
		"a page beside ours":                 {"POST /v1/uploads", []string{"Sec-Fetch-Site: same-site"}, 403},
		"nobody knows from where":            {"POST /v1/uploads", nil, 403},
		"an origin that begins like ours":    {"POST /v1/uploads", []string{"Origin: " + page + ".evil.example"}, 403},
		"a form of another site":             {"POST /upload", []string{"Origin: " + elsewhere, "Content-Type: multipart/form-data; boundary=b"}, 403},
		"deleting from elsewhere":            {"DELETE /v1/files/" + noUploadID, []string{"Origin: " + elsewhere}, 403},
		"deleting from here":                 {"DELETE /v1/files/" + noUploadID, []string{"Origin: {own}"}, 404},
		"a signature for a picture's source": {"GET /generate-signature", []string{"Sec-Fetch-Site: cross-site"}, 403},
		"a token goes before a cookie":       {"POST /v1/uploads", []string{as(t, "bob"), "Origin: " + elsewhere}, 202},
		"a bad token is not mended by it":    {"POST /v1/uploads", []string{"Authorization: Bearer abc", "Origin: {own}"}, 401},
		"another cookie is none":             {"GET /v1/uploads", []string{"Cookie: sessions=" + tokenOf(t, "alice")}, 401},
		"a cookie that is no token":          {"GET /v1/uploads", []string{"Cookie: session=abc"}, 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			headers := []string{as(t, ""), cookie}
			for _, h := range tt.headers {
				headers = append(headers, strings.ReplaceAll(h, "{own}", s.url))
			}
			method, path, _ := strings.Cut(tt.request, " ")
			if r := s.do(t, method, path, strings.NewReader(formBody), headers...); r.StatusCode != tt.status {
				t.Errorf("got %d %s, want %d", r.StatusCode, r.text, tt.status)
			}
		})
	}
	for origin, want := range map[string]string{page: "true", elsewhere: ""} {
		if r := s.do(t, "GET", "/v1/uploads", nil, as(t, ""), cookie, "Origin: "+origin); r.Header.Get("Access-Control-Allow-Credentials") != want {
			t.Errorf("a page of %s may read with a cookie: %v", origin, r.Header)
		}
	}
}

func TestAHeaderCountsFromATrustedProxyAlone(t *testing.T) {
	const proxy, network, stranger = "127.0.0.2", "127.0.1.7", "127.0.0.3"
	s := open(t, func(a *API, o *Options) {
		by(func(o *auth.Options) { o.UserHeader = "X-User" })(a)
		o.TrustedProxies = []string{proxy, "127.0.1.0/24"}
	})
	mine := s.put(t, "a.txt")
	tests := map[string]struct {
		from   string
		head   string
		status int
	}{
		"the proxy says who":             {proxy, "X-User: alice\r\n", 200},
		"a proxy of the network does":    {network, "X-User: alice\r\n", 200},
		"the name's case is no matter":   {proxy, "x-USER: alice\r\n", 200},
		"the proxy names another":        {proxy, "X-User: bob\r\n", 404},
		"the proxy names nobody":         {proxy, "", 401},
		"the proxy names it is not whom": {proxy, "X-User: \r\n", 401},
		"anybody else says so":           {stranger, "X-User: alice\r\n", 401},
		"whoever says he is the proxy":   {stranger, "X-User: alice\r\nX-Forwarded-For: " + proxy + "\r\nForwarded: for=" + proxy + "\r\nX-Real-IP: " + proxy + "\r\n", 401},
		"a client's beside the proxy's":  {proxy, "X-User: alice\r\nX-User: bob\r\n", 400},
		"a list of users":                {proxy, "X-User: alice, bob\r\n", 404},
		"a user of 256 bytes":            {proxy, "X-User: " + strings.Repeat("a", 256) + "\r\n", 401},
		"a user who is no text":          {proxy, "X-User: al\xffice\r\n", 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt.from)}, Timeout: patience}
			conn, err := dialer.Dial("tcp", s.addr)
			must(t, err)
			defer conn.Close()
			must(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err = io.WriteString(conn, head("GET", mine.Links.Self, strings.TrimSuffix(tt.head, "\r\n")))
			must(t, err)
			c := &client{TCPConn: conn.(*net.TCPConn), t: t, in: bufio.NewReader(conn)}
			if r := c.answer(); r.StatusCode != tt.status {
				t.Errorf("got %d %s, want %d", r.StatusCode, r.text, tt.status)
			}
		})
	}
}

func TestTokensThatCannotBeCheckedYetAreToldToComeBack(t *testing.T) {
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(away.Close)
	set, err := auth.NewKeySet(away.URL, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { set.Run(ctx) })
	t.Cleanup(func() { stop(); parts.Wait() })

	s := open(t, func(a *API, _ *Options) { by(func(o *auth.Options) { o.KeySet, o.Issuer = set, "" })(a) })
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
	must(t, err)
	r := s.do(t, "GET", "/v1/uploads", nil, "Authorization: Bearer "+token)
	wantCode(t, r, 503, upload.Unavailable)
	if r.Header.Get("Retry-After") == "" || r.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("it is told %v", r.Header)
	}
	if r := s.do(t, "GET", "/v1/uploads", nil); r.StatusCode != 200 { // by the secret
		t.Errorf("other tokens get %d %s", r.StatusCode, r.text)
	}
	ready := into[readiness](t, s.do(t, "GET", "/readyz?verbose", nil, as(t, "")), 200)
	if strings.Join(ready.Auth, " ") != "jwks secret api_keys upload_tokens" || ready.JWKS == nil || ready.JWKS.OK || ready.JWKS.Keys != 0 || ready.JWKS.Error == "" {
		t.Errorf("readyz tells %+v %+v", ready.Auth, ready.JWKS)
	}
}

func TestWhoShowsTwoThingsIsAskedForOne(t *testing.T) {
	s := open(t, nil)
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	r := s.do(t, "GET", "/v1/uploads?token="+token, nil)
	wantCode(t, r, 400, upload.InvalidRequest)
	if got := r.Header.Get("WWW-Authenticate"); got != bearer+`, error="invalid_request"` {
		t.Errorf("it is challenged with %q", got)
	}
	conn := s.dial(t)
	conn.send(head("GET", "/v1/uploads", as(t, "alice"), as(t, "bob")))
	wantCode(t, conn.answer(), 400, upload.InvalidRequest)
}

// While the database is away it cannot be told whether a key is good, and nobody is told that it is not.
func TestKeysThatCannotBeLookedUpAreNotRefused(t *testing.T) {
	s := open(t, func(a *API, _ *Options) {
		by(func(o *auth.Options) { o.Keys = auth.NewKeys(a.Pool, slog.New(slog.DiscardHandler)) })(a)
	})
	key := s.apiKey(t, auth.ActScope)
	s.pool.Close()
	r := s.do(t, "POST", "/v1/tokens", strings.NewReader(`{"user_id":"alice"}`), "Authorization: Bearer "+key)
	if r.StatusCode == 401 || r.StatusCode == 200 {
		t.Errorf("got %d %s", r.StatusCode, r.text)
	}
}
