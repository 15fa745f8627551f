package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

func TestCORS(t *testing.T) {
	tests := map[string]struct {
		allowed []string
		dev     bool
		origin  string
		want    string // Access-Control-Allow-Origin
	}{
		"a listed origin":                     {[]string{"https://app.example"}, false, "https://app.example", "https://app.example"},
		"another":                             {[]string{"https://app.example"}, false, "https://evil.example", ""},
		"the same host by another scheme":     {[]string{"https://app.example"}, false, "http://app.example", ""},
		"a longer name":                       {[]string{"https://app.example"}, false, "https://app.example.evil.example", ""},
		"any":                                 {[]string{"*"}, false, "https://other.example", "*"},
		"nobody by default":                   {nil, false, "http://localhost:5173", ""},
		"localhost in development":            {nil, true, "http://localhost:5173", "http://localhost:5173"},
		"127.0.0.1 in development":            {nil, true, "http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		"IPv6 in development":                 {nil, true, "http://[::1]:8080", "http://[::1]:8080"},
		"a listed one in development":         {[]string{"https://app.example"}, true, "https://app.example", "https://app.example"},
		"a name like localhost's":             {nil, true, "http://localhost.evil.example", ""},
		"a page opened from a file":           {nil, true, "null", ""},
		"a page opened from a file, if it is": {[]string{"null"}, false, "null", "null"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := run(t, Options{AllowedOrigins: tt.allowed, Dev: tt.dev}, func(s *Server) {
				s.app.Post("/refuses", func(*fiber.Ctx) error {
					return &upload.Error{Code: upload.Unauthorized, Message: "Send a token."}
				})
			})
			c := r.dial(t)
			c.send(head("OPTIONS", "/refuses", "Origin: "+tt.origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"))
			a := c.answer()
			if a.StatusCode != 204 || a.Header.Get("Access-Control-Allow-Origin") != tt.want {
				t.Errorf("preflight got %d, %q; want 204, %q", a.StatusCode, a.Header.Get("Access-Control-Allow-Origin"), tt.want)
			}
			for _, name := range []string{"Authorization", "Idempotency-Key", "Prefer", "Tus-Resumable", "Upload-Offset"} {
				if !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), name) {
					t.Errorf("a page may not send %s", name)
				}
			}
			c.send(post("/refuses", 0, "Origin: "+tt.origin))
			a = c.answer()
			if got := a.Header.Get("Access-Control-Allow-Origin"); got != tt.want {
				t.Errorf("the answer allows %q, want %q", got, tt.want)
			}
			for _, name := range []string{"Location", "ETag", "Retry-After", "Link", "Upload-Offset"} {
				if !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), name) {
					t.Errorf("a page may not read %s", name)
				}
			}
			if vary := a.Header.Get("Vary"); tt.want != "*" && !strings.Contains(vary, "Origin") {
				t.Errorf("Vary is %q, want Origin in it", vary)
			}
		})
	}
}

func TestARefusedOriginIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	o := &origins{allowed: []string{"https://app.example"}, log: slog.New(slog.NewTextHandler(&log, nil)), refused: map[string]bool{}}
	for range 3 {
		o.allow("https://new.example")
	}
	if want := "ALLOWED_ORIGINS=https://app.example,https://new.example"; strings.Count(log.String(), want) != 1 {
		t.Errorf("the log is %q, want one line with %s", log.String(), want)
	}
	for i := range 2 * maxRefused {
		o.allow(fmt.Sprintf("https://%d.example", i))
	}
	if n := strings.Count(log.String(), "\n"); n != maxRefused {
		t.Errorf("%d refusals logged, want %d", n, maxRefused)
	}
}

func TestDevelopmentServesThisMachineOnly(t *testing.T) {
	var log bytes.Buffer
	r := run(t, Options{Dev: true, PublicURL: "https://tunnel.example", Log: slog.New(slog.NewTextHandler(&log, nil))}, nil)
	tests := map[string]struct {
		host, origin string
		want         int
	}{
		"by name":                    {"localhost:3000", "", 200},
		"by address":                 {"127.0.0.1:3000", "", 200},
		"by IPv6 address":            {"[::1]:3000", "", 200},
		"by a name under localhost":  {"app.localhost:3000", "", 200},
		"by its public name":         {"tunnel.example", "", 200},
		"its own page":               {"localhost:3000", "http://localhost:3000", 200},
		"another page from here":     {"localhost:3000", "http://127.0.0.1:5173", 200},
		"a name that resolves to it": {"evil.example", "", 403},
		"a page from elsewhere":      {"localhost:3000", "https://evil.example", 403},
		"a page from a file":         {"localhost:3000", "null", 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			req := "GET /livez HTTP/1.1\r\nHost: " + tt.host + "\r\n"
			if tt.origin != "" {
				req += "Origin: " + tt.origin + "\r\n"
			}
			c.send(req + "\r\n")
			if a := c.answer(); a.StatusCode != tt.want {
				t.Errorf("got %d %s, want %d", a.StatusCode, a.text, tt.want)
			}
		})
	}
}
