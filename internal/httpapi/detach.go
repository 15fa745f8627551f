package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// longBody is from how many bytes on a body may take a while to come. It is more than fasthttp reads along with a head, so
// that nothing of the next request has been read yet when such a body begins.
const longBody = 256 << 10

// withoutPrefetch has nothing of a long body read before the router is asked, as nothing is of one that comes in chunks.
// Otherwise 8 KiB must have come first, and are kept until it has ended. The true length stays in the raw headers.
func withoutPrefetch(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if h.ContentLength() >= longBody && (h.IsPost() || h.IsPatch()) {
		h.SetContentLength(-1)
	}
	return fasthttp.RequestConfig{}
}

// detached answers requests with long bodies on goroutines of their own, each with only what it needs: fasthttp keeps the buffer that
// it reads heads into for as long as a body comes, and thousands may come slowly. Afterwards the connection
// is fasthttp's again.
func (s *Server) detached(srv *fasthttp.Server, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	srv.HeaderReceived = withoutPrefetch
	return func(ctx *fasthttp.RequestCtx) {
		length, sound := framing(&ctx.Request.Header)
		if ctx.Request.Header.ContentLength() >= 0 || length < 0 || !sound {
			next(ctx)
			return
		}
		ctx.Request.Header.SetContentLength(int(length))
		own, conn := detach(ctx, int(length)), ctx.Conn()
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(net.Conn) {
			go func() {
				next(own)
				if s.answerDetached(own, conn) {
					_ = srv.ServeConn(conn) // it has closed the connection, and told whoever asked
				} else {
					_ = conn.Close()
				}
			}()
		})
	}
}

var errHeld = errors.New("nothing is read from the connection at the moment")

// detach returns the request in ctx, which outlives it: the head, and a body of what has been read of it and what is still to come.
func detach(ctx *fasthttp.RequestCtx, length int) *fasthttp.RequestCtx {
	conn := guarded(ctx.Conn())
	conn.held = true
	early, _ := io.ReadAll(ctx.RequestBodyStream()) // what fasthttp's buffer holds behind the head, up to errHeld
	conn.held = false

	own := &fasthttp.RequestCtx{}
	own.Init2(ctx.Conn(), ctx.Logger(), true)
	ctx.Request.CopyTo(&own.Request)
	ctx.Response.CopyTo(&own.Response)
	own.Request.SetBodyStream(io.LimitReader(io.MultiReader(bytes.NewReader(early), conn), int64(length)), length)
	return own
}

// answerDetached sends the answer, and tells whether the connection may serve another request.
func (s *Server) answerDetached(ctx *fasthttp.RequestCtx, conn net.Conn) bool {
	lives := !ctx.Request.Header.ConnectionClose() && !ctx.Response.ConnectionClose() && !s.draining.Load()
	if !lives {
		ctx.SetConnectionClose()
	}
	w := bufio.NewWriter(conn)
	err := conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = ctx.Response.Write(w)
	}
	return errors.Join(err, w.Flush()) == nil && lives
}
