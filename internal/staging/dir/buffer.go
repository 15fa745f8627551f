package dir

import (
	"io"
	"sync"
	"time"
)

const (
	bufferSize = 256 << 10 // one write; a multipart part alone would give writes of 4 KiB
	mediumSize = 16 << 10  // as much first, for a sender's first bytes may have come together
	smallSize  = 4 << 10   // as much for who sends slowly: there may be thousands of them
	maxLarger  = 64        // of each of the larger ones at once; who has to do without is held up by other things

	// manyLarge is from how many large ones in use on they are written in pieces of pieceSize. Linux takes memory for the page
	// cache in pieces as large as what is written; those of up to 32 KiB it keeps at hand for each processor, and looks for larger ones behind
	// one lock. Eight files at once came in at 0.7 times the rate, for 1.5 times the processor's time, when whole buffers were
	// written; a single file came in at 0.8 times the rate in pieces.
	manyLarge = 3
	pieceSize = 32 << 10

	// fastRate is from how many bytes a second on a sender is worth a larger buffer. What comes within grace comes fast: it may
	// be this machine that is slow.
	fastRate = 1 << 20
	grace    = 50 * time.Millisecond

	// gather is how long bytes that came wait for more, so that those of a slow sender are written, too.
	gather = time.Second
)

// buffers are those of one size, of which there are only so many at once.
type buffers struct {
	used chan struct{} // holds something for each that is in use
	pool sync.Pool     // of *[]byte
}

// largerBuffers returns those that are larger than what everybody has.
func largerBuffers() (larger [2]*buffers) {
	for i, size := range []int{mediumSize, bufferSize} {
		larger[i] = &buffers{used: make(chan struct{}, maxLarger), pool: sync.Pool{New: func() any { return new(make([]byte, size)) }}}
	}
	return larger
}

// buffer is what is read before it is written: much of who sends fast, little of who does not.
type buffer struct {
	larger [2]*buffers
	small  []byte
	lent   *[]byte // of the larger ones, or nil
	level  int     // one more than the size of lent
	slow   bool    // lent is not worth it any more
}

// fill reads until the buffer is full, r gives an error, or bytes that came have waited for gather, and returns what was
// read until the next call. As long as bytes come fast, the buffer grows.
func (b *buffer) fill(r io.Reader) (p []byte, err error) {
	if b.slow {
		b.release()
	}
	if b.lent != nil {
		p = *b.lent
	} else {
		if b.small == nil {
			b.small = make([]byte, smallSize)
		}
		p = b.small
	}
	began := time.Now()
	n, err := fill(r, p, began)
	for err == nil && n == len(p) && !slowly(n, began) && b.grow(p) {
		p = *b.lent
		var more int
		more, err = fill(r, p[n:], began)
		n += more
	}
	b.slow = slowly(n, began)
	return p[:n], err
}

// grow takes a larger buffer, if there is one, with what has been read so far.
func (b *buffer) grow(read []byte) bool {
	if b.level == len(b.larger) {
		return false
	}
	from := b.larger[b.level]
	select {
	case from.used <- struct{}{}:
	default:
		return false
	}
	larger := from.pool.Get().(*[]byte)
	copy(*larger, read)
	b.giveBack()
	b.level, b.lent = b.level+1, larger
	return true
}

// release gives the larger buffer back, if it has one.
func (b *buffer) release() {
	b.giveBack()
	b.level, b.lent, b.slow = 0, nil, false
}

func (b *buffer) giveBack() {
	if b.lent != nil {
		from := b.larger[b.level-1]
		from.pool.Put(b.lent)
		<-from.used
	}
}

func slowly(n int, began time.Time) bool {
	return float64(n) < fastRate*(time.Since(began)-grace).Seconds()
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
