package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"slipway/internal/upload"
)

const (
	// What a handler left unread of a body is drained while that is cheap, as net/http does;
	// otherwise the connection ends with the answer.
	drainBytes = 256 << 10
	drainTime  = 50 * time.Millisecond

	// A closed connection goes on taking what the client still sends, so that the client
	// reads our answer instead of a reset.
	lingerBytes = 256 << 20
	lingerTime  = 2 * time.Second

	// lingerers is how many connections may linger at once; each holds a goroutine.
	lingerers = 256
)

// guard stands below the router, where every request passes, also one whose method or path nobody
// knows. fasthttp answers without reading the body and then takes the rest of it for the next
// request; the guard lets no connection live on whose body has not ended.
type guard struct {
	linger chan struct{}

	streams     context.Context // ends when hijacked connections are to end
	stopStreams context.CancelFunc

	mu    sync.Mutex
	conns map[*guardConn]struct{}
	empty chan struct{} // not nil while somebody waits for the last connection; closed by it
}

func newGuard() *guard {
	ctx, cancel := context.WithCancel(context.Background())
	return &guard{
		linger:      make(chan struct{}, lingerers),
		streams:     ctx,
		stopStreams: cancel,
		conns:       map[*guardConn]struct{}{},
	}
}

// handler wraps the router.
func (g *guard) handler(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		conn := guarded(ctx.Conn())
		if _, sound := framing(&ctx.Request.Header); !sound {
			writeProblem(ctx, &upload.Error{Code: upload.InvalidRequest, Message: "The headers that frame the body contradict each other."})
			conn.endAfter(ctx)
			return
		}
		w := newWire(ctx, conn)
		next(ctx)
		if !w.settle(ctx) {
			conn.endAfter(ctx)
		}
	}
}

// framing returns the length that the headers declare, -1 for none, and tells whether everybody on the way reads the
// same end of the body from them (RFC 9112 §6.1 and §6.3): fasthttp itself takes the last of several lengths, any transfer coding
// for chunked, and folded lines. A proxy that reads them otherwise would let one client's body
// become another client's request.
func framing(h *fasthttp.RequestHeader) (declared int64, sound bool) {
	var length, coding []byte
	for line := range bytes.Lines(h.RawHeaders()) {
		if line[0] == ' ' || line[0] == '\t' {
			return -1, false
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(key, []byte("Content-Length")):
			if length != nil && !bytes.Equal(length, value) {
				return -1, false
			}
			length = value
		case bytes.EqualFold(key, []byte("Transfer-Encoding")):
			if coding != nil || !bytes.EqualFold(value, []byte("chunked")) {
				return -1, false
			}
			coding = value
		}
	}
	if length == nil {
		return -1, coding == nil || h.IsHTTP11()
	}
	declared, err := strconv.ParseInt(string(length), 10, 64)
	return declared, err == nil && coding == nil
}

// stream hands the connection to write once the head of the answer is sent, counts it as open until
// write returns, and then closes it, which is the end of the answer. The context ends when the server drains;
// write returns soon after. Nothing of the request is left then: what fasthttp read it into, it has back.
func (g *guard) stream(ctx *fasthttp.RequestCtx, write func(context.Context, net.Conn)) {
	conn := ctx.Conn()
	ctx.SetConnectionClose()
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {
		h := &ctx.Response.Header
		h.SetContentLength(-2)                 // up to the end of the connection, which fasthttp would
		h.Del(fasthttp.HeaderTransferEncoding) // call by a name that is none any more (RFC 9112 §7)
		head := bytes.Clone(h.Header())
		go func() {
			defer conn.Close()
			if conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if _, err := conn.Write(head); err == nil {
				write(g.streams, conn)
			}
		}()
	})
}

// add counts conn until it is closed.
func (g *guard) add(conn *guardConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[conn] = struct{}{}
}

func (g *guard) remove(conn *guardConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, conn)
	if len(g.conns) == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// each calls f for every open connection.
func (g *guard) each(f func(*guardConn)) {
	g.mu.Lock()
	conns := make([]*guardConn, 0, len(g.conns))
	for conn := range g.conns {
		conns = append(conns, conn)
	}
	g.mu.Unlock()
	for _, conn := range conns {
		f(conn)
	}
}

// wait returns when no connection is open any more, hijacked and lingering ones included, or with the error of ctx.
func (g *guard) wait(ctx context.Context) error {
	g.mu.Lock()
	if len(g.conns) == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// guardListener wraps what it accepts. It may be closed twice: fasthttp gives up its shutdown on a second error.
type guardListener struct {
	net.Listener
	guard *guard
	once  sync.Once
	err   error
}

func (l *guardListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

func (l *guardListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &guardConn{Conn: inner, guard: l.guard}
	l.guard.add(conn)
	if t, ok := inner.(tlsConn); ok {
		return &guardTLSConn{guardConn: conn, tlsConn: t}, nil
	}
	return conn, nil
}

// guardConn remembers how reading went and closes gently when asked to.
type guardConn struct {
	net.Conn
	guard *guard

	// readErr is what the last Read returned; it belongs to the goroutine that serves the connection.
	// fasthttp hides both ends and timeouts of chunked bodies.
	readErr error
	held    bool // nothing is read now; of the same goroutine

	used      atomic.Bool // the client has sent something
	lingers   atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// tlsConn is how fasthttp recognises TLS, so a wrapper has to show it.
type tlsConn interface {
	Handshake() error
	ConnectionState() tls.ConnectionState
}

type guardTLSConn struct {
	*guardConn
	tlsConn
}

func (c *guardConn) guarded() *guardConn { return c }

// guarded returns the guardConn in conn. A connection that came by another way than guardListener
// gets a new one, which knows nothing of earlier reads.
func guarded(conn net.Conn) *guardConn {
	if c, ok := conn.(interface{ guarded() *guardConn }); ok {
		return c.guarded()
	}
	return &guardConn{Conn: conn}
}

func (c *guardConn) Read(p []byte) (int, error) {
	if c.held {
		return 0, errHeld
	}
	n, err := c.Conn.Read(p)
	c.readErr = err
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	return n, err
}

// SetReadDeadline, and SetWriteDeadline, succeed on a closed connection, where the next read or write tells
// enough: fasthttp panics when they fail, and a drain closes connections under its feet.
func (c *guardConn) SetReadDeadline(t time.Time) error {
	return unlessClosed(c.Conn.SetReadDeadline(t))
}

func (c *guardConn) SetWriteDeadline(t time.Time) error {
	return unlessClosed(c.Conn.SetWriteDeadline(t))
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// sawEOF tells whether the client has ended its side.
func (c *guardConn) sawEOF() bool { return errors.Is(c.readErr, io.EOF) }

func (c *guardConn) timedOut() bool { return errors.Is(c.readErr, os.ErrDeadlineExceeded) }

// endAfter closes the connection after the answer in ctx, gently.
func (c *guardConn) endAfter(ctx *fasthttp.RequestCtx) {
	ctx.SetConnectionClose()
	c.lingers.Store(true)
}

func (c *guardConn) Close() error {
	c.closeOnce.Do(func() {
		if c.lingers.Load() {
			c.drain()
		}
		c.closeErr = c.Conn.Close()
		if c.guard != nil {
			c.guard.remove(c)
		}
	})
	return c.closeErr
}

// abort closes at once, also while Close lingers.
func (c *guardConn) abort() {
	c.Conn.Close()
	c.Close()
}

// drain ends our side and takes what still comes, within bounds.
func (c *guardConn) drain() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.guard == nil {
		return
	}
	select {
	case c.guard.linger <- struct{}{}:
		defer func() { <-c.guard.linger }()
	default:
		return
	}
	if half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // the client has had its answer; whatever ends this ends it
}
