package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// Claim is what an upload is for that its owner's browser sends straight to the provider.
type Claim struct {
	UploadID    upload.ID
	AssetID     string    // reserved, or as the owner claims it; "" while nobody has said
	Reservation upload.ID // the upload in whose name a signature was handed out; "" for none
	Version     int64     // of the asset, proven by the signature of the provider's answer; 0 is not proven
	Owned       bool      // verified: nobody else's any more
	DetailsDue  bool      // completed on the proof alone
}

const claimColumns = `d.upload_id, coalesce(d.asset_id, ''), coalesce(d.reservation::text, ''), coalesce(d.version, 0), d.owned, d.details_due`

func oneClaim(rows pgx.Rows, err error) (Claim, error) {
	if err != nil {
		return Claim{}, err
	}
	d, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Claim])
	if errors.Is(err, pgx.ErrNoRows) {
		return d, ErrNoUpload
	}
	return d, err
}

// HandOut writes down that the user is given a signature for the provider.
func HandOut(ctx context.Context, db DB, user, provider string) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.direct_handouts (user_id, provider, minute)
		VALUES (@user, @provider, date_trunc('minute', now()))
		ON CONFLICT DO NOTHING`, args{"user": user, "provider": provider})
	if err != nil {
		return fmt.Errorf("write down the signature: %w", err)
	}
	return nil
}

// SignedFor tells whether a signature handed out to the user was good when the asset was made, as far
// as that is remembered; the zero time asks for any signature.
func SignedFor(ctx context.Context, db DB, user, provider string, made time.Time) (signed bool, err error) {
	when := ""
	if !made.IsZero() {
		when = ` AND minute - @slack::interval <= @made AND @made <= minute + interval '1 minute' + @life::interval + @slack::interval`
	}
	err = db.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM slipway.direct_handouts
			WHERE user_id = @user AND provider = @provider`+when+`)`,
		args{"user": user, "provider": provider, "made": made, "slack": upload.ClockSlack, "life": upload.SignatureLife}).Scan(&signed)
	if err != nil {
		return false, fmt.Errorf("look for a signature: %w", err)
	}
	return signed, nil
}

// PruneHandouts forgets signatures that have been handed out too long ago to matter.
func PruneHandouts(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, `
		DELETE FROM slipway.direct_handouts
		WHERE minute < now() - @memory::interval`, args{"memory": upload.HandoutMemory})
	if err != nil {
		return fmt.Errorf("forget old signatures: %w", err)
	}
	return nil
}

// InsertReserved inserts an upload that a signature is about to be handed out for, with its first
// event. u.ExpiresAt says when it is too late.
func InsertReserved(ctx context.Context, tx DB, u upload.Upload, assetID string) error {
	b := &pgx.Batch{}
	insertDirect(b, u, upload.Reserved, Claim{AssetID: assetID, Reservation: u.ID}, 0)
	return tx.SendBatch(ctx, b).Close()
}

// InsertClaim inserts an upload whose owner says that the provider has it, with the job that asks for
// it and its first event.
func InsertClaim(ctx context.Context, tx DB, u upload.Upload, d Claim, within time.Duration) error {
	b := &pgx.Batch{}
	insertDirect(b, u, upload.Verifying, d, within)
	return tx.SendBatch(ctx, b).Close()
}

// insertDirect has unstaged_at set from the beginning: there are no bytes here to retry with.
func insertDirect(b *pgx.Batch, u upload.Upload, s upload.Status, d Claim, within time.Duration) {
	b.Queue(`
		INSERT INTO slipway.uploads (
			id, user_id, status, provider, resource_type, file_name, content_type, max_attempts, job_id,
			expires_at, started_at, deliver_by, unstaged_at)
		VALUES (
			@id, @user, @status, @provider, nullif(@resource_type, ''), @file_name, @content_type, @max_attempts, nullif(@job, 0),
			@expires, CASE WHEN @claimed THEN now() END, CASE WHEN @claimed THEN now() + @within END, now())`,
		args{
			"id": u.ID, "user": u.UserID, "status": s, "provider": u.Provider, "resource_type": u.ResourceType, "file_name": u.FileName,
			"content_type": u.ContentType, "max_attempts": u.MaxAttempts, "job": u.JobID, "expires": u.ExpiresAt,
			"claimed": s == upload.Verifying, "within": within,
		})
	b.Queue(`
		INSERT INTO slipway.direct_uploads (upload_id, user_id, provider, asset_id, reservation, version)
		VALUES (@id, @user, @provider, nullif(@asset, ''), nullif(@reservation, '')::uuid, nullif(@version::bigint, 0))`,
		args{"id": u.ID, "user": u.UserID, "provider": u.Provider, "asset": d.AssetID, "reservation": string(d.Reservation), "version": d.Version})
	queueEvents(b, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: s})
}

// LockClaims keeps the user's other claims to the asset waiting until the transaction ends.
func LockClaims(ctx context.Context, tx DB, user, provider, assetID string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('slipway.claims:' || @claim, 0))`,
		args{"claim": provider + " " + assetID + " " + user})
	return err
}

// FindClaim returns the user's newest upload for the asset, or in the name of the reservation if one is
// given, or ErrNoUpload.
func FindClaim(ctx context.Context, db DB, user, provider, assetID string, reservation upload.ID) (upload.Upload, Claim, error) {
	d, err := oneClaim(db.Query(ctx, `
		SELECT `+claimColumns+`
		FROM slipway.direct_uploads d
		WHERE d.user_id = @user AND d.provider = @provider
		  AND (d.asset_id = @asset OR d.reservation = nullif(@reservation, '')::uuid)
		ORDER BY d.upload_id DESC
		LIMIT 1`, args{"user": user, "provider": provider, "asset": assetID, "reservation": string(reservation)}))
	if err != nil {
		return upload.Upload{}, d, err
	}
	u, err := GetUpload(ctx, db, user, d.UploadID)
	return u, d, err
}

// ClaimReserved begins to verify an upload that was reserved: u with what its owner says of it now, and
// the job that asks the provider. It returns ErrNoUpload when it is not reserved any more.
func ClaimReserved(ctx context.Context, tx DB, u upload.Upload, d Claim, within time.Duration) error {
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET status = 'verifying', job_id = @job, resource_type = nullif(@resource_type, ''), expires_at = NULL, attempt = 0,
		    started_at = now(), deliver_by = now() + @within, version = version + 1,
		    error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL, next_attempt_at = NULL
		WHERE id = @id AND user_id = @user AND status = 'reserved'`,
		args{"id": u.ID, "user": u.UserID, "job": u.JobID, "resource_type": u.ResourceType, "within": within})
	if err != nil {
		return fmt.Errorf("claim the upload: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	if err := setClaim(ctx, tx, d); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Verifying})
}

// ProveClaim adds the proof of d to an upload that is being verified, and gives it a new job: the old
// one may wait for what is not needed any more.
func ProveClaim(ctx context.Context, tx DB, u upload.Upload, d Claim) error {
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET job_id = @job, next_attempt_at = NULL, resource_type = @resource_type, version = version + 1
		WHERE id = @id AND user_id = @user AND status = 'verifying'`,
		args{"id": u.ID, "user": u.UserID, "job": u.JobID, "resource_type": u.ResourceType})
	if err != nil {
		return fmt.Errorf("prove the claim: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	return setClaim(ctx, tx, d)
}

func setClaim(ctx context.Context, tx DB, d Claim) error {
	_, err := tx.Exec(ctx, `
		UPDATE slipway.direct_uploads
		SET asset_id = @asset, version = nullif(@version::bigint, 0)
		WHERE upload_id = @id`, args{"id": d.UploadID, "asset": d.AssetID, "version": d.Version})
	if err != nil {
		return fmt.Errorf("write the claim: %w", err)
	}
	return nil
}

// DirectLoad is how much a user has asked for by direct uploads.
type DirectLoad struct {
	Reserved int // open reservations
	Refused  int // claims of the last hour that came to nothing
}

// ReadDirectLoad counts what a user has asked for; each of it may cost a question to the provider.
func ReadDirectLoad(ctx context.Context, db DB, user string) (l DirectLoad, err error) {
	err = db.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM slipway.uploads WHERE user_id = @user AND status = 'reserved'),
		       (SELECT count(*)
		        FROM slipway.uploads u
		        JOIN slipway.direct_uploads d ON d.upload_id = u.id
		        WHERE u.user_id = @user AND u.status = 'failed' AND u.created_at > now() - interval '1 hour')`,
		args{"user": user}).Scan(&l.Reserved, &l.Refused)
	if err != nil {
		return l, fmt.Errorf("count the direct uploads: %w", err)
	}
	return l, nil
}
