package httpapi

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/upload"
)

func TestWhoWaitsForTheSameSharesOneRead(t *testing.T) {
	l := &looks{running: map[lookKey]*look{}, next: map[lookKey]*look{}}
	var reads, asked atomic.Int64
	hold := make(chan struct{})
	key := lookKey{"alice", upload.NewID()}
	read := func() (upload.Upload, error) {
		n := reads.Add(1)
		<-hold
		return upload.Upload{Version: n}, nil
	}
	var waiting sync.WaitGroup
	waiting.Go(func() { _, _ = l.at(key, read) })
	waitFor(t, func() bool { return reads.Load() == 1 })
	for range 1000 {
		waiting.Go(func() {
			asked.Add(1)
			if u, err := l.at(key, read); err != nil || u.Version < 2 {
				t.Errorf("a read that began before was taken for news: %d, %v", u.Version, err)
			}
		})
	}
	waitFor(t, func() bool { return asked.Load() == 1000 })
	close(hold)
	waiting.Wait()
	if n := reads.Load(); n > 10 {
		t.Errorf("1001 who ask made %d reads", n)
	}
	if len(l.running)+len(l.next) > 0 {
		t.Errorf("%d reads are not forgotten", len(l.running)+len(l.next))
	}
}

func TestALongPollIsAnsweredAtOnce(t *testing.T) {
	s := open(t, nil)
	waitFor(t, s.api.Hub.Listening)
	u := s.put(t, "a.txt")
	for range 3 {
		answered := make(chan time.Time, 1)
		at := s.do(t, "GET", "/v1/uploads/"+string(u.ID), nil)
		var asking sync.WaitGroup
		asking.Go(func() {
			if r, err := s.send(t, "GET", "/v1/uploads/"+string(u.ID), nil, "Prefer: wait=20", "If-None-Match: "+at.Header.Get("ETag")); err != nil || r.StatusCode != 200 {
				t.Errorf("got %+v, %v", r, err)
			}
			answered <- time.Now()
		})
		waitFor(t, func() bool { return s.api.Hub.Watchers() == 1 })
		s.tell(t, "alice", pushed(u.ID, 1)) // news that do not change what is shown wake, and no more
		s.change(t, u.ID, `tags = tags || 'x'::text`)
		changed := time.Now()
		if took := (<-answered).Sub(changed); took > 500*time.Millisecond { // 50 ms on a machine that has nothing else to do
			t.Errorf("answered %s after the change", took)
		}
		asking.Wait()
	}
}
