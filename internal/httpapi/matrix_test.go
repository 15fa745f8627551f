package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// Whom a route answers.
const (
	toAnybody  = "anybody" // who asks is no question
	toReaders  = "readers"
	toSenders  = "senders"
	toOwners   = "owners" // with all of a user's rights
	toServers  = "servers"
	noUploadID = "00000000-0000-7000-8000-000000000000"
)

// access is what a route does for those who may ask. {upload}, {completed}, {failed} and {receiving} in its path
// are uploads of alice's.
type access struct {
	to     string
	path   string // where it is not the route's own
	body   string
	kind   string   // of the body
	header []string // beside that
	status int      // for who may
}

const formBody = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--b--\r\n"

// ofTus is what each request of a tus client has.
const ofTus = "Tus-Resumable: 1.0.0"

// routes has every route there is.
var routes = map[string]access{
	"GET /livez":                {to: toAnybody, status: 200},
	"GET /readyz":               {to: toAnybody, status: 200},
	"GET /problems/:code":       {to: toAnybody, path: "/problems/no_file", status: 200},
	"POST /webhooks/uploadcare": {to: toAnybody, status: 404}, // off in this test; otherwise a signature says who asks
	"POST /webhooks/cloudinary": {to: toAnybody, status: 404},

	"GET /assets/*":               {to: toAnybody, path: "/assets/page-1a2b.js", status: 200},
	"GET /":                       {to: toReaders, status: 200},
	"GET /uploads/:id":            {to: toReaders, path: "/uploads/{upload}", status: 200},
	"GET /v1/uploads":             {to: toReaders, status: 200},
	"GET /v1/uploads/:id":         {to: toReaders, path: "/v1/uploads/{upload}", status: 200},
	"GET /v1/uploads/:id/events":  {to: toReaders, path: "/v1/uploads/{upload}/events", status: 200},
	"GET /v1/events":              {to: toReaders, status: 200},
	"GET /v1/usage":               {to: toReaders, status: 200},
	"GET /v1/limits":              {to: toReaders, status: 200},
	"GET /v1/files":               {to: toReaders, status: 200},
	"GET /v1/files/:id":           {to: toReaders, path: "/v1/files/{completed}", status: 200},
	"GET /v1/files/:id/content":   {to: toReaders, path: "/v1/files/{completed}/content", status: 302},
	"POST /upload":                {to: toSenders, body: formBody, kind: "multipart/form-data; boundary=b", status: 202},
	"POST /v1/uploads":            {to: toSenders, body: "hello", status: 202},
	"POST /v1/uploads/retry":      {to: toOwners, body: `{}`, status: 202},
	"POST /v1/uploads/:id/retry":  {to: toOwners, path: "/v1/uploads/{failed}/retry", status: 202},
	"POST /v1/uploads/:id/cancel": {to: toOwners, path: "/v1/uploads/{upload}/cancel", status: 202},
	"DELETE /v1/uploads/:id":      {to: toOwners, path: "/v1/uploads/{upload}", status: 202},
	"DELETE /v1/files/:id":        {to: toOwners, path: "/v1/files/{completed}", status: 202},
	"GET /generate-signature":     {to: toOwners, status: 200},
	"POST /generate-signature":    {to: toOwners, body: `{"paramsToSign":{"timestamp":{now}}}`, status: 200},
	"GET /v1/direct/uploadcare":   {to: toOwners, status: 200},
	"POST /save-metadata":         {to: toOwners, body: `{"provider":"uploadcare","file_id":"{uuid}"}`, status: 202},
	"OPTIONS /v1/tus/":            {to: toAnybody, status: 204},
	"OPTIONS /v1/tus/:id":         {to: toAnybody, path: "/v1/tus/" + noUploadID, status: 204},
	"POST /v1/tus/":               {to: toSenders, header: []string{ofTus, "Upload-Length: 5"}, status: 201},
	"HEAD /v1/tus/:id":            {to: toSenders, path: "/v1/tus/{receiving}", header: []string{ofTus}, status: 200},
	"PATCH /v1/tus/:id":           {to: toSenders, path: "/v1/tus/{receiving}", header: []string{ofTus, "Upload-Offset: 0"}, body: "hello", kind: tusMIME, status: 204},
	"DELETE /v1/tus/:id":          {to: toSenders, path: "/v1/tus/{receiving}", header: []string{ofTus}, status: 204},

	"POST /v1/tokens": {to: toServers, body: `{"user_id":"alice"}`, status: 200},
}

// asker is somebody who asks, by these headers.
type asker struct {
	headers []string
	// expect is the status for a route, and the challenge that comes with it.
	expect func(a access) (status int, challenge string)
}

const (
	wrongToken = bearer + `, error="invalid_token"`
	notForThis = bearer + `, error="insufficient_scope"`
)

// mayDo is for those who may do what these routes do, and see what is alice's there.
func mayDo(to ...string) func(access) (int, string) {
	return func(a access) (int, string) {
		if a.to == toAnybody || slices.Contains(to, a.to) {
			return a.status, ""
		}
		return 403, notForThis
	}
}

// refusedWith is for those who are nobody.
func refusedWith(challenge string) func(access) (int, string) {
	return func(a access) (int, string) {
		if a.to == toAnybody {
			return a.status, ""
		}
		return 401, challenge
	}
}

// ofSomebodyElse is for those to whom what is alice's is as if it were not there.
func ofSomebodyElse(may func(access) (int, string)) func(access) (int, string) {
	return func(a access) (int, string) {
		status, challenge := may(a)
		if status < 400 && strings.Contains(a.path, "{") {
			return 404, ""
		}
		return status, challenge
	}
}

// unsaid is for servers that do not say for whom they ask, and have to.
func unsaid(may func(access) (int, string), unless func(access) bool) func(access) (int, string) {
	return func(a access) (int, string) {
		status, challenge := may(a)
		if status < 400 && a.to != toAnybody && !unless(a) {
			return 422, ""
		}
		return status, challenge
	}
}

func askers(t *testing.T, s *site) map[string]asker {
	token := func(method jwt.SigningMethod, key any, user string, life time.Duration) string {
		signed, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": user, "exp": time.Now().Add(life).Unix()}).SignedString(key)
		must(t, err)
		return "Authorization: Bearer " + signed
	}
	uploadToken := func(user string) string { return s.uploadToken(t, auth.Grant{User: user}) }
	act, admin := "Authorization: Bearer "+s.apiKey(t, auth.ActScope), "Authorization: Bearer "+s.apiKey(t, auth.AdminScope)
	nobody, user, server := as(t, ""), mayDo(toReaders, toSenders, toOwners), mayDo(toReaders, toSenders, toOwners, toServers)
	guest, reader := mayDo(toReaders, toSenders), mayDo(toReaders)
	return map[string]asker{
		"nobody":                         {[]string{nobody}, refusedWith(bearer)},
		"somebody with another scheme":   {[]string{"Authorization: Basic YTpi"}, refusedWith(wrongToken)},
		"somebody with no token":         {[]string{"Authorization: Bearer abc"}, refusedWith(wrongToken)},
		"somebody whose time is over":    {[]string{token(jwt.SigningMethodHS256, []byte(jwtSecret), "alice", -time.Hour)}, refusedWith(wrongToken)},
		"somebody with another's key":    {[]string{token(jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes"), "alice", time.Hour)}, refusedWith(wrongToken)},
		"somebody unsigned":              {[]string{token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "alice", time.Hour)}, refusedWith(wrongToken)},
		"a server with a made-up key":    {[]string{"Authorization: Bearer slk_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaa", "Slipway-User: alice"}, refusedWith(wrongToken)},
		"a server with half a key":       {[]string{act[:len(act)-4], "Slipway-User: alice"}, refusedWith(wrongToken)},
		"whoever claims to be a server":  {[]string{nobody, "Slipway-User: alice"}, refusedWith(bearer)},
		"whoever claims to be a proxy":   {[]string{nobody, "X-User: alice", "X-Forwarded-For: 127.0.0.1"}, refusedWith(bearer)},
		"alice":                          {[]string{as(t, "alice")}, user},
		"bob":                            {[]string{as(t, "bob")}, ofSomebodyElse(user)},
		"bob, who says he is alice":      {[]string{as(t, "bob"), "Slipway-User: alice"}, ofSomebodyElse(user)},
		"alice with an upload token":     {[]string{"Authorization: Bearer " + uploadToken("alice")}, guest},
		"bob with an upload token":       {[]string{"Authorization: Bearer " + uploadToken("bob")}, ofSomebodyElse(guest)},
		"a server for alice":             {[]string{act, "Slipway-User: alice"}, server},
		"a server for bob":               {[]string{act, "Slipway-User: bob"}, ofSomebodyElse(server)},
		"a server for nobody":            {[]string{act}, unsaid(server, func(a access) bool { return a.to == toServers })},
		"an administrator":               {[]string{admin}, unsaid(reader, func(a access) bool { return strings.Contains(a.path, "{") })},
		"an administrator who says whom": {[]string{admin, "Slipway-User: alice"}, reader},
		"an administrator at bob's":      {[]string{admin, "Slipway-User: bob"}, ofSomebodyElse(reader)},
	}
}

func openForMatrix(t *testing.T) *site {
	s := open(t, func(a *API, _ *Options) {
		a.Page = pageOf(t, PageOptions{})
		a.Direct = Direct{
			Claims:     &ingest.Direct{Pool: a.Pool, Queue: a.Ingest.Queue, Installation: "slipway-test", MaxAttempts: 10, VerifyWithin: time.Hour},
			Cloudinary: &CloudinaryAccount{CloudName: "cloud", APIKey: "key", Secret: "secret"},
			Uploadcare: &UploadcareAccount{PublicKey: "public", SecretKey: "secret"},
		}
		o := a.Auth.Options
		o.UserHeader = "X-User" // no proxy is trusted
		a.Auth = auth.New(o)
	})
	for _, user := range []string{"alice", "bob"} { // may save what they have sent to a provider by themselves
		s.exec(t, `INSERT INTO slipway.direct_handouts (user_id, provider, minute) VALUES ($1, 'uploadcare', date_trunc('minute', now()))`, user)
	}
	return s
}

// There is a row for every route, and none for what is no route: a new route has to say here whom it answers.
func TestEveryRouteSaysWhomItAnswers(t *testing.T) {
	s := openForMatrix(t)
	there := map[string]bool{}
	for _, route := range s.app.GetRoutes(true) {
		there[route.Method+" "+route.Path] = true
	}
	for name := range there {
		if path, isGet := strings.CutPrefix(name, "GET "); isGet {
			delete(there, "HEAD "+path) // comes with it
		}
	}
	for name := range there {
		if _, ok := routes[name]; !ok {
			t.Errorf("%s is a new route; add to routes whom it answers", name)
		}
	}
	for name := range routes {
		if !there[name] {
			t.Errorf("%s is no route", name)
		}
	}
}

func TestWhoMayAskWhat(t *testing.T) {
	s := openForMatrix(t)
	for who, asker := range askers(t, s) {
		t.Run(who, func(t *testing.T) {
			for name, row := range routes {
				method, path, _ := strings.Cut(name, " ")
				methods := []string{method}
				if method == http.MethodGet {
					methods = append(methods, http.MethodHead)
				}
				for _, method := range methods {
					t.Run(method+" "+path, func(t *testing.T) {
						status, challenge := asker.expect(row)
						r := s.walk(t, method, path, row, asker.headers)
						if r.StatusCode != status || r.Header.Get("WWW-Authenticate") != challenge {
							t.Errorf("got %d %q %s, want %d %q", r.StatusCode, r.Header.Get("WWW-Authenticate"), r.text, status, challenge)
						}
						if status == 401 && strings.Contains(r.text, "alice") {
							t.Errorf("it is told %s", r.text)
						}
					})
				}
			}
		})
	}
}

// walk asks a route for what its row says, about uploads of alice's of its own.
func (s *site) walk(t *testing.T, method, path string, row access, headers []string) reply {
	t.Helper()
	if row.path != "" {
		path = row.path
	}
	for name, in := range map[string]func(uploadView){
		"{upload}":    func(uploadView) {},
		"{completed}": func(u uploadView) { s.complete(t, u.ID) },
		"{failed}": func(u uploadView) {
			s.change(t, u.ID, `status = 'failed', error_code = 'provider_rejected', error_message = 'No.', error_retryable = false, error_fixable_by = 'you'`)
		},
	} {
		if strings.Contains(path, name) {
			u := s.put(t, "a.txt")
			in(u)
			path = strings.ReplaceAll(path, name, string(u.ID))
		}
	}
	if strings.Contains(path, "{receiving}") {
		r := s.do(t, "POST", tusPath, nil, ofTus, "Upload-Length: 5")
		path = strings.ReplaceAll(path, tusPath+"{receiving}", r.Header.Get("Location"))
	}
	body := strings.NewReplacer("{now}", fmt.Sprint(time.Now().Unix()), "{uuid}", string(upload.NewID())).Replace(row.body)
	headers = slices.Concat(headers, row.header)
	if row.kind != "" {
		headers = append(headers, "Content-Type: "+row.kind)
	}
	return s.do(t, method, path, strings.NewReader(body), headers...)
}

// A method that a path does not take is refused to everybody alike, before anybody is asked who they are.
func TestOtherMethodsAreNobodys(t *testing.T) {
	s := openForMatrix(t)
	takes := map[string][]string{}
	for name := range routes {
		_, path, _ := strings.Cut(name, " ")
		at := strings.NewReplacer(":id", noUploadID, ":code", "no_file", "*", "page-1a2b.js").Replace(path)
		for other := range routes {
			if method, pattern, _ := strings.Cut(other, " "); fiber.RoutePatternMatch(at, pattern) {
				takes[at] = append(takes[at], method)
			}
		}
	}
	for at, methods := range takes {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "UPLOAD"} {
			if slices.Contains(methods, method) {
				continue
			}
			for _, who := range []string{"", "alice"} {
				if method == "CONNECT" {
					continue // has no path
				}
				r := s.do(t, method, at, nil, as(t, who))
				if r.StatusCode != 405 || r.Header.Get("Allow") == "" {
					t.Errorf("%s %s gets %q %d, allowed are %q", method, at, who, r.StatusCode, r.Header.Get("Allow"))
				}
			}
		}
	}
}

// Who is somebody else cannot tell an upload from none.
func TestWhatIsAnothersIsAsIfItWereNotThere(t *testing.T) {
	s := openForMatrix(t)
	for name, row := range routes {
		if !strings.Contains(row.path, "{") {
			continue
		}
		method, _, _ := strings.Cut(name, " ")
		for _, accept := range []string{"application/json", "text/html"} {
			t.Run(name+" as "+accept, func(t *testing.T) {
				headers := []string{as(t, "bob"), "Accept: " + accept}
				foreign := s.walk(t, method, "", row, headers)
				unknown := row
				for _, it := range []string{"{upload}", "{completed}", "{failed}", "{receiving}"} {
					unknown.path = strings.ReplaceAll(unknown.path, it, noUploadID)
				}
				none := s.walk(t, method, "", unknown, headers)
				if foreign.StatusCode != 404 || none.StatusCode != 404 {
					t.Errorf("another's is %d, none is %d", foreign.StatusCode, none.StatusCode)
				}
				if a, b := anonymous(foreign), anonymous(none); a != b {
					t.Errorf("another's:\n%s\nnone:\n%s", a, b)
				}
			})
		}
	}
}

// anonymous is an answer without what differs with every request.
func anonymous(r reply) string {
	text := strings.ReplaceAll(r.text, r.Header.Get("X-Request-Id"), "<request>")
	head := r.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Ratelimit", "Ratelimit-Policy"} {
		head.Del(name)
	}
	names, err := json.Marshal(head)
	return fmt.Sprintln(r.StatusCode, string(names), err, text)
}

// A browser asks whether a page may ask before it says who does.
func TestPreflightsAreAnsweredBeforeAnybodyIsAsked(t *testing.T) {
	s := open(t, func(_ *API, o *Options) { o.AllowedOrigins = []string{"https://app.example.com"} })
	for name := range routes {
		method, path, _ := strings.Cut(name, " ")
		r := s.do(t, "OPTIONS", strings.ReplaceAll(path, ":id", noUploadID), nil, as(t, ""), "Origin: https://app.example.com",
			"Access-Control-Request-Method: "+method, "Access-Control-Request-Headers: authorization")
		if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
			!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), method) {
			t.Errorf("%s: the preflight got %d %v", name, r.StatusCode, r.Header)
		}
	}
}
