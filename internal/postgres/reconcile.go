package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// StagedUpload is an upload whose bytes staging is to have.
type StagedUpload struct {
	ID     upload.ID
	Status upload.Status
	Size   int64

	Segments []upload.Segment
}

const stagedUploads = `
	SELECT id, status, size, segments
	FROM slipway.uploads
	WHERE unstaged_at IS NULL AND staged_at IS NOT NULL AND status IN ('queued', 'pushing', 'retrying', 'failed')`

// StagedUploads returns up to limit uploads whose bytes are still needed, beginning after an id.
func StagedUploads(ctx context.Context, db DB, after upload.ID, limit int) ([]StagedUpload, error) {
	rows, err := db.Query(ctx, stagedUploads+`
		  AND id > coalesce(nullif(@after, ''), '00000000-0000-0000-0000-000000000000')::uuid
		ORDER BY id
		LIMIT @limit`, args{"after": string(after), "limit": limit})
	return collect("look what is to be in staging", rows, err, pgx.RowToStructByPos[StagedUpload])
}

// StillStaged returns those of the uploads whose bytes are still needed.
func StillStaged(ctx context.Context, db DB, ids []upload.ID) ([]StagedUpload, error) {
	rows, err := db.Query(ctx, stagedUploads+` AND id = ANY (@ids::uuid[])`, args{"ids": ids})
	return collect("look what is to be in staging", rows, err, pgx.RowToStructByPos[StagedUpload])
}

// ForgetStaged says of failed uploads that their bytes are gone, so that nobody retries them in vain, and returns
// of which.
func ForgetStaged(ctx context.Context, db DB, ids []upload.ID) ([]upload.ID, error) {
	rows, err := db.Query(ctx, `
		UPDATE slipway.uploads
		SET unstaged_at = now(), version = version + 1
		WHERE id = ANY (@ids::uuid[]) AND status = 'failed' AND unstaged_at IS NULL
		RETURNING id`, args{"ids": ids})
	return collect("forget what was staged", rows, err, pgx.RowTo[upload.ID])
}

// Naming is what rows say of an asset that a provider has.
type Naming struct {
	Asset   string
	Named   bool        // by a row that has it, may come to have it, or is removing it
	Uploads []upload.ID // the completed ones that have it
}

// NameAssets tells of assets at a provider which rows name them. uploads are what the assets themselves say that
// they are made of, one for each, "" where there is no telling.
func NameAssets(ctx context.Context, db DB, provider string, assets []string, uploads []upload.ID) ([]Naming, error) {
	rows, err := db.Query(ctx, `
		WITH listed AS (
			SELECT id, nullif(upload, '')::uuid AS upload
			FROM unnest(@assets::text[], @uploads::text[]) listed(id, upload)
		), guide AS (
			SELECT l.id AS asset, g.upload_id AS upload
			FROM listed l
			JOIN `+guideTableOf(provider)+` g ON g.`+guideKeyOf(provider)+` = l.id
		), named AS (
			SELECT id AS asset, upload FROM listed
			UNION
			SELECT asset, upload FROM guide
			UNION
			SELECT l.id, d.upload_id
			FROM listed l
			JOIN slipway.direct_uploads d ON d.provider = @provider AND d.asset_id = l.id
		), held AS (
			SELECT n.asset, u.id, u.status, u.asset ->> 'id' = n.asset AS has
			FROM named n
			JOIN slipway.uploads u ON u.id = n.upload AND u.provider = @provider
		)
		SELECT l.id,
		       l.id IN (SELECT asset FROM guide)
		       OR EXISTS (
		           SELECT FROM held h
		           WHERE h.asset = l.id AND CASE
		               WHEN h.status IN ('completed', 'deleting') THEN coalesce(h.has, true)
		               ELSE h.status NOT IN ('deleted', 'canceled', 'expired', 'joined') END)
		       OR EXISTS (
		           SELECT FROM slipway.file_deletions f
		           WHERE f.upload_id = l.upload OR f.provider = @provider AND f.asset ->> 'id' = l.id),
		       coalesce((SELECT array_agg(h.id::text) FROM held h WHERE h.asset = l.id AND h.has AND h.status = 'completed'), '{}')
		FROM listed l`, args{"provider": provider, "assets": assets, "uploads": uploads})
	return collect("look which assets are named", rows, err, pgx.RowToStructByPos[Naming])
}

// StoredAsset is what a completed upload says that its provider has.
type StoredAsset struct {
	Upload      upload.ID
	UserID      string
	Asset       upload.Asset
	CompletedAt time.Time
}

// StoredAssets returns up to limit of this installation's uploads that a provider has stored for longer than
// grace, beginning after an id.
func StoredAssets(ctx context.Context, db DB, provider string, grace time.Duration, after upload.ID, limit int) ([]StoredAsset, error) {
	return storedAssets(ctx, db, `
		  AND u.provider = @provider AND u.completed_at < now() - @grace::interval
		  AND u.id > coalesce(nullif(@after, ''), '00000000-0000-0000-0000-000000000000')::uuid
		  AND NOT slipway.is_originals(u.provider, u.asset ->> 'id', u.completed_at)
		ORDER BY u.id
		LIMIT @limit`, args{"provider": provider, "grace": grace, "after": string(after), "limit": limit})
}

// StillStored returns those of the uploads that are completed still.
func StillStored(ctx context.Context, db DB, ids []upload.ID) ([]StoredAsset, error) {
	return storedAssets(ctx, db, ` AND u.id = ANY (@ids::uuid[])`, args{"ids": ids})
}

func storedAssets(ctx context.Context, db DB, which string, a args) ([]StoredAsset, error) {
	rows, err := db.Query(ctx, `
		SELECT u.id, u.user_id, u.asset, u.completed_at
		FROM slipway.uploads u
		WHERE u.status = 'completed' AND u.asset IS NOT NULL`+which, a)
	return collect("look what is stored", rows, err, func(row pgx.CollectableRow) (s StoredAsset, err error) {
		var asset []byte
		if err = row.Scan(&s.Upload, &s.UserID, &asset, &s.CompletedAt); err != nil {
			return s, err
		}
		return s, json.Unmarshal(asset, &s.Asset)
	})
}

// GuideFault is a row of a guide table that does not say what its upload does.
type GuideFault struct {
	Upload upload.ID
	Asset  string // of the upload, or of the row where there is no such upload
	Fault  string // GuideDiffers, GuideForeign, GuideMissing or GuideDangling
}

const (
	GuideDiffers  = "differs"  // names another asset, or another address of it
	GuideForeign  = "foreign"  // is another user's
	GuideMissing  = "missing"  // is not there
	GuideDangling = "dangling" // names an upload that has no file
)

// GuideFaultsOf returns up to limit faults of a provider's guide table, by what one moment shows of it.
func GuideFaultsOf(ctx context.Context, db DB, provider string, limit int) ([]GuideFault, error) {
	rows, err := db.Query(ctx, `
		SELECT u.id, u.asset ->> 'id', CASE
		           WHEN g.upload_id IS NULL THEN 'missing'
		           WHEN g.user_id <> u.user_id THEN 'foreign'
		           ELSE 'differs' END
		FROM slipway.uploads u
		LEFT JOIN `+guideTableOf(provider)+` g ON g.upload_id = u.id
		WHERE u.status = 'completed' AND u.provider = @provider AND u.asset IS NOT NULL
		  AND (g.upload_id IS NULL OR g.user_id <> u.user_id OR g.`+guideKeyOf(provider)+` <> u.asset ->> 'id' OR g.`+guideURLOf(provider)+` <> u.asset ->> 'url')
		UNION ALL
		SELECT g.upload_id, g.`+guideKeyOf(provider)+`, 'dangling'
		FROM `+guideTableOf(provider)+` g
		WHERE g.upload_id IS NOT NULL AND NOT EXISTS (
			SELECT FROM slipway.uploads u
			WHERE u.id = g.upload_id AND u.provider = @provider AND u.status IN ('completed', 'deleting'))
		LIMIT @limit`, args{"provider": provider, "limit": limit})
	return collect("look through the guide's table", rows, err, pgx.RowToStructByPos[GuideFault])
}

func guideURLOf(provider string) string {
	if provider == "cloudinary" {
		return "media_url"
	}
	return "file_url"
}

// MendGuideRow has the row of a completed upload in the guide's table say again what the upload does. It is false
// where there is nothing to mend any more.
func MendGuideRow(ctx context.Context, db DB, provider string, id upload.ID) (bool, error) {
	tag, err := db.Exec(ctx, `
		UPDATE `+guideTableOf(provider)+` g
		SET `+guideKeyOf(provider)+` = u.asset ->> 'id', `+guideURLOf(provider)+` = u.asset ->> 'url'
		FROM slipway.uploads u
		WHERE u.id = @id AND u.status = 'completed' AND u.provider = @provider AND g.upload_id = u.id AND g.user_id = u.user_id
		  AND (g.`+guideKeyOf(provider)+` <> u.asset ->> 'id' OR g.`+guideURLOf(provider)+` <> u.asset ->> 'url')`,
		args{"id": id, "provider": provider})
	if err != nil {
		return false, fmt.Errorf("mend the guide's row of %s: %w", id, err)
	}
	return tag.RowsAffected() == 1, nil
}
