package providertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// weather is the way from a provider to its simulator, with faults on it.
type weather struct {
	next   *http.Transport
	callOf func(*http.Request) Call

	mu     sync.Mutex
	seen   []Call
	faults []*fault
}

// fault befalls the next requests that serve call.
type fault struct {
	name  string
	call  Call
	times int // how many requests are still to be met
	meet  func(next http.RoundTripper, req *http.Request) (*http.Response, error)
}

func newWeather(callOf func(*http.Request) Call) *weather {
	return &weather{next: &http.Transport{DisableCompression: true}, callOf: callOf}
}

func (w *weather) RoundTrip(req *http.Request) (*http.Response, error) {
	call := w.callOf(req)
	if f := w.fault(call); f != nil {
		return f.meet(w.next, req)
	}
	return w.next.RoundTrip(req)
}

func (w *weather) fault(call Call) *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, call)
	for _, f := range w.faults {
		if f.call == call && f.times > 0 {
			f.times--
			return f
		}
	}
	return nil
}

// add makes f befall the next request that serves call.
func (w *weather) add(call Call, f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.call, f.times = call, 1
	w.faults = append(w.faults, &f)
}

// pending names the faults that no request has met yet.
func (w *weather) pending() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, f := range w.faults {
		if f.times > 0 {
			names = append(names, fmt.Sprintf("%s at %s", f.name, f.call))
		}
	}
	return names
}

// count is how many requests served call since the last reset.
func (w *weather) count(call Call) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.seen {
		if c == call {
			n++
		}
	}
	return n
}

// calls are the kinds of requests seen since the last reset, in order of their first.
func (w *weather) calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []Call
	known := map[Call]bool{}
	for _, c := range w.seen {
		if !known[c] {
			kinds, known[c] = append(kinds, c), true
		}
	}
	return kinds
}

// reset clears the sky and forgets what was seen.
func (w *weather) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.faults = nil, nil
}

var errReset = fmt.Errorf("read tcp 127.0.0.1: %w", syscall.ECONNRESET)

// lostRequest is a connection that ends before the request is complete.
var lostRequest = fault{name: "lost request", meet: func(_ http.RoundTripper, req *http.Request) (*http.Response, error) {
	readHalf(req)
	return nil, errReset
}}

// lostAnswer is a connection that ends after the request has been obeyed.
var lostAnswer = fault{name: "lost answer", meet: func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return nil, errors.Join(errReset, err, resp.Body.Close())
}}

// halfAnswer obeys the request and cuts the answer's body in the middle.
var halfAnswer = fault{name: "half answer", meet: func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), cut{}))
	return resp, nil
}}

// answered gives a instead of what was asked for.
func answered(name string, a Answer) fault {
	return fault{name: name, meet: func(_ http.RoundTripper, req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			_, err := io.Copy(io.Discard, req.Body)
			if err := errors.Join(err, req.Body.Close()); err != nil {
				return nil, err
			}
		}
		resp := &http.Response{
			Status: http.StatusText(a.Status), StatusCode: a.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Request: req,
			Body: io.NopCloser(strings.NewReader(a.Body)), ContentLength: int64(len(a.Body)),
		}
		for k, v := range a.Header {
			resp.Header.Set(k, v)
		}
		return resp, nil
	}}
}

// flipped changes one byte in the middle of the request's body.
var flipped = fault{name: "flipped byte", meet: func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Body = &flipper{ReadCloser: req.Body, at: req.ContentLength / 2}
	out.GetBody = nil
	return next.RoundTrip(out)
}}

// silent takes half of the request, says so by closing reached, and never answers.
func silent(reached chan<- struct{}) fault {
	return fault{name: "silence", meet: func(_ http.RoundTripper, req *http.Request) (*http.Response, error) {
		readHalf(req)
		close(reached)
		<-req.Context().Done()
		return nil, req.Context().Err()
	}}
}

func readHalf(req *http.Request) {
	if req.Body != nil {
		_, _ = io.CopyN(io.Discard, req.Body, req.ContentLength/2)
		_ = req.Body.Close()
	}
}

// flipper inverts the byte at position at.
type flipper struct {
	io.ReadCloser
	at, pos int64
}

func (f *flipper) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if i := f.at - f.pos; i >= 0 && i < int64(n) {
		p[i] = ^p[i]
	}
	f.pos += int64(n)
	return n, err
}

// cut is the end of a body whose connection ended first.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
