package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

// fasthttp by itself would wait for 8 KiB.
func TestALongBodyIsRefusedBeforeAnyOfItHasCome(t *testing.T) {
	r := run(t, Options{}, func(s *Server) {
		s.app.Post("/refuses", func(*fiber.Ctx) error {
			return &upload.Error{Code: upload.Unauthorized, Message: "Say who you are."}
		})
		s.app.Patch("/small", take(s, 16))
	})
	for request, want := range map[string]upload.Code{"POST /refuses": upload.Unauthorized, "PATCH /small": upload.TooLarge} {
		for _, expects := range []string{"Accept: */*", "Expect: 100-continue"} {
			method, path, _ := strings.Cut(request, " ")
			c := r.dial(t)
			c.send(head(method, path, fmt.Sprintf("Content-Length: %d", longBody), expects))
			a := c.answer()
			if a.StatusCode == 100 {
				a = c.answer()
			}
			wantCode(t, a, outcomes[want].status, want)
			if a.Header.Get("X-Request-Id") == "" || a.Header.Get("X-Content-Type-Options") != "nosniff" || !a.Close {
				t.Errorf("%s: the answer has the headers %v", request, a.Header)
			}
		}
	}
}

func TestWhoWantsNoMoreAfterALongBodyGetsNoMore(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", take(s, 1<<30)) })
	body := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", longBody, strings.Repeat("x", longBody))
	for name, head := range map[string]string{
		"Connection: close": "POST /take HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
		"HTTP/1.0":          "POST /take HTTP/1.0\r\nHost: localhost\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			c.send(head + body)
			if a := c.answer(); a.text != fmt.Sprint(longBody) {
				t.Errorf("it is answered %d %q", a.StatusCode, a.text)
			}
			c.wantEnd()
		})
	}
}
