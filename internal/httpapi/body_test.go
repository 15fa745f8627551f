package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// outcomeOf is a route that reads the body and hands on what came and how it ended.
type outcomeOf struct {
	began atomic.Bool
	ends  chan ending
}

type ending struct {
	bytes int64
	err   error
}

func (o *outcomeOf) route(s *Server) fiber.Handler {
	return func(c *fiber.Ctx) error {
		b, err := s.openBody(c, 1<<30)
		if err != nil {
			return err
		}
		o.began.Store(true)
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, b)
		o.ends <- ending{n, err}
		return err
	}
}

func (o *outcomeOf) wait(t *testing.T) ending {
	t.Helper()
	select {
	case e := <-o.ends:
		return e
	case <-time.After(patience):
		t.Fatal("the body did not end")
		return ending{}
	}
}

func codeOf(err error) upload.Code {
	var e *upload.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestACutBodyIsNeverComplete(t *testing.T) {
	o := &outcomeOf{ends: make(chan ending, 1)}
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", o.route(s)) })
	sent := strings.Repeat("x", 40<<10)
	chunk := fmt.Sprintf("%x\r\n%s", len(sent), sent)
	chunked := head("POST", "/take", "Transfer-Encoding: chunked")
	tests := map[string]struct {
		send string
		rst  bool
		want int64 // bytes that reach the handler
	}{
		"at 40 % of the length":        {post("/take", 100<<10) + sent, false, 40 << 10},
		"inside a chunk":               {chunked + chunk[:20<<10+6], false, 20 << 10},
		"after the data of a chunk":    {chunked + chunk, false, 40 << 10},
		"between two chunks":           {chunked + chunk + "\r\n", false, 40 << 10},
		"inside the size of a chunk":   {chunked + chunk + "\r\na0", false, 40 << 10},
		"before the end of the chunks": {chunked + chunk + "\r\n0\r\n", false, 40 << 10},
		"by a reset":                   {post("/take", 100<<10) + sent, true, -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			c.send(tt.send)
			if tt.rst {
				if err := c.SetLinger(0); err != nil {
					t.Fatal(err)
				}
				c.Close()
			} else if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			e := o.wait(t)
			if codeOf(e.err) != upload.CutBody || !errors.Is(e.err, io.ErrUnexpectedEOF) {
				t.Errorf("ended with %v, want %s", e.err, upload.CutBody)
			}
			if tt.want >= 0 && e.bytes != tt.want {
				t.Errorf("%d bytes reached the handler, want %d", e.bytes, tt.want)
			}
			if !tt.rst {
				wantCode(t, c.answer(), 400, upload.CutBody)
			}
		})
	}
}

func TestABodyCutWithinTheFirstBytesIsNoRequest(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", take(s, 1<<20)) })
	c := r.dial(t)
	c.send(post("/take", 100) + "abc")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.answer(), 400, upload.CutBody)
}

func TestChunksThatAreNoneAreRefused(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", take(s, 1<<20)) })
	c := r.dial(t)
	c.send(head("POST", "/take", "Transfer-Encoding: chunked") + "5\r\nabcde\r\nzz\r\n")
	wantCode(t, c.answer(), 400, upload.InvalidRequest)
}

func TestPace(t *testing.T) {
	const tick = 20 * time.Millisecond
	pace := Pace{Idle: time.Second, Window: 600 * time.Millisecond, Bytes: 8 << 10}
	tests := map[string]struct {
		chunk int // bytes each tick
		ticks int // then silence
		want  upload.Code
	}{
		"a steady upload outlives the read timeout": {10 << 10, 60, ""},
		"a stall is cut":             {10 << 10, 3, upload.SlowBody},
		"a byte now and then is cut": {1, 1 << 10, upload.SlowBody},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := &outcomeOf{ends: make(chan ending, 1)}
			r := run(t, Options{ReadTimeout: 300 * time.Millisecond, Pace: pace}, func(s *Server) { s.app.Post("/take", o.route(s)) })
			c := r.dial(t)
			size := 60 * 10 << 10
			c.send(post("/take", size) + strings.Repeat("x", 8<<10))
			size -= 8 << 10
			clock := time.NewTicker(tick)
			defer clock.Stop()
			for range tt.ticks {
				<-clock.C
				n := min(tt.chunk, size)
				if _, err := c.Write(make([]byte, n)); err != nil || n == 0 {
					break
				}
				size -= n
			}
			e := o.wait(t)
			if codeOf(e.err) != tt.want {
				t.Errorf("ended with %v after %d bytes, want %q", e.err, e.bytes, tt.want)
			}
			if tt.want != "" {
				wantCode(t, c.answer(), 408, tt.want)
			}
		})
	}
}

// Only waiting counts: a sender is not to blame for a slow disk of ours.
func TestOurOwnWorkDoesNotCountAgainstThePace(t *testing.T) {
	now := time.Unix(0, 0)
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	src := readerFunc(func(p []byte) (int, error) { now = now.Add(time.Second); return copy(p, "x"), nil })
	b := &body{
		wire:  &wire{src: src, conn: &guardConn{Conn: ours}, declared: 1 << 20},
		limit: 1 << 20,
		pace:  Pace{Idle: time.Hour, Window: 10 * time.Second, Bytes: 10},
		now:   func() time.Time { return now },
	}
	p := make([]byte, 1)
	for i := range 100 { // a byte a second is just enough
		now = now.Add(time.Minute) // the disk
		if _, err := b.Read(p); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	b.pace.Bytes = 11
	for range 10 {
		if _, err := b.Read(p); err != nil {
			if codeOf(err) != upload.SlowBody {
				t.Fatalf("got %v, want %s", err, upload.SlowBody)
			}
			return
		}
	}
	t.Error("ten bytes in ten seconds passed, want at least eleven")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLimit(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/take", take(s, 10)) })
	chunked := head("POST", "/take", "Transfer-Encoding: chunked")
	tests := map[string]struct {
		send string
		want string
	}{
		"just within, declared": {post("/take", 10) + "0123456789", "200"},
		"just within, chunked":  {chunked + "a\r\n0123456789\r\n0\r\n\r\n", "200"},
		"one over, declared":    {post("/take", 11) + "0123456789a", "413"},
		"one over, chunked":     {chunked + "b\r\n0123456789a\r\n0\r\n\r\n", "413"},
		"far over, declared":    {post("/take", 1<<40) + strings.Repeat("x", 9<<10), "413"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			c.send(tt.send)
			if a := c.answer(); fmt.Sprint(a.StatusCode) != tt.want {
				t.Errorf("got %d %s, want %s", a.StatusCode, a.text, tt.want)
			}
		})
	}
}

// Staging writes what a read gives, and small writes cost half the throughput.
func TestReadsFillTheBuffer(t *testing.T) {
	const size, buffer = 1 << 20, 256 << 10
	var mu sync.Mutex
	var reads []int
	r := run(t, Options{}, func(s *Server) {
		record := func(src io.Reader) error {
			p := make([]byte, buffer)
			for {
				n, err := src.Read(p)
				mu.Lock()
				reads = append(reads, n)
				mu.Unlock()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
		}
		s.app.Post("/raw", func(c *fiber.Ctx) error {
			b, err := s.openBody(c, size)
			if err != nil {
				return err
			}
			return record(b)
		})
		s.app.Post("/form", func(c *fiber.Ctx) error {
			_, err := s.readForm(c, size, func(f filePart, _ url.Values) error { return record(f) })
			return err
		})
	})
	content := strings.Repeat("x", size)
	form := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + content + "\r\n--b--\r\n"
	for name, request := range map[string]string{
		"raw":  post("/raw", size) + content,
		"form": post("/form", len(form), "Content-Type: multipart/form-data; boundary=b") + form,
	} {
		t.Run(name, func(t *testing.T) {
			reads = nil
			c := r.dial(t)
			c.send(request)
			if a := c.answer(); a.StatusCode != 200 {
				t.Fatalf("got %d %s", a.StatusCode, a.text)
			}
			mu.Lock()
			defer mu.Unlock()
			for i, n := range reads[:size/buffer] {
				if n != buffer {
					t.Errorf("read %d gave %d bytes, want %d", i, n, buffer)
				}
			}
		})
	}
}

func TestNoStaleDeadlineAfterAnUpload(t *testing.T) {
	pace := Pace{Idle: 300 * time.Millisecond, Window: time.Minute}
	r := run(t, Options{ReadTimeout: 100 * time.Millisecond, Pace: pace}, func(s *Server) {
		s.app.Post("/take", take(s, 1<<20))
		s.app.Post("/slow", func(c *fiber.Ctx) error { // works on long after the last byte came
			if err := take(s, 1<<20)(c); err != nil {
				return err
			}
			<-time.After(2 * pace.Idle)
			return nil
		})
	})
	c := r.dial(t)
	for range 2 {
		for _, path := range []string{"/take", "/slow"} {
			c.send(post(path, 100<<10) + strings.Repeat("x", 100<<10))
			if a := c.answer(); a.text != fmt.Sprint(100<<10) {
				t.Fatalf("got %d %s", a.StatusCode, a.text)
			}
		}
		<-time.After(2 * pace.Idle) // the connection rests for longer than any deadline of an upload
	}
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const uploads, size = 10, 64 << 20
	r := run(t, Options{}, func(s *Server) {
		s.app.Post("/raw", func(c *fiber.Ctx) error {
			b, err := s.openBody(c, size)
			if err != nil {
				return err
			}
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, b, make([]byte, 256<<10))
			return err
		})
		s.app.Post("/form", takeForm(s))
	})
	block := bytes.Repeat([]byte("x"), 1<<20)
	before := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
	after := "\r\n--b--\r\n"
	base := heap()
	var peak uint64
	var all sync.WaitGroup
	for i := range uploads {
		all.Go(func() {
			c := r.dial(t)
			if err := c.SetDeadline(time.Now().Add(6 * patience)); err != nil { // a busy machine takes its time for 640 MiB
				t.Error(err)
				return
			}
			if i%2 == 0 {
				c.send(post("/raw", size))
			} else {
				c.send(post("/form", len(before)+size+len(after), "Content-Type: multipart/form-data; boundary=b") + before)
			}
			for range size / len(block) {
				if _, err := c.Write(block); err != nil {
					t.Error(err)
					return
				}
			}
			if i%2 == 1 {
				c.send(after)
			}
			if a := c.answer(); a.StatusCode != 200 {
				t.Errorf("got %d %s", a.StatusCode, a.text)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for clock := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-clock.C:
			peak = max(peak, heap())
		case <-done:
			clock.Stop()
			if grown := int64(peak) - int64(base); grown > 16<<20 {
				t.Errorf("the heap grew by %s in %d uploads of %s, want under 16 MiB", byteSize(grown), uploads, byteSize(size))
			}
			return
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestShutdownDuringAnUpload(t *testing.T) {
	tests := map[string]struct {
		finish bool
		want   upload.Code
	}{
		"one that ends in time is let through": {true, ""},
		"one that goes on is told":             {false, upload.Draining},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := &outcomeOf{ends: make(chan ending, 1)}
			r := run(t, Options{DrainTimeout: time.Second}, func(s *Server) { s.app.Post("/take", o.route(s)) })
			c := r.dial(t)
			c.send(post("/take", 20<<10) + strings.Repeat("x", 10<<10))
			waitFor(t, o.began.Load)

			start := time.Now()
			ended := make(chan struct{})
			go func() { r.end(); close(ended) }()
			waitFor(t, r.draining.Load)
			if tt.finish {
				c.send(strings.Repeat("x", 10<<10))
			}
			e := o.wait(t)
			if codeOf(e.err) != tt.want || tt.want != "" && e.bytes != 10<<10 {
				t.Errorf("ended with %v after %d bytes, want %q", e.err, e.bytes, tt.want)
			}
			a := c.answer()
			if tt.want != "" {
				wantCode(t, a, 503, tt.want)
			}
			if !a.Close {
				t.Error("the answer does not say that the connection closes")
			}
			c.Close()
			<-ended
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("the server took %s to end, want less than its drain time and a little", took)
			}
		})
	}
}

func TestShutdownLeavesNobodyBehind(t *testing.T) {
	release := make(chan struct{})
	var busyNow atomic.Bool
	r := run(t, Options{DrainTimeout: 500 * time.Millisecond}, func(s *Server) {
		s.app.Post("/busy", func(c *fiber.Ctx) error { busyNow.Store(true); <-release; return nil })
		s.app.Post("/early", func(c *fiber.Ctx) error { return nil })
	})
	silent, resting, lingering, busy := r.dial(t), r.dial(t), r.dial(t), r.dial(t)
	resting.send(head("GET", "/livez"))
	resting.answer()
	lingering.send(post("/early", 1<<30) + strings.Repeat("x", 9<<10))
	lingering.answer()
	busy.send(post("/busy", 0))
	waitFor(t, busyNow.Load)
	r.end()
	for name, c := range map[string]*client{"silent": silent, "resting": resting, "lingering": lingering, "busy": busy} {
		if _, err := c.in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: connection is still open: %v", name, err)
		}
	}
	close(release)
}

func TestSilentConnectionsDoNotHoldUpTheShutdown(t *testing.T) {
	r := run(t, Options{DrainTimeout: patience}, nil)
	silent := r.dial(t)
	waitFor(t, func() bool { return r.app.Server().GetOpenConnectionsCount() > 0 })
	start := time.Now()
	r.end()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	silent.wantEnd()
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	clock := time.NewTicker(time.Millisecond)
	defer clock.Stop()
	for !cond() {
		select {
		case <-clock.C:
		case <-deadline:
			t.Fatal("the condition did not come true")
		}
	}
}
