package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

// acceptOnce does what ingest does, and counts how often it is tried.
func (b bench) acceptOnce(ctx context.Context, u upload.Upload, before func(run int)) (runs, asked int, err error) {
	err = postgres.Once(ctx,
		func(ctx context.Context) error {
			runs++
			if before != nil {
				before(runs)
			}
			return b.accept(ctx, &u)
		},
		func(ctx context.Context) (bool, error) {
			asked++
			return postgres.UploadExists(ctx, b.Pool, u.ID)
		})
	return runs, asked, err
}

// only requires that an upload is there exactly once, with everything that belongs to it.
func (b bench) only(t *testing.T, id upload.ID) {
	t.Helper()
	uploads := one[int](t, b.Pool, `SELECT count(*) FROM slipway.uploads WHERE id = $1`, id)
	events := one[int](t, b.Pool, `SELECT count(*) FROM slipway.upload_events WHERE upload_id = $1`, id)
	jobs := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE args ->> 'upload_id' = $1::text`, id)
	named := one[bool](t, b.Pool, `SELECT EXISTS (SELECT FROM slipway.river_job j JOIN slipway.uploads u ON u.job_id = j.id WHERE u.id = $1)`, id)
	if uploads != 1 || events != 1 || jobs != 1 || !named {
		t.Errorf("%s: %d rows, %d events, %d jobs, its own job there: %t", id, uploads, events, jobs, named)
	}
}

func TestOnceAtACutConnection(t *testing.T) {
	tests := map[string]struct {
		plan []cut
		runs int
	}{
		"a commit that arrives is not repeated":           {nil, 1},
		"a lost answer is asked for":                      {[]cut{beforeAnswer}, 1},
		"a lost commit is repeated":                       {[]cut{beforeCommit}, 2},
		"one after the other":                             {[]cut{beforeCommit, beforeCommit, beforeAnswer}, 3},
		"a commit that arrives late is not another error": {[]cut{lateCommit}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := postgrestest.New(t)
			direct := benchAt(t, postgres.Options{URL: address})
			cutOff, p := through(t, address, tt.plan...)
			b := benchAt(t, postgres.Options{URL: cutOff, MaxConns: 2})
			u := staged("user_123")
			runs, _, err := b.acceptOnce(t.Context(), u, func(run int) {
				if run == 2 && len(tt.plan) == 1 && tt.plan[0] == lateCommit {
					p.release()
					eventually(t, func() bool {
						there, err := postgres.UploadExists(t.Context(), direct.Pool, u.ID)
						return there && err == nil
					})
				}
			})
			if err != nil || runs != tt.runs {
				t.Errorf("%d runs, %v, want %d and no error", runs, err, tt.runs)
			}
			direct.only(t, u.ID)
		})
	}
}

func TestOnceWhenNobodyCanBeAsked(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	cutOff, p := through(t, address, beforeAnswer)
	p.down = true
	b := benchAt(t, postgres.Options{URL: cutOff, MaxConns: 1})
	u := staged("user_123")
	began := time.Now()
	runs, _, err := b.acceptOnce(t.Context(), u, nil)
	if !errors.Is(err, postgres.ErrOutcomeUnknown) || !postgres.Unreachable(err) || runs != 1 {
		t.Errorf("%d runs, %v, want one and an unknown outcome", runs, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	benchAt(t, postgres.Options{URL: address}).only(t, u.ID)
}

func TestOnceWhenTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	cutOff, p := through(t, postgrestest.New(t))
	p.stop()
	b := benchAt(t, postgres.Options{URL: cutOff})
	_, asked, err := b.acceptOnce(t.Context(), staged("user_123"), nil)
	if errors.Is(err, postgres.ErrOutcomeUnknown) || !postgres.Unreachable(err) || asked != 0 {
		t.Errorf("asked %d times, %v; nothing can have happened", asked, err)
	}
}

func TestOnceWhenItsContextEndsDuringTheCommit(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	cutOff, p := through(t, address, noAnswer)
	b := benchAt(t, postgres.Options{URL: cutOff})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-p.silent
		cancel()
	}()
	u := staged("user_123")
	if runs, asked, err := b.acceptOnce(ctx, u, nil); err != nil || runs != 1 || asked != 1 {
		t.Errorf("%d runs, asked %d times, %v, want what was committed", runs, asked, err)
	}
	p.stop()
	benchAt(t, postgres.Options{URL: address}).only(t, u.ID)
}

func TestOnceWhenItsContextEndsBefore(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, asked, err := b.acceptOnce(ctx, staged("user_123"), func(int) { cancel() })
	if !errors.Is(err, context.Canceled) || errors.Is(err, postgres.ErrOutcomeUnknown) || asked != 0 {
		t.Errorf("asked %d times, %v; nothing can have happened", asked, err)
	}
}

func TestOnceReturnsAnswersAtOnce(t *testing.T) {
	b := newBench(t)
	u := b.accepted(t, staged("user_123"))
	runs, asked, err := b.acceptOnce(t.Context(), u, nil)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "23505" || runs != 1 || asked != 0 {
		t.Errorf("%d runs, asked %d times, %v, want one unique violation", runs, asked, err)
	}
}

func TestAcceptedThroughARestart(t *testing.T) {
	b := newBench(t)
	ids := make(chan upload.ID, 10_000)
	stop := make(chan struct{})
	var started sync.WaitGroup
	var g errgroup.Group
	for range 8 {
		started.Add(1)
		g.Go(func() error {
			for n := 0; ; n++ {
				u := staged("user_123")
				if _, _, err := b.acceptOnce(t.Context(), u, nil); err != nil {
					return err
				}
				ids <- u.ID
				if n == 20 {
					started.Done()
				}
				select {
				case <-stop:
					return nil
				default:
				}
			}
		})
	}
	started.Wait()
	during := len(ids)
	postgrestest.Outage(t, func() { during = len(ids) })
	eventually(t, func() bool { return len(ids) > during+100 })
	close(stop)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	close(ids)
	acknowledged := map[upload.ID]bool{}
	for id := range ids {
		acknowledged[id] = true
	}
	rows := one[[]string](t, b.Pool, `SELECT array_agg(id::text) FROM slipway.uploads`)
	for _, id := range rows {
		delete(acknowledged, upload.ID(id))
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d of %d uploads were lost", len(acknowledged), len(rows))
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job`); n != len(rows) {
		t.Errorf("%d jobs for %d uploads", n, len(rows))
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.upload_events`); n != len(rows) {
		t.Errorf("%d events for %d uploads", n, len(rows))
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Error("it never came to be")
			return
		case <-tick.C:
		}
	}
}
