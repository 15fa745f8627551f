package sweep_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/staging"
	"slipway/internal/staging/dir"
	"slipway/internal/sweep"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

// place is a database and staging with a sweeper that runs.
type place struct {
	pool    *pgxpool.Pool
	path    string // of staging
	staging *dir.Store
	ingest  *ingest.Ingest
	sweeper sweep.Sweeper
	stop    func() // the sweeper that runs
}

func newPlace(t *testing.T, ttl time.Duration) *place {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	queue, err := postgres.NewQueue(pool, postgres.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	store, err := dir.New(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	p := &place{pool: pool, path: path, staging: store, ingest: &ingest.Ingest{
		Pool: pool, Queue: queue, Staging: store, Log: log,
		Providers: []string{"uploadcare"}, DefaultProvider: "uploadcare", MaxAttempts: 3, DeliverWithin: time.Hour,
	}}
	p.sweeper = sweep.Sweeper{
		Pool: pool, Queue: queue, Staging: store, LeaseTTL: ttl, DeliverWithin: time.Hour, KeepFailed: time.Hour, KeepTrash: time.Hour, Log: log,
		ReapEvery: 20 * time.Millisecond, TidyEvery: 20 * time.Millisecond, ClearEvery: 20 * time.Millisecond,
	}
	p.run(t)
	return p
}

// run starts the sweeper.
func (p *place) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	s := p.sweeper
	running.Go(func() { s.Run(ctx) })
	p.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(p.stop)
}

// restart has the sweeper reap leases of another life.
func (p *place) restart(t *testing.T, ttl time.Duration) {
	t.Helper()
	p.stop()
	p.sweeper.LeaseTTL = ttl
	p.run(t)
}

func (p *place) accept(t *testing.T) upload.Upload {
	t.Helper()
	s, err := p.ingest.Receive(t.Context(), ingest.Request{User: "alice", Length: -1}, bytes.NewReader([]byte("bytes")))
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.ingest.Accept(t.Context(), ingest.Request{User: "ann"}, s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (p *place) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := p.pool.Exec(t.Context(), sql, a...); err != nil {
		t.Fatal(err)
	}
}

func (p *place) await(t *testing.T, id upload.ID, what string, ok func(upload.Upload) bool) upload.Upload {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := postgres.UploadOf(t.Context(), p.pool, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(u) {
			return u
		}
		if time.Now().After(deadline) {
			t.Fatalf("the upload was not %s: %+v", what, u)
		}
		<-tick.C
	}
}

// awaitRow waits until a query answers true.
func (p *place) awaitRow(t *testing.T, sql string, a ...any) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		if err := p.pool.QueryRow(t.Context(), sql, a...).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", sql)
		}
		<-tick.C
	}
}

func TestAnUploadWhoseWorkerDiedGetsAnotherJob(t *testing.T) {
	p := newPlace(t, 200*time.Millisecond)
	u := p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'pushing', attempt = 1, lease_epoch = 7, lease_until = now() - interval '1 second' WHERE id = $1`, u.ID)
	p.exec(t, `UPDATE slipway.river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '1 hour' WHERE id = $1`, u.JobID)
	after := p.await(t, u.ID, "handed over", func(now upload.Upload) bool { return now.JobID != u.JobID })
	if after.Status != upload.Queued || after.Epoch <= 7 {
		t.Errorf("handed over as %s with epoch %d, want queued and a newer epoch than 7", after.Status, after.Epoch)
	}
	var state string
	if err := p.pool.QueryRow(t.Context(), `SELECT state FROM slipway.river_job WHERE id = $1`, u.JobID).Scan(&state); err != nil || state != "discarded" {
		t.Errorf("the dead worker's job is %s, %v; want discarded", state, err)
	}
}

func TestAnUploadWithoutAJobGetsOne(t *testing.T) {
	p := newPlace(t, time.Hour)
	u := p.accept(t)
	p.exec(t, `DELETE FROM slipway.river_job WHERE id = $1`, u.JobID)
	p.await(t, u.ID, "given a job", func(now upload.Upload) bool { return now.JobID != u.JobID })
}

func TestBytesGoWhenTheirTimeIsOver(t *testing.T) {
	p := newPlace(t, time.Hour)
	over, kept := p.accept(t), p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'failed', staged_until = now() + interval '1 hour' WHERE id = $1`, kept.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'failed', staged_until = now() - interval '1 second' WHERE id = $1`, over.ID)
	p.await(t, over.ID, "unstaged", func(now upload.Upload) bool { return now.Unstaged != nil })
	deadline := time.Now().Add(10 * time.Second)
	for {
		r, err := p.staging.Open(t.Context(), over.ID)
		if errors.Is(err, staging.ErrMissing) {
			break
		}
		if err == nil {
			r.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("staging still has the bytes: %v", err)
		}
	}
	r, err := p.staging.Open(t.Context(), kept.ID)
	if err != nil {
		t.Fatalf("bytes that are still wanted are gone: %v", err)
	}
	r.Close()
}
