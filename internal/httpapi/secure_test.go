package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// addressed is a route's path with something in it for each parameter.
func addressed(path string) string {
	return strings.NewReplacer(":id", string(upload.NewID()), ":code", "no_file", "*", "page-1a2b.js").Replace(path)
}

// wantSecured checks what every answer has, whoever asked and whatever came of it.
func wantSecured(t *testing.T, r reply) {
	t.Helper()
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy": "no-referrer", "Content-Security-Policy": answerPolicy,
		"Strict-Transport-Security": onlyHTTPS, "Server": "", "X-Powered-By": "",
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		want["Content-Security-Policy"] = pagePolicy
		if strings.Contains(r.text, builtTitle) {
			want["Content-Security-Policy"] = builtPolicy
		}
		if r.Header.Get("Referrer-Policy") == "same-origin" { // unless the address is a secret
			delete(want, "Referrer-Policy")
		}
	}
	for name, value := range want {
		if got := r.Header.Get(name); got != value {
			t.Errorf("%d with %s %q, want %q", r.StatusCode, name, got, value)
		}
	}
}

func TestEveryRouteIsSecuredAndBounded(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		o.PublicURL = "https://media.example.com"
		a.Page = pageOf(t, PageOptions{})
	})
	nobody := as(t, "")
	routes := 0
	for _, route := range s.app.GetRoutes(true) {
		if route.Method == http.MethodHead {
			continue // is the same handler's
		}
		routes++
		t.Run(route.Method+" "+route.Path, func(t *testing.T) {
			path := addressed(route.Path)
			for _, headers := range [][]string{nil, {nobody}, {"Accept: text/html"}, {"Origin: https://app.example.com"}} {
				wantSecured(t, s.do(t, route.Method, path, nil, headers...))
			}
			wantSecured(t, s.do(t, "OPTIONS", path, nil, nobody, "Origin: https://app.example.com", "Access-Control-Request-Method: "+route.Method))
			wantSecured(t, s.do(t, "PATCH", path, nil))

			for name, query := range map[string]string{
				"a query without end":      "?q=" + strings.Repeat("q", maxQuery),
				"parameters without count": "?" + strings.Repeat("&", maxParameters),
			} {
				r := s.do(t, route.Method, path+query, nil)
				wantSecured(t, r)
				if r.StatusCode != 414 || !strings.Contains(r.text, string(upload.QueryTooLarge)) {
					t.Errorf("%s: got %d %s", name, r.StatusCode, r.text)
				}
			}
			r := s.do(t, route.Method, path, nil, "X-Large: "+strings.Repeat("x", readBufferSize))
			wantSecured(t, r)
			wantCode(t, r, 431, upload.HeadersTooLarge)
		})
	}
	if routes < 15 {
		t.Errorf("only %d routes were asked", routes)
	}
}

func TestAnswersThatNoRouteHasMadeAreSecured(t *testing.T) {
	s := open(t, func(_ *API, o *Options) { o.PublicURL = "https://media.example.com" })
	for name, request := range map[string]string{
		"no HTTP":                    "hello\r\n\r\n",
		"contradicting lengths":      head("POST", "/v1/uploads", "Content-Length: 5", "Content-Length: 6") + "hello!",
		"a method that nobody knows": head("BREW", "/"),
		"an address of nothing":      head("GET", "/nothing"),
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t)
			c.send(request)
			wantSecured(t, c.answer())
		})
	}
}

func TestBrowsersAreBoundToHTTPSOnlyWhereItIsSpoken(t *testing.T) {
	s := open(t, nil)
	if got := s.do(t, "GET", "/livez", nil).Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("a server without an https address says %q", got)
	}
}

func TestPagesOfOtherSitesMayShowFilesAndNothingElse(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	s.complete(t, u.ID)
	r := s.do(t, "GET", "/v1/files/"+string(u.ID)+"/content", nil)
	if got := r.Header.Get("Cross-Origin-Resource-Policy"); r.StatusCode != 302 || got != "cross-origin" {
		t.Errorf("the content is answered %d with %q", r.StatusCode, got)
	}
	if got := s.do(t, "GET", "/v1/files/"+string(u.ID), nil).Header.Get("Cross-Origin-Resource-Policy"); got != "same-origin" {
		t.Errorf("the file is answered with %q", got)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		takesWebhooks(a, o)
		a.Direct = Direct{Claims: &ingest.Direct{}, Cloudinary: &CloudinaryAccount{CloudName: "demo", APIKey: "1", Secret: "s"}}
	})
	server := "Authorization: Bearer " + s.apiKey(t, auth.ActScope)
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	tests := map[string]struct {
		method, path string
		body         io.Reader
		headers      []string
		status       int
		code         upload.Code
	}{
		"a claim that is too large":            {"POST", "/save-metadata", strings.NewReader(strings.Repeat(" ", maxJSON+1)), nil, 413, upload.BodyTooLarge},
		"a claim in chunks that is too large":  {"POST", "/save-metadata", io.MultiReader(strings.NewReader(strings.Repeat(" ", maxJSON+1))), nil, 413, upload.BodyTooLarge},
		"a claim that is too deep":             {"POST", "/save-metadata", strings.NewReader(`{"info":` + deep + `}`), nil, 400, upload.JSONTooDeep},
		"parameters to sign that are too deep": {"POST", "/generate-signature", strings.NewReader(`{"paramsToSign":{"tags":` + deep + `}}`), nil, 400, upload.JSONTooDeep},
		"parameters to sign without end":       {"POST", "/generate-signature", strings.NewReader(strings.Repeat(" ", maxJSON+1)), nil, 413, upload.BodyTooLarge},
		"a token's request without end":        {"POST", "/v1/tokens", strings.NewReader(strings.Repeat(" ", maxJSON+1)), []string{server}, 413, upload.BodyTooLarge},
		"a token's request that is too deep":   {"POST", "/v1/tokens", strings.NewReader(deep), []string{server}, 400, upload.JSONTooDeep},
		"a token for a name without end":       {"POST", "/v1/tokens", strings.NewReader(`{"user_id":"` + strings.Repeat("u", 256) + `"}`), []string{server}, 422, upload.InvalidParameter},
		"a name without end in a header":       {"GET", "/v1/uploads", nil, []string{server, "Slipway-User: " + strings.Repeat("u", 256)}, 422, upload.InvalidParameter},
		"a notification without end":           {"POST", "/webhooks/uploadcare", strings.NewReader(strings.Repeat(" ", maxWebhook+1)), nil, 413, upload.BodyTooLarge},
		"a notification that is too deep":      {"POST", "/webhooks/uploadcare", strings.NewReader(deep), told("uploadcare", deep, time.Now()), 400, upload.JSONTooDeep},
		"a page without end":                   {"GET", "/v1/uploads?limit=101", nil, nil, 422, upload.InvalidParameter},
		"more tags than a provider takes":      {"POST", "/v1/uploads?tags=" + many(51, ",", "t%d"), strings.NewReader("hello"), nil, 422, upload.InvalidMetadata},
		"more metadata than a provider takes":  {"POST", "/v1/uploads?" + many(51, "&", "metadata[k%d]=v"), strings.NewReader("hello"), nil, 422, upload.InvalidMetadata},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			wantCode(t, s.do(t, tt.method, tt.path, tt.body, tt.headers...), tt.status, tt.code)
		})
	}
	s.wantNoTrace(t)
}

// many is n things like form, numbered.
func many(n int, between, form string) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(form, i))
	}
	return strings.Join(all, between)
}

func TestNestingIsCountedOutsideOfTexts(t *testing.T) {
	many := strings.Repeat("[", 2*maxDepth)
	for name, tt := range map[string]struct {
		text string
		deep bool
	}{
		"as deep as allowed":         {strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), false},
		"beside each other":          {"[" + strings.Repeat("{},", 2*maxDepth) + "{}]", false},
		"brackets in a text":         {`["` + many + `"]`, false},
		"brackets after a quote":     {`["\"` + many + `"]`, false},
		"a text that ends in \\":     {`["\\",` + many, true},
		"objects and lists in turns": {strings.Repeat(`{"a":[`, maxDepth), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := shallow([]byte(tt.text)); (err != nil) != tt.deep {
				t.Errorf("shallow(%.20s…) = %v", tt.text, err)
			}
		})
	}
}
