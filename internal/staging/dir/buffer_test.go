package dir

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// sender gives bytes at a rate.
type sender struct{ every time.Duration } // in which it gives 1 KiB

func (s sender) Read(p []byte) (int, error) {
	if s.every == 0 {
		return len(p), nil
	}
	<-time.After(s.every)
	return min(len(p), 1<<10), nil
}

func TestOnlyWhoSendsFastGetsALargeBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := largerBuffers()
		fast, slow := sender{}, sender{50 * time.Millisecond} // 20 KiB/s
		want := func(b *buffer, r io.Reader, bytes, large int) {
			t.Helper()
			if p, err := b.fill(r); len(p) != bytes || err != nil || len(all[1].used) != large {
				t.Errorf("%d bytes were read, %v, with %d large buffers; want %d with %d", len(p), err, len(all[1].used), bytes, large)
			}
		}
		changes := buffer{larger: all}
		want(&changes, slow, smallSize, 0)
		want(&changes, fast, bufferSize, 1)
		want(&changes, fast, bufferSize, 1)
		want(&changes, slow, 20<<10, 1)
		want(&changes, slow, smallSize, 0)
		var many []*buffer
		for n := range maxLarger {
			many = append(many, &buffer{larger: all})
			want(many[n], fast, bufferSize, n+1)
		}
		want(&changes, fast, mediumSize, maxLarger)
		many[0].release()
		want(&changes, fast, bufferSize, maxLarger)
	})
}
