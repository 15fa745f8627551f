package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// Deletion is what is to be removed: the asset of a file, or whatever there is of an upload that was ended
// before it was one.
type Deletion struct {
	ID       upload.ID
	UserID   string
	Provider string
	Asset    upload.Asset // without an ID where there is no file
	Upload   *upload.ID   // nil for a file from before Slipway
	Row      *int64       // of the guide's table; nil where the guide's own app has removed it
	StoredAt *time.Time
	JobID    int64
	Attempt  int
	Sent     bool          // until now somebody may have been sending what is to be removed
	Quiet    time.Duration // since nobody has been; below 0 until then

	Remains []Remains // what there may be where there is no file

	// Spared says that the provider is to keep the asset: it has become another row's since, or the
	// database has been copied since, and it is the original's.
	Spared bool
	// Unsure says that the asset's resource type is only what its owner has said: it is yet to be described.
	Unsure bool
}

// DeleteFile begins to delete a user's completed upload: its row says so, and a job will remove the asset.
// An upload that is being deleted, or is deleted, is returned as it is. Errors: ErrNoUpload for what is not
// the user's, and for an upload that has no file yet; OtherInstallation.
func DeleteFile(ctx context.Context, tx pgx.Tx, q *Queue, user string, id upload.ID) (upload.Upload, error) {
	u, err := lockUpload(ctx, tx, user, id)
	if err != nil {
		return u, err
	}
	switch u.Status {
	case upload.Completed, upload.Deleting, upload.Deleted:
		return deleteUpload(ctx, tx, q, u)
	}
	return u, ErrNoUpload
}

// deleteFile writes down that the asset of a completed upload is to be removed.
func deleteFile(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) error {
	d := Deletion{ID: upload.NewID(), UserID: u.UserID, Provider: u.Provider, Asset: *u.Asset, Upload: &u.ID, StoredAt: u.CompletedAt}
	f, err := GetFile(ctx, tx, u.UserID, u.ID)
	if err == nil {
		d.Row = &f.Row
	} else if !errors.Is(err, ErrNoUpload) {
		return err
	}
	return insertDeletion(ctx, tx, q, d)
}

// DeleteFileRow begins to delete a user's file from before Slipway, by its row in a guide table. One that is
// being deleted already is no error. Errors: ErrNoUpload for what is not there, or not the user's;
// OtherInstallation; UnknownResourceType where the row does not tell what Cloudinary has.
func DeleteFileRow(ctx context.Context, tx pgx.Tx, q *Queue, user, provider string, row int64) error {
	var begun bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM slipway.file_deletions WHERE user_id = @user AND provider = @provider AND guide_row = @row)`,
		args{"user": user, "provider": provider, "row": row}).Scan(&begun)
	if err != nil {
		return fmt.Errorf("look for the deletion: %w", err)
	}
	if begun {
		return nil
	}
	f, err := GetFileRow(ctx, tx, user, provider, row)
	if err != nil {
		return err
	}
	if f.UploadID != nil {
		if _, err := DeleteFile(ctx, tx, q, user, *f.UploadID); !errors.Is(err, ErrNoUpload) {
			return err
		}
	}
	kinds := []upload.ResourceType{upload.Image, upload.Video, upload.Raw}
	if provider == "cloudinary" && !slices.Contains(kinds, f.ResourceType) {
		return &upload.Error{Code: upload.UnknownResourceType, FixableBy: upload.ByOperator,
			Message: fmt.Sprintf("The row in cloudinary_files says that this is a %.40q, which Cloudinary does not have. It can be deleted once the row says image, video or raw.", f.ResourceType)}
	}
	return insertDeletion(ctx, tx, q, Deletion{ID: upload.NewID(), UserID: user, Provider: provider,
		Asset: upload.Asset{ID: f.AssetID, URL: f.URL, ResourceType: f.ResourceType}, Upload: f.UploadID, Row: &f.Row, StoredAt: f.UploadedAt})
}

// insertDeletion writes down what is to be removed, with the job that removes it. Where another request was
// quicker its row stays, and the job here finds nothing to do.
func insertDeletion(ctx context.Context, tx pgx.Tx, q *Queue, d Deletion) error {
	var others bool
	err := tx.QueryRow(ctx, `SELECT slipway.is_originals(@provider, @asset_id, @stored_at)`,
		args{"provider": d.Provider, "asset_id": d.Asset.ID, "stored_at": d.StoredAt}).Scan(&others)
	if err != nil {
		return fmt.Errorf("look whose the asset is: %w", err)
	}
	if others {
		return &upload.Error{Code: upload.OtherInstallation, FixableBy: upload.ByOperator,
			Message: "The file belongs to the installation that this one was copied from, and can be deleted only there."}
	}
	return writeDeletion(ctx, tx, q, d)
}

func writeDeletion(ctx context.Context, tx pgx.Tx, q *Queue, d Deletion) error {
	job, err := insertDelete(ctx, tx, q, d)
	if err != nil {
		return err
	}
	var asset *upload.Asset
	if d.Asset.ID != "" {
		asset = &d.Asset
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO slipway.file_deletions (id, user_id, provider, asset, upload_id, guide_row, stored_at, job_id, since)
		VALUES (@id, @user, @provider, @asset, @upload, @row, @stored_at, @job, `+lastSent+`)
		ON CONFLICT DO NOTHING`,
		args{"id": d.ID, "user": d.UserID, "provider": d.Provider, "asset": asset, "upload": d.Upload, "row": d.Row, "stored_at": d.StoredAt,
			"job": job, "sent": d.Sent, "life": upload.ReservationLife})
	if err != nil {
		return fmt.Errorf("write down the deletion: %w", err)
	}
	return nil
}

func insertDelete(ctx context.Context, tx pgx.Tx, q *Queue, d Deletion) (int64, error) {
	metadata, err := json.Marshal(pushMetadata{UserID: d.UserID})
	if err != nil {
		return 0, err
	}
	res, err := q.InsertTx(ctx, tx, upload.DeleteArgs{DeletionID: d.ID}, &river.InsertOpts{
		Queue: upload.DeleteQueue(d.Provider), MaxAttempts: pushMaxAttempts, Metadata: metadata,
	})
	if err != nil {
		return 0, fmt.Errorf("insert the job: %w", err)
	}
	return res.Job.ID, nil
}

const deletionColumns = `
	d.id, d.user_id, d.provider, coalesce(d.asset, '{}'), d.upload_id, d.guide_row, d.stored_at, d.job_id, d.attempt, now() - d.since`

func scanDeletion(row pgx.CollectableRow) (d Deletion, err error) {
	err = row.Scan(&d.ID, &d.UserID, &d.Provider, &d.Asset, &d.Upload, &d.Row, &d.StoredAt, &d.JobID, &d.Attempt, &d.Quiet)
	return d, err
}

// ReadDeletion returns what is to be removed to the job that may do it, and ErrNoUpload to every other.
func ReadDeletion(ctx context.Context, db DB, id upload.ID, job int64) (Deletion, error) {
	rows, err := db.Query(ctx, `
		SELECT `+deletionColumns+`
		FROM slipway.file_deletions d
		WHERE d.id = @id AND d.job_id = @job`, args{"id": id, "job": job})
	if err != nil {
		return Deletion{}, fmt.Errorf("read the deletion: %w", err)
	}
	d, err := pgx.CollectExactlyOneRow(rows, scanDeletion)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, ErrNoUpload
	}
	if err != nil {
		return d, fmt.Errorf("read the deletion: %w", err)
	}
	if d.Asset.ID == "" {
		d.Remains, err = remains(ctx, db, d)
		return d, err
	}
	if d.Spared, err = spared(ctx, db, d); err != nil {
		return d, err
	}
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM slipway.direct_uploads WHERE upload_id = @upload AND details_due)`,
		args{"upload": d.Upload}).Scan(&d.Unsure)
	if err != nil {
		return d, fmt.Errorf("look what is known of the asset: %w", err)
	}
	return d, nil
}

// spared tells whether the asset of d is to be kept.
func spared(ctx context.Context, db DB, d Deletion) (spared bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT slipway.is_originals(@provider, @asset_id, @stored_at) OR EXISTS (
			SELECT FROM `+guideTableOf(d.Provider)+`
			WHERE `+guideKeyOf(d.Provider)+` = @asset_id AND NOT `+deletedRow+`)`,
		d.rowArgs(args{"provider": d.Provider, "stored_at": d.StoredAt})).Scan(&spared)
	if err != nil {
		return false, fmt.Errorf("look whose the asset is: %w", err)
	}
	return spared, nil
}

// deletedRow is the guide's row that goes with the asset: what the guide's own app has written in its place
// meanwhile is another.
const deletedRow = `(user_id = @user AND coalesce(upload_id = @upload, id = @row AND upload_id IS NULL, false))`

func (d Deletion) rowArgs(a args) args {
	a["asset_id"], a["user"], a["upload"], a["row"] = d.Asset.ID, d.UserID, d.Upload, d.Row
	return a
}

// FinishDeletion is the end of a file: the guide's row goes, and the upload is deleted; one that was canceled
// stays so. It returns ErrNoUpload when the deletion is not d.JobID's to finish.
func FinishDeletion(ctx context.Context, tx DB, d Deletion) error {
	tag, err := tx.Exec(ctx, `
		DELETE FROM slipway.file_deletions
		WHERE id = @id AND job_id = @job`, args{"id": d.ID, "job": d.JobID})
	if err != nil {
		return fmt.Errorf("finish the deletion: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	if d.Asset.ID != "" {
		if _, err := tx.Exec(ctx, `
			DELETE FROM `+guideTableOf(d.Provider)+`
			WHERE `+guideKeyOf(d.Provider)+` = @asset_id AND `+deletedRow, d.rowArgs(args{})); err != nil {
			return fmt.Errorf("remove the guide's row: %w", err)
		}
	}
	if d.Upload == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET owned = false, details_due = false
		WHERE upload_id = @id`, args{"id": *d.Upload}); err != nil {
		return fmt.Errorf("write the claim: %w", err)
	}
	var ended upload.Status
	err = tx.QueryRow(ctx, `
		UPDATE slipway.uploads
		SET status = CASE status WHEN 'deleting' THEN 'deleted' ELSE status END,
		    asset = NULL, unstaged_at = coalesce(unstaged_at, now()), next_attempt_at = NULL,
		    error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL,
		    version = version + (status = 'deleting' OR error_code IS NOT NULL)::int
		WHERE id = @id AND status IN ('deleting', 'canceled')
		RETURNING status`, args{"id": *d.Upload}).Scan(&ended)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // only the guide's row remembers it, or it was deleted before
	case err != nil:
		return fmt.Errorf("write the upload: %w", err)
	case ended == upload.Canceled:
		return nil
	}
	return WriteEvents(ctx, tx, d.UserID, upload.Event{UploadID: *d.Upload, Type: upload.StatusChanged, Status: upload.Deleted})
}

// DelayDeletion says why something is not removed yet, and when that is tried again. It returns ErrNoUpload
// when the deletion is not d.JobID's.
func DelayDeletion(ctx context.Context, tx DB, d Deletion, e upload.Error, after time.Duration) error {
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.file_deletions
		SET attempt = attempt + 1, error_code = @code, error_message = @message
		WHERE id = @id AND job_id = @job`, args{"id": d.ID, "job": d.JobID, "code": e.Code, "message": e.Message})
	if err != nil {
		return fmt.Errorf("delay the deletion: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	if d.Upload == nil {
		return nil
	}
	var status upload.Status
	err = tx.QueryRow(ctx, `
		UPDATE slipway.uploads
		SET `+setError+`, attempt = attempt + (status = 'deleting')::int, next_attempt_at = now() + @after, version = version + 1
		WHERE id = @id AND status IN ('deleting', 'canceled')
		RETURNING status`, errorArgs(e, args{"id": *d.Upload, "after": after})).Scan(&status)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the upload: %w", err)
	}
	return WriteEvents(ctx, tx, d.UserID, upload.Event{UploadID: *d.Upload, Type: upload.AttemptFailed, Status: status, Attempt: d.Attempt + 1,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// AdoptDeletions gives a job to deletions whose River row will never run, or has been running for longer
// than dead: its worker is gone.
func AdoptDeletions(ctx context.Context, pool *pgxpool.Pool, q *Queue, dead time.Duration) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+deletionColumns+`
			FROM slipway.file_deletions d
			WHERE NOT EXISTS (
			      SELECT FROM slipway.river_job j
			      WHERE j.id = d.job_id AND j.kind = @kind AND j.args ->> 'deletion_id' = d.id::text AND `+willRun+`
			        AND NOT (j.state = 'running' AND j.attempted_at < now() - @dead::interval))
			ORDER BY d.id
			LIMIT 50
			FOR UPDATE OF d SKIP LOCKED`, args{"dead": dead, "kind": upload.DeleteArgs{}.Kind()})
		found, err := collect("look for deletions that nobody works on", rows, err, scanDeletion)
		if err != nil {
			return err
		}
		for _, d := range found {
			job, err := insertDelete(ctx, tx, q, d)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE slipway.file_deletions SET job_id = @job WHERE id = @id`, args{"id": d.ID, "job": job}); err != nil {
				return fmt.Errorf("hand over %s: %w", d.ID, err)
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
