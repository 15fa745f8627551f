package process_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stumble stands before a database: when so many bytes of its answers have passed, it drops every connection and
// takes no other for a while, once.
type stumble struct {
	net.Listener
	to    string
	after atomic.Int64
	well  atomic.Bool // again

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

// stumbling returns where to find the database at direct, which goes away when after bytes of its answers have passed.
func stumbling(t *testing.T, direct string, after int64) (address string, s *stumble) {
	t.Helper()
	u := must(url.Parse(direct))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &stumble{Listener: l, to: u.Host, conns: map[net.Conn]struct{}{}}
	s.after.Store(after)
	s.done.Go(s.serve)
	t.Cleanup(func() {
		_ = l.Close()
		s.drop()
		s.done.Wait()
	})
	u.Host = l.Addr().String()
	return u.String(), s
}

func (s *stumble) serve() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		if !s.well.Load() && s.after.Load() <= 0 {
			_ = c.Close()
			continue
		}
		up, err := net.Dial("tcp", s.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		s.mu.Lock()
		s.conns[c], s.conns[up] = struct{}{}, struct{}{}
		s.mu.Unlock()
		s.done.Go(func() { s.carry(up, c, nil) })
		s.done.Go(func() { s.carry(c, up, &s.after) })
	}
}

func (s *stumble) carry(to, from net.Conn, count *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if count != nil && !s.well.Load() && count.Add(-int64(n)) <= 0 {
			s.drop()
			time.AfterFunc(500*time.Millisecond, func() { s.well.Store(true) })
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (s *stumble) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
	clear(s.conns)
}

func TestADatabaseThatGoesAwayWhileAProcessStarts(t *testing.T) {
	for _, after := range []int64{1, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 24 << 10, 32 << 10} {
		t.Run(fmt.Sprintf("after %d bytes", after), func(t *testing.T) {
			t.Parallel()
			address, s := stumbling(t, plain(t), after)
			sys := begin(t, map[string]string{"DATABASE_URL": address})
			until(t, "both processes to be ready and the database to have been away", func() bool {
				api, _ := get(t, sys.url+"/readyz")
				worker, _ := get(t, sys.worker+"/readyz")
				return api == http.StatusOK && worker == http.StatusOK && s.well.Load()
			})
			sys.completed(t, sys.send(t, "uploadcare", 100_000))
		})
	}
}
