// Package sweep repairs, now and then, what deaths and time have left behind.
package sweep

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/staging"
)

// Sweeper runs in every worker process; any number may run at once.
type Sweeper struct {
	Pool          *pgxpool.Pool
	Queue         *postgres.Queue
	Staging       staging.Store
	LeaseTTL      time.Duration // of the leases that it reaps
	DeliverWithin time.Duration // of what has come in without anybody to say so
	KeepFailed    time.Duration
	KeepTrash     time.Duration // what nobody needs of staging
	KeepHistory   time.Duration // events; 0: for ever
	AskedFor      time.Duration // after this in one turn of asking a provider its worker is gone; 0: 1 min
	ReapEvery     time.Duration // 0: 1 s, so that no takeover comes later than 17 s after a death
	TidyEvery     time.Duration // 0: 30 s
	ClearEvery    time.Duration // 0: 10 min
	Grace         time.Duration // 0: Grace
	Log           *slog.Logger
}

// What one look may take.
const (
	sweepLimit = 30 * time.Second
	clearLimit = 10 * time.Minute // at every file in staging
)

// Run sweeps until ctx ends. The dead are looked for beside all else, which may take long.
func (s *Sweeper) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { every(ctx, cmp.Or(s.ReapEvery, time.Second), s.reap) })
	loops.Go(func() { every(ctx, cmp.Or(s.TidyEvery, 30*time.Second), s.tidy) })
	loops.Go(func() { every(ctx, cmp.Or(s.ClearEvery, 10*time.Minute), s.clear) })
	loops.Wait()
}

// every calls look now and then on each tick, until ctx ends.
func every(ctx context.Context, period time.Duration, look func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for ctx.Err() == nil {
		look(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// reap hands the uploads of dead workers to new jobs.
func (s *Sweeper) reap(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	reaped, err := postgres.Reap(ctx, s.Pool, s.Queue, s.LeaseTTL, s.KeepFailed)
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("look for dead workers", "error", err)
	}
	for _, r := range reaped {
		s.Log.Warn("a worker was lost; another goes on", "upload_id", r.ID, "job_id", r.Job, "takeovers", r.Takeovers, "overdue", r.Overdue.Round(time.Millisecond))
	}
}

// tidy gives jobs to uploads and deletions that have none, ends uploads that nobody goes on with, forgets old
// signatures, notifications, idempotency keys and events, and lets the bytes of ended uploads go.
func (s *Sweeper) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	if n, err := postgres.Adopt(ctx, s.Pool, s.Queue); err != nil {
		s.Log.Warn("look for uploads without a job", "error", err)
	} else if n > 0 {
		s.Log.Warn("uploads had no job that would run", "uploads", n)
	}
	if n, err := postgres.AdoptDirect(ctx, s.Pool, s.Queue, cmp.Or(s.AskedFor, time.Minute)); err != nil {
		s.Log.Warn("look for questions that nobody asks", "error", err)
	} else if n > 0 {
		s.Log.Info("providers are asked about direct uploads", "uploads", n)
	}
	if n, err := postgres.ResumeDeleting(ctx, s.Pool, s.Queue); err != nil {
		s.Log.Warn("look for deletions that were forgotten", "error", err)
	} else if n > 0 {
		s.Log.Warn("nothing said any more what is to be deleted", "uploads", n)
	}
	if n, err := postgres.AdoptDeletions(ctx, s.Pool, s.Queue, cmp.Or(s.AskedFor, time.Minute)); err != nil {
		s.Log.Warn("look for deletions that nobody works on", "error", err)
	} else if n > 0 {
		s.Log.Warn("deletions had no job that would run", "files", n)
	}
	if n, err := postgres.FinishReceived(ctx, s.Pool, s.Queue, unstageBatch, s.DeliverWithin); err != nil {
		s.Log.Warn("send uploads on their way that are all there", "error", err)
	} else if n > 0 {
		s.Log.Warn("uploads were all there and not on their way", "uploads", n)
	}
	if n, err := postgres.ExpireUnfinished(ctx, s.Pool, unstageBatch); err != nil {
		s.Log.Warn("end uploads that nobody goes on with", "error", err)
	} else if n > 0 {
		s.Log.Info("uploads have expired", "uploads", n)
	}
	if err := postgres.PruneHandouts(ctx, s.Pool); err != nil {
		s.Log.Warn("forget old signatures", "error", err)
	}
	if err := postgres.PruneWebhooks(ctx, s.Pool); err != nil {
		s.Log.Warn("forget old notifications", "error", err)
	}
	if err := postgres.PruneKeys(ctx, s.Pool); err != nil {
		s.Log.Warn("forget old idempotency keys", "error", err)
	}
	if err := s.prune(ctx); err != nil {
		s.Log.Warn("prune the history", "error", err)
	}
	if err := postgres.AddUpUsage(ctx, s.Pool, ""); err != nil {
		s.Log.Warn("add up what users use", "error", err)
	}
	if err := postgres.ForgetUsage(ctx, s.Pool); err != nil {
		s.Log.Warn("forget what users used", "error", err)
	}
	for {
		ids, err := postgres.ToUnstage(ctx, s.Pool, unstageBatch)
		if err != nil {
			s.Log.Warn("look for bytes to let go", "error", err)
			return
		}
		for _, id := range ids {
			ok, err := postgres.Unstage(ctx, s.Pool, id)
			if err == nil && ok {
				err = s.Staging.Remove(ctx, id)
			}
			if err != nil {
				s.Log.Warn("let bytes go", "upload_id", id, "error", err)
				return
			}
		}
		if len(ids) < unstageBatch {
			break
		}
	}
	if err := s.unstageJoined(ctx); err != nil {
		s.Log.Warn("let the bytes of pieces go", "error", err)
	}
}

// prune lets the oldest events go, a few at a time.
func (s *Sweeper) prune(ctx context.Context) error {
	for s.KeepHistory > 0 {
		n, err := postgres.PruneEvents(ctx, s.Pool, s.KeepHistory, pruneBatch)
		if err != nil || n < pruneBatch {
			return err
		}
	}
	return nil
}

const pruneBatch = 1000

// unstageJoined lets the bytes go that came in as pieces of files.
func (s *Sweeper) unstageJoined(ctx context.Context) error {
	for {
		ids, err := postgres.UnstageJoined(ctx, s.Pool, unstageBatch)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := s.Staging.Remove(ctx, id); err != nil {
				return err
			}
		}
		if len(ids) < unstageBatch {
			return nil
		}
	}
}

const unstageBatch = 100
