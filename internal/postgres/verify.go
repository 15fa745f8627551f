package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// InsertVerify inserts the job that asks the provider about a direct upload and returns its id, which is
// to be written on the upload in the same transaction.
func InsertVerify(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) (int64, error) {
	metadata, err := json.Marshal(pushMetadata{UserID: u.UserID})
	if err != nil {
		return 0, err
	}
	res, err := q.InsertTx(ctx, tx, upload.VerifyArgs{UploadID: u.ID}, &river.InsertOpts{
		Queue: upload.VerifyQueue(u.Provider), Priority: priorityResume, MaxAttempts: pushMaxAttempts, Metadata: metadata,
	})
	if err != nil {
		return 0, fmt.Errorf("insert the job: %w", err)
	}
	return res.Job.ID, nil
}

// ReadDirect returns a direct upload to the job that may work on it, and ErrNoUpload to every other.
func ReadDirect(ctx context.Context, db DB, id upload.ID, job int64) (upload.Upload, Claim, error) {
	u, err := UploadOf(ctx, db, id)
	if err == nil && u.JobID != job {
		err = ErrNoUpload
	}
	if err != nil {
		return u, Claim{}, err
	}
	d, err := oneClaim(db.Query(ctx, `
		SELECT `+claimColumns+`
		FROM slipway.direct_uploads d
		WHERE d.upload_id = @id`, args{"id": id}))
	return u, d, err
}

// ErrTaken means that another upload, or a row of a guide's table, has the asset.
var ErrTaken = errors.New("the asset is somebody else's")

// OwnAsset makes an asset that is being verified its claimant's. Errors: ErrTaken, after which the
// transaction is of no use any more; ErrNoUpload when the upload is not u.JobID's to verify.
func OwnAsset(ctx context.Context, tx DB, u upload.Upload, assetID string) error {
	if err := verified(ctx, tx, u, `job_id = job_id`, args{}); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET owned = true
		WHERE upload_id = @id AND NOT owned`, args{"id": u.ID})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == "direct_uploads_owned" {
		return ErrTaken
	}
	if err != nil {
		return fmt.Errorf("own the asset: %w", err)
	}
	var taken bool
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM `+guideTableOf(u.Provider)+`
			WHERE `+guideKeyOf(u.Provider)+` = @asset AND (user_id <> @user OR upload_id <> @id))`,
		args{"asset": assetID, "user": u.UserID, "id": u.ID}).Scan(&taken)
	if err != nil {
		return fmt.Errorf("look for the guide's row: %w", err)
	}
	if taken {
		return ErrTaken
	}
	return nil
}

func guideTableOf(provider string) string {
	if provider == "cloudinary" {
		return "public.cloudinary_files"
	}
	return "public.uploadcare_files"
}

func guideKeyOf(provider string) string {
	if provider == "cloudinary" {
		return "public_id"
	}
	return "file_id"
}

// CompleteDirect is the end of a direct upload that was verified: the asset, the guide's row, the status
// and its event. u has what the provider says of the file. With details the asset is yet to be
// described, by that job. Errors: ErrTaken; ErrNoUpload when the upload is not u.JobID's to verify.
func CompleteDirect(ctx context.Context, tx DB, u upload.Upload, a upload.Asset, details int64) error {
	if err := OwnAsset(ctx, tx, u, a.ID); err != nil {
		return err
	}
	err := verified(ctx, tx, u, `
		status = 'completed', asset = @asset, completed_at = now(), size = nullif(@size::bigint, 0), pushed_bytes = @size, pushed_high = @size,
		progress = 1, resource_type = nullif(@resource_type, ''), file_name = @file_name, content_type = @content_type, tags = @tags,
		attempt = attempt + 1, job_id = coalesce(nullif(@details, 0), job_id), next_attempt_at = NULL, expires_at = NULL,
		error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL, version = version + 1`,
		args{"asset": a, "size": a.Size, "resource_type": a.ResourceType, "file_name": u.FileName, "content_type": a.ContentType,
			"tags": orNone(u.Tags), "details": details})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET details_due = @due
		WHERE upload_id = @id`, args{"id": u.ID, "due": details != 0}); err != nil {
		return fmt.Errorf("write the claim: %w", err)
	}
	if err := writeDirectRow(ctx, tx, u, a); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Completed, Attempt: u.Attempt + 1,
		Data: map[string]any{"url": a.URL}})
}

// writeDirectRow writes the guide's row and sees to it that it is the upload's: another user's stays as it is.
func writeDirectRow(ctx context.Context, tx DB, u upload.Upload, a upload.Asset) error {
	u.ContentType = a.ContentType
	if err := insertGuideRow(ctx, tx, u, a); err != nil {
		return err
	}
	var ours bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM `+guideTableOf(u.Provider)+`
			WHERE `+guideKeyOf(u.Provider)+` = @asset AND upload_id = @id)`, args{"asset": a.ID, "id": u.ID}).Scan(&ours)
	if err != nil {
		return fmt.Errorf("look for the guide's row: %w", err)
	}
	if !ours {
		return ErrTaken
	}
	return nil
}

// DescribeDirect adds what has become known of a completed upload's asset. It returns ErrNoUpload when the
// upload is not completed any more, or not u.JobID's.
func DescribeDirect(ctx context.Context, tx DB, u upload.Upload, a upload.Asset) error {
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET asset = @asset, size = nullif(@size::bigint, 0), pushed_bytes = @size, pushed_high = @size, resource_type = nullif(@resource_type, ''),
		    file_name = @file_name, content_type = @content_type, tags = @tags, next_attempt_at = NULL, version = version + 1
		WHERE id = @id AND job_id = @job AND status = 'completed'`,
		args{"id": u.ID, "job": u.JobID, "asset": a, "size": a.Size, "resource_type": a.ResourceType, "file_name": u.FileName,
			"content_type": a.ContentType, "tags": orNone(u.Tags)})
	if err != nil {
		return fmt.Errorf("describe the asset: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	if err := NothingDue(ctx, tx, u.ID); err != nil {
		return err
	}
	if err := writeDirectRow(ctx, tx, u, a); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.AssetDescribed, Status: upload.Completed, Attempt: u.Attempt,
		Data: map[string]any{"url": a.URL, "size": a.Size}})
}

// NothingDue says that no more will become known of an upload's asset.
func NothingDue(ctx context.Context, db DB, id upload.ID) error {
	_, err := db.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET details_due = false
		WHERE upload_id = @id`, args{"id": id})
	if err != nil {
		return fmt.Errorf("write the claim: %w", err)
	}
	return nil
}

// FailDirect is the end of a claim that came to nothing. The asset is anybody's again who may claim it.
func FailDirect(ctx context.Context, tx DB, u upload.Upload, e upload.Error) error {
	err := verified(ctx, tx, u, setError+`, status = 'failed', attempt = attempt + 1, next_attempt_at = NULL, version = version + 1`, errorArgs(e, args{}))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET owned = false
		WHERE upload_id = @id`, args{"id": u.ID}); err != nil {
		return fmt.Errorf("write the claim: %w", err)
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Failed, Attempt: u.Attempt + 1,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// DelayDirect says why a direct upload is not verified yet, and when it is asked for again.
func DelayDirect(ctx context.Context, tx DB, u upload.Upload, e upload.Error, after time.Duration) error {
	err := verified(ctx, tx, u, setError+`, attempt = attempt + 1, next_attempt_at = now() + @after, version = version + 1`,
		errorArgs(e, args{"after": after}))
	if err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.AttemptFailed, Status: upload.Verifying, Attempt: u.Attempt + 1,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// verified changes a row that is being verified by u.JobID, or returns ErrNoUpload.
func verified(ctx context.Context, tx DB, u upload.Upload, set string, a args) error {
	a["id"], a["job"] = u.ID, u.JobID
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET `+set+`
		WHERE id = @id AND job_id = @job AND status = 'verifying'`, a)
	if err != nil {
		return fmt.Errorf("write the upload: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	return nil
}

// ExpireReserved ends an upload whose file was not sent in time. It returns ErrNoUpload when the upload is not
// u.JobID's, or has time left.
func ExpireReserved(ctx context.Context, tx DB, u upload.Upload) error {
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET status = 'expired', version = version + 1
		WHERE id = @id AND job_id = @job AND status = 'reserved' AND expires_at < now()`, args{"id": u.ID, "job": u.JobID})
	if err != nil {
		return fmt.Errorf("expire the upload: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Expired})
}

// AdoptDirect gives a job to direct uploads about which a provider is to be asked and whose River row will
// never run, or has been running for longer than dead: its worker is gone. Reservations that have run
// out get their first job here.
func AdoptDirect(ctx context.Context, pool *pgxpool.Pool, q *Queue, dead time.Duration) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+uploadColumns+`
			FROM slipway.uploads u
			WHERE u.id IN (
			      SELECT id FROM slipway.uploads WHERE status = 'verifying'
			      UNION ALL
			      SELECT id FROM slipway.uploads WHERE status = 'reserved' AND expires_at < now()
			      UNION ALL
			      SELECT upload_id FROM slipway.direct_uploads WHERE details_due)
			  AND u.status IN ('verifying', 'reserved', 'completed')
			  AND NOT EXISTS (
			      SELECT FROM slipway.river_job j
			      WHERE j.id = u.job_id AND j.kind = @kind AND j.args ->> 'upload_id' = u.id::text AND `+willRun+`
			        AND NOT (j.state = 'running' AND j.attempted_at < now() - @dead::interval))
			ORDER BY u.id
			LIMIT 50
			FOR UPDATE OF u SKIP LOCKED`, args{"dead": dead, "kind": upload.VerifyArgs{}.Kind()})
		if err != nil {
			return fmt.Errorf("look for questions that nobody asks: %w", err)
		}
		found, err := pgx.CollectRows(rows, scanUpload)
		if err != nil {
			return fmt.Errorf("look for questions that nobody asks: %w", err)
		}
		for _, u := range found {
			job, err := InsertVerify(ctx, tx, q, u)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE slipway.uploads SET job_id = @job WHERE id = @id`, args{"id": u.ID, "job": job}); err != nil {
				return fmt.Errorf("hand over %s: %w", u.ID, err)
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
