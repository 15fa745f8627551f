package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

// Bodies whose end looks like a request: short enough to be drained, and too long for that.
func bodiesWithATail() map[string]string {
	framed := func(n int) string {
		body := strings.Repeat("x", n) + smuggled
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	chunked := func(n int) string {
		body := strings.Repeat("x", n) + smuggled
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
	return map[string]string{
		"only the tail":  framed(0),
		"short":          framed(10 << 10),
		"long":           framed(drainBytes + 64<<10),
		"chunked":        chunked(10 << 10),
		"chunked, long":  chunked(drainBytes + 64<<10),
		"chunked, empty": "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	}
}

func TestNoBodyBecomesARequest(t *testing.T) {
	var runs atomic.Int64
	r := run(t, Options{}, func(s *Server) {
		s.app.Get("/smuggled", func(c *fiber.Ctx) error { runs.Add(1); return c.SendString("smuggled") })
		s.app.Post("/take", take(s, 1<<30))
		s.app.Post("/small", take(s, 16))
		s.app.Post("/ignores", func(c *fiber.Ctx) error { return c.SendString("early") })
		s.app.Post("/refuses", func(*fiber.Ctx) error {
			return &upload.Error{Code: upload.Unauthorized, Message: "Say who you are."}
		})
		s.app.Post("/buffers", func(c *fiber.Ctx) error { return c.SendString(fmt.Sprint(len(c.Body()))) })
		s.app.Post("/panics", func(*fiber.Ctx) error { panic("no") })
	})

	type target struct{ method, path string }
	targets := []target{
		{"POST", "/nowhere"}, {"GET", "/nowhere"}, {"POST", "/livez"}, {"FOO", "/take"}, {"FOO", "/nowhere"}, {"OPTIONS", "/take"},
	}
	for _, route := range r.app.GetRoutes(true) {
		if route.Path != "/smuggled" {
			targets = append(targets, target{route.Method, route.Path})
		}
	}
	for _, to := range targets {
		for kind, body := range bodiesWithATail() {
			t.Run(to.method+" "+to.path+" "+kind, func(t *testing.T) {
				c := r.dial(t)
				// One write: what follows the body is in the server's buffer while the body is judged.
				c.send(to.method + " " + to.path + " HTTP/1.1\r\nHost: localhost\r\n" + body + head("GET", "/livez"))
				if _, err := c.read(to.method); err != nil {
					t.Fatalf("first answer: %v", err)
				}
				if next, err := c.read("GET"); err == nil && next.text != "ok\n" {
					t.Errorf("second answer is %d %q, want that to GET /livez or none", next.StatusCode, next.text)
				}
				if n := runs.Load(); n != 0 {
					t.Fatalf("the tail of the body ran as a request %d times", n)
				}
			})
		}
	}
}

func TestAConnectionServesOnAfterAWholeBody(t *testing.T) {
	r := run(t, Options{}, func(s *Server) {
		s.app.Post("/take", take(s, 1<<30))
		s.app.Post("/ignores", func(c *fiber.Ctx) error { return c.SendString("early") })
		s.app.Post("/reads-on", func(c *fiber.Ctx) error {
			b, err := s.openBody(c, 1<<30)
			if err != nil {
				return err
			}
			first, err := io.ReadAll(b)
			if err != nil {
				return err
			}
			more, err := io.ReadAll(b)
			return errors.Join(err, c.SendString(fmt.Sprint(len(first)+len(more))))
		})
	})
	chunked := "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n"
	fixed := "Content-Length: 8\r\n\r\nabcdefgh"
	long := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", longBody, strings.Repeat("x", longBody))
	tests := map[string]struct{ requests, want []string }{
		"lengths":               {[]string{"POST /take|" + fixed, "POST /take|" + fixed, "GET /livez|\r\n"}, []string{"8", "8", "ok\n"}},
		"chunks":                {[]string{"POST /take|" + chunked, "DELETE /livez|\r\n", "POST /take|" + chunked}, []string{"8", "405", "8"}},
		"small bodies unread":   {[]string{"POST /ignores|" + fixed, "POST /ignores|" + chunked, "GET /livez|\r\n"}, []string{"early", "early", "ok\n"}},
		"long bodies":           {[]string{"GET /livez|\r\n", "POST /take|" + long, "POST /take|" + fixed, "POST /reads-on|" + long, "POST /ignores|" + long, "GET /livez|\r\n"}, []string{"ok\n", fmt.Sprint(longBody), "8", fmt.Sprint(longBody), "early", "ok\n"}},
		"reads past the end":    {[]string{"POST /reads-on|" + chunked, "DELETE /livez|\r\n", "POST /reads-on|" + fixed}, []string{"8", "405", "8"}},
		"no body":               {[]string{"POST /take|\r\n", "POST /take|Content-Length: 0\r\n\r\n", "GET /livez|\r\n"}, []string{"0", "0", "ok\n"}},
		"bodies that need none": {[]string{"GET /livez|" + fixed, "GET /livez|" + chunked, "GET /livez|\r\n"}, []string{"ok\n", "ok\n", "ok\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			var all strings.Builder
			for _, req := range tt.requests {
				line, rest, _ := strings.Cut(req, "|")
				all.WriteString(line + " HTTP/1.1\r\nHost: localhost\r\n" + rest)
			}
			c.send(all.String())
			for i, want := range tt.want {
				if a := c.answer(); a.text != want && fmt.Sprint(a.StatusCode) != want {
					t.Fatalf("answer %d is %d %q, want %s", i, a.StatusCode, a.text, want)
				}
			}
		})
	}
}

func TestThreeEarlyAnswersOnOneConnection(t *testing.T) {
	r := run(t, Options{}, nil)
	c := r.dial(t)
	for range 3 {
		c.send(post("/nowhere", 50<<10) + strings.Repeat("x", 50<<10))
		wantCode(t, c.answer(), 404, upload.NotFound)
	}
}

func TestHeadersThatContradictEachOther(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", take(s, 1<<20)) })
	tests := map[string]string{
		"two lengths":            "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
		"length and chunks":      "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"another coding":         "POST /take HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two codings":            "POST /take HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"a folded line":          "POST /take HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"chunks before HTTP/1.1": "POST /take HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a length with a sign":   "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nabcde",
	}
	for name, request := range tests {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			c.send(request)
			wantCode(t, c.answer(), 400, upload.InvalidRequest)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.wantEnd()
		})
	}
}

// A client that writes all of its body before it reads must see the answer, not a reset.
func TestABlockingClientReadsAnEarlyAnswer(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/small", take(s, 1<<20)) })
	const size = 32 << 20
	block := strings.Repeat("x", 1<<20)
	bodies := map[string]func(*client){
		"declared": func(c *client) {
			c.send(post("/small", size))
			for range size / len(block) {
				c.send(block)
			}
		},
		"chunked": func(c *client) {
			c.send(head("POST", "/small", "Transfer-Encoding: chunked"))
			for range size / len(block) {
				c.send(fmt.Sprintf("%x\r\n%s\r\n", len(block), block))
			}
			c.send("0\r\n\r\n")
		},
	}
	for name, send := range bodies {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				c := r.dial(t)
				send(c)
				wantCode(t, c.answer(), 413, upload.TooLarge)
				c.wantEnd()
				c.Close()
			}
		})
	}
}

func TestAStalledClientIsAnsweredAtOnce(t *testing.T) {
	r := run(t, Options{}, nil)
	c := r.dial(t)
	start := time.Now()
	c.send(post("/nowhere", 1<<20) + strings.Repeat("x", 9<<10))
	a := c.answer()
	wantCode(t, a, 404, upload.NotFound)
	if took := time.Since(start); took > time.Second || !a.Close {
		t.Errorf("answered after %s, Connection: close is %t; want at once and true", took, a.Close)
	}
}

func TestFewConnectionsLinger(t *testing.T) {
	g := newGuard()
	g.linger = make(chan struct{}, 1)
	g.linger <- struct{}{} // one lingers
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &guardListener{Listener: inner, guard: g}
	defer ln.Close()
	theirs, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	guarded(conn).lingers.Store(true)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.wait(t.Context()); err != nil {
		t.Errorf("wait = %v, want nil: the connection is closed", err)
	}
	if err := theirs.SetReadDeadline(time.Now().Add(lingerTime / 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read = %v, want the end at once: too many linger", err)
	}
}

func TestTLSIsSeenThroughTheGuard(t *testing.T) {
	backend := httptest.NewUnstartedServer(nil)
	backend.StartTLS() // for its certificate
	defer backend.Close()
	s := New(Options{Log: discard(), DrainTimeout: 3 * time.Second})
	s.app.Post("/take", take(s, 16))
	s.app.Get("/protocol", func(c *fiber.Ctx) error { return c.SendString(c.Protocol()) })
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, s, tls.NewListener(inner, backend.TLS))

	browser := backend.Client()
	defer browser.CloseIdleConnections()
	resp, err := browser.Get("https://" + r.addr + "/protocol")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(text) != "https" {
		t.Errorf("protocol is %q, want https", text)
	}
	resp, err = browser.Post("https://"+r.addr+"/take", "", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatalf("early answer over TLS: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", resp.StatusCode)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	var open sync.WaitGroup
	open.Add(1)
	r := run(t, Options{}, func(s *Server) {
		s.app.Get("/stream", func(c *fiber.Ctx) error {
			s.guard.stream(c.Context(), func(ctx context.Context, conn net.Conn) {
				open.Done()
				<-ctx.Done()
				_, _ = io.WriteString(conn, "bye")
			})
			return nil
		})
	})
	c := r.dial(t)
	c.send(head("GET", "/stream"))
	open.Wait()
	go r.end()
	if a := c.answer(); a.StatusCode != 200 || a.text != "bye" {
		t.Errorf("the stream was %d %q; want its last word", a.StatusCode, a.text)
	}
	r.end()
}
