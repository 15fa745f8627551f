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
	return insertPush(ctx, tx, q, u, priorityNew, 0)
}

// pushMetadata is what a River row says beside its id: whom it works for, by which requests are
// kept apart, and the row of a lost worker that it replaces.
type pushMetadata struct {
	UserID     string `json:"user_id"`
	TakeoverOf int64  `json:"takeover_of,omitempty"`
}

func insertPush(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, priority int, takeoverOf int64) (int64, error) {
	metadata, err := json.Marshal(pushMetadata{UserID: u.UserID, TakeoverOf: takeoverOf})
	if err != nil {
		return 0, err
	}
	opts := &river.InsertOpts{
		Queue:       upload.Queue(u.Provider, u.Size),
		Priority:    priority,
		MaxAttempts: pushMaxAttempts,
		Metadata:    metadata,
	}
	if u.NextAttemptAt != nil {
		opts.ScheduledAt = *u.NextAttemptAt
	}
	res, err := q.InsertTx(ctx, tx, upload.PushArgs{UploadID: u.ID}, opts)
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

// Reap finds pushes whose worker is gone: the lease has run out, or a worker died between fetching
// the job and taking the lease. The dead River row is retired and a new one inserted in the same
// transaction, for a worker that wakes up can only finish the row that it knows. After a restart of
// the database everybody has one ttl to report.
func Reap(ctx context.Context, pool *pgxpool.Pool, q *Queue, ttl, keepStaged time.Duration) ([]Reaped, error) {
	var reaped []Reaped
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		reaped = reaped[:0]
		rows, err := tx.Query(ctx, `
			SELECT u.id, u.user_id, u.provider, u.size, u.takeovers, u.attempt, u.next_attempt_at, j.id AS job, j.attempt AS job_attempt,
			       now() - greatest(coalesce(u.lease_until, '-infinity'), j.attempted_at + @ttl) AS overdue
			FROM slipway.uploads u
			JOIN slipway.river_job j ON j.id = u.job_id AND `+pushesUpload+`
			WHERE u.status IN ('queued', 'retrying', 'pushing')
			  AND j.state = 'running'
			  AND greatest(coalesce(u.lease_until, '-infinity'), j.attempted_at + @ttl) < now()
			  AND pg_postmaster_start_time() < now() - @ttl::interval
			ORDER BY u.id
			LIMIT 50
			FOR UPDATE OF u, j SKIP LOCKED`, args{"ttl": ttl})
		type dead struct {
			ID            upload.ID
			UserID        string
			Provider      string
			Size          int64
			Takeovers     int
			Attempt       int
			NextAttemptAt *time.Time
			Job           int64
			JobAttempt    int
			Overdue       time.Duration
		}
		found, err := collect("look for dead workers", rows, err, pgx.RowToStructByName[dead])
		if err != nil {
			return err
		}
		slices.SortStableFunc(found, func(a, b dead) int { return strings.Compare(a.UserID, b.UserID) })
		for _, d := range found {
			note, err := json.Marshal(rivertype.AttemptError{At: time.Now().UTC(), Attempt: d.JobAttempt, Error: "the worker is gone: its lease ran out"})
			if err != nil {
				return err
			}
			// The one place that writes to River's table: River has no way to retire a running row.
			tag, err := tx.Exec(ctx, `
				UPDATE slipway.river_job
				SET state = 'discarded', finalized_at = now(), errors = array_append(errors, @note::jsonb)
				WHERE id = @job AND state = 'running' AND attempt = @attempt`, args{"job": d.Job, "attempt": d.JobAttempt, "note": string(note)})
			if err != nil {
				return fmt.Errorf("retire job %d: %w", d.Job, err)
			}
			if tag.RowsAffected() == 0 {
				continue
			}
			if d.Takeovers >= maxTakeovers {
				if err := giveUp(ctx, tx, d.ID, d.Job, d.UserID, keepStaged); err != nil {
					return err
				}
				continue
			}
			job, err := insertPush(ctx, tx, q, upload.Upload{
				ID: d.ID, UserID: d.UserID, Provider: d.Provider, Size: d.Size, NextAttemptAt: d.NextAttemptAt,
			}, priorityResume, d.Job)
			if err != nil {
				return err
			}
			status, err := handOver(ctx, tx, d.ID, d.Job, job, 1)
			if err != nil {
				return err
			}
			err = WriteEvents(ctx, tx, d.UserID, upload.Event{UploadID: d.ID, Type: upload.WorkerReplaced, Status: status, Attempt: d.Attempt,
				Data: map[string]any{"takeovers": d.Takeovers + 1}})
			if err != nil {
				return err
			}
			reaped = append(reaped, Reaped{ID: d.ID, Job: job, Takeovers: d.Takeovers + 1, Overdue: d.Overdue})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reaped, nil
}

// handOver puts another job in the place of one that will not finish. A push that had begun is
// queued again and its attempt, which somebody else's death has ended, is not counted; an upload
// that waited still waits.
func handOver(ctx context.Context, tx pgx.Tx, id upload.ID, from, to int64, takeovers int) (status upload.Status, err error) {
	err = tx.QueryRow(ctx, `
		UPDATE slipway.uploads
		SET status = CASE status WHEN 'pushing' THEN 'queued' ELSE status END,
		    attempt = CASE status WHEN 'pushing' THEN greatest(attempt - 1, 0) ELSE attempt END,
		    job_id = @to, lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL,
		    takeovers = takeovers + @takeovers, version = version + 1
		WHERE id = @id AND job_id IS NOT DISTINCT FROM nullif(@from, 0) AND status IN ('queued', 'pushing', 'retrying')
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
		    staged_until = now() + @keep, version = version + 1
		WHERE id = @id AND job_id = @job AND status IN ('queued', 'pushing', 'retrying')`,
		errorArgs(e, args{"id": id, "job": job, "keep": keepStaged}))
	if err != nil {
		return fmt.Errorf("give up %s: %w", id, err)
	}
	return WriteEvents(ctx, tx, user, upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Failed,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// pushesUpload tells of a River row j that it is a push of u: what it is called by is not enough.
const pushesUpload = `j.kind = 'push' AND j.args ->> 'upload_id' = u.id::text`

// willRun tells of a River row j that it runs, or will.
const willRun = `j.state IN ('available', 'scheduled', 'retryable', 'running')`

// Adopt gives a job to uploads that wait for delivery and whose River row will never run, or long after it
// should: it ended, is not there any more, or is another's. It repairs what no crash should have left. The row
// that it replaces finds nothing to do, if it ever runs.
func Adopt(ctx context.Context, pool *pgxpool.Pool, q *Queue) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+uploadColumns+`
			FROM slipway.uploads u
			WHERE u.status IN ('queued', 'retrying', 'pushing')
			  AND (u.lease_until IS NULL OR u.lease_until < now())
			  AND NOT EXISTS (
			      SELECT FROM slipway.river_job j
			      WHERE j.id = u.job_id AND `+pushesUpload+` AND `+willRun+`
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
			job, err := insertPush(ctx, tx, q, u, priorityResume, u.JobID)
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

// Idle tells whether no upload waits for delivery, nor to be verified, and no file to be deleted. A file
// that its provider has refused to delete often enough keeps nobody waiting.
func Idle(ctx context.Context, db DB) (idle bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT NOT EXISTS (SELECT FROM slipway.uploads WHERE status IN ('queued', 'pushing', 'retrying', 'verifying'))
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
func CompleteJob(ctx context.Context, tx pgx.Tx, job *river.Job[upload.PushArgs]) error {
	done, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
	if err != nil {
		return fmt.Errorf("complete job %d: %w", job.ID, err)
	}
	if done.State != rivertype.JobStateCompleted {
		return ErrNotCompleted
	}
	return nil
}
