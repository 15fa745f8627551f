package quota_test

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

const patience = 10 * time.Second // after which a test gives up

func most(n int64) *int64 { return &n }

// process is one of those that hold users to the same limits.
func process(t *testing.T, url string, l postgres.Limits) (*quota.Quotas, *pgxpool.Pool) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := pool.Ping(t.Context()); err != nil { // whoever asks first need not wait for a connection as well
		t.Fatal(err)
	}
	return quota.New(pool, l, slog.New(slog.NewTextHandler(t.Output(), nil))), pool
}

func codeOf(err error) upload.Code {
	var e *upload.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestAsManyRequestsAreAnsweredAsMay(t *testing.T) {
	const limit, senders = 120, 32
	url := postgrestest.New(t)
	var processes []*quota.Quotas
	for range 2 {
		q, _ := process(t, url, postgres.Limits{Requests: most(limit)})
		processes = append(processes, q)
	}
	var answered atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for i := range senders {
		all.Go(func() {
			for range 3 * limit / senders {
				_, err := processes[i%2].Request(t.Context(), "alice")
				if err == nil {
					answered.Add(1)
				} else if codeOf(err) != upload.RateLimited {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	refilled := int64(time.Since(begun)*limit/time.Minute) + 1
	if n := answered.Load(); n < limit || n > limit+refilled {
		t.Errorf("%d requests were answered, want %d to %d", n, limit, limit+refilled)
	}
}

// What processes have taken and not used refuses nobody who sends less than half of what they may.
func TestABurstOverManyProcessesIsNotRefused(t *testing.T) {
	const limit = 600
	url := postgrestest.New(t)
	var processes []*quota.Quotas
	for range 3 {
		q, _ := process(t, url, postgres.Limits{Requests: most(limit)})
		processes = append(processes, q)
	}
	for i := range limit/2 - 3 {
		s, err := processes[i%3].Request(t.Context(), "alice")
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if s.Left < 0 || s.Left >= limit {
			t.Fatalf("request %d: %d are left", i, s.Left)
		}
	}
}

func TestRequestsGoThroughWhenNobodyCanCount(t *testing.T) {
	url := postgrestest.New(t)
	q, _ := process(t, url, postgres.Limits{Requests: most(1)})
	if _, err := q.Request(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	postgrestest.Outage(t, func() {
		for range 3 {
			if s, err := q.Request(t.Context(), "bob"); s != nil || err != nil {
				t.Errorf("standing = %v, error = %v, want none", s, err)
			}
		}
	})
}

func TestARefusedRequestIsLetThroughLater(t *testing.T) {
	q, _ := process(t, postgrestest.New(t), postgres.Limits{Requests: most(600)}) // one in 100 ms
	var refusal *quota.Exceeded
	for deadline := time.Now().Add(patience); ; {
		_, err := q.Request(t.Context(), "alice")
		if errors.As(err, &refusal) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was refused")
		}
	}
	if refusal.After <= 0 || refusal.After > 100*time.Millisecond {
		t.Errorf("it may be tried again after %s, want at most 100 ms", refusal.After)
	}
	select {
	case <-time.After(refusal.After + time.Millisecond):
	case <-t.Context().Done():
	}
	if _, err := q.Request(t.Context(), "alice"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

func TestRoomOfADeadProcessIsFreeAfterTheLease(t *testing.T) {
	url := postgrestest.New(t)
	dead, _ := process(t, url, postgres.Limits{StagedBytes: most(100), Uploads: most(2), Receiving: most(1)})
	dead.Lease = 500 * time.Millisecond
	q, pool := process(t, url, dead.Limits())

	begun := time.Now()
	if _, err := dead.Hold(t.Context(), "alice", upload.NewID(), 80); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Hold(t.Context(), "alice", upload.NewID(), 80); codeOf(err) != upload.StagedQuota {
		t.Fatalf("error = %v, want %s", err, upload.StagedQuota)
	}
	if _, err := q.Hold(t.Context(), "alice", upload.NewID(), 20); codeOf(err) != upload.ReceivingQuota {
		t.Fatalf("error = %v, want %s", err, upload.ReceivingQuota)
	}
	if err := accept(t, q, pool, 30); codeOf(err) != upload.StagedQuota {
		t.Errorf("what is held was given to another: %v", err)
	}
	for {
		hold, err := q.Hold(t.Context(), "alice", upload.NewID(), 80)
		if err == nil {
			hold.Release()
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("still refused: %v", err)
		}
	}
	if after := time.Since(begun); after < dead.Lease {
		t.Errorf("the room was free after %s, before the lease of %s", after, dead.Lease)
	}
	if err := accept(t, q, pool, 80); err != nil {
		t.Errorf("accept: %v", err)
	}
}

// accept inserts an upload of alice's whose bytes are staged.
func accept(t *testing.T, q *quota.Quotas, pool *pgxpool.Pool, size int64) error {
	t.Helper()
	u := upload.Upload{ID: upload.NewID(), UserID: "alice", Provider: "uploadcare", FileName: "a", ContentType: "x/x", Size: size, MaxAttempts: 1, CreatedAt: time.Now()}
	return postgres.AsUser(t.Context(), pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) error {
		return q.Insert(t.Context(), tx, u, time.Hour, nil)
	})
}

func TestReadingKeepsWhatIsHeld(t *testing.T) {
	q, _ := process(t, postgrestest.New(t), postgres.Limits{Receiving: most(1)})
	q.Lease = 400 * time.Millisecond
	hold, err := q.Hold(t.Context(), "alice", upload.NewID(), -1)
	if err != nil {
		t.Fatal(err)
	}
	body := hold.Within(endless{})
	drop := make([]byte, 1)
	for begun := time.Now(); time.Since(begun) < 3*q.Lease; {
		if _, err := body.Read(drop); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Hold(t.Context(), "alice", upload.NewID(), -1); codeOf(err) != upload.ReceivingQuota {
			t.Fatalf("after %s: error = %v, want %s", time.Since(begun), err, upload.ReceivingQuota)
		}
	}
	hold.Release()
	if _, err := q.Hold(t.Context(), "alice", upload.NewID(), -1); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestABodyIsReadAsFarAsThereIsRoom(t *testing.T) {
	q, _ := process(t, postgrestest.New(t), postgres.Limits{StagedBytes: most(100), StoredBytes: most(10)})
	for _, tt := range []struct {
		size int
		want upload.Code
	}{{9, ""}, {10, ""}, {11, upload.TooLarge}, {1000, upload.TooLarge}} {
		hold, err := q.Hold(t.Context(), "alice", upload.NewID(), -1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(hold.Within(strings.NewReader(strings.Repeat("x", tt.size))))
		if codeOf(err) != tt.want || len(text) != min(tt.size, 10) {
			t.Errorf("of %d bytes came %d, and error %v; want %q", tt.size, len(text), err, tt.want)
		}
		hold.Release()
	}
}
