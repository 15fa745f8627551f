package dir

import (
	"io"
	"sync"
	"time"
)

const (
	bufferSize = 256 << 10 // one write; a multipart part alone would give writes of 4 KiB
	smallSize  = 16 << 10  // as much for who fills it slowly: there may be thousands of them
	maxLarge   = 64        // of the former at once; who has to do without is held up by other things

	// fastRate is from how many bytes a second on a sender is worth a large buffer.
	fastRate = 1 << 20

	// gather is how long bytes that came wait for more, so that those of a slow sender are written, too.
	gather = time.Second
)

// buffers are large buffers, of which there are only so many at once.
type buffers struct {
	used chan struct{} // holds something for each that is in use
	pool sync.Pool     // of *[bufferSize]byte
}

func newBuffers() *buffers {
	return &buffers{used: make(chan struct{}, maxLarge), pool: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// buffer is what is read before it is written: much of who sends fast, little of who does not.
type buffer struct {
	from  *buffers
	large *[bufferSize]byte
	small []byte
	slow  bool // the large one is not worth it any more
}

// fill reads until the buffer is full, r gives an error, or bytes that came have waited for gather, and returns what was
// read until the next call.
func (b *buffer) fill(r io.Reader) (p []byte, err error) {
	if b.slow {
		b.release()
	}
	began := time.Now()
	n := 0
	if b.large == nil {
		if b.small == nil {
			b.small = make([]byte, smallSize)
		}
		n, err = fill(r, b.small, began)
		if n < smallSize || err != nil || slowly(n, began) || !b.grow() {
			return b.small[:n], err
		}
		copy(b.large[:], b.small)
	}
	more, err := fill(r, b.large[n:], began)
	b.slow = slowly(n+more, began)
	return b.large[:n+more], err
}

// grow takes a large buffer, if there is one.
func (b *buffer) grow() bool {
	select {
	case b.from.used <- struct{}{}:
		b.large = b.from.pool.Get().(*[bufferSize]byte)
		return true
	default:
		return false
	}
}

// release gives the large buffer back, if it has one.
func (b *buffer) release() {
	if b.large != nil {
		b.from.pool.Put(b.large)
		<-b.from.used
		b.large, b.slow = nil, false
	}
}

func slowly(n int, began time.Time) bool {
	return float64(n) < fastRate*time.Since(began).Seconds()
}

// fill reads into p until it is full, r gives an error, or bytes keep coming so slowly that they have waited since began for gather.
// Unlike [io.ReadFull] it leaves r's error as it is: a body that was cut off says io.ErrUnexpectedEOF, and must not look like a short one.
func fill(r io.Reader, p []byte, began time.Time) (n int, err error) {
	for n < len(p) && err == nil && (n == 0 || time.Since(began) < gather) {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
