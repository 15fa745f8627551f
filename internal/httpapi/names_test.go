package httpapi

import (
	"html"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

// hostileNames are taken as they are, and mean nothing to anybody whom they pass.
var hostileNames = map[string]string{
	"markup":                       `<script>alert(1)<script>.png`,
	"an attribute's end":           `" onmouseover="alert(1)" x=".png`,
	"an attribute's other end":     `' autofocus onfocus='alert(1).png`,
	"a template":                   `{{.User}} ${7*7} #{7*7}.png`,
	"an entity":                    `&lt;b&gt; &amp; &#x3c;.png`,
	"a header's parameters":        `a.png"; filename="b.html`,
	"escapes of line ends":         `a%0d%0aSet-Cookie:%20session=evil.png`,
	"escapes of a path":            `..%2f..%2fetc%2fpasswd`,
	"SQL":                          `'); DROP TABLE slipway.uploads; --.png`,
	"a shell's":                    "$(id) `id` ; id | id > x.png",
	"a flag":                       `--output=x.png`,
	"a formula":                    `=HYPERLINK("evil.example";"x").csv`,
	"an address":                   `javascript:alert(1)`,
	"a format":                     `%s%n%d%!d(MISSING).png`,
	"a line of a log":              `x.png level=ERROR msg="password changed"`,
	"lines that are not ASCII's":   "a\u2028level=ERROR\u2029b\u00a0.png",
	"letters in the other order":   "photo_\u202egnp.exe",
	"letters without width":        "a\u200b\ufeff\u2066b.png",
	"a device":                     `CON`,
	"a dot in front":               `.htaccess`,
	"255 bytes":                    strings.Repeat("é", 125) + ".jpeg",
	"letters above each other":     "Z" + strings.Repeat("\u0300\u0301", 60) + ".png",
	"a picture of several letters": "👩‍👩‍👧‍👦.png",
}

// ways are the places in which a name comes.
var ways = map[string]func(t *testing.T, s *site, name string) reply{
	"the file of a form": func(t *testing.T, s *site, name string) reply {
		return s.post(t, "/v1/uploads", newForm().file(strings.ReplaceAll(name, `"`, "%22"), "hello"))
	},
	"a field of a form": func(t *testing.T, s *site, name string) reply {
		return s.post(t, "/v1/uploads", newForm().field("fileName", name).file("a.png", "hello"))
	},
	"the query": func(t *testing.T, s *site, name string) reply {
		return s.do(t, "POST", "/v1/uploads?file_name="+url.QueryEscape(name), strings.NewReader("hello"))
	},
	"a header": func(t *testing.T, s *site, name string) reply {
		return s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), "Content-Disposition: "+mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	},
}

func TestNamesAreData(t *testing.T) {
	var log logged
	s := open(t, func(_ *API, o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for what, name := range hostileNames {
		for way, send := range ways {
			if way == "the file of a form" && strings.Contains(name, "%0") {
				continue // there browsers write line ends so, and those are refused
			}
			t.Run(what+" in "+way, func(t *testing.T) {
				r := send(t, s, name)
				u := into[uploadView](t, r, http.StatusAccepted)
				if u.FileName != name {
					t.Errorf("the name is %q, want %q", u.FileName, name)
				}
				s.complete(t, u.ID)
				file := s.do(t, "GET", "/v1/files/"+string(u.ID), nil)
				if f := into[fileView](t, file, 200); f.FileName == nil || *f.FileName != name {
					t.Errorf("the file's name is %v, want %q", f.FileName, name)
				}
				page, first := s.do(t, "GET", "/uploads/"+string(u.ID), nil), s.do(t, "GET", "/", nil)
				for _, shown := range []reply{page, first} {
					if !strings.Contains(html.UnescapeString(shown.text), name) || name != html.EscapeString(name) && strings.Contains(shown.text, name) {
						t.Errorf("the page shows %q as %s", name, shown.text)
					}
					wantHarmless(t, shown.text)
				}
				content := s.do(t, "GET", "/v1/files/"+string(u.ID)+"/content", nil)
				for _, r := range []reply{r, file, page, first, content} {
					for header, values := range r.Header {
						if strings.Contains(strings.Join(values, " "), name) || header == "Set-Cookie" {
							t.Errorf("the name is in the header %s: %q", header, values)
						}
					}
				}
			})
		}
	}
	wantOneLineEach(t, log.String())
}

// wantHarmless checks that a page has nothing of its own that acts.
func wantHarmless(t *testing.T, page string) {
	t.Helper()
	if bad := regexp.MustCompile(`(?i)<script|<[^>]*\s(on\w+|autofocus)\s*=|(href|src|action)="?\s*javascript:`).FindString(page); bad != "" {
		t.Errorf("the page has %q: %s", bad, page)
	}
}

// wantOneLineEach checks that nothing has begun a line of the log but the log itself.
func wantOneLineEach(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\u2028\u2029\x1b\r") {
			t.Errorf("the log has the line %q", line)
		}
	}
}

func TestWhatIsRefusedIsDataToo(t *testing.T) {
	var log logged
	s := open(t, func(a *API, o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a.Auth = auth.New(auth.Options{Secret: jwtSecret, DevUser: "alice"})
	})
	const evil = `<script>alert(1)</script>"'`
	escaped := url.QueryEscape(evil + "\r\nlevel=ERROR\u2028\x1b[31m")
	hostile := func(f *outgoing, path string) func(...string) reply {
		return func(headers ...string) reply {
			if f == nil {
				return s.do(t, "GET", path, nil, headers...)
			}
			body, kind := f.end()
			text, err := io.ReadAll(body)
			must(t, err)
			return s.do(t, "POST", path, strings.NewReader(string(text)), append(headers, kind)...)
		}
	}
	for what, ask := range map[string]func(...string) reply{
		"a name with line ends":     hostile(newForm().field("fileName", evil+"\r\nlevel=ERROR").file("a", "hello"), "/upload"),
		"a provider":                hostile(newForm().field("provider", evil).file("a", "hello"), "/upload"),
		"a field for the file":      hostile(newForm().fileIn("script", evil, "hello"), "/upload"),
		"a tag":                     hostile(newForm().field("tags", evil).file("a", "hello"), "/upload"),
		"the key of metadata":       hostile(newForm().field("metadata["+evil+"]", "x").file("a", "hello"), "/upload"),
		"a resource type":           hostile(newForm().field("resource_type", evil).file("a", "hello"), "/upload"),
		"an id":                     hostile(nil, "/uploads/"+url.PathEscape(evil+"\r\nlevel=ERROR")),
		"an address":                hostile(nil, "/nothing/"+url.PathEscape(evil+"\r\nlevel=ERROR\u2028")),
		"a status":                  hostile(nil, "/v1/uploads?status="+escaped),
		"a picture":                 hostile(nil, "/v1/files/"+string(upload.NewID())+"/content?transform="+escaped),
		"a cursor":                  hostile(nil, "/v1/uploads?cursor="+escaped),
		"a token":                   hostile(nil, "/?token="+escaped),
		"an origin":                 func(...string) reply { return s.do(t, "GET", "/", nil, "Origin: https://"+evil) },
		"a problem that is unknown": hostile(nil, "/problems/"+url.PathEscape(evil)),
	} {
		t.Run(what, func(t *testing.T) {
			for _, accept := range []string{"application/json", "text/html"} {
				r := ask("Accept: " + accept)
				if what != "an origin" && (r.StatusCode < 400 || r.StatusCode >= 500) {
					t.Errorf("got %d %s", r.StatusCode, r.text)
				}
				if strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
					wantHarmless(t, r.text)
				} else if !strings.HasSuffix(r.Header.Get("Content-Type"), "json") || r.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("a browser may take %q for a page: %v", r.text, r.Header)
				}
			}
		})
	}
	wantOneLineEach(t, log.String())
	if n := s.count(t, "slipway.uploads"); n > 0 {
		t.Errorf("%d uploads were made", n)
	}
}
