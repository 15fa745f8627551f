package push

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

// shortTTL is of the leases in these tests: long enough for a busy machine to renew them in time.
const shortTTL = 3 * time.Second

// holding is a worker that renews a lease.
type holding struct {
	*leases
	pool *pgxpool.Pool
	u    upload.Upload
}

func newHolding(t *testing.T) *holding {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	h := &holding{leases: newLeases(pool, slog.New(slog.DiscardHandler)), pool: pool}
	h.ttl, h.beat = shortTTL, 20*time.Millisecond
	h.u = upload.Upload{
		ID: upload.NewID(), UserID: "ann", Provider: "uploadcare", FileName: "film.mp4", ContentType: "video/mp4",
		Size: 100, MaxAttempts: 3, CreatedAt: time.Now(), JobID: 1,
	}
	err = postgres.AsUser(t.Context(), pool, postgres.Claims{Subject: "ann"}, func(tx pgx.Tx) error {
		return postgres.InsertStaged(t.Context(), tx, h.u, time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { h.run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return h
}

// take begins an attempt, and returns its context and when its lease runs out if nobody renews it.
func (h *holding) take(t *testing.T) (held context.Context, end time.Time) {
	t.Helper()
	asked := time.Now()
	err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) (err error) {
		h.u, err = postgres.Take(t.Context(), tx, h.u.ID, h.u.JobID, "worker", h.ttl)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	held, release := h.hold(t.Context(), h.u.ID, h.u.Epoch, asked)
	t.Cleanup(release)
	return held, asked.Add(h.ttl)
}

// until is the database's end of the lease.
func (h *holding) until(t *testing.T) (at time.Time) {
	t.Helper()
	if err := h.pool.QueryRow(t.Context(), `SELECT lease_until FROM slipway.uploads WHERE id = $1`, h.u.ID).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

func wantEnd(t *testing.T, held context.Context, want error) {
	t.Helper()
	select {
	case <-held.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the lease does not end")
	}
	if got := context.Cause(held); !errors.Is(got, want) {
		t.Errorf("it ends with %v, want %v", got, want)
	}
}

func TestALeaseLivesAsLongAsAStep(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	held, first := h.take(t)
	step, end := during(held, time.Hour)
	for h.until(t).Before(first.Add(h.ttl)) {
		if step.Err() != nil {
			t.Fatalf("the step ends: %v", context.Cause(step))
		}
	}
	end()
	wantEnd(t, held, errLeaseExpired)
	if left := time.Until(h.until(t)); left > time.Second {
		t.Errorf("it ends here %s before the database lets another worker go on", left)
	}
}

func TestALeaseIsNotRenewed(t *testing.T) {
	tests := map[string]func(t *testing.T, held context.Context){
		"before a step": func(*testing.T, context.Context) {},
		"after a step": func(_ *testing.T, held context.Context) {
			_, end := during(held, time.Hour)
			end()
			end() // twice is once
		},
		"in a step that does not heed its limit": func(t *testing.T, held context.Context) {
			_, end := during(held, time.Millisecond)
			t.Cleanup(end)
		},
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHolding(t)
			held, _ := h.take(t)
			taken := h.until(t)
			begin(t, held)
			wantEnd(t, held, errLeaseExpired)
			if got := h.until(t); got.Sub(taken) > time.Second {
				t.Errorf("it was prolonged by %s", got.Sub(taken))
			}
		})
	}
}

func TestALeaseThatAnotherHasEndsAtOnce(t *testing.T) {
	t.Parallel()
	h := newHolding(t)
	held, end := h.take(t)
	_, done := during(held, time.Hour)
	defer done()
	if _, err := h.pool.Exec(t.Context(), `UPDATE slipway.uploads SET lease_epoch = lease_epoch + 1`); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, held, postgres.ErrFenced)
	if time.Now().After(end) {
		t.Error("it was heard of only when the lease had run out")
	}
}
