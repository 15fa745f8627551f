package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// requeued is what becomes of a failed upload that is sent on its way again, beside its job: every budget is fresh.
const requeued = `
	status = 'queued', lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL,
	attempt = 0, takeovers = 0, sessions_lost = 0, pushed_high = pushed_bytes, next_attempt_at = NULL, staged_until = NULL,
	deliver_by = now() + @deliver_within,
	error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL,
	version = version + 1`

// FailedFilter chooses among a user's failed uploads; zero values ask for nothing.
type FailedFilter struct {
	UploadFilter
	IDs   []upload.ID // if not nil these, whatever has become of them
	After upload.ID   // only uploads that are newer than this one
}

// LockFailed returns the uploads that f chooses, oldest first, and keeps everybody else from changing them until the
// transaction ends. What was changed while it waited for them has the status that it has now. Of each it reads
// what sending it again takes: ID, UserID, Status, Provider, Size, Pushed and Unstaged.
func LockFailed(ctx context.Context, tx DB, user string, f FailedFilter) ([]upload.Upload, error) {
	where := `u.status = 'failed' AND NOT u.partial`
	if f.IDs != nil {
		where = `u.status <> 'joined' AND u.id = ANY (@ids::uuid[])`
	}
	if f.After != "" {
		where += ` AND u.id > @after`
	}
	rows, err := tx.Query(ctx, `
		WITH chosen AS (
			SELECT u.id
			FROM slipway.uploads u
			WHERE u.user_id = @user AND `+where+f.where()+`
			ORDER BY u.id
			LIMIT @limit
		)
		SELECT u.id, u.user_id, u.status, u.provider, coalesce(u.size, 0), u.pushed_bytes, u.unstaged_at
		FROM chosen
		JOIN slipway.uploads u USING (id)
		ORDER BY u.id
		FOR UPDATE OF u`, f.withArgs(args{"user": user, "ids": f.IDs, "after": f.After, "limit": f.Limit}))
	return collect("lock failed uploads", rows, err, func(row pgx.CollectableRow) (u upload.Upload, err error) {
		return u, row.Scan(&u.ID, &u.UserID, &u.Status, &u.Provider, &u.Size, &u.Pushed, &u.Unstaged)
	})
}

// RequeueAll is Requeue for several of a user's uploads, each with a job of its own. The transaction has locked them,
// failed and staged as they are.
func RequeueAll(ctx context.Context, tx pgx.Tx, q *Queue, user string, uploads []upload.Upload, deliverWithin time.Duration) error {
	if len(uploads) == 0 {
		return nil
	}
	ids, jobs, err := insertPushes(ctx, tx, q, uploads)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(`
		UPDATE slipway.uploads u
		SET job_id = again.job, `+requeued+`
		FROM unnest(@ids::uuid[], @jobs::bigint[]) AS again(id, job)
		WHERE u.id = again.id AND u.user_id = @user AND u.status = 'failed' AND u.unstaged_at IS NULL
		RETURNING u.id`, args{"ids": ids, "jobs": jobs, "user": user, "deliver_within": deliverWithin},
	).Query(func(rows pgx.Rows) error {
		changed, err := pgx.CollectRows(rows, pgx.RowTo[upload.ID])
		if err == nil && len(changed) != len(uploads) {
			err = fmt.Errorf("of %d uploads %d have failed and are staged", len(uploads), len(changed))
		}
		return err
	})
	queueEvents(b, user)
	b.Queue(`
		WITH e AS (
			INSERT INTO slipway.upload_events (upload_id, user_id, type, status, data)
			SELECT again.id, @user, @type, 'queued', '{"reason": "retry"}'
			FROM unnest(@ids::uuid[]) WITH ORDINALITY AS again(id, n)
			ORDER BY again.n
			RETURNING seq, upload_id, user_id
		)
		SELECT pg_notify('slipway_events', upload_id || ' ' || seq || ' ' || user_id) FROM e`,
		args{"ids": ids, "user": user, "type": upload.StatusChanged})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("send %d uploads again: %w", len(uploads), err)
	}
	return nil
}

// insertPushes inserts a job for each of the uploads, and returns which upload has which.
func insertPushes(ctx context.Context, tx pgx.Tx, q *Queue, uploads []upload.Upload) (ids []upload.ID, jobs []int64, err error) {
	params := make([]river.InsertManyParams, len(uploads))
	for i, u := range uploads {
		if params[i], err = newPush(u); err != nil {
			return nil, nil, err
		}
	}
	inserted, err := q.InsertManyTx(ctx, tx, params)
	if err != nil {
		return nil, nil, fmt.Errorf("insert %d jobs: %w", len(params), err)
	}
	for _, i := range inserted {
		var push upload.PushArgs
		if err := json.Unmarshal(i.Job.EncodedArgs, &push); err != nil {
			return nil, nil, fmt.Errorf("job %d: %w", i.Job.ID, err)
		}
		ids, jobs = append(ids, push.UploadID), append(jobs, i.Job.ID)
	}
	return ids, jobs, nil
}
