package httpapi

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestWhoWaitsForTheSameSharesOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looks{running: map[lookKey]*look{}, next: map[lookKey]*look{}}
		reads := 0
		hold := make(chan struct{})
		key := lookKey{"alice", upload.NewID()}
		read := func() (upload.Upload, error) {
			reads++
			n := reads
			<-hold
			return upload.Upload{Version: int64(n)}, nil
		}
		go func() { _, _ = l.at(key, read) }()
		synctest.Wait()
		for range 1000 {
			go func() {
				if u, err := l.at(key, read); err != nil || u.Version < 2 {
					t.Errorf("a read that began before was taken for news: %d, %v", u.Version, err)
				}
			}()
		}
		synctest.Wait()
		close(hold)
		synctest.Wait()
		if reads != 2 {
			t.Errorf("1001 who ask made %d reads", reads)
		}
		if len(l.running)+len(l.next) > 0 {
			t.Errorf("%d reads are not forgotten", len(l.running)+len(l.next))
		}
	})
}

// Nothing is asked each second while news are announced: that the answer comes is because the change was.
func TestALongPollIsAnsweredByTheChange(t *testing.T) {
	s := open(t, nil)
	waitFor(t, s.api.Hub.Listening)
	u := s.put(t, "a.txt")
	for range 3 {
		at := s.do(t, "GET", "/v1/uploads/"+string(u.ID), nil)
		var asking sync.WaitGroup
		asking.Go(func() {
			if r, err := s.send(t, "GET", "/v1/uploads/"+string(u.ID), nil, "Prefer: wait=50", "If-None-Match: "+at.Header.Get("ETag")); err != nil || r.StatusCode != 200 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
		waitFor(t, func() bool { return s.api.Hub.Watchers() == 1 })
		s.tell(t, "alice", pushed(u.ID, 1)) // news that do not change what is shown wake, and no more
		s.change(t, u.ID, `tags = tags || 'x'::text`)
		changed := time.Now()
		asking.Wait()
		t.Logf("answered %s after the change", time.Since(changed))
	}
}

func TestAThousandWhoWaitInADeafProcessCostNoQueryEach(t *testing.T) {
	s := open(t, func(a *API, _ *Options) {
		a.Hub, a.Feed = hearing(t, a, "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	})
	const many = 1000
	rows, err := s.pool.Query(t.Context(), `
		INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts)
		SELECT gen_random_uuid(), 'alice', 'pushing', 'uploadcare', 'a', 'text/plain', 1, 1 FROM generate_series(1, $1)
		RETURNING id`, many)
	must(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[upload.ID])
	must(t, err)
	ctx, end := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	var reads atomic.Int64
	answered := make(chan upload.Upload, many)
	for _, id := range ids {
		waiting.Go(func() {
			u, err := s.api.await(ctx, "alice", id, time.Minute, func(u upload.Upload) bool { reads.Add(1); return u.Version > 1 })
			if err != nil {
				t.Error(err)
			}
			answered <- u
		})
	}
	waitFor(t, func() bool { return reads.Load() >= many }) // each has looked, to know what to wait for
	looks, stop := s.api.Hub.Watch(ids[0])
	defer stop()
	for range 2 { // who had not said yet what it has seen looked once more
		<-looks
	}
	before, known := s.pool.Stat().AcquireCount(), reads.Load()
	for range 3 {
		<-looks
	}
	if asked := s.pool.Stat().AcquireCount() - before; asked == 0 || asked > 50 {
		t.Errorf("%d who wait have asked the database %d times in 3 s", many, asked)
	}
	_, err = s.pool.Exec(t.Context(), `UPDATE slipway.uploads SET version = 2 WHERE id = $1`, ids[7])
	must(t, err)
	if u := <-answered; u.ID != ids[7] || u.Version != 2 {
		t.Errorf("got %s in version %d", u.ID, u.Version)
	}
	if n := reads.Load() - known; n > 20 {
		t.Errorf("one change was looked at %d times", n)
	}
	end()
	waiting.Wait()
}

func TestALongPollEndsWithWhatItWasAskedWith(t *testing.T) {
	s := open(t, nil)
	secret, key := auth.NewKey("backend", []string{auth.ActScope})
	key, err := postgres.InsertKey(t.Context(), s.pool, key, 0)
	must(t, err)
	u := s.put(t, "a.txt")
	at := s.do(t, "GET", "/v1/uploads/"+string(u.ID), nil)
	var asking sync.WaitGroup
	asking.Go(func() {
		r, err := s.send(t, "GET", "/v1/uploads/"+string(u.ID), nil, "Prefer: wait=50", "If-None-Match: "+at.Header.Get("ETag"),
			"Authorization: Bearer "+secret, auth.UserHeader+": alice")
		if err != nil || r.StatusCode != 304 {
			t.Errorf("got %+v, %v", r, err)
		}
	})
	waitFor(t, func() bool { return s.api.Hub.Watchers() == 1 })
	_, err = postgres.RevokeKey(t.Context(), s.pool, key.ID)
	must(t, err)
	asking.Wait()
}
