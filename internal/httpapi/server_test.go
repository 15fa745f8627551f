package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

const patience = 10 * time.Second // after which a test gives up

// running is a server on a port of its own, ended and checked with the test.
type running struct {
	*Server
	addr string
	end  func() // begins the drain and waits for its end
}

func run(t testing.TB, opts Options, routes func(*Server)) *running {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = 3 * time.Second
	}
	s := New(opts)
	if routes != nil {
		routes(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, s, ln)
}

func serve(t testing.TB, s *Server, ln net.Listener) *running {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.Serve(ctx, ln); err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	}()
	end := func() { cancel(); <-served }
	t.Cleanup(end)
	return &running{Server: s, addr: ln.Addr().String(), end: end}
}

// take is a route that reads the whole body and answers with the number of its bytes.
func take(s *Server, limit int64) fiber.Handler {
	return func(c *fiber.Ctx) error {
		b, err := s.openBody(c, limit)
		if err != nil {
			return err
		}
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, b)
		if err != nil {
			return err
		}
		return c.SendString(fmt.Sprint(n))
	}
}

// takeForm is a route that reads a form as staging does.
func takeForm(s *Server) fiber.Handler {
	return func(c *fiber.Ctx) error {
		_, err := s.readForm(c, 1<<30, func(f filePart, _ url.Values) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, make([]byte, 256<<10))
			return err
		})
		return err
	}
}

// client is one raw connection.
type client struct {
	*net.TCPConn
	t  testing.TB
	in *bufio.Reader
}

func (r *running) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{TCPConn: conn.(*net.TCPConn), t: t, in: bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// reply is a response that has been read to its end.
type reply struct {
	*http.Response
	text string
}

func (a reply) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("status %d: %q is no problem: %v", a.StatusCode, a.text, err)
	}
	return p
}

func (c *client) read(method string) (reply, error) {
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	text, err := io.ReadAll(resp.Body)
	return reply{resp, string(text)}, errors.Join(err, resp.Body.Close())
}

func (c *client) answer() reply {
	c.t.Helper()
	a, err := c.read(http.MethodPost)
	if err != nil {
		c.t.Fatalf("read the answer: %v", err)
	}
	return a
}

// wantEnd checks that the server has closed the connection without saying more.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.in)
	if err != nil || len(rest) > 0 {
		c.t.Errorf("after the answer came %q, %v; want the end of the connection", rest, err)
	}
}

func head(method, path string, headers ...string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
}

func post(path string, length int, headers ...string) string {
	lines := append([]string{fmt.Sprintf("Content-Length: %d", length)}, headers...)
	return head(http.MethodPost, path, lines...)
}

func wantCode(t testing.TB, a reply, status int, code upload.Code) {
	t.Helper()
	if p := a.problem(t); a.StatusCode != status || p.Code != code || p.Status != status {
		t.Errorf("got %d %s, want %d %s", a.StatusCode, a.text, status, code)
	}
}
