package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// Import is where an upload is fetched from, and how it was asked for.
type Import struct {
	URL          string // whole; it may hold a token
	FileName     string // "": as the source calls it
	ResourceType string // "": by the content
	MaxBytes     int64
	FetchBy      time.Time // when an import that has not come in is given up
	Validator    string    // by which the source knows the file that was begun; "": it cannot be gone on with
}

// InsertFetch inserts the job that fetches an upload and returns its id, which is to be written on the upload in the
// same transaction.
func InsertFetch(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) (int64, error) {
	return insertFetch(ctx, tx, q, u, priorityNew, 0)
}

func insertFetch(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, priority int, takeoverOf int64) (int64, error) {
	metadata, err := json.Marshal(pushMetadata{UserID: u.UserID, TakeoverOf: takeoverOf})
	if err != nil {
		return 0, err
	}
	opts := &river.InsertOpts{Queue: upload.FetchQueue, Priority: priority, MaxAttempts: pushMaxAttempts, Metadata: metadata}
	if u.NextAttemptAt != nil {
		opts.ScheduledAt = *u.NextAttemptAt
	}
	res, err := q.InsertTx(ctx, tx, upload.FetchArgs{UploadID: u.ID}, opts)
	if err != nil {
		return 0, fmt.Errorf("insert the job: %w", err)
	}
	return res.Job.ID, nil
}

// InsertImport inserts an upload that is to be fetched, with the job that will, and its first event, and returns when it
// is given up. It is the last step of its transaction.
func InsertImport(ctx context.Context, tx DB, u upload.Upload, im Import, within time.Duration) (expires time.Time, err error) {
	b := &pgx.Batch{}
	b.Queue(`
		INSERT INTO slipway.uploads (
			id, user_id, status, provider, resource_type, file_name, content_type, metadata, tags, job_id, max_attempts, created_at, expires_at)
		VALUES (
			@id, @user, 'fetching', @provider, nullif(@resource_type, ''), @file_name, @content_type, @metadata, @tags, @job, @max_attempts,
			@created, now() + @within)
		RETURNING expires_at`,
		args{
			"id": u.ID, "user": u.UserID, "provider": u.Provider, "resource_type": im.ResourceType, "file_name": u.FileName, "content_type": u.ContentType,
			"metadata": orEmpty(u.Metadata), "tags": orNone(u.Tags), "job": u.JobID, "max_attempts": u.MaxAttempts, "created": u.CreatedAt, "within": within,
		}).QueryRow(func(row pgx.Row) error { return row.Scan(&expires) })
	b.Queue(`
		INSERT INTO slipway.imports (upload_id, user_id, url, file_name, resource_type, max_bytes, fetch_by)
		VALUES (@id, @user, @url, @file_name, @resource_type, @max_bytes, now() + @within)`,
		args{
			"id": u.ID, "user": u.UserID, "url": im.URL, "file_name": im.FileName, "resource_type": im.ResourceType, "max_bytes": im.MaxBytes, "within": within,
		})
	queueEvents(b, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Fetching})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return expires, fmt.Errorf("insert the import: %w", err)
	}
	return expires, nil
}

// TakeFetch begins an attempt: the lease goes to owner for ttl, and with it the right to add bytes. It returns
// ErrNoUpload when job is not the one that may fetch, or nothing is to be fetched.
func TakeFetch(ctx context.Context, tx DB, id upload.ID, job int64, owner string, ttl time.Duration) (r Reception, im Import, err error) {
	r, err = oneReception(tx.Query(ctx, `
		UPDATE slipway.uploads u
		SET lease_epoch = lease_epoch + 1, lease_owner = @owner, lease_until = now() + @ttl,
		    attempt = attempt + 1, next_attempt_at = NULL, version = version + 1
		WHERE u.id = @id AND u.job_id = @job AND u.status = 'fetching'
		RETURNING `+receptionColumns, args{"id": id, "job": job, "owner": owner, "ttl": ttl}))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, im, ErrNoUpload
	}
	if err != nil {
		return r, im, err
	}
	if r, err = TakeOver(ctx, tx, r.UserID, id, r.ReceiveEpoch, true); err != nil {
		return r, im, err
	}
	err = tx.QueryRow(ctx, `
		SELECT url, file_name, resource_type, max_bytes, fetch_by, validator
		FROM slipway.imports
		WHERE upload_id = @id`, args{"id": id}).
		Scan(&im.URL, &im.FileName, &im.ResourceType, &im.MaxBytes, &im.FetchBy, &im.Validator)
	if err != nil {
		return r, im, fmt.Errorf("read the import: %w", err)
	}
	return r, im, nil
}

// DescribeFetch writes down what a source says of a file before its first byte is received, and by which validator it
// knows it. A size of 0 is not known.
func DescribeFetch(ctx context.Context, tx DB, u upload.Upload, validator string) error {
	err := fence(ctx, tx, u, upload.Fetching, `
		size = nullif(@size::bigint, 0), file_name = @file_name, content_type = @content_type, resource_type = nullif(@resource_type, ''), version = version + 1`,
		args{"size": u.Size, "file_name": u.FileName, "content_type": u.ContentType, "resource_type": u.ResourceType})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		UPDATE slipway.imports
		SET validator = @validator
		WHERE upload_id = @id`, args{"id": u.ID, "validator": validator})
	if err != nil {
		return fmt.Errorf("write the import: %w", err)
	}
	return nil
}

// FetchAdvanced gives an import its budgets back: bytes have come that need not come again.
func FetchAdvanced(ctx context.Context, db DB, u upload.Upload) error {
	return fence(ctx, db, u, upload.Fetching, `attempt = 1, takeovers = 0, version = version + (attempt <> 1)::int`, nil)
}

// EndFetch lets go of an upload whose bytes are all there; FinishReceiving is the next step of its transaction.
func EndFetch(ctx context.Context, tx DB, u upload.Upload) error {
	return fence(ctx, tx, u, upload.Fetching, `
		attempt = 0, takeovers = 0, lease_owner = NULL, lease_until = NULL, next_attempt_at = NULL,
		error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL`, args{})
}

// FailFetch is the end of an import that was given up. Nothing is kept of its bytes.
func FailFetch(ctx context.Context, tx DB, u upload.Upload, e upload.Error) error {
	err := fence(ctx, tx, u, upload.Fetching, setError+`, status = 'failed', receive_epoch = receive_epoch + 1, receive_held = false,
		lease_owner = NULL, lease_until = NULL, next_attempt_at = NULL, expires_at = NULL, unstaged_at = now(), version = version + 1`,
		errorArgs(e, args{}))
	if err != nil {
		return err
	}
	if err := Release(ctx, tx, u.ID); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Failed, Attempt: u.Attempt,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// WaitFetch ends an attempt that will be made again after a while, and says why. One that was not the source's
// fault is given back.
func WaitFetch(ctx context.Context, tx DB, u upload.Upload, e upload.Error, after time.Duration, giveBack bool) error {
	err := fence(ctx, tx, u, upload.Fetching, setError+`, `+letGo+`, receive_held = false, next_attempt_at = now() + @after,
		attempt = CASE WHEN @give_back THEN greatest(attempt - 1, 0) ELSE attempt END, version = version + 1`,
		errorArgs(e, args{"after": after, "give_back": giveBack}))
	if err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.AttemptFailed, Status: upload.Fetching, Attempt: u.Attempt,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// HandBackFetch ends an attempt because the worker stops; the attempt is not counted.
func HandBackFetch(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) error {
	job, err := insertFetch(ctx, tx, q, u, priorityResume, 0)
	if err != nil {
		return err
	}
	return fence(ctx, tx, u, upload.Fetching, `
		job_id = @job, lease_owner = NULL, lease_until = NULL, receive_held = false, attempt = greatest(attempt - 1, 0), version = version + 1`,
		args{"job": job})
}
