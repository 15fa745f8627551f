package httpapi

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

// Pace is how slow the sender of a body may be. Only time spent waiting for the sender counts, never our own work.
type Pace struct {
	Idle   time.Duration // longest silence
	Window time.Duration // of waiting, in which at least Bytes come
	Bytes  int64         // fewest bytes in a window
}

// defaultPace lets the slowest mobile networks pass, and nobody who sends a byte now and then to hold a connection.
var defaultPace = Pace{Idle: 30 * time.Second, Window: 30 * time.Second, Bytes: 32 << 10}

// gather is how long a read goes on filling the caller's buffer. Large writes are cheap, but bytes
// that came are not kept from staging for longer than this while more keep coming.
const gather = time.Second

// body reads the body of one request for a handler: within the size limit, at a decent pace, to its
// declared end. Its errors are *upload.Error with TooLarge, CutBody, SlowBody, InvalidRequest, or the one
// given to stop. One goroutine reads; stop may be called from any.
type body struct {
	wire    *wire
	limit   int64 // bytes of the file
	framing int64 // bytes beside the file
	pace    Pace
	now     func() time.Time

	armed  time.Time     // when the connection's deadline was last moved
	waited time.Duration // for the sender, in this window
	came   int64         // bytes in this window

	mu      sync.Mutex // orders stop and close against moving the deadline
	stopped error
	closed  bool
	forget  func() bool // unregisters from the server's drain
}

// openBody returns the request's body for reading, at most limit bytes of it. A length over the limit that
// is declared is refused before anything is read. The guard closes the body after the handler.
func (s *Server) openBody(c *fiber.Ctx, limit int64) (*body, error) {
	return s.open(c, limit, 0)
}

// open is openBody for a body that holds up to framing bytes beside the file, which has the limit.
func (s *Server) open(c *fiber.Ctx, limit, framing int64) (*body, error) {
	w := c.Context().UserValue(wireKey{}).(*wire)
	if w.declared-framing > limit {
		return nil, tooLarge(limit)
	}
	b := &body{wire: w, limit: limit, framing: framing, pace: s.opts.Pace, now: time.Now}
	b.forget = context.AfterFunc(s.cutting, func() { b.stop(errDraining()) })
	w.body = b
	return b, nil
}

// Declared returns the length the client has declared, in bytes, or -1.
func (b *body) Declared() int64 { return b.wire.declared }

// Read fills p while bytes keep coming, and returns less than that only at the end, with an error, or after gather.
func (b *body) Read(p []byte) (int, error) { return fill(p, b.readSome, b.now) }

// fill reads until p is full, an error, or gather has passed.
func fill(p []byte, read func([]byte) (int, error), now func() time.Time) (int, error) {
	var n int
	for start := now(); ; {
		m, err := read(p[n:])
		n += m
		if err != nil || n == len(p) || now().Sub(start) >= gather {
			return n, err
		}
	}
}

// readSome reads once and keeps the pace.
func (b *body) readSome(p []byte) (int, error) {
	start := b.now()
	if err := b.arm(start); err != nil {
		return 0, err
	}
	if left := b.limit + b.framing - b.wire.read; int64(len(p)) > left {
		p = p[:left+1] // one byte more tells a body that ends here from one that goes on
	}
	n, err := b.wire.Read(p)
	switch {
	case b.wire.read > b.limit+b.framing:
		b.wire.err = tooLarge(b.limit)
		return n - 1, b.wire.err
	case err == nil:
		return n, b.keepPace(n, b.now().Sub(start))
	case err == io.EOF:
		return n, io.EOF
	}
	if stopped := b.why(); stopped != nil {
		err = stopped
	}
	return n, err
}

// keepPace counts n bytes that took the given time to come.
func (b *body) keepPace(n int, took time.Duration) error {
	b.came += int64(n)
	b.waited += took
	if b.waited < b.pace.Window {
		return nil
	}
	if b.came < b.pace.Bytes {
		b.wire.err = &upload.Error{
			Code:      upload.SlowBody,
			Message:   fmt.Sprintf("Fewer than %d bytes came in %s.", b.pace.Bytes, b.pace.Window),
			Retryable: true,
		}
		return b.wire.err
	}
	b.waited, b.came = 0, 0
	return nil
}

// arm moves the connection's read deadline, seldom enough to cost nothing, or returns why reading has stopped.
func (b *body) arm(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped != nil {
		return b.stopped
	}
	if now.Sub(b.armed) < b.pace.Idle/8 {
		return nil
	}
	if err := b.wire.conn.SetReadDeadline(now.Add(b.pace.Idle)); err != nil {
		return &upload.Error{Code: upload.CutBody, Message: "The connection was closed.", Retryable: true, Cause: err}
	}
	b.armed = now
	return nil
}

func (b *body) why() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped
}

// stop makes the running read and all later ones return err.
func (b *body) stop(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.stopped != nil {
		return
	}
	b.stopped = err
	_ = b.wire.conn.SetReadDeadline(time.Unix(1, 0)) // nothing but a closed connection refuses it, and that wakes its reader too
}

// close takes the connection back from the handler; what comes later leaves its deadlines alone.
func (b *body) close() {
	b.forget()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.stopped != nil && b.wire.err == nil {
		b.wire.err = b.stopped
	}
	_ = b.wire.conn.SetReadDeadline(time.Time{}) // settle does it again and looks
}

func tooLarge(limit int64) *upload.Error {
	return &upload.Error{Code: upload.TooLarge, Message: fmt.Sprintf("The file is larger than %s, the most that is accepted.", byteSize(limit))}
}

// byteSize writes n exactly, and in binary units where that helps a person.
func byteSize(n int64) string {
	const units = "KMGTPE"
	value, unit := float64(n), -1
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.4g %ciB (%d bytes)", value, units[unit], n)
}

func errDraining() *upload.Error {
	return &upload.Error{Code: upload.Draining, Message: "The server is being restarted; send this again in a moment.", Retryable: true}
}
