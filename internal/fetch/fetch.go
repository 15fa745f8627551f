// Package fetch brings files from the web into staging, going on where an earlier attempt stopped.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Settings say how files are fetched.
type Settings struct {
	Owner    string // names this process in leases
	AtOnce   int    // files in this process, of which one user's are at most half
	LeaseTTL time.Duration
	Beat     time.Duration                   // how often a lease is renewed; 0: a tenth of its TTL
	Backoff  func(attempt int) time.Duration // nil: Backoff
	Rest     time.Duration                   // before what an operator must mend is looked at again; 0: 30 s

	// A checkpoint is made when so much has come, or so long after the last one; 0: 32 MiB, 2 s.
	Chunk int64
	Every time.Duration
}

// Worker works the fetch jobs of one process.
type Worker struct {
	river.WorkerDefaults[upload.FetchArgs]
	Settings

	pool   *pgxpool.Pool
	queue  *postgres.Queue
	ingest *ingest.Ingest
	web    *source.Client // nil: imports are off
	log    *slog.Logger
	turns  turns
}

// New returns a worker that stages with in what it fetches by web, which is nil where nothing may be fetched.
func New(in *ingest.Ingest, web *source.Client, s Settings) *Worker {
	if s.Backoff == nil {
		s.Backoff = Backoff
	}
	s.Beat = cmp.Or(s.Beat, s.LeaseTTL/10)
	s.Rest = cmp.Or(s.Rest, 30*time.Second)
	s.Chunk = cmp.Or(s.Chunk, 32<<20)
	s.Every = cmp.Or(s.Every, 2*time.Second)
	return &Worker{
		Settings: s, pool: in.Pool, queue: in.Queue, ingest: in, web: web, log: in.Log,
		turns: turns{share: max(s.AtOnce/2, 1), running: map[string]int{}, later: map[string]time.Time{}},
	}
}

// Backoff is how long to wait after an attempt: 2 s, doubled with each, up to 10 min, less up to half of it.
func Backoff(attempt int) time.Duration {
	d := min(2*time.Second<<min(max(attempt, 1)-1, 10), 10*time.Minute)
	return d/2 + rand.N(d/2)
}

// Timeout is none: a fetch lives as long as its lease is renewed. River's own rescue never touches it.
func (w *Worker) Timeout(*river.Job[upload.FetchArgs]) time.Duration { return -1 }

// NextRetry is for attempts whose outcome could not be written.
func (w *Worker) NextRetry(*river.Job[upload.FetchArgs]) time.Time {
	return time.Now().Add(10 * time.Second)
}

// errOverdue ends an import whose time is over.
var errOverdue = errors.New("the file could not be fetched in time")

// Work makes one attempt. Our row decides: what the attempt came to is written there first, and then River is told.
func (w *Worker) Work(ctx context.Context, job *river.Job[upload.FetchArgs]) error {
	user := userOf(job)
	if wait := w.turns.begin(user); wait > 0 {
		return river.JobSnooze(wait)
	}
	defer w.turns.end(user)
	id := job.Args.UploadID
	a := &attempt{Worker: w}
	asked := time.Now()
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
		a.u, a.im, err = postgres.TakeFetch(ctx, tx, id, job.ID, w.Owner, w.LeaseTTL)
		return err
	})
	if errors.Is(err, postgres.ErrNoUpload) {
		return nil // another row's job now, or ended: nothing to do
	}
	if err != nil {
		return fmt.Errorf("take %s: %w", id, err)
	}
	a.log = w.log.With("upload_id", id, "job_id", job.ID, "attempt", a.u.Attempt, "from", host(a.im.URL))

	held, release := w.hold(ctx, a.u.Upload, asked)
	timed, cancel := context.WithDeadlineCause(held, a.im.FetchBy, errOverdue)
	err = a.fetch(timed)
	if err == nil {
		err = a.finish(held, job)
	}
	lost, late := context.Cause(held), context.Cause(timed)
	cancel()
	release()
	switch {
	case err == nil:
		a.log.Info("fetched", "bytes", a.done.Offset)
		return nil
	case errors.Is(lost, postgres.ErrFenced) || errors.Is(err, postgres.ErrFenced):
		a.log.Info("the import is somebody else's now, or has ended")
		return nil
	case errors.Is(lost, errLeaseExpired):
		err = lost
	case ctx.Err() != nil:
		return a.handBack(ctx)
	case errors.Is(late, errOverdue):
		err = late
	}
	return a.conclude(ctx, err)
}

// host is all of a URL that is for a log.
func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// finish sends the upload on its way and ends the job, together.
func (a *attempt) finish(ctx context.Context, job *river.Job[upload.FetchArgs]) error {
	return a.ingest.Fetched(ctx, a.u.Upload, a.done, func(ctx context.Context, tx pgx.Tx) error {
		return postgres.CompleteJob(ctx, tx, job)
	})
}

// handBack gives an import to the other workers, because this one stops.
func (a *attempt) handBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error { return postgres.HandBackFetch(ctx, tx, a.queue, a.u.Upload) })
	if err != nil && !errors.Is(err, postgres.ErrFenced) {
		a.log.Warn("hand the import back", "error", err)
		return context.Canceled // River makes the row available again
	}
	return nil
}

// conclude writes what an attempt came to, fenced, into our row; then it tells River.
func (a *attempt) conclude(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	o := a.judge(cause)
	if !o.give && time.Now().Add(o.after).After(a.im.FetchBy) {
		o.give = true
		o.err.Code, o.err.Message = upload.ImportOverdue, "The file could not be fetched in time. The last reason: "+o.err.Message
	}
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		if o.give {
			return postgres.FailFetch(ctx, tx, a.u.Upload, o.err)
		}
		return postgres.WaitFetch(ctx, tx, a.u.Upload, o.err, o.after, o.giveBack)
	})
	switch {
	case errors.Is(err, postgres.ErrFenced):
		return nil
	case err != nil:
		return fmt.Errorf("write what the attempt came to (%w): %w", cause, err)
	case o.give:
		a.log.Warn("the import has failed", "code", o.err.Code, "error", cause)
		a.forget(ctx)
		return river.JobCancel(cause)
	}
	a.log.Warn("the attempt has failed", "code", o.err.Code, "error", cause, "again_in", o.after.Round(time.Millisecond))
	return river.JobSnooze(o.after)
}

// forget removes what was staged of a file that has failed; what fails here the sweep does later.
func (a *attempt) forget(ctx context.Context) {
	if err := a.ingest.Staging.Remove(ctx, a.u.ID); err != nil {
		a.log.Warn("staging keeps a part of a file for now", "error", err)
	}
}
