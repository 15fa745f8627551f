// Package push sends staged files to their providers, part by part, going on where an earlier
// attempt stopped.
package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"golang.org/x/sync/semaphore"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Settings say how pushes are made.
type Settings struct {
	Installation  string // begins every name chosen at a provider
	Owner         string // names this process in leases
	FilesInFlight int    // in each lane of a provider
	PartsInFlight int    // of one file
	Connections   int    // with files' bytes to a provider at once, one of them for small files; 0: no other bound
	KeepFailed    time.Duration
	Scanner       Scanner                         // looks into files before they are sent; nil: nobody does
	VerifyWithin  time.Duration                   // how long a provider is asked about a file that a browser sent; 0: 7 days
	Backoff       func(attempt int) time.Duration // nil: Backoff
	Rest          time.Duration                   // before what an operator must mend is looked at again; 0: 30 s
	Patience      time.Duration                   // how long backlogs wait behind first files before they take turns; 0: 10 s
	PollOnly      bool                            // the database announces no jobs: look for them each second
	Poll          time.Duration                   // how often jobs whose time has come are looked for; 0: 5 s
	Settle        time.Duration                   // how long a stopped push may still come to an asset; 0: 2.5 min
	Beside        []Lane                          // that the process works beside pushes
	OnlyDeletions bool                            // work no other lane; what others have to do waits for other processes
}

// Lane is a queue of jobs of a kind that is not ours. One client of River's has to work all kinds that there are:
// those that it does not know it would discard.
type Lane struct {
	Queue  string
	AtOnce int // of its jobs
	Add    func(*river.Workers)
}

// worker works the push jobs of one process.
type worker struct {
	river.WorkerDefaults[upload.PushArgs]
	Settings

	pool      *pgxpool.Pool
	queue     *postgres.Queue
	staging   staging.Store
	providers map[string]provider.Provider
	doors     map[string]*semaphore.Weighted // provider, or its lane for large files -> what may be on its way there
	leases    *leases
	log       *slog.Logger

	mu   sync.Mutex
	next map[int64]time.Time // River row -> when our row wants it back
}

// Timeout is none: a push lives as long as its lease is renewed. River's own rescue never touches it.
func (w *worker) Timeout(*river.Job[upload.PushArgs]) time.Duration { return -1 }

// NextRetry is when our row wants to be worked again; what River knows of attempts decides nothing.
func (w *worker) NextRetry(job *river.Job[upload.PushArgs]) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.next[job.ID]
	if !ok {
		at = time.Now().Add(10 * time.Second) // the outcome could not be written
	}
	delete(w.next, job.ID)
	if now := time.Now(); at.Before(now) { // River would take its own time, which grows to days
		return now
	}
	return at
}

// Work makes one attempt. Our row decides: what the attempt came to is written there first, and
// then River is told.
func (w *worker) Work(ctx context.Context, job *river.Job[upload.PushArgs]) error {
	id := job.Args.UploadID
	log := w.log.With("upload_id", id, "job_id", job.ID)

	wait, err := w.postpone(ctx, id, job.ID)
	if err != nil {
		return fmt.Errorf("take %s: %w", id, err)
	}
	if wait > 0 {
		return river.JobSnooze(wait)
	}
	asked := time.Now()
	var u upload.Upload
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
		u, err = postgres.Take(ctx, tx, id, job.ID, w.Owner, LeaseTTL)
		return err
	})
	if errors.Is(err, postgres.ErrNoUpload) {
		return nil // another row's job now, or ended: nothing to do
	}
	if err != nil {
		return fmt.Errorf("take %s: %w", id, err)
	}
	log = log.With("attempt", u.Attempt, "provider", u.Provider)

	held, release := w.leases.hold(ctx, u.ID, u.Epoch, asked)
	asset, err := w.deliverInTime(held, log, &u)
	if err == nil {
		err = w.complete(held, job, u, asset)
	}
	lost := context.Cause(held)
	release()
	switch {
	case err == nil:
		log.Info("delivered", "bytes", u.Size, "asset", asset.ID)
		w.unstage(ctx, log, u.ID)
		w.forgetTrouble(ctx, log, u.Provider)
		return nil
	case errors.Is(lost, postgres.ErrFenced) || errors.Is(err, postgres.ErrFenced):
		return w.fenced(ctx, log, u.ID)
	case errors.Is(lost, errLeaseExpired):
		err = lost
	case ctx.Err() != nil:
		return w.handBack(ctx, log, u)
	}
	return w.conclude(ctx, log, job, u, err)
}

// deliverInTime is deliver until the upload's time is over, which ends with errOverdue.
func (w *worker) deliverInTime(ctx context.Context, log *slog.Logger, u *upload.Upload) (upload.Asset, error) {
	if u.DeliverBy == nil {
		return w.deliver(ctx, log, u)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, *u.DeliverBy, errOverdue)
	defer cancel()
	asset, err := w.deliver(ctx, log, u)
	if err != nil && errors.Is(context.Cause(ctx), errOverdue) {
		err = errOverdue
	}
	return asset, err
}

// handBack gives an upload to the other workers, because this one stops.
func (w *worker) handBack(ctx context.Context, log *slog.Logger, u upload.Upload) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return postgres.HandBack(ctx, tx, w.queue, u) })
	switch {
	case errors.Is(err, postgres.ErrFenced):
		return w.fenced(ctx, log, u.ID)
	case err != nil:
		log.Warn("hand the upload back", "error", err)
		return context.Canceled // River makes the row available again
	}
	return nil
}

// complete writes the end of a push and of its job, together.
func (w *worker) complete(ctx context.Context, job *river.Job[upload.PushArgs], u upload.Upload, a upload.Asset) error {
	run := func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
			if err := postgres.Complete(ctx, tx, u, a, 0); err != nil {
				return err
			}
			return postgres.CompleteJob(ctx, tx, job)
		})
	}
	done := func(ctx context.Context) (bool, error) {
		now, err := postgres.UploadOf(ctx, w.pool, u.ID)
		return now.Status == upload.Completed, err
	}
	return postgres.Once(ctx, run, done)
}

// unstage lets the bytes of a delivered file go; what fails here the sweep does later.
func (w *worker) unstage(ctx context.Context, log *slog.Logger, id upload.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	ok, err := postgres.Unstage(ctx, w.pool, id)
	if err == nil && ok {
		err = w.staging.Remove(ctx, id)
	}
	if err != nil {
		log.Warn("staging keeps a delivered file for now", "error", err)
	}
}
