package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"slipway/internal/crc32c"
)

// content is a file on its way out, which goes on wherever the service has got to.
type content struct {
	File     io.ReaderAt
	size     int64
	progress func(sent int64)

	mu     sync.Mutex
	last   *sending
	behind int64  // bytes that an earlier run has sent
	hashed int64  // up to where the file has been read since
	crc    uint32 // of what stands between those
}

// span is a piece of a file that one request sends.
type span struct {
	*content
	from, to int64
}

// begin sends the piece. stalled is called when nobody has read for so long as stall.
func (p span) begin(stall time.Duration, stalled func()) *sending {
	f := p.content
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &sending{
		span: p, at: p.from, r: io.NewSectionReader(f.File, p.from, p.to-p.from),
		stall: stall, timer: time.AfterFunc(stall, stalled),
	}
	f.last = s
	return s
}

// outcome tells whether the last request was read to its end, and the error of the file itself.
func (f *content) outcome() (whole bool, broken error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.at == f.last.to, f.last.err
}

// goOn says that the first bytes have been sent by an earlier run.
func (f *content) goOn(behind int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behind, f.hashed, f.crc = behind, behind, 0
}

// sum is the crc32c of the file as it was read: each byte once, when it was first sent, and what an earlier run has
// sent now. It is not known when somebody else has sent a piece.
func (f *content) sum(behind uint32) (crc uint32, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return crc32c.Combine(behind, f.crc, f.hashed-f.behind), f.hashed == f.size
}

// read takes note of what was read at a place in the file.
func (f *content) read(p []byte, at int64) {
	if seen := f.hashed - at; seen >= 0 && seen < int64(len(p)) {
		f.crc = crc32c.Update(f.crc, p[seen:])
		f.hashed = at + int64(len(p))
	}
}

// runningSum is the crc32c of the beginning of a file, while the rest of it is sent.
type runningSum struct {
	cancel context.CancelFunc
	done   chan struct{}
	crc    uint32
	err    error
}

func startSum(ctx context.Context, file io.ReaderAt, n int64) *runningSum {
	ctx, cancel := context.WithCancel(ctx)
	s := &runningSum{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.crc, s.err = sumOf(ctx, file, n)
	}()
	return s
}

func (s *runningSum) wait() (uint32, error) {
	<-s.done
	return s.crc, s.err
}

func (s *runningSum) stop() {
	s.cancel()
	<-s.done
}

// sumOf is the crc32c of the first n bytes of a file.
func sumOf(ctx context.Context, file io.ReaderAt, n int64) (crc uint32, err error) {
	buffer := make([]byte, min(n, 256<<10))
	for at := int64(0); at < n; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		read, err := file.ReadAt(buffer[:min(n-at, int64(len(buffer)))], at)
		if read == 0 {
			return 0, cmp.Or(err, io.ErrNoProgress)
		}
		crc = crc32c.Update(crc, buffer[:read])
		at += int64(read)
	}
	return crc, nil
}

// sending is one try of a request. The transport may still read it when it has been answered.
type sending struct {
	span
	r     *io.SectionReader
	stall time.Duration
	timer *time.Timer

	at  int64
	err error
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if errors.Is(err, io.EOF) && s.at+int64(n) < s.to {
		err = ErrShrunk
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read(p[:n], s.at)
	s.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	if s.timer.Stop() {
		s.timer.Reset(s.stall)
		if n > 0 && s.progress != nil {
			s.progress(s.at)
		}
	}
	return n, err
}

// stop ends the watch and the news about progress.
func (s *sending) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
}
