package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// uploadColumns are read in the order in which scanUpload takes them.
const uploadColumns = `
	u.id, u.user_id, u.status, u.provider, coalesce(u.resource_type, ''), u.file_name, u.content_type,
	coalesce(u.size, 0), u.received_bytes, u.pushed_bytes, u.progress, coalesce(u.crc32c, 0),
	u.attempt, u.max_attempts, u.next_attempt_at, u.deliver_by, u.error_code, u.error_message, u.error_retryable, u.error_fixable_by,
	u.asset, u.metadata, u.tags, u.version, u.created_at, u.staged_at, u.started_at, u.completed_at, u.expires_at,
	u.staged_until, u.unstaged_at, coalesce(u.job_id, 0), u.lease_epoch, u.segments`

func scanUpload(row pgx.CollectableRow) (upload.Upload, error) { return scanUploadAnd(row) }

// scanUploadAnd scans what stands behind the upload's columns, too.
func scanUploadAnd(row pgx.CollectableRow, more ...any) (upload.Upload, error) {
	var u upload.Upload
	var crc int64
	var code, message, fixable *string
	var retryable *bool
	var asset []byte
	err := row.Scan(append([]any{&u.ID, &u.UserID, &u.Status, &u.Provider, &u.ResourceType, &u.FileName, &u.ContentType,
		&u.Size, &u.Received, &u.Pushed, &u.Progress, &crc,
		&u.Attempt, &u.MaxAttempts, &u.NextAttemptAt, &u.DeliverBy, &code, &message, &retryable, &fixable,
		&asset, &u.Metadata, &u.Tags, &u.Version, &u.CreatedAt, &u.StagedAt, &u.StartedAt, &u.CompletedAt, &u.ExpiresAt,
		&u.StagedUntil, &u.Unstaged, &u.JobID, &u.Epoch, &u.Segments}, more...)...)
	if err != nil {
		return u, err
	}
	u.CRC32C = uint32(crc)
	if code != nil {
		u.Error = &upload.Error{Code: upload.Code(*code), Message: deref(message), Retryable: retryable != nil && *retryable, FixableBy: deref(fixable)}
	}
	if asset != nil {
		if err := json.Unmarshal(asset, &u.Asset); err != nil {
			return u, fmt.Errorf("asset of %s: %w", u.ID, err)
		}
	}
	return u, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// ErrNoUpload means that no row answers the question: there is none, or it is not as it was asked for.
var ErrNoUpload = errors.New("no such upload")

func oneUpload(rows pgx.Rows, err error) (upload.Upload, error) {
	if err != nil {
		return upload.Upload{}, fmt.Errorf("upload: %w", err)
	}
	u, err := pgx.CollectExactlyOneRow(rows, scanUpload)
	if errors.Is(err, pgx.ErrNoRows) {
		return u, ErrNoUpload
	}
	if err != nil {
		return u, fmt.Errorf("upload: %w", err)
	}
	return u, nil
}

// InsertStaged inserts an upload whose bytes are durable, with the job that will push it, and its
// first event. It is the last step of the transaction that accepts an upload.
func InsertStaged(ctx context.Context, tx DB, u upload.Upload, deliverWithin time.Duration) error {
	return insertStaged(ctx, tx, &pgx.Batch{}, u, deliverWithin)
}

// insertStaged does it after what b does.
func insertStaged(ctx context.Context, tx DB, b *pgx.Batch, u upload.Upload, deliverWithin time.Duration) error {
	b.Queue(`
		INSERT INTO slipway.uploads (
			id, user_id, status, provider, resource_type, file_name, content_type, size, received_bytes, crc32c,
			metadata, tags, max_attempts, job_id, created_at, staged_at, deliver_by, progress, segments)
		VALUES (
			@id, @user, 'queued', @provider, nullif(@resource_type, ''), @file_name, @content_type, @size, @size, @crc32c,
			@metadata, @tags, @max_attempts, @job, @created, @created, now() + @deliver_within, 0.5, @segments)`,
		args{
			"id": u.ID, "user": u.UserID, "provider": u.Provider, "resource_type": u.ResourceType, "file_name": u.FileName,
			"content_type": u.ContentType, "size": u.Size, "crc32c": int64(u.CRC32C), "metadata": orEmpty(u.Metadata), "tags": orNone(u.Tags),
			"max_attempts": u.MaxAttempts, "job": u.JobID, "created": u.CreatedAt, "deliver_within": deliverWithin,
			"segments": u.Segments,
		})
	queueEvents(b, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Queued})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("insert the upload: %w", err)
	}
	return nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// UploadExists tells whether the upload's row is there, whoever owns it.
func UploadExists(ctx context.Context, db DB, id upload.ID) (there bool, err error) {
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM slipway.uploads WHERE id = @id)`, args{"id": id}).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for the upload: %w", err)
	}
	return there, nil
}

// GetUpload returns a user's upload, or ErrNoUpload for one that is unknown, foreign or joined to another.
func GetUpload(ctx context.Context, db Querier, user string, id upload.ID) (upload.Upload, error) {
	return oneUpload(db.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		WHERE u.id = @id AND u.user_id = @user AND u.status <> 'joined'`, args{"id": id, "user": user}))
}

// UploadOf returns an upload whoever owns it: for the worker, and for what is public.
func UploadOf(ctx context.Context, db Querier, id upload.ID) (upload.Upload, error) {
	return oneUpload(db.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		WHERE u.id = @id`, args{"id": id}))
}

// ChangeProvider has a failed upload of the caller's begin anew at another provider. It is false, and nothing
// has changed, where the old one may have stored the file.
func ChangeProvider(ctx context.Context, tx DB, id upload.ID, to string) (changed bool, err error) {
	err = tx.QueryRow(ctx, `SELECT slipway.change_provider(@id, @to)`, args{"id": id, "to": to}).Scan(&changed)
	if err != nil {
		return false, fmt.Errorf("change the provider: %w", err)
	}
	return changed, nil
}

// Requeue sends a failed upload on its way again with a job of its own, every budget fresh. It
// returns ErrNoUpload when the upload is not the user's, has not failed or is not staged any more.
func Requeue(ctx context.Context, tx DB, user string, id upload.ID, job int64, deliverWithin time.Duration) (upload.Upload, error) {
	u, err := oneUpload(tx.Query(ctx, `
		UPDATE slipway.uploads u
		SET job_id = @job, `+requeued+`
		WHERE u.id = @id AND u.user_id = @user AND u.status = 'failed' AND u.unstaged_at IS NULL
		RETURNING `+uploadColumns, args{"id": id, "user": user, "job": job, "deliver_within": deliverWithin}))
	if err != nil {
		return u, err
	}
	return u, WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Queued, Data: map[string]any{"reason": "retry"}})
}
