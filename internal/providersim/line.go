package providersim

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// LineSetting is how slow the line to a simulator is. The zero value is as fast as the machine.
type LineSetting struct {
	BytesPerSecond int64 `json:"bytes_per_second"` // in each direction, of one connection
	LatencyMS      int64 `json:"latency_ms"`       // before each request is looked at
}

// Line slows requests down, so that progress can be watched and latency measured.
type Line struct {
	setting atomic.Pointer[LineSetting]
}

// NewLine returns a line as fast as the machine.
func NewLine() *Line {
	l := &Line{}
	l.Set(LineSetting{})
	return l
}

// Set changes the line for requests that begin from now on.
func (l *Line) Set(s LineSetting) { l.setting.Store(&s) }

// Wrap puts the line before next.
func (l *Line) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := l.setting.Load()
		if wait(r.Context(), time.Duration(s.LatencyMS)*time.Millisecond) != nil {
			panic(http.ErrAbortHandler)
		}
		if s.BytesPerSecond > 0 {
			r = withBody(r, &slowReader{ReadCloser: r.Body, pace: newPace(r.Context(), s.BytesPerSecond)})
			w = &slowWriter{ResponseWriter: w, pace: newPace(r.Context(), s.BytesPerSecond)}
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP shows the setting on GET and changes it on POST.
func (l *Line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var s LineSetting
		if !ReadControl(w, r, &s) {
			return
		}
		if s.BytesPerSecond < 0 || s.LatencyMS < 0 {
			http.Error(w, "bytes_per_second and latency_ms are not negative", http.StatusBadRequest)
			return
		}
		l.Set(s)
	default:
		methodNotAllowed(w, "GET, POST")
		return
	}
	WriteControl(w, l.setting.Load())
}

// pace holds a flow of bytes to a rate.
type pace struct {
	ctx   context.Context
	rate  int64 // bytes per second
	start time.Time
	moved int64
}

func newPace(ctx context.Context, rate int64) *pace {
	return &pace{ctx: ctx, rate: rate, start: time.Now()}
}

// step is how many bytes may move at a time: a tenth of a second's worth.
func (p *pace) step() int { return int(max(1, min(p.rate/10, copyBuffer))) }

// pass waits until n more bytes are due.
func (p *pace) pass(n int) error {
	p.moved += int64(n)
	due := p.start.Add(time.Duration(float64(p.moved) / float64(p.rate) * float64(time.Second)))
	return wait(p.ctx, time.Until(due))
}

type slowReader struct {
	io.ReadCloser
	pace *pace
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b[:min(len(b), s.pace.step())])
	if paceErr := s.pace.pass(n); err == nil {
		err = paceErr
	}
	return n, err
}

type slowWriter struct {
	http.ResponseWriter
	pace *pace
}

func (s *slowWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *slowWriter) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		n, err := s.ResponseWriter.Write(b[:min(len(b), s.pace.step())])
		written += n
		if err == nil {
			err = s.pace.pass(n)
		}
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

// wait sleeps for d, or returns ctx's error when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
