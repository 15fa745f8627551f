package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"slipway/internal/upload"
)

// Queue inserts jobs.
type Queue = river.Client[pgx.Tx]

// Priorities of a push: River works 1 first.
const (
	priorityResume = 1 // a push that has begun
	priorityNew    = 2
)

// NewQueue returns a client that only inserts. Its cooldown is the shortest there is, for River
// announces at most one insert per queue within it: with the default, a job that follows another, or
// a rolled-back one, closely would wait for the worker's next poll.
func NewQueue(pool *pgxpool.Pool, n Names) (*Queue, error) {
	return river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:        n.Schema,
		FetchCooldown: time.Millisecond,
		Logger:        slog.New(slog.DiscardHandler),
	})
}

// pushMaxAttempts is never reached: how often a push is tried is counted on the upload.
const pushMaxAttempts = 1000

// InsertPush inserts the job that pushes an upload and returns its id, which is to be written on the
// upload in the same transaction.
func InsertPush(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) (int64, error) {
	job, err := newPush(u)
	if err != nil {
		return 0, err
	}
	return insertJob(ctx, tx, q, job)
}

func newPush(u upload.Upload) (river.InsertManyParams, error) {
	priority := priorityNew
	if u.Pushed > 0 {
		priority = priorityResume
	}
	return push(u, upload.Queue(u.Provider, u.Size), priority, 0)
}

// resume inserts the job that goes on with an upload whose worker is gone, or whose job was lost.
func resume(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, takeoverOf int64) (int64, error) {
	if u.Status == upload.Fetching {
		return insertFetch(ctx, tx, q, u, priorityResume, takeoverOf)
	}
	return resumePush(ctx, tx, q, u, takeoverOf)
}

// resumePush inserts the job that goes on with a push.
func resumePush(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, takeoverOf int64) (int64, error) {
	job, err := push(u, upload.ResumeQueue(u.Provider, u.Size), priorityResume, takeoverOf)
	if err != nil {
		return 0, err
	}
	return insertJob(ctx, tx, q, job)
}

// goFirst lets a push that has a session at its provider go before those that have none, when it is its turn again.
func goFirst(ctx context.Context, tx DB, u upload.Upload) error {
	_, err := tx.Exec(ctx, `
		UPDATE slipway.river_job j
		SET priority = @resume
		FROM slipway.push_sessions s
		WHERE j.id = @job AND j.priority > @resume AND s.upload_id = @id AND s.closed_at IS NULL`,
		args{"id": u.ID, "job": u.JobID, "resume": priorityResume})
	if err != nil {
		return fmt.Errorf("let job %d go first: %w", u.JobID, err)
	}
	return nil
}

// pushMetadata is what a River row says beside its id: whom it works for, by which requests are
// kept apart, and the row of a lost worker that it replaces.
type pushMetadata struct {
	UserID     string `json:"user_id"`
	TakeoverOf int64  `json:"takeover_of,omitempty"`
}

func push(u upload.Upload, lane string, priority int, takeoverOf int64) (river.InsertManyParams, error) {
	metadata, err := json.Marshal(pushMetadata{UserID: u.UserID, TakeoverOf: takeoverOf})
	if err != nil {
		return river.InsertManyParams{}, err
	}
	opts := &river.InsertOpts{
		Queue:       lane,
		Priority:    priority,
		MaxAttempts: pushMaxAttempts,
		Metadata:    metadata,
	}
	if u.NextAttemptAt != nil {
		opts.ScheduledAt = *u.NextAttemptAt
	}
	return river.InsertManyParams{Args: upload.PushArgs{UploadID: u.ID}, InsertOpts: opts}, nil
}

func insertJob(ctx context.Context, tx pgx.Tx, q *Queue, job river.InsertManyParams) (int64, error) {
	res, err := q.InsertTx(ctx, tx, job.Args, job.InsertOpts)
	if err != nil {
		return 0, fmt.Errorf("insert the job: %w", err)
	}
	return res.Job.ID, nil
}

// Reaped is an upload that went from a dead worker to a new job.
type Reaped struct {
	ID        upload.ID
	Job       int64
	Takeovers int
	Overdue   time.Duration
}

// maxTakeovers is how often workers may die over one upload, without progress between, before the
// upload is given up as what kills them.
const maxTakeovers = 5

// reapedAtOnce bounds one look for dead workers.
const reapedAtOnce = 50

// Reap finds pushes and imports whose worker is gone: the lease has run out, or a worker died between fetching
// the job and taking the lease. The dead River row is retired and a new one inserted in the same
// transaction, for a worker that wakes up can only finish the row that it knows. After a restart of
// the database everybody has one ttl to report. Each upload has a transaction of its own: who sleeps
// inside one of another upload of the same user keeps nobody else waiting.
func Reap(ctx context.Context, pool *pgxpool.Pool, q *Queue, ttl, keepStaged time.Duration) (reaped []Reaped, err error) {
	passed := []string{} // users whose turn comes again
	for range reapedAtOnce {
		var d dead
		failed := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
			if d, err = findDead(ctx, tx, ttl, passed); err == nil && d.ID != "" {
				err = d.bury(ctx, tx, q, keepStaged)
			}
			return err
		})
		switch {
		case d.ID == "":
			return reaped, errors.Join(err, failed)
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("take over %s: %w", d.ID, failed))
			passed = append(passed, d.UserID)
		case d.NewJob != 0:
			reaped = append(reaped, Reaped{ID: d.ID, Job: d.NewJob, Takeovers: d.Takeovers + 1, Overdue: d.Overdue})
		}
	}
	return reaped, err
}

// dead is an upload whose worker is gone.
type dead struct {
	ID            upload.ID
	Status        upload.Status
	UserID        string
	Provider      string
	Size          int64
	Takeovers     int
	Attempt       int
	NextAttemptAt *time.Time
	Job           int64
	JobAttempt    int
	Overdue       time.Duration

	NewJob int64 `db:"-"` // 0 when there is none
}

// findDead locks one such upload, of none of these users. There is none when its ID is "".
func findDead(ctx context.Context, tx pgx.Tx, ttl time.Duration, passed []string) (dead, error) {
	rows, err := tx.Query(ctx, `
		SELECT u.id, u.status, u.user_id, u.provider, coalesce(u.size, 0) AS size, u.takeovers, u.attempt, u.next_attempt_at, j.id AS job, j.attempt AS job_attempt,
		       now() - greatest(coalesce(u.lease_until, '-infinity'), j.attempted_at + @ttl) AS overdue
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id AND `+bringsUpload+`
		WHERE u.status IN ('fetching', 'queued', 'retrying', 'pushing')
		  AND j.state = 'running'
		  AND greatest(coalesce(u.lease_until, '-infinity'), j.attempted_at + @ttl) < now()
		  AND pg_postmaster_start_time() < now() - @ttl::interval
		  AND u.user_id <> ALL(@passed::text[])
		ORDER BY overdue DESC
		LIMIT 1
		FOR UPDATE OF u, j SKIP LOCKED`, args{"ttl": ttl, "passed": passed})
	found, err := collect("look for dead workers", rows, err, pgx.RowToStructByName[dead])
	if err != nil || len(found) == 0 {
		return dead{}, err
	}
	return found[0], nil
}

// bury retires the River row of a dead worker, and gives its upload to a new one, or up.
func (d *dead) bury(ctx context.Context, tx pgx.Tx, q *Queue, keepStaged time.Duration) error {
	note, err := json.Marshal(rivertype.AttemptError{At: time.Now().UTC(), Attempt: d.JobAttempt, Error: "the worker is gone: its lease ran out"})
	if err != nil {
		return err
	}
	// River has no way to retire a running row.
	_, err = tx.Exec(ctx, `
		UPDATE slipway.river_job
		SET state = 'discarded', finalized_at = now(), errors = array_append(errors, @note::jsonb)
		WHERE id = @job AND state = 'running' AND attempt = @attempt`, args{"job": d.Job, "attempt": d.JobAttempt, "note": string(note)})
	if err != nil {
		return fmt.Errorf("retire job %d: %w", d.Job, err)
	}
	if d.Takeovers >= maxTakeovers {
		return giveUp(ctx, tx, d.ID, d.Job, d.UserID, keepStaged)
	}
	u := upload.Upload{ID: d.ID, Status: d.Status, UserID: d.UserID, Provider: d.Provider, Size: d.Size, NextAttemptAt: d.NextAttemptAt}
	if d.NewJob, err = resume(ctx, tx, q, u, d.Job); err != nil {
		return err
	}
	status, err := handOver(ctx, tx, d.ID, d.Job, d.NewJob, 1)
	if err != nil {
		return err
	}
	return WriteEvents(ctx, tx, d.UserID, upload.Event{UploadID: d.ID, Type: upload.WorkerReplaced, Status: status, Attempt: d.Attempt,
		Data: map[string]any{"takeovers": d.Takeovers + 1}})
}

// HandBack ends an attempt because the worker stops; the attempt is not counted. Another worker need not wait until
// River has heard of it: it gets a row of its own.
func HandBack(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) error {
	job, err := resumePush(ctx, tx, q, u, 0)
	if err != nil {
		return err
	}
	err = fence(ctx, tx, u, upload.Pushing, `
		status = 'queued', job_id = @job, lease_owner = NULL, lease_until = NULL, attempt = greatest(attempt - 1, 0),
		version = version + 1`, args{"job": job})
	if err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Queued, Attempt: u.Attempt, Data: map[string]any{"reason": "worker stopped"}})
}

// handOver puts another job in the place of one that will not finish. A push that had begun is
// queued again and its attempt, or an import's, which somebody else's death has ended, is not counted; an
// upload that waited still waits.
func handOver(ctx context.Context, tx pgx.Tx, id upload.ID, from, to int64, takeovers int) (status upload.Status, err error) {
	err = tx.QueryRow(ctx, `
		UPDATE slipway.uploads
		SET status = CASE status WHEN 'pushing' THEN 'queued' ELSE status END,
		    attempt = CASE WHEN status = 'pushing' OR status = 'fetching' AND lease_owner IS NOT NULL THEN greatest(attempt - 1, 0) ELSE attempt END,
		    job_id = @to, lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL,
		    takeovers = takeovers + @takeovers, version = version + 1
		WHERE id = @id AND job_id IS NOT DISTINCT FROM nullif(@from, 0) AND status IN ('fetching', 'queued', 'pushing', 'retrying')
		RETURNING status`, args{"id": id, "from": from, "to": to, "takeovers": takeovers}).Scan(&status)
	if err != nil {
		return "", fmt.Errorf("hand over %s: %w", id, err)
	}
	return status, nil
}

func giveUp(ctx context.Context, tx pgx.Tx, id upload.ID, job int64, user string, keepStaged time.Duration) error {
	e := upload.Error{Code: upload.WorkerLost, Retryable: true, FixableBy: upload.ByOperator,
		Message: "Every worker that tried to deliver this file was lost. It can be retried once the operator has found out why."}
	_, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET `+setError+`, status = 'failed', lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL, next_attempt_at = NULL,
		    staged_until = now() + @keep, unstaged_at = CASE status WHEN 'fetching' THEN now() END, version = version + 1
		WHERE id = @id AND job_id = @job AND status IN ('fetching', 'queued', 'pushing', 'retrying')`,
		errorArgs(e, args{"id": id, "job": job, "keep": keepStaged}))
	if err != nil {
		return fmt.Errorf("give up %s: %w", id, err)
	}
	return WriteEvents(ctx, tx, user, upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Failed,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// bringsUpload tells of a River row j that it fetches or pushes u: what it is called by is not enough.
const bringsUpload = `j.kind = CASE u.status WHEN 'fetching' THEN 'fetch' ELSE 'push' END AND j.args ->> 'upload_id' = u.id::text`

// willRun tells of a River row j that it runs, or will.
const willRun = `j.state IN ('available', 'scheduled', 'retryable', 'running')`

// Adopt gives a job to uploads that wait for delivery, or to be fetched, and whose River row will never run, or long after it
// should: it ended, is not there any more, or is another's. It repairs what no crash should have left. The row
// that it replaces finds nothing to do, if it ever runs.
func Adopt(ctx context.Context, pool *pgxpool.Pool, q *Queue) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+uploadColumns+`
			FROM slipway.uploads u
			WHERE u.status IN ('fetching', 'queued', 'retrying', 'pushing')
			  AND (u.lease_until IS NULL OR u.lease_until < now())
			  AND NOT EXISTS (
			      SELECT FROM slipway.river_job j
			      WHERE j.id = u.job_id AND `+bringsUpload+` AND `+willRun+`
			        AND (j.state IN ('available', 'running') OR j.scheduled_at < greatest(now(), u.next_attempt_at) + @late))
			ORDER BY u.id
			LIMIT 50
			FOR UPDATE OF u SKIP LOCKED`, args{"late": tooLate})
		found, err := collect("look for uploads without a job", rows, err, scanUpload)
		if err != nil {
			return err
		}
		slices.SortStableFunc(found, func(a, b upload.Upload) int { return strings.Compare(a.UserID, b.UserID) })
		for _, u := range found {
			job, err := resume(ctx, tx, q, u, u.JobID)
			if err != nil {
				return err
			}
			status, err := handOver(ctx, tx, u.ID, u.JobID, job, 0)
			if err != nil {
				return err
			}
			err = WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.WorkerReplaced, Status: status, Attempt: u.Attempt,
				Data: map[string]any{"reason": "its job was lost"}})
			if err != nil {
				return err
			}
		}
		n = len(found)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// tooLate is how much later than our row says River's may be due: more than clocks may differ.
const tooLate = 5 * time.Minute

// Idle tells whether no upload waits to be fetched or delivered, nor to be verified, and no file to be deleted. A file
// that its provider has refused to delete often enough keeps nobody waiting.
func Idle(ctx context.Context, db DB) (idle bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT NOT EXISTS (SELECT FROM slipway.uploads WHERE status IN ('fetching', 'queued', 'pushing', 'retrying', 'verifying'))
		   AND NOT EXISTS (SELECT FROM slipway.file_deletions WHERE attempt < 10)`, args{}).Scan(&idle)
	if err != nil {
		return false, fmt.Errorf("look for work: %w", err)
	}
	return idle, nil
}

// ToUnstage returns ended uploads whose time in staging is over.
func ToUnstage(ctx context.Context, db DB, limit int) ([]upload.ID, error) {
	rows, err := db.Query(ctx, `
		SELECT id
		FROM slipway.uploads
		WHERE unstaged_at IS NULL AND staged_until < now() AND status IN ('completed', 'failed', 'canceled', 'expired')
		ORDER BY staged_until
		LIMIT @limit`, args{"limit": limit})
	return collect("look for bytes to let go", rows, err, pgx.RowTo[upload.ID])
}

// Unstage writes down that an ended upload's bytes are leaving staging, and tells whether they may: a retry may
// have come in between. It comes before the bytes are removed, so that nothing can be retried without them.
func Unstage(ctx context.Context, db DB, id upload.ID) (bool, error) {
	tag, err := db.Exec(ctx, `
		UPDATE slipway.uploads
		SET unstaged_at = now(), version = version + 1
		WHERE id = @id AND unstaged_at IS NULL AND staged_until < now() AND status IN ('completed', 'failed', 'canceled', 'expired')`, args{"id": id})
	if err != nil {
		return false, fmt.Errorf("unstage %s: %w", id, err)
	}
	return tag.RowsAffected() == 1, nil
}

// ErrNotCompleted means that River's row did not follow ours.
var ErrNotCompleted = errors.New("river's row is not running any more")

// CompleteJob finishes River's row in the transaction that finishes the upload. River answers
// without an error when the row is not running any more; that is ErrNotCompleted here.
func CompleteJob[Args river.JobArgs](ctx context.Context, tx pgx.Tx, job *river.Job[Args]) error {
	done, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
	if err != nil {
		return fmt.Errorf("complete job %d: %w", job.ID, err)
	}
	if done.State != rivertype.JobStateCompleted {
		return ErrNotCompleted
	}
	return nil
}
