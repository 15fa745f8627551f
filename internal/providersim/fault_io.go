package providersim

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
)

const (
	// heldAnswer bounds how much of a held answer is kept, in bytes.
	heldAnswer = 1 << 20
	// longAnswer is the declared length, in bytes, from which half an answer is the first
	// half of a body that breaks off, rather than a shorter body that is whole.
	longAnswer = 64 << 10
	// unknownMiddle is the position of the damage in a body of unknown length, in bytes.
	unknownMiddle = 1024
)

// reset ends the TCP connection with RST, so that the client sees no orderly close.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// held is an answer that has not been sent.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newHeld() *held { return &held{header: http.Header{}} }

func (h *held) Header() http.Header { return h.header }

func (h *held) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

func (h *held) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	h.body.Write(p[:min(len(p), heldAnswer-h.body.Len())])
	return len(p), nil
}

func (h *held) send(w http.ResponseWriter) {
	for name, values := range h.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(h.body.Len()))
	h.WriteHeader(http.StatusOK)
	w.WriteHeader(h.status)
	_, _ = w.Write(h.body.Bytes()) // an error is a client that has left
}

// halfWriter sends half of an answer's body.
type halfWriter struct {
	http.ResponseWriter
	held *held
	left int64 // of a long answer: bytes that may still go out
	long bool
}

func (h *halfWriter) WriteHeader(status int) {
	length, err := strconv.ParseInt(h.Header().Get("Content-Length"), 10, 64)
	if h.long = err == nil && length >= longAnswer; h.long {
		h.left = length / 2
		h.ResponseWriter.WriteHeader(status)
		return
	}
	h.held.WriteHeader(status)
}

func (h *halfWriter) Write(p []byte) (int, error) {
	if !h.long {
		return h.held.Write(p)
	}
	n, err := h.ResponseWriter.Write(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	if err != nil {
		return n, err
	}
	return len(p), nil
}

func (h *halfWriter) finish() {
	if h.long {
		panic(http.ErrAbortHandler)
	}
	h.held.body.Truncate(h.held.body.Len() / 2)
	h.held.send(h.ResponseWriter)
}

// corruptBody turns one bit of the byte at a position.
type corruptBody struct {
	io.ReadCloser
	at int64 // bytes before the damaged one; negative once it has passed
}

func (c *corruptBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.at >= 0 && c.at < int64(n) {
		p[c.at] ^= 1
	}
	c.at -= int64(n)
	return n, err
}
