package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// TakeWebhook writes down that a notification has come, by the SHA-256 of its body, with a job for each of
// its hints. One that has come before changes nothing. It is written in nobody's name: Claims{}.
func TakeWebhook(ctx context.Context, tx pgx.Tx, q *Queue, provider string, digest [32]byte, hints []upload.HintArgs) error {
	tag, err := tx.Exec(ctx, `
		INSERT INTO slipway.webhooks (provider, digest)
		VALUES (@provider, @digest)
		ON CONFLICT DO NOTHING`, args{"provider": provider, "digest": digest[:]})
	if err != nil {
		return fmt.Errorf("write down the notification: %w", err)
	}
	if tag.RowsAffected() == 0 || len(hints) == 0 {
		return nil
	}
	nobodys, err := json.Marshal(pushMetadata{})
	if err != nil {
		return err
	}
	var jobs []river.InsertManyParams
	for _, h := range hints {
		jobs = append(jobs, river.InsertManyParams{Args: h, InsertOpts: &river.InsertOpts{
			Queue: upload.VerifyQueue(provider), Priority: priorityNew, MaxAttempts: pushMaxAttempts, Metadata: nobodys,
		}})
	}
	if _, err := q.InsertManyTx(ctx, tx, jobs); err != nil {
		return fmt.Errorf("insert the jobs: %w", err)
	}
	return nil
}

// PruneWebhooks forgets notifications that will not come again.
func PruneWebhooks(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, `
		DELETE FROM slipway.webhooks
		WHERE received_at < now() - @memory::interval`, args{"memory": upload.WebhookMemory})
	if err != nil {
		return fmt.Errorf("forget old notifications: %w", err)
	}
	return nil
}

// HintedUploads returns the uploads that wait for the asset of a hint, or have it, whoever owns them.
func HintedUploads(ctx context.Context, db DB, h upload.HintArgs) ([]upload.Upload, error) {
	rows, err := db.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		WHERE u.provider = @provider
		  AND (u.status IN ('reserved', 'verifying') OR u.status = 'completed' AND u.asset ->> 'id' = @asset)
		  AND u.id IN (
		      SELECT upload_id FROM `+guideTableOf(h.Provider)+` WHERE `+guideKeyOf(h.Provider)+` = @asset
		      UNION ALL
		      SELECT upload_id FROM slipway.direct_uploads WHERE provider = @provider AND asset_id = @asset
		      UNION ALL
		      SELECT upload_id FROM slipway.direct_uploads WHERE provider = @provider AND upload_id = nullif(@sent, '')::uuid)
		ORDER BY u.id`, args{"provider": h.Provider, "asset": h.AssetID, "sent": string(h.Sent)})
	return collect("look for the uploads of an asset", rows, err, scanUpload)
}

// AskAgain gives a new job to an upload whose asset the provider is to be asked about, so that it is asked now.
// A reserved upload is from then on for the asset that is named. It returns ErrNoUpload where the upload is not
// as u says, where nothing is to be asked, and where that is being done.
func AskAgain(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, assetID string) error {
	_, err := oneUpload(tx.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM slipway.uploads u
		JOIN slipway.direct_uploads d ON d.upload_id = u.id
		WHERE u.id = @id AND u.status = @status AND coalesce(u.job_id, 0) = @job
		  AND CASE u.status WHEN 'verifying' THEN u.next_attempt_at IS NOT NULL WHEN 'completed' THEN d.details_due ELSE true END
		FOR UPDATE OF u`, args{"id": u.ID, "status": u.Status, "job": u.JobID}))
	if err != nil {
		return err
	}
	job, err := InsertVerify(ctx, tx, q, u)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE slipway.uploads SET job_id = @job WHERE id = @id`, args{"id": u.ID, "job": job}); err != nil {
		return fmt.Errorf("hand over %s: %w", u.ID, err)
	}
	if u.Status != upload.Reserved {
		return nil
	}
	return setClaim(ctx, tx, Claim{UploadID: u.ID, AssetID: assetID})
}

// RefreshAsset replaces what is known of a completed upload's asset, in the guide's row too. u.Tags are the
// asset's; u.Error, if not nil, is what is wrong with it. It returns ErrNoUpload when the upload has changed
// since it was read: then another may have heard something newer.
func RefreshAsset(ctx context.Context, tx DB, u upload.Upload, a upload.Asset) error {
	var e upload.Error
	if u.Error != nil {
		e = *u.Error
	}
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET asset = @asset, tags = @tags, version = version + 1,
		    size = CASE WHEN staged_at IS NULL THEN @size ELSE size END,
		    pushed_bytes = CASE WHEN staged_at IS NULL THEN @size ELSE pushed_bytes END,
		    error_code = nullif(@code, ''), error_message = nullif(@message, ''), error_fixable_by = nullif(@fixable, ''),
		    error_retryable = CASE WHEN @code <> '' THEN @retryable::boolean END
		WHERE id = @id AND version = @version AND status = 'completed'`,
		errorArgs(e, args{"id": u.ID, "version": u.Version, "asset": a, "tags": orNone(u.Tags), "size": a.Size}))
	if err != nil {
		return fmt.Errorf("refresh the asset: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoUpload
	}
	if err := insertGuideRow(ctx, tx, u, a); err != nil {
		return err
	}
	data := map[string]any{"url": a.URL, "size": a.Size}
	if u.Error != nil {
		data["code"], data["message"] = e.Code, e.Message
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.AssetDescribed, Status: upload.Completed, Attempt: u.Attempt, Data: data})
}

// LoseAsset deletes a completed upload whose asset its provider has no more: there is nothing to be removed
// there. why tells the owner. Errors: ErrNoUpload when the upload is not completed any more; OtherInstallation.
func LoseAsset(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload, why string) error {
	now, err := DeleteFile(ctx, tx, q, u.UserID, u.ID)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT `+deletionColumns+`
		FROM slipway.file_deletions d
		WHERE d.upload_id = @id`, args{"id": u.ID})
	found, err := collect("read the deletion", rows, err, scanDeletion)
	if err != nil {
		return err
	}
	if now.Status != upload.Deleting || len(found) == 0 {
		return ErrNoUpload
	}
	err = WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.AssetDescribed, Status: upload.Deleting,
		Data: map[string]any{"reason": why}})
	if err != nil {
		return err
	}
	return FinishDeletion(ctx, tx, found[0])
}
