package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/upload"
)

// Needed tells which of these uploads need what staging has of them: those whose row has not let it go, and
// those for which room is held, whose bytes are coming in.
func Needed(ctx context.Context, db DB, ids []upload.ID) (map[upload.ID]bool, error) {
	rows, err := db.Query(ctx, `
		SELECT u.id
		FROM slipway.uploads u
		WHERE u.id = ANY (@ids::uuid[]) AND u.unstaged_at IS NULL
		UNION ALL
		SELECT r.upload_id
		FROM slipway.staging_reservations r
		WHERE r.upload_id = ANY (@ids::uuid[]) AND r.expires_at > now()`, args{"ids": ids})
	found, err := collect("look who needs what is staged", rows, err, pgx.RowTo[upload.ID])
	if err != nil {
		return nil, err
	}
	needed := make(map[upload.ID]bool, len(found))
	for _, id := range found {
		needed[id] = true
	}
	return needed, nil
}

// ExpireUnfinished ends up to limit uploads whose bytes have not come in time, and returns how many. Whoever
// still sends some is fenced off.
func ExpireUnfinished(ctx context.Context, pool *pgxpool.Pool, limit int) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			UPDATE slipway.uploads u
			SET status = 'expired', receive_epoch = receive_epoch + 1, receive_held = false, staged_until = now(), version = version + 1
			FROM (
				SELECT id
				FROM slipway.uploads
				WHERE status = 'receiving' AND expires_at < now() AND (partial OR received_bytes IS DISTINCT FROM size)
				ORDER BY expires_at
				LIMIT @limit
				FOR UPDATE SKIP LOCKED) over
			WHERE u.id = over.id
			RETURNING `+uploadColumns, args{"limit": limit})
		found, err := collect("end uploads that nobody goes on with", rows, err, scanUpload)
		if err != nil {
			return err
		}
		n = len(found)
		slices.SortFunc(found, func(a, b upload.Upload) int { return strings.Compare(a.UserID, b.UserID) })
		for _, u := range found {
			if err := Release(ctx, tx, u.ID); err != nil {
				return err
			}
		}
		for _, u := range found {
			if err := WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Expired}); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// ResumeDeleting writes down anew what is to be removed of uploads that are being deleted and of which nothing
// says so any more, and returns how many there were.
func ResumeDeleting(ctx context.Context, pool *pgxpool.Pool, q *Queue) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+uploadColumns+`
			FROM slipway.uploads u
			WHERE u.status = 'deleting' AND NOT EXISTS (SELECT FROM slipway.file_deletions d WHERE d.upload_id = u.id)
			ORDER BY u.id
			LIMIT 50
			FOR UPDATE OF u SKIP LOCKED`, args{})
		found, err := collect("look for deletions that were forgotten", rows, err, scanUpload)
		if err != nil {
			return err
		}
		for _, u := range found {
			if err := resumeDeleting(ctx, tx, q, u); err != nil {
				return fmt.Errorf("delete %s: %w", u.ID, err)
			}
		}
		n = len(found)
		return nil
	})
	return n, err
}

func resumeDeleting(ctx context.Context, tx pgx.Tx, q *Queue, u upload.Upload) error {
	d := Deletion{ID: upload.NewID(), UserID: u.UserID, Provider: u.Provider, Upload: &u.ID, StoredAt: u.CompletedAt, Sent: true}
	if u.Asset != nil {
		d.Asset = *u.Asset
		f, err := GetFile(ctx, tx, u.UserID, u.ID)
		if err == nil {
			d.Row = &f.Row
		} else if !errors.Is(err, ErrNoUpload) {
			return err
		}
	}
	return writeDeletion(ctx, tx, q, d)
}
