package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"slipway/internal/upload"
)

// File is a row of a guide table: a completed asset, from before Slipway too.
type File struct {
	Provider     string
	Row          int64
	UploadID     *upload.ID
	AssetID      string
	URL          string
	ResourceType upload.ResourceType
	FileName     *string
	ContentType  *string
	Size         *int64
	Version      *int64
	Format       *string
	Width        *int
	Height       *int
	Tags         []string
	UploadedAt   *time.Time
}

// GuideProviders are the providers whose files the guide tables hold.
var GuideProviders = []string{"uploadcare", "cloudinary"}

// FileFilter narrows a list; zero values ask for nothing.
type FileFilter struct {
	Provider     string
	ResourceType upload.ResourceType
	After        *FileKey
	Limit        int
}

// FileKey is the place of a file in the order of a list: newest first, then by provider and row.
type FileKey struct {
	UploadedAt *time.Time // nil: a row without a time stamp, which comes last
	Provider   string
	Row        int64
}

// fileColumns make rows of both tables alike. The sort column has no NULLs: a row may lack its time stamp.
const uploadcareRows = `
	SELECT 'uploadcare' AS provider, id::bigint AS row, upload_id, file_id AS asset_id, file_url AS url,
	       ` + uploadcareType + ` AS resource_type,
	       file_name, content_type, size, NULL::bigint AS version, NULL::text AS format, NULL::integer AS width, NULL::integer AS height,
	       NULL::text[] AS tags, upload_timestamp, coalesce(upload_timestamp, '-infinity') AS at
	FROM public.uploadcare_files f
	WHERE user_id = @user`

// uploadcareType tells the kind of an asset from its content type, for Uploadcare has no kinds.
const uploadcareType = `CASE WHEN content_type LIKE 'image/%' OR content_type = 'application/pdf' THEN 'image'
	            WHEN content_type LIKE 'video/%' OR content_type LIKE 'audio/%' THEN 'video'
	            WHEN content_type IS NULL THEN '' ELSE 'raw' END`

const cloudinaryRows = `
	SELECT 'cloudinary' AS provider, id::bigint AS row, upload_id, public_id AS asset_id, media_url AS url, resource_type,
	       file_name, content_type, size, version, format, width, height, tags, upload_timestamp, coalesce(upload_timestamp, '-infinity') AS at
	FROM public.cloudinary_files f
	WHERE user_id = @user`

// What is being deleted is in no list.
const (
	uploadcareFiles = uploadcareRows + `
	  AND NOT EXISTS (SELECT FROM slipway.file_deletions d WHERE d.provider = 'uploadcare' AND d.guide_row = f.id)`
	cloudinaryFiles = cloudinaryRows + `
	  AND NOT EXISTS (SELECT FROM slipway.file_deletions d WHERE d.provider = 'cloudinary' AND d.guide_row = f.id)`
)

const fileColumns = `provider, row, upload_id, asset_id, url, resource_type, file_name, content_type, size, version, format, width, height, tags, upload_timestamp`

// ListFiles returns a user's files, newest first.
func ListFiles(ctx context.Context, db Querier, user string, f FileFilter) ([]File, error) {
	a := args{"user": user, "resource_type": f.ResourceType, "limit": f.Limit}
	if f.After != nil {
		at := pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
		if f.After.UploadedAt != nil {
			at = pgtype.Timestamptz{Time: *f.After.UploadedAt, Valid: true}
		}
		a["at"], a["row"] = at, f.After.Row
	}
	var parts []string
	for _, t := range []struct{ name, sql, kind string }{{"uploadcare", uploadcareFiles, uploadcareType}, {"cloudinary", cloudinaryFiles, "resource_type"}} {
		if f.Provider != "" && f.Provider != t.name {
			continue
		}
		one := t.sql
		if f.ResourceType != "" {
			one += ` AND ` + t.kind + ` = @resource_type`
		}
		if f.After != nil {
			one += ` AND ` + olderThan(t.name, f.After.Provider)
		}
		parts = append(parts, `(`+one+` ORDER BY coalesce(upload_timestamp, '-infinity') DESC, id DESC LIMIT @limit)`)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	sql := `SELECT ` + fileColumns + ` FROM (` + parts[0]
	for _, p := range parts[1:] {
		sql += ` UNION ALL ` + p
	}
	sql += `) f ORDER BY at DESC, provider DESC, row DESC LIMIT @limit`
	rows, err := db.Query(ctx, sql, a)
	return collect("list files", rows, err, pgx.RowToStructByPos[File])
}

// olderThan is the keyset condition within one table, for a key of either table.
func olderThan(table, key string) string {
	const at = `coalesce(upload_timestamp, '-infinity')`
	switch {
	case table == key:
		return `(` + at + `, id) < (@at, @row::bigint)`
	case table < key:
		return at + ` <= @at`
	}
	return at + ` < @at`
}

// GetFile returns a user's file by the upload that made it, or ErrNoUpload.
func GetFile(ctx context.Context, db Querier, user string, id upload.ID) (File, error) {
	return oneFile[File](ctx, db, `SELECT `+fileColumns+` FROM (`+
		uploadcareFiles+` AND upload_id = @id UNION ALL `+cloudinaryFiles+` AND upload_id = @id) f`, args{"user": user, "id": id})
}

// GetFileRow returns a user's file by its row in a guide table, or ErrNoUpload.
func GetFileRow(ctx context.Context, db Querier, user, provider string, row int64) (File, error) {
	from, ok := map[string]string{"uploadcare": uploadcareFiles, "cloudinary": cloudinaryFiles}[provider]
	if !ok {
		return File{}, ErrNoUpload
	}
	return oneFile[File](ctx, db, `SELECT `+fileColumns+` FROM (`+from+` AND id = @row::bigint) f`, args{"user": user, "row": row})
}

// LeavingFile is a file that its owner has deleted and its provider still has.
type LeavingFile struct {
	File
	AskedAt time.Time
	Attempt int

	// Why it is there still; nil while nothing has gone wrong.
	ErrorCode    *upload.Code
	ErrorMessage *string
}

// GetLeavingFile returns a user's file that is being deleted, by the upload that made it or else by its row in
// a guide table, or ErrNoUpload.
func GetLeavingFile(ctx context.Context, db Querier, user string, id upload.ID, provider string, row int64) (LeavingFile, error) {
	return oneFile[LeavingFile](ctx, db, `
		SELECT `+fileColumns+`, asked_at, attempt, error_code, error_message
		FROM (`+uploadcareRows+` UNION ALL `+cloudinaryRows+`) f
		JOIN (SELECT provider AS its_provider, guide_row, created_at AS asked_at, attempt, error_code, error_message
		      FROM slipway.file_deletions
		      WHERE user_id = @user
		        AND (upload_id = nullif(@id, '')::uuid OR provider = @provider AND guide_row = @row::bigint)) d
		  ON d.its_provider = f.provider AND d.guide_row = f.row`,
		args{"user": user, "id": string(id), "provider": provider, "row": row})
}

func oneFile[T File | LeavingFile](ctx context.Context, db Querier, sql string, a args) (f T, err error) {
	rows, err := db.Query(ctx, sql, a)
	if err != nil {
		return f, fmt.Errorf("read the file: %w", err)
	}
	f, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return f, ErrNoUpload
	}
	if err != nil {
		return f, fmt.Errorf("read the file: %w", err)
	}
	return f, nil
}
