package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"slipway/internal/auth"
	"slipway/web"
)

const (
	builtTitle  = "<title>Built</title>"
	builtPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; " +
		"font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// built is what web/ could be built to.
func built() fstest.MapFS {
	file := func(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }
	return fstest.MapFS{
		"index.html":                file(`<!doctype html><html lang="en"><head>` + builtTitle + pageMark + `</head><body></body></html>`),
		"assets/page-1a2b.js":       file("/* " + strings.Repeat("page ", 1000) + "*/"),
		"assets/page-3c4d.css":      file("body{}"),
		"assets/icons/tick-5e.svg":  file(`<svg xmlns="http://www.w3.org/2000/svg"/>`),
		"assets/text-6f7a.woff2":    file("wOF2\x00\x01\x00\x00"),
		"package.json":              file("{}"),
		"assets/about-7a8b.unknown": file("plain text"),
	}
}

func pageOf(t testing.TB, o PageOptions) *Page {
	t.Helper()
	p, err := NewPage(built(), o)
	must(t, err)
	return p
}

const asBrowser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" // as browsers ask

func TestTheFirstPage(t *testing.T) {
	tests := map[string]struct {
		method, path string
		headers      []string
		change       func(*API)
		status       int
		kind         string // the beginning of Content-Type
		has          string
	}{
		"a browser is shown what was built, whoever is in front of it":      {"GET", "/", []string{asBrowser}, nil, 200, "text/html", builtTitle},
		"so is one that shows something that is wrong":                      {"GET", "/", []string{asBrowser, "Authorization: Bearer abc"}, nil, 200, "text/html", builtTitle},
		"its head alone is as long":                                         {"HEAD", "/", []string{asBrowser}, nil, 200, "text/html", ""},
		"a program is asked who it is":                                      {"GET", "/", []string{"Accept: application/json"}, nil, 401, "application/problem+json", "unauthorized"},
		"so is one that takes anything":                                     {"GET", "/", []string{"Accept: */*"}, nil, 401, "application/problem+json", "unauthorized"},
		"a program gets the page without a script":                          {"GET", "/", []string{"Accept: */*", as(t, "alice")}, nil, 200, "text/html", "From the command line"},
		"where nothing was built, that is everybody's, and says how":        {"GET", "/", []string{asBrowser, as(t, "alice")}, func(a *API) { a.Page = nil }, 200, "text/html", "<code>make build</code>"},
		"and tells people on a page that nobody is signed in":               {"GET", "/", []string{asBrowser}, func(a *API) { a.Page = nil }, 401, "text/html", "Unauthorized"},
		"an upload's page stays one without a script":                       {"GET", "/uploads/" + noUploadID, []string{asBrowser, as(t, "alice")}, nil, 404, "text/html", "There is no upload"},
		"other methods are refused":                                         {"POST", "/", []string{asBrowser}, nil, 405, "application/problem+json", "method_not_allowed"},
		"WEB=off has no page":                                               {"GET", "/", []string{asBrowser, as(t, "alice")}, func(a *API) { a.NoPages = true }, 404, "application/problem+json", "not_found"},
		"nor one of uploads":                                                {"GET", "/uploads/" + noUploadID, []string{asBrowser, as(t, "alice")}, func(a *API) { a.NoPages = true }, 404, "application/problem+json", "not_found"},
		"nor what it would load":                                            {"GET", "/assets/page-1a2b.js", nil, func(a *API) { a.NoPages = true }, 404, "application/problem+json", "not_found"},
		"nor a page for a problem":                                          {"POST", "/upload", []string{asBrowser, as(t, "alice")}, func(a *API) { a.NoPages = true }, 415, "application/problem+json", "unsupported_media"},
		"nor one to where a form leads":                                     {"POST", "/upload", []string{asBrowser, as(t, "alice"), "Content-Type: multipart/form-data; boundary=b"}, func(a *API) { a.NoPages = true }, 202, "application/json", `"statusUrl"`},
		"without WEB=off it leads to one":                                   {"POST", "/upload", []string{asBrowser, as(t, "alice"), "Content-Type: multipart/form-data; boundary=b"}, nil, 303, "", ""},
		"and nobody is asked who they are by what was built into the front": {"GET", "/assets/page-1a2b.js", nil, nil, 200, "text/javascript", "page page"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(a *API, _ *Options) {
				a.Page = pageOf(t, PageOptions{})
				if tt.change != nil {
					tt.change(a)
				}
			})
			body := io.Reader(nil)
			if tt.method == http.MethodPost {
				body = strings.NewReader(formBody)
			}
			r := s.do(t, tt.method, tt.path, body, append([]string{as(t, "")}, tt.headers...)...)
			if r.StatusCode != tt.status || !strings.HasPrefix(r.Header.Get("Content-Type"), tt.kind) || !strings.Contains(r.text, tt.has) {
				t.Errorf("got %d %q %s, want %d %q with %q", r.StatusCode, r.Header.Get("Content-Type"), r.text, tt.status, tt.kind, tt.has)
			}
		})
	}
}

func TestThePageIsAskedForAnewAndSentOnce(t *testing.T) {
	s := open(t, func(a *API, _ *Options) {
		a.Page = pageOf(t, PageOptions{Pictures: []string{"https://ucarecdn.com", "https://*.cloudinary.com"}})
	})
	first := s.do(t, "GET", "/", nil, as(t, ""), asBrowser)
	tag := first.Header.Get("ETag")
	for name, want := range map[string]string{
		"Cache-Control":           "no-cache",
		"Vary":                    "Accept",
		"Content-Security-Policy": strings.Replace(builtPolicy, "blob:", "blob: https://ucarecdn.com https://*.cloudinary.com", 1),
		"Referrer-Policy":         "same-origin",
		"Set-Cookie":              "",
	} {
		if got := strings.Join(first.Header.Values(name), ", "); !strings.HasSuffix(got, want) || want == "" && got != "" {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for known, status := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, `"other"`: 200, strings.Trim(tag, `"`): 200} {
		r := s.do(t, "GET", "/", nil, as(t, ""), asBrowser, "If-None-Match: "+known)
		if r.StatusCode != status || r.Header.Get("ETag") != tag || r.Header.Get("Content-Security-Policy") != first.Header.Get("Content-Security-Policy") || status == 304 && r.text != "" {
			t.Errorf("with %s: got %d %v %s, want %d", known, r.StatusCode, r.Header, r.text, status)
		}
	}
	other := open(t, func(a *API, _ *Options) { a.Page = pageOf(t, PageOptions{DevUser: "user_123"}) })
	if r := other.do(t, "GET", "/", nil, as(t, ""), asBrowser, "If-None-Match: "+tag); r.StatusCode != 200 {
		t.Errorf("a page that is told something else is taken for the same: %d", r.StatusCode)
	}
}

func TestWhatThePageIsTold(t *testing.T) {
	tests := map[string]struct {
		options PageOptions
		want    string
	}{
		"nothing":     {PageOptions{}, `{"cookie":false,"dev_user":null,"login_url":null,"version":""}`},
		"all":         {PageOptions{LoginURL: "/login?app=files&x=1", DevUser: "user_123", Cookie: true, Version: "v1.2.3"}, `{"cookie":true,"dev_user":"user_123","login_url":"/login?app=files&x=1","version":"v1.2.3"}`},
		"no elements": {PageOptions{DevUser: `</script><script>alert("1")</script><!--`}, `{"cookie":false,"dev_user":"</script><script>alert(\"1\")</script><!--","login_url":null,"version":""}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			index := string(pageOf(t, tt.options).index)
			found := regexp.MustCompile(`<head><title>Built</title><script type="application/json" id="slipway">([^<>]*)</script></head>`).FindStringSubmatch(index)
			if found == nil {
				t.Fatalf("the page is %s", index)
			}
			var got, want any
			must(t, json.Unmarshal([]byte(found[1]), &got))
			must(t, json.Unmarshal([]byte(tt.want), &want))
			if got, want := mustJSON(t, got), mustJSON(t, want); got != want {
				t.Errorf("it is told %s, want %s", got, want)
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return string(text)
}

// The token of a form's page is good for the page too, and is taken out of what servers see.
func TestATokenInTheQueryIsPutIntoTheFragment(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.Page = pageOf(t, PageOptions{}) })
	token := s.uploadToken(t, auth.Grant{User: "alice"})
	r := s.do(t, "GET", "/?token="+token, nil, as(t, ""), asBrowser)
	if want := "./#token=" + token; r.StatusCode != 303 || r.Header.Get("Location") != want {
		t.Errorf("got %d to %q, want %q", r.StatusCode, r.Header.Get("Location"), want)
	}
	r = s.do(t, "GET", "/?token=a%0d%0aSet-Cookie:%20b%23", nil, as(t, ""), asBrowser)
	if want := "./#token=a%0D%0ASet-Cookie%3A+b%23"; r.Header.Get("Location") != want || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("got %q, want %q", r.Header.Get("Location"), want)
	}
	r = s.do(t, "GET", "/?token="+token, nil, as(t, ""))
	if r.StatusCode != 200 || !strings.Contains(r.text, "Your last uploads") {
		t.Errorf("a program got %d %s", r.StatusCode, r.text)
	}
}

func TestAssets(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		a.Page = pageOf(t, PageOptions{})
		o.PublicURL = "https://media.example.com"
	})
	tests := map[string]struct {
		path   string
		status int
		kind   string
	}{
		"a script":                       {"/assets/page-1a2b.js", 200, "text/javascript; charset=utf-8"},
		"a style":                        {"/assets/page-3c4d.css", 200, "text/css; charset=utf-8"},
		"a picture in a folder":          {"/assets/icons/tick-5e.svg", 200, "image/svg+xml"},
		"a font":                         {"/assets/text-6f7a.woff2", 200, "font/woff2"},
		"what nobody knows":              {"/assets/about-7a8b.unknown", 200, "text/plain; charset=utf-8"},
		"one of another build":           {"/assets/page-0000.js", 404, "application/problem+json"},
		"a folder":                       {"/assets/icons", 404, "application/problem+json"},
		"the folder":                     {"/assets/", 404, "application/problem+json"},
		"the page":                       {"/assets/index.html", 404, "application/problem+json"},
		"what is above":                  {"/assets/../package.json", 404, "application/problem+json"},
		"what is above, escaped":         {"/assets/%2e%2e/package.json", 404, "application/problem+json"},
		"what is above, escaped further": {"/assets/..%2fpackage.json", 404, "application/problem+json"},
		"what is beside the page":        {"/package.json", 404, "application/problem+json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "GET", tt.path, nil, as(t, ""), "Accept: */*")
			if r.StatusCode != tt.status || r.Header.Get("Content-Type") != tt.kind {
				t.Fatalf("got %d %s %q, want %d %s", r.StatusCode, r.Header.Get("Content-Type"), r.text, tt.status, tt.kind)
			}
			cached := r.Header.Get("Cache-Control")
			if want := "public, max-age=31536000, immutable"; (cached == want) != (tt.status == 200) {
				t.Errorf("Cache-Control is %q", cached)
			}
			wantSecured(t, r)
		})
	}
}

func TestAssetsAreCompressedForWhoTakesThat(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.Page = pageOf(t, PageOptions{}) })
	whole := built()["assets/page-1a2b.js"].Data
	for accepted, want := range map[string]string{"gzip, deflate, br, zstd": "gzip", "br": "", "": "", "identity": ""} {
		r := s.do(t, "GET", "/assets/page-1a2b.js", nil, as(t, ""), "Accept-Encoding: "+accepted) // set by hand, it is not undone by the client
		if got := r.Header.Get("Content-Encoding"); got != want || !strings.Contains(strings.Join(r.Header.Values("Vary"), ","), "Accept-Encoding") {
			t.Errorf("for %q it is sent as %q, and varies by %q", accepted, got, r.Header.Values("Vary"))
		}
		sent := []byte(r.text)
		if want == "gzip" {
			if len(sent) > len(whole)/10 {
				t.Errorf("%d bytes are sent of %d", len(sent), len(whole))
			}
			unzip, err := gzip.NewReader(bytes.NewReader(sent))
			must(t, err)
			sent, err = io.ReadAll(unzip)
			must(t, err)
		}
		if !bytes.Equal(sent, whole) {
			t.Errorf("for %q other bytes are sent: %q", accepted, sent)
		}
	}
	if r := s.do(t, "GET", "/assets/page-3c4d.css", nil, "Accept-Encoding: gzip"); r.Header.Get("Content-Encoding") != "" || r.text != "body{}" {
		t.Errorf("what compression makes larger is sent as %q %q", r.Header.Get("Content-Encoding"), r.text)
	}
}

func TestAPageThatIsNotWholeIsRefused(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"no index": func(f fstest.MapFS) { delete(f, "index.html") },
		"nothing to load": func(f fstest.MapFS) {
			maps.DeleteFunc(f, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "assets/") })
		},
		"no mark":         func(f fstest.MapFS) { f["index.html"].Data = []byte("<!doctype html>") },
		"the mark, twice": func(f fstest.MapFS) { f["index.html"].Data = []byte(pageMark + pageMark) },
	} {
		t.Run(name, func(t *testing.T) {
			files := built()
			change(files)
			if _, err := NewPage(files, PageOptions{}); err == nil || !strings.Contains(err.Error(), "read the page: ") {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// What was built into this program, if anything was, is what NewPage takes.
func TestTheBuiltPageIsServed(t *testing.T) {
	files := web.Built()
	if files == nil {
		return
	}
	page, err := NewPage(files, PageOptions{})
	must(t, err)
	s := open(t, func(a *API, _ *Options) { a.Page = page })
	index := s.do(t, "GET", "/", nil, as(t, ""), asBrowser)
	loaded := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(index.text, -1)
	if len(loaded) < 2 || regexp.MustCompile(`(?i)<style|\sstyle=|<script(?:[^>]*)>[^<{]`).MatchString(index.text) {
		t.Errorf("the page loads %v: %s", loaded, index.text)
	}
	for _, m := range loaded {
		path := "/" + strings.TrimLeft(m[1], "./")
		if strings.HasPrefix(m[1], "data:") {
			continue
		}
		if r := s.do(t, "GET", path, nil, as(t, "")); r.StatusCode != 200 {
			t.Errorf("%s is %d %s", path, r.StatusCode, r.text)
		}
	}
}

func TestThePagePassesNginx(t *testing.T) {
	s := behindNginx(t, func(a *API, _ *Options) { a.Page = pageOf(t, PageOptions{}) })
	first := s.do(t, "GET", "/", nil, as(t, ""), asBrowser)
	if first.StatusCode != 200 || !strings.Contains(first.text, builtTitle) || first.Header.Get("Content-Security-Policy") != builtPolicy {
		t.Errorf("got %d %v %s", first.StatusCode, first.Header, first.text)
	}
	if again := s.do(t, "GET", "/", nil, as(t, ""), asBrowser, "If-None-Match: "+first.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("asked for anew it is %d", again.StatusCode)
	}
	script := s.do(t, "GET", "/assets/page-1a2b.js", nil, as(t, ""), "Accept-Encoding: gzip")
	if script.StatusCode != 200 || script.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(script.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("got %d %v", script.StatusCode, script.Header)
	}
}
