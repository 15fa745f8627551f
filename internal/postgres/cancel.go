package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// CancelUpload ends a user's upload that is on its way. Whoever works on it is fenced off and told to stop, and a
// job removes what there is of it here and at its provider, all in this one transaction. One that is canceled
// is returned as it is. Errors: ErrNoUpload for what is not the user's; NotCancelable.
func CancelUpload(ctx context.Context, tx pgx.Tx, q *Queue, user string, id upload.ID) (upload.Upload, error) {
	u, err := lockUpload(ctx, tx, user, id)
	switch {
	case err != nil || u.Status == upload.Canceled:
		return u, err
	case u.Status == upload.Reserved:
		return u, &upload.Error{Code: upload.NotCancelable, UploadID: id,
			Message: "The file is to be sent straight to the provider, which cannot be stopped from here. The upload expires by itself when nobody has sent it, and can be deleted."}
	case !u.Status.CanBecome(upload.Canceled):
		return u, &upload.Error{Code: upload.NotCancelable, UploadID: id,
			Message: fmt.Sprintf("Only an upload that is on its way can be canceled; this one is %s.", u.Status)}
	}
	return endUpload(ctx, tx, q, u, upload.Canceled)
}

// DeleteUpload begins to delete a user's upload, whatever has become of it: it is ended if it is on its way,
// and a job removes what there is of it. One that is being deleted, or is deleted, is returned as it is.
// Errors: ErrNoUpload for what is not the user's; OtherInstallation.
func DeleteUpload(ctx context.Context, tx pgx.Tx, q *Queue, user string, id upload.ID) (upload.Upload, error) {
	u, err := lockUpload(ctx, tx, user, id)
	if err != nil {
		return u, err
	}
	return deleteUpload(ctx, tx, q, u)
}

func deleteUpload(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) (upload.Upload, error) {
	if !u.Status.CanBecome(upload.Deleting) {
		return u, nil
	}
	return endUpload(ctx, tx, q, u, upload.Deleting)
}

// lockUpload returns a user's upload, which nobody else changes until the transaction ends.
func lockUpload(ctx context.Context, tx pgx.Tx, user string, id upload.ID) (upload.Upload, error) {
	return oneUpload(tx.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		WHERE u.id = @id AND u.user_id = @user AND u.status <> 'joined'
		FOR UPDATE`, args{"id": id, "user": user}))
}

// endUpload takes a locked upload from everybody who works on it, and gives it to the job that clears up.
func endUpload(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, to upload.Status) (upload.Upload, error) {
	if err := stopJob(ctx, tx, q, u); err != nil {
		return u, err
	}
	var err error
	if u.Asset != nil {
		err = deleteFile(ctx, tx, q, u)
	} else { // where it was canceled before, that clearing up may be going on
		err = writeDeletion(ctx, tx, q, Deletion{ID: upload.NewID(), UserID: u.UserID, Provider: u.Provider, Upload: &u.ID, Sent: mayBeSending(u.Status)})
	}
	if err != nil {
		return u, err
	}
	if err := Release(ctx, tx, u.ID); err != nil {
		return u, err
	}
	from := u.Status
	u, err = oneUpload(tx.Query(ctx, `
		UPDATE slipway.uploads u
		SET status = @to, lease_epoch = lease_epoch + 1, receive_epoch = receive_epoch + 1, receive_held = false, lease_owner = NULL, lease_until = NULL,
		    attempt = CASE @to WHEN 'deleting' THEN 0 ELSE u.attempt END, next_attempt_at = NULL, expires_at = NULL,
		    staged_until = CASE WHEN u.staged_at IS NOT NULL AND u.unstaged_at IS NULL THEN now() END,
		    error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL, version = version + 1
		WHERE u.id = @id AND u.user_id = @user AND u.status = @from
		RETURNING `+uploadColumns, args{"id": u.ID, "user": u.UserID, "from": from, "to": to}))
	if err != nil {
		return u, err
	}
	if from == upload.Receiving {
		if _, err := tx.Exec(ctx, `SELECT `+askedFor+` FROM slipway.uploads WHERE id = @id`, args{"id": u.ID}); err != nil {
			return u, fmt.Errorf("tell the receiver of %s: %w", u.ID, err)
		}
	}
	return u, WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: to})
}

func mayBeSending(s upload.Status) bool {
	switch s {
	case upload.Receiving, upload.Fetching, upload.Verifying, upload.Pushing:
		return true
	}
	return false
}

// stopJob cancels the River row that works on an upload, and with it tells the worker that runs it, in whatever
// process. The row is not left to that worker, which may be gone.
func stopJob(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) error {
	if u.JobID == 0 || u.Status.Final() {
		return nil
	}
	job, err := q.JobCancelTx(ctx, tx, u.JobID)
	switch {
	case errors.Is(err, rivertype.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("cancel job %d: %w", u.JobID, err)
	case job.State != rivertype.JobStateRunning:
		return nil
	}
	_, err = tx.Exec(ctx, `
		UPDATE slipway.river_job
		SET state = 'cancelled', finalized_at = now()
		WHERE id = @job AND state = 'running'`, args{"job": u.JobID})
	if err != nil {
		return fmt.Errorf("retire job %d: %w", u.JobID, err)
	}
	return nil
}

// Remains is what may be at a provider of an upload that was ended.
type Remains struct {
	Provider string
	Session  provider.Session // the push that may have made it
	Asset    *upload.Asset    // where it is known without asking the session
	Unsure   bool             // the asset may be of another resource type
	BegunAt  time.Time
}

// SparesRemains tells whether the provider is to keep an asset that d.Remains may mean: it is somebody else's.
func (d Deletion) SparesRemains(ctx context.Context, db DB, r Remains, a upload.Asset) (bool, error) {
	d.Provider, d.Asset, d.StoredAt = r.Provider, a, &r.BegunAt
	return spared(ctx, db, d)
}

// remains reads what may have been left by the pushes of an upload, or sent in its name by a browser. A push
// that was not about to complete has left nothing that lasts, and cannot: before it goes on it writes to the
// ledger, which it may not any more.
func remains(ctx context.Context, db DB, d Deletion) ([]Remains, error) {
	rows, err := db.Query(ctx, `
		SELECT s.provider, s.remote_id, s.state, s.asset, false, s.opened_at
		FROM slipway.push_sessions s
		WHERE s.upload_id = @upload AND (s.finishing OR s.asset IS NOT NULL)
		UNION ALL
		SELECT c.provider, '', '{}', jsonb_build_object('id', c.asset_id, 'resource_type', coalesce(u.resource_type, 'image')), true, u.created_at
		FROM slipway.direct_uploads c
		JOIN slipway.uploads u ON u.id = c.upload_id
		WHERE c.upload_id = @upload AND c.asset_id IS NOT NULL AND (c.owned OR `+reservedName+`)
		  AND NOT EXISTS (
		      SELECT FROM slipway.direct_uploads o
		      WHERE o.provider = c.provider AND o.asset_id = c.asset_id AND o.owned AND o.upload_id <> c.upload_id)`,
		args{"upload": d.Upload})
	return collect("read what may have been left", rows, err, func(row pgx.CollectableRow) (r Remains, err error) {
		var asset []byte
		if err = row.Scan(&r.Provider, &r.Session.ID, &r.Session.State, &asset, &r.Unsure, &r.BegunAt); err != nil || asset == nil {
			return r, err
		}
		return r, json.Unmarshal(asset, &r.Asset)
	})
}

// reservedName tells of a claim that its asset has the name that was reserved for the very upload, so that nobody
// else was given a signature for it.
const reservedName = `c.reservation = c.upload_id AND position('/' || c.upload_id::text IN c.asset_id) > 0`

// lastSent is when somebody may have been sending for the last time: a worker until it is told to stop, or
// until it has written what its attempt came to; a browser as long as it has a signature.
const lastSent = `coalesce(greatest(
	CASE WHEN @sent THEN now() ELSE (SELECT max(e.at) FROM slipway.upload_events e WHERE e.upload_id = @upload) END,
	(SELECT u.created_at + @life::interval
	 FROM slipway.uploads u
	 JOIN slipway.direct_uploads c ON c.upload_id = u.id
	 WHERE u.id = @upload AND c.asset_id IS NOT NULL AND ` + reservedName + `)), now())`

// Unstaged writes down that the bytes of an ended upload leave staging, which comes before they do.
func Unstaged(ctx context.Context, db DB, id upload.ID) error {
	_, err := db.Exec(ctx, `
		UPDATE slipway.uploads
		SET unstaged_at = now()
		WHERE id = @id AND unstaged_at IS NULL AND status IN ('canceled', 'deleting')`, args{"id": id})
	if err != nil {
		return fmt.Errorf("unstage %s: %w", id, err)
	}
	return nil
}

// LookAgain has it looked again for what may be left of an upload that was ended: a worker that was fenced off has only now
// stopped sending. It does nothing where the upload was not ended, or the ledger lets nothing come of what was sent.
func LookAgain(ctx context.Context, tx pgx.Tx, q *Queue, id upload.ID) error {
	u, err := oneUpload(tx.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		WHERE u.id = @id AND u.status IN ('canceled', 'deleting', 'deleted')
		FOR UPDATE`, args{"id": id}))
	if errors.Is(err, ErrNoUpload) {
		return nil
	}
	if err != nil {
		return err
	}
	d := Deletion{ID: upload.NewID(), UserID: u.UserID, Provider: u.Provider, Upload: &u.ID, Sent: true}
	left, err := remains(ctx, tx, d)
	if err != nil || len(left) == 0 {
		return err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.file_deletions
		SET since = greatest(since, now())
		WHERE upload_id = @id`, args{"id": id})
	if err != nil {
		return fmt.Errorf("write the deletion: %w", err)
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	return writeDeletion(ctx, tx, q, d)
}
