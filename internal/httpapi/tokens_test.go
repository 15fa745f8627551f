package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestAServerMakesTokensForItsUsers(t *testing.T) {
	s := open(t, nil)
	key := "Authorization: Bearer " + s.apiKey(t, auth.ActScope)
	tests := map[string]struct {
		body   string
		status int
		code   upload.Code
	}{
		"for a user":                     {`{"user_id":"alice"}`, 200, ""},
		"with all there is":              {`{"user_id":"alice","ttl":60,"max_bytes":5,"provider":"cloudinary"}`, 200, ""},
		"for a day":                      {`{"user_id":"alice","ttl":86400}`, 200, ""},
		"for nobody":                     {`{}`, 422, upload.InvalidParameter},
		"for who cannot be":              {`{"user_id":"a\u0000"}`, 422, upload.InvalidParameter},
		"for ever":                       {`{"user_id":"alice","ttl":86401}`, 422, upload.InvalidParameter},
		"for less than no time":          {`{"user_id":"alice","ttl":-1}`, 422, upload.InvalidParameter},
		"for more than there are":        {`{"user_id":"alice","ttl":1e300}`, 400, upload.InvalidRequest},
		"for less than nothing":          {`{"user_id":"alice","max_bytes":-1}`, 422, upload.InvalidParameter},
		"to nowhere":                     {`{"user_id":"alice","provider":"dropbox"}`, 422, upload.UnknownProvider},
		"with a limit that is misspelt":  {`{"user_id":"alice","maxBytes":5}`, 400, upload.InvalidRequest},
		"with what is no JSON":           {`user_id=alice`, 400, upload.InvalidRequest},
		"with a user that is no text":    {`{"user_id":7}`, 400, upload.InvalidRequest},
		"with more than one user's name": {`[{"user_id":"alice"}]`, 400, upload.InvalidRequest},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "POST", "/v1/tokens", strings.NewReader(tt.body), key)
			if tt.code != "" {
				wantCode(t, r, tt.status, tt.code)
				return
			}
			v := into[tokenAnswer](t, r, tt.status)
			if !strings.HasPrefix(v.Token, "slt_") || v.UserID != "alice" || time.Until(v.ExpiresAt) > 24*time.Hour || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %+v %v", v, r.Header)
			}
		})
	}
}

// A token comes in three ways, and is good for its user alone.
func TestUploadTokens(t *testing.T) {
	s := open(t, nil)
	nobody := as(t, "")
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	for name, send := range map[string]func() reply{
		"in the header": func() reply {
			return s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), "Authorization: Bearer "+token)
		},
		"in the query": func() reply {
			return s.do(t, "POST", "/v1/uploads?token="+token, strings.NewReader("hello"), nobody)
		},
		"in a form": func() reply {
			return s.post(t, "/v1/uploads", newForm().field("token", token).file("a.txt", "hello"), nobody)
		},
		"in the guides' form": func() reply {
			return s.post(t, "/upload", newForm().field("token", token).file("a.txt", "hello").field("fileName", "a.txt"), nobody)
		},
		"in a form from another site": func() reply {
			return s.post(t, "/upload", newForm().field("token", token).file("a.txt", "hello"), nobody, "Origin: https://shop.example", "Sec-Fetch-Site: cross-site")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := send()
			v := into[struct{ ID upload.ID }](t, r, 202)
			u := into[uploadView](t, s.do(t, "GET", "/v1/uploads/"+string(v.ID), nil), 200) // alice's
			seen := into[uploadView](t, s.do(t, "GET", "/v1/uploads/"+string(v.ID)+"?token="+token, nil, nobody), 200)
			if u.ID != seen.ID || len(u.Metadata) > 0 {
				t.Errorf("got %+v and %+v", u, seen)
			}
		})
	}
	list := into[uploadList](t, s.do(t, "GET", "/v1/uploads?limit=1&token="+token, nil, nobody), 200)
	if list.Next == nil || strings.Contains(*list.Next, "slt_") {
		t.Errorf("the next page is at %v, which is anybody's who reads the answer", *list.Next)
	}
}

func TestAFormWithoutAGoodTokenLeavesNoTrace(t *testing.T) {
	s := open(t, nil)
	nobody := as(t, "")
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	wrong := bearer + `, error="invalid_token"`
	for name, tt := range map[string]struct {
		form      *outgoing
		headers   []string
		status    int
		challenge string
	}{
		"no token":               {newForm().file("a.txt", "hello"), []string{nobody}, 401, bearer},
		"a token after the file": {newForm().file("a.txt", "hello").field("token", token), []string{nobody}, 401, bearer},
		"a bad token":            {newForm().field("token", token+"x").file("a.txt", "hello"), []string{nobody}, 401, wrong},
		"two tokens":             {newForm().field("token", "x").field("token", token).file("a.txt", "hello"), []string{nobody}, 401, wrong},
		"a user's token in it":   {newForm().field("token", tokenOf(t, "alice")).file("a.txt", "hello"), []string{nobody}, 401, wrong},
		"a server's key in it":   {newForm().field("token", s.apiKey(t, auth.ActScope)).file("a.txt", "hello"), []string{nobody, "Slipway-User: alice"}, 401, wrong},
		"another in the header":  {newForm().field("token", token).file("a.txt", "hello"), nil, 400, bearer + `, error="invalid_request"`},
		"no file":                {newForm().field("token", token), []string{nobody}, 422, ""},
		"another provider's":     {newForm().field("token", s.uploadToken(t, auth.Grant{User: "alice", Provider: "cloudinary"})).file("a", "hello").field("provider", "uploadcare"), []string{nobody}, 403, notForThis},
		"too large a file":       {newForm().field("token", s.uploadToken(t, auth.Grant{User: "alice", MaxBytes: 4})).file("a", "hello"), []string{nobody}, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.post(t, "/upload", tt.form, tt.headers...)
			if r.StatusCode != tt.status || r.Header.Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("got %d %q %s, want %d %q", r.StatusCode, r.Header.Get("WWW-Authenticate"), r.text, tt.status, tt.challenge)
			}
		})
	}
	s.wantNoTrace(t)
}

func TestATokenOfAKnownUserAfterTheFileIsRefused(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { by(func(o *auth.Options) { o.DevUser = "alice" })(a) })
	token := s.uploadToken(t, auth.Grant{User: "bob"})
	wantCode(t, s.post(t, "/upload", newForm().file("a.txt", "hello").field("token", token), as(t, "")), 400, upload.InvalidRequest)
	s.wantNoTrace(t)
	v := into[guideAnswer](t, s.post(t, "/upload", newForm().field("token", token).file("a.txt", "hello"), as(t, "")), 202)
	if r := s.do(t, "GET", "/v1/uploads/"+string(v.ID), nil, as(t, "bob")); r.StatusCode != 200 {
		t.Errorf("what a form says goes before who shows nothing: %d %s", r.StatusCode, r.text)
	}
}

func TestTokensLimitWhatMayBeSent(t *testing.T) {
	s := open(t, nil)
	as := func(g auth.Grant) string {
		g.User = "alice"
		return "Authorization: Bearer " + s.uploadToken(t, g)
	}
	small, cloud := as(auth.Grant{MaxBytes: 5}), as(auth.Grant{Provider: "cloudinary"})
	large := as(auth.Grant{MaxBytes: 10 * mib}) // no more than the service takes
	body := func(n int) *strings.Reader { return strings.NewReader(strings.Repeat("x", n)) }
	if r := s.do(t, "POST", "/v1/uploads", body(5), small); r.StatusCode != 202 {
		t.Errorf("5 bytes of 5: %d %s", r.StatusCode, r.text)
	}
	wantCode(t, s.do(t, "POST", "/v1/uploads", body(6), small), 413, upload.TooLarge)
	wantCode(t, s.do(t, "POST", "/v1/uploads", struct{ *strings.Reader }{body(6)}, small), 413, upload.TooLarge) // in chunks
	wantCode(t, s.post(t, "/v1/uploads", newForm().file("a", "sixsix"), small), 413, upload.TooLarge)
	wantCode(t, s.post(t, "/v1/uploads", newForm().file("a", strings.Repeat("x", mib)), small), 413, upload.TooLarge)
	wantCode(t, s.do(t, "POST", "/v1/uploads", body(mib+1), large), 413, upload.TooLarge)

	u := into[uploadView](t, s.do(t, "POST", "/v1/uploads", body(5), cloud), 202)
	if u.Provider != "cloudinary" {
		t.Errorf("an upload that names no provider goes to %s", u.Provider)
	}
	if r := s.do(t, "POST", "/v1/uploads?provider=cloudinary", body(5), cloud); r.StatusCode != 202 {
		t.Errorf("one that names the same: %d %s", r.StatusCode, r.text)
	}
	wantCode(t, s.do(t, "POST", "/v1/uploads?provider=uploadcare", body(5), cloud), 403, upload.Forbidden)
	wantCode(t, s.post(t, "/v1/uploads", newForm().field("provider", "uploadcare").file("a", "hello"), cloud), 403, upload.Forbidden)
	wantCode(t, s.post(t, "/v1/uploads", newForm().file("a", "hello").field("provider", "uploadcare"), cloud), 403, upload.Forbidden)
}

// Nothing is kept of what a token does not allow: a length that is declared is refused before the file
// begins, and a file at the first byte too many.
func TestATokensLimitIsHeldWhileTheFormComes(t *testing.T) {
	s := open(t, nil)
	const limit = 64 << 10
	token := s.uploadToken(t, auth.Grant{User: "alice", MaxBytes: limit})
	field := "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + token + "\r\n"
	file := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
	for name, tt := range map[string]struct {
		framing string
		sent    int // of the file
	}{
		"a length that is declared": {fmt.Sprintf("Content-Length: %d", mib), limit / 8},
		"bytes that come":           {"Transfer-Encoding: chunked", 10 * limit},
	} {
		t.Run(name, func(t *testing.T) {
			body := field + file + strings.Repeat("x", tt.sent)
			if strings.HasPrefix(tt.framing, "Transfer") {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body) // and more is to come
			}
			c := s.dial(t)
			c.send(head("POST", "/v1/uploads", tt.framing, "Content-Type: multipart/form-data; boundary=b") + body)
			wantCode(t, c.answer(), 413, upload.TooLarge)
		})
	}
	s.wantNoTrace(t)
}

// Whoever has sent a plain form is led to a page that their browser can open.
func TestAFormLeadsToAPageThatItsTokenOpens(t *testing.T) {
	s := open(t, nil)
	nobody, html := as(t, ""), "Accept: text/html"
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	sent := s.post(t, "/upload", newForm().field("token", token).file("a.txt", "hello"), nobody, html)
	to := sent.Header.Get("Location")
	if sent.StatusCode != http.StatusSeeOther || !strings.HasSuffix(to, "?token="+token) {
		t.Fatalf("got %d to %s", sent.StatusCode, to)
	}
	page := s.do(t, "GET", to, nil, nobody, html)
	if page.StatusCode != 200 || !strings.Contains(page.text, "a.txt") || strings.Contains(page.text, token) || page.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("got %d %v %s", page.StatusCode, page.Header, page.text)
	}
}

func TestTokensEndWithTheirKey(t *testing.T) {
	s := open(t, nil)
	secret := s.apiKey(t, auth.ActScope)
	prefix := secret[:strings.LastIndex(secret, "_")]
	made := into[tokenAnswer](t, s.do(t, "POST", "/v1/tokens", strings.NewReader(`{"user_id":"alice"}`), "Authorization: Bearer "+secret), 200)
	token := "Authorization: Bearer " + made.Token
	if r := s.do(t, "GET", "/v1/uploads", nil, token); r.StatusCode != 200 {
		t.Fatalf("got %d %s", r.StatusCode, r.text)
	}
	_, err := postgres.RevokeKey(t.Context(), s.pool, prefix)
	must(t, err)
	begun := time.Now()
	for r := (reply{}); r.Response == nil || r.StatusCode != 401; {
		if r = s.do(t, "GET", "/v1/uploads", nil, token); time.Since(begun) > 4*time.Second {
			t.Fatalf("after %s: %d %s", time.Since(begun), r.StatusCode, r.text)
		}
	}
	t.Logf("a revoked key's token was refused after %s", time.Since(begun))
}

// Many API processes need nothing in common but the database.
func TestTokensOfOneProcessAreTakenByAnother(t *testing.T) {
	s := open(t, nil)
	secret, err := postgres.TokenSecret(t.Context(), s.pool)
	must(t, err)
	for name, tt := range map[string]struct {
		secret       []byte
		installation string
		taken        bool
	}{
		"the same installation":         {secret, "slipway-a", true},
		"another installation":          {secret, "slipway-b", false},
		"another secret":                {[]byte(strings.Repeat("x", 32)), "slipway-a", false},
		"the secret of users' tokens":   {[]byte(jwtSecret), "slipway-a", false},
		"a secret that begins the same": {secret[:31], "slipway-a", false},
	} {
		t.Run(name, func(t *testing.T) {
			keys := auth.NewKeys(s.pool, s.opts.Log)
			authenticator := func(secret []byte, installation string) *auth.Authenticator {
				tokens, err := auth.NewTokens(secret, installation)
				must(t, err)
				return auth.New(auth.Options{Keys: keys, Tokens: tokens})
			}
			server, err := authenticator(tt.secret, tt.installation).Identify(t.Context(), auth.Shown{Authorization: "Bearer " + s.apiKey(t, auth.ActScope)})
			must(t, err)
			tokens, err := auth.NewTokens(tt.secret, tt.installation)
			must(t, err)
			token, err := tokens.Issue(server, auth.Grant{User: "alice"}, time.Now().Add(time.Minute))
			must(t, err)
			who, err := authenticator(secret, "slipway-a").Identify(t.Context(), auth.Shown{Token: token})
			if taken := err == nil && who.User == "alice"; taken != tt.taken {
				t.Errorf("Identify = %+v, %v", who, err)
			}
		})
	}
}

// counted is a database that counts what is asked of it.
type counted struct {
	postgres.DB
	asked atomic.Int64
}

func (c *counted) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.asked.Add(1)
	return c.DB.Query(ctx, sql, args...)
}

func TestKeysAreReadSeldom(t *testing.T) {
	s := open(t, nil)
	db := &counted{DB: s.pool}
	a := auth.New(auth.Options{Keys: auth.NewKeys(db, s.opts.Log)})
	good := auth.Shown{Authorization: "Bearer " + s.apiKey(t, auth.ActScope), ActFor: "alice"}
	begun := time.Now()
	for n := range 500 {
		if who, err := a.Identify(t.Context(), auth.Shown{Authorization: fmt.Sprintf("Bearer slk_%08d_%s", n, strings.Repeat("a", 26))}); err == nil {
			t.Fatalf("%+v got in", who)
		}
		if who, err := a.Identify(t.Context(), good); err != nil || who.User != "alice" {
			t.Fatalf("Identify = %+v, %v", who, err)
		}
	}
	if n, most := db.asked.Load(), int64(25+10*time.Since(begun)/time.Second); n > most {
		t.Errorf("keys were read %d times for 1,000 requests, want at most %d", n, most)
	}
}
