package httpapi

import (
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"slipway/internal/upload"
)

// wire is a request's body as its framing ends it. fasthttp's own stream ends a cut body like a whole
// one, and a read past the last chunk takes the next request for a chunk; through a wire a body ends
// with io.EOF only when all of it came, and then stays ended.
type wire struct {
	src      io.Reader
	conn     *guardConn
	declared int64 // bytes, -1 when chunked
	read     int64
	err      error // how it ended, or nil; nothing is read after it

	body *body // what the handler opened, if it did
}

type wireKey struct{}

// newWire returns the body of the request, also when that is empty, and leaves it for openBody.
func newWire(ctx *fasthttp.RequestCtx, conn *guardConn) *wire {
	w := &wire{src: ctx.RequestBodyStream(), conn: conn}
	if w.src != nil {
		w.declared = int64(ctx.Request.Header.ContentLength())
	}
	if w.declared == 0 {
		w.err = io.EOF
	}
	ctx.SetUserValue(wireKey{}, w)
	return w
}

// Read returns io.EOF at the true end, an Error with CutBody, SlowBody or InvalidRequest at another.
func (w *wire) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.src.Read(p)
	w.read += int64(n)
	switch {
	case w.declared >= 0 && w.read == w.declared:
		w.err = io.EOF
	case errors.Is(err, io.EOF) && w.declared < 0 && !w.conn.sawEOF():
		w.err = io.EOF
	case err != nil:
		w.err = w.cut(err)
	}
	return n, w.err
}

// cut says why a body ended early. The connection knows better than err, which fasthttp has wrapped beyond recognition.
func (w *wire) cut(err error) error {
	switch {
	case w.conn.timedOut():
		return &upload.Error{Code: upload.SlowBody, Message: "No bytes came for too long; send the rest in a new request.", Retryable: true, Cause: err}
	case w.declared < 0 && w.conn.readErr == nil:
		return &upload.Error{Code: upload.InvalidRequest, Message: "The chunks of the body could not be read.", Cause: err}
	default:
		cause := errors.Join(io.ErrUnexpectedEOF, err)
		if errors.Is(err, io.EOF) { // which is not to be seen: whoever looks for the end would take this for it
			cause = io.ErrUnexpectedEOF
		}
		return &upload.Error{Code: upload.CutBody, Message: "The body ended before all of it had come.", Retryable: true, Cause: cause}
	}
}

// settle tells whether the connection may serve another request: the body has come to its end, if need be now.
func (w *wire) settle(ctx *fasthttp.RequestCtx) bool {
	if w.body != nil {
		w.body.close()
	}
	if w.err == nil {
		if ctx.RequestBodyStream() != w.src { // somebody read past us, and how far is unknown
			return false
		}
		if w.conn.SetReadDeadline(time.Now().Add(drainTime)) != nil {
			return false
		}
		_, _ = io.CopyN(io.Discard, w, drainBytes+1) // w.err says how it went
	}
	return w.err == io.EOF && w.conn.SetReadDeadline(time.Time{}) == nil
}
