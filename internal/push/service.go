package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Service works the push jobs of one process until it is stopped.
type Service struct {
	worker *worker
	client *river.Client[pgx.Tx]
	log    *slog.Logger

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// checkAccounts is how often the plans' limits are read again.
const checkAccounts = time.Hour

// Start begins to work. Where pool leads through a transaction pooler, which carries no LISTEN, s has
// PollOnly. The lanes are those of the providers given.
func Start(ctx context.Context, pool *pgxpool.Pool, names postgres.Names, store staging.Store, providers []provider.Provider, s Settings, log *slog.Logger) (*Service, error) {
	if s.Backoff == nil {
		s.Backoff = Backoff
	}
	s.Rest = cmp.Or(s.Rest, 30*time.Second)
	s.Patience = cmp.Or(s.Patience, 10*time.Second)
	if s.PollOnly {
		s.Poll = cmp.Or(s.Poll, time.Second)
	}
	s.Poll = cmp.Or(s.Poll, 5*time.Second)
	s.Settle = cmp.Or(s.Settle, LeaseTTL+callTimeout+renewLimit)
	s.VerifyWithin = cmp.Or(s.VerifyWithin, 7*24*time.Hour)
	w := &worker{Settings: s, pool: pool, staging: store, providers: map[string]provider.Provider{}, leases: newLeases(pool, log), log: log, next: map[int64]time.Time{}}
	queues := map[string]river.QueueConfig{}
	var lanes []string // of pushes
	for _, p := range providers {
		w.providers[p.Name()] = p
		mine := []string{upload.DeleteQueue(p.Name())}
		if !s.OnlyDeletions {
			lanes = append(lanes, upload.Queues(p.Name())...)
			mine = append(append(mine, upload.VerifyQueue(p.Name())), upload.Queues(p.Name())...)
		}
		for _, q := range mine {
			queues[q] = river.QueueConfig{MaxWorkers: max(s.FilesInFlight, 1)}
		}
	}
	w.doors = newDoors(w.providers)
	kinds := river.NewWorkers()
	river.AddWorker(kinds, w)
	river.AddWorker(kinds, &verifier{worker: w})
	river.AddWorker(kinds, &deleter{worker: w})
	river.AddWorker(kinds, &hinter{worker: w})
	for _, l := range s.Beside {
		l.Add(kinds)
		if !s.OnlyDeletions {
			queues[l.Queue] = river.QueueConfig{MaxWorkers: l.AtOnce}
		}
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:               names.Schema,
		Workers:              kinds,
		Queues:               queues,
		FetchCooldown:        10 * time.Millisecond,
		FetchPollInterval:    s.Poll,
		PollOnly:             s.PollOnly,
		JobTimeout:           2 * time.Minute,
		RescueStuckJobsAfter: 5 * time.Minute,
		SoftStopTimeout:      softStop,
		Logger:               slog.New(atLeastWarn{log.With("from", "river").Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	w.queue = client
	ctx, cancel := context.WithCancel(ctx)
	svc := &Service{worker: w, client: client, log: log, cancel: cancel}
	for _, p := range providers {
		svc.done.Go(func() { w.watchAccount(ctx, p) })
	}
	svc.done.Go(func() { w.leases.run(ctx) })
	svc.done.Go(func() { w.takeTurns(ctx, lanes) })
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		cancel()
		svc.done.Wait()
		return nil, fmt.Errorf("start river: %w", err)
	}
	return svc, nil
}

// atLeastWarn keeps River's routine out of the log.
type atLeastWarn struct{ slog.Handler }

func (h atLeastWarn) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// softStop is how long a push may go on after a stop was asked for. It is short, for a push loses
// nothing but the parts in flight: it is handed back and goes on elsewhere.
const softStop = 100 * time.Millisecond

// Stop hands running pushes back and ends. Nothing works for the service once it has returned.
func (s *Service) Stop(ctx context.Context) error {
	err := s.client.Stop(ctx)
	s.cancel()
	s.done.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop river: %w", err)
	}
	return nil
}

// watchAccount learns the account's plan at the start and now and then, until ctx ends.
func (w *worker) watchAccount(ctx context.Context, p provider.Provider) {
	for {
		wait := checkAccounts
		var paused *pausedError
		if err := w.learn(ctx, p); errors.As(err, &paused) {
			wait = paused.wait
		} else if err != nil && ctx.Err() == nil {
			wait = w.Rest
			w.log.Warn("the provider cannot be asked for its plan", "provider", p.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
