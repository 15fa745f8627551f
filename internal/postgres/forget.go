package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// traces are the tables in which there may be something of a user beside what goes with each of their uploads, and what
// tells it from the rest. Where a user is forgotten their rows go, those of the guides' tables with the assets.
var traces = []struct{ table, where string }{
	{"slipway.uploads", `user_id = @user`},
	{"slipway.upload_events", `user_id = @user`},
	{"slipway.file_deletions", `user_id = @user`},
	{"slipway.direct_handouts", `user_id = @user`},
	{"slipway.idempotency_keys", `user_id = @user`},
	{"slipway.staging_reservations", `user_id = @user`},
	{"slipway.staging_waits", `user_id = @user`},
	{"slipway.request_rates", `user_id = @user`},
	{"slipway.user_limits", `user_id = @user`},
	{"slipway.usage_changes", `user_id = @user`},
	{"slipway.user_usage", `user_id = @user`},
	{"slipway.river_job", `metadata @> jsonb_build_object('user_id', @user::text)`},
	{"public.uploadcare_files", `user_id = @user`},
	{"public.cloudinary_files", `user_id = @user`},
}

// Holding is what there is of a user.
type Holding struct {
	Rows   map[string]int64 // by table; those without any are not there
	Files  Amount           // with providers, but for the original's of a copy; bytes as far as rows tell
	Staged Amount
}

// HoldingOf returns what there is of a user, in nobody's name.
func HoldingOf(ctx context.Context, db DB, user string) (h Holding, err error) {
	h.Rows = map[string]int64{}
	b := &pgx.Batch{}
	for _, t := range traces {
		b.Queue(`SELECT count(*) FROM `+t.table+` WHERE `+t.where, args{"user": user}).QueryRow(func(row pgx.Row) error {
			var n int64
			err := row.Scan(&n)
			if n > 0 {
				h.Rows[t.table] = n
			}
			return err
		})
	}
	b.Queue(`
		WITH file AS (
			SELECT provider, asset ->> 'id' AS id, completed_at AS stored_at, size
			FROM slipway.uploads
			WHERE user_id = @user AND status IN ('completed', 'deleting') AND asset IS NOT NULL
			UNION ALL
			SELECT g.provider, g.id, g.upload_timestamp, g.size
			FROM (SELECT 'uploadcare' AS provider, file_id AS id, user_id, upload_id, upload_timestamp, size FROM public.uploadcare_files
			      UNION ALL
			      SELECT 'cloudinary', public_id, user_id, upload_id, upload_timestamp, size FROM public.cloudinary_files) g
			LEFT JOIN slipway.uploads u ON u.id = g.upload_id AND u.asset IS NOT NULL
			WHERE g.user_id = @user AND u.id IS NULL
		)
		SELECT count(*), coalesce(sum(size), 0)::bigint
		FROM file
		WHERE NOT slipway.is_originals(provider, id, stored_at)`, args{"user": user},
	).QueryRow(func(row pgx.Row) error { return row.Scan(&h.Files.Files, &h.Files.Bytes) })
	b.Queue(`
		SELECT count(*), coalesce(sum(received_bytes), 0)::bigint
		FROM slipway.uploads
		WHERE user_id = @user AND unstaged_at IS NULL AND received_bytes > 0 AND status <> 'joined'`, args{"user": user},
	).QueryRow(func(row pgx.Row) error { return row.Scan(&h.Staged.Files, &h.Staged.Bytes) })
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return h, fmt.Errorf("look what there is of the user: %w", err)
	}
	return h, nil
}

// UploadsToForget returns up to limit of a user's uploads whose deletion has not begun.
func UploadsToForget(ctx context.Context, db DB, user string, limit int) ([]upload.ID, error) {
	rows, err := db.Query(ctx, `
		SELECT id
		FROM slipway.uploads
		WHERE user_id = @user AND status NOT IN ('deleting', 'deleted', 'joined')
		LIMIT @limit`, args{"user": user, "limit": limit})
	return collect("look for uploads to forget", rows, err, pgx.RowTo[upload.ID])
}

// ForgetUpload begins to delete an upload as [DeleteUpload] does. Of one whose asset is the original's, of which this
// installation is a copy, only what is here goes. One that is not there any more is no error.
func ForgetUpload(ctx context.Context, tx pgx.Tx, q *Queue, user string, id upload.ID) error {
	_, err := DeleteUpload(ctx, tx, q, user, id)
	switch {
	case errors.Is(err, ErrNoUpload):
		return nil
	case !isOriginals(err):
		return err
	}
	b := &pgx.Batch{}
	for _, provider := range GuideProviders {
		b.Queue(`DELETE FROM `+guideTableOf(provider)+` WHERE user_id = @user AND upload_id = @id`, args{"user": user, "id": id})
	}
	b.Queue(`
		UPDATE slipway.uploads
		SET status = 'deleted', asset = NULL, version = version + 1
		WHERE id = @id AND user_id = @user AND status = 'completed'`, args{"user": user, "id": id})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("forget the original's %s: %w", id, err)
	}
	return nil
}

func isOriginals(err error) bool {
	var e *upload.Error
	return errors.As(err, &e) && e.Code == upload.OtherInstallation
}

// FileRow is a row in a provider's guide table.
type FileRow struct {
	Provider string
	ID       int64
}

// FileRowsToForget returns the rows of a user in the guides' tables whose deletion has not begun. That of what uploads
// have stored has.
func FileRowsToForget(ctx context.Context, db DB, user string) ([]FileRow, error) {
	var all []FileRow
	for _, provider := range GuideProviders {
		rows, err := db.Query(ctx, `
			SELECT g.id::bigint
			FROM `+guideTableOf(provider)+` g
			WHERE g.user_id = @user AND NOT EXISTS (
				SELECT FROM slipway.file_deletions d
				WHERE d.provider = @provider AND d.guide_row = g.id OR d.upload_id = g.upload_id)
			  AND NOT EXISTS (SELECT FROM slipway.uploads u WHERE u.id = g.upload_id AND u.user_id = @user AND u.status <> 'deleted')
			ORDER BY g.id`, args{"user": user, "provider": provider})
		found, err := collect("look for files to forget", rows, err, pgx.RowTo[int64])
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			all = append(all, FileRow{provider, id})
		}
	}
	return all, nil
}

// ForgetFileRow begins to delete what a row of a guide's table names, as [DeleteFileRow] does. Only the row goes where the
// asset is of another user's upload, or the original's, of which this installation is a copy.
func ForgetFileRow(ctx context.Context, tx pgx.Tx, q *Queue, user string, f FileRow) error {
	row := args{"user": user, "row": f.ID}
	b := &pgx.Batch{}
	b.Queue(`
		DELETE FROM `+guideTableOf(f.Provider)+` g
		USING slipway.uploads u
		WHERE g.id = @row AND g.user_id = @user AND u.id = g.upload_id AND u.user_id <> @user`, row)
	b.Queue(`
		UPDATE `+guideTableOf(f.Provider)+` g
		SET upload_id = NULL
		FROM slipway.uploads u
		WHERE g.id = @row AND g.user_id = @user AND u.id = g.upload_id AND u.status = 'deleted'`, row) // the guide's app has made another row of it
	err := tx.SendBatch(ctx, b).Close()
	if err == nil {
		err = DeleteFileRow(ctx, tx, q, user, f.Provider, f.ID)
	}
	switch {
	case errors.Is(err, ErrNoUpload):
		return nil
	case isOriginals(err):
		_, err = tx.Exec(ctx, `DELETE FROM `+guideTableOf(f.Provider)+` WHERE id = @row AND user_id = @user`, row)
	}
	if err != nil {
		return fmt.Errorf("row %d of %s_files: %w", f.ID, f.Provider, err)
	}
	return nil
}

// Leaving is what providers have still of what is being deleted, and why, where something went wrong.
type Leaving struct {
	Provider string
	Count    int
	Code     upload.Code // "": nothing went wrong
	Message  string
	Again    *time.Time // when the first of them is looked at again, if that is to be waited for
}

// LeavingOf returns what a user's deletions have still to remove.
func LeavingOf(ctx context.Context, db DB, user string) ([]Leaving, error) {
	rows, err := db.Query(ctx, `
		SELECT d.provider, count(*), coalesce(d.error_code, ''), coalesce(d.error_message, ''), min(j.scheduled_at) FILTER (WHERE j.scheduled_at > now())
		FROM (SELECT provider, job_id, error_code, error_message FROM slipway.file_deletions WHERE user_id = @user
		      UNION ALL
		      SELECT u.provider, NULL, NULL, NULL
		      FROM slipway.uploads u
		      WHERE u.user_id = @user AND u.status = 'deleting'
		        AND NOT EXISTS (SELECT FROM slipway.file_deletions f WHERE f.upload_id = u.id)) d
		LEFT JOIN slipway.river_job j ON j.id = d.job_id
		GROUP BY 1, 3, 4
		ORDER BY 1, 3, 4`, args{"user": user})
	return collect("look what is still to be deleted", rows, err, pgx.RowToStructByPos[Leaving])
}

// DeletedUploads returns up to limit of a user's uploads of which only rows are left, and the pieces of such, whose bytes
// may be in staging still.
func DeletedUploads(ctx context.Context, db DB, user string, limit int) ([]upload.ID, error) {
	rows, err := db.Query(ctx, `
		SELECT u.id
		FROM slipway.uploads u
		WHERE u.user_id = @user AND `+onlyRows+`
		LIMIT @limit`, args{"user": user, "limit": limit})
	return collect("look for deleted uploads", rows, err, pgx.RowTo[upload.ID])
}

// onlyRows tells of upload u that nothing is left of it but rows.
const onlyRows = `
	NOT EXISTS (SELECT FROM slipway.file_deletions d WHERE d.upload_id = u.id)
	AND (u.status = 'deleted' OR u.status = 'joined' AND NOT EXISTS (
		SELECT FROM slipway.uploads f WHERE f.id = u.joined_to AND f.status <> 'deleted'))`

// EraseUploads removes all rows of those of the uploads of which only rows are left, their history too, and counts them
// in erased by table.
func EraseUploads(ctx context.Context, tx pgx.Tx, user string, ids []upload.ID, erased map[string]int64) error {
	rows, err := tx.Query(ctx, `
		SELECT id
		FROM slipway.uploads
		WHERE user_id = @user AND id = ANY (@ids::uuid[])
		ORDER BY id
		FOR UPDATE`, args{"user": user, "ids": ids}) // nobody writes a deletion down any more
	if ids, err = collect("lock deleted uploads", rows, err, pgx.RowTo[upload.ID]); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `SELECT u.id FROM slipway.uploads u WHERE u.id = ANY (@ids::uuid[]) AND `+onlyRows, args{"ids": ids})
	if ids, err = collect("look for deleted uploads", rows, err, pgx.RowTo[upload.ID]); err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(`
		UPDATE slipway.providers
		SET troubled = ARRAY (SELECT t.id FROM unnest(troubled) WITH ORDINALITY t(id, n) WHERE t.id <> ALL (@ids::uuid[]) ORDER BY t.n)
		WHERE troubled && @ids::uuid[]`, args{"ids": ids})
	for _, t := range []struct{ table, where string }{
		{"slipway.push_parts", `session_id IN (SELECT id FROM slipway.push_sessions WHERE upload_id = ANY (@ids::uuid[]))`},
		{"slipway.push_sessions", `upload_id = ANY (@ids::uuid[])`},
		{"slipway.upload_events", `upload_id = ANY (@ids::uuid[])`},
		{"slipway.tus_uploads", `upload_id = ANY (@ids::uuid[])`},
		{"slipway.imports", `upload_id = ANY (@ids::uuid[])`},
		{"slipway.direct_uploads", `upload_id = ANY (@ids::uuid[])`},
		{"slipway.idempotency_keys", `made = ANY (@ids::uuid[])`},
		{"slipway.uploads", `id = ANY (@ids::uuid[])`},
	} {
		queueErase(b, t.table, t.where, args{"ids": ids}, erased)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("erase uploads: %w", err)
	}
	return nil
}

func queueErase(b *pgx.Batch, table, where string, a args, erased map[string]int64) {
	b.Queue(`WITH gone AS (DELETE FROM `+table+` WHERE `+where+` RETURNING 1) SELECT count(*) FROM gone`, a).QueryRow(func(row pgx.Row) error {
		var n int64
		err := row.Scan(&n)
		if n > 0 {
			erased[table] += n
		}
		return err
	})
}

// EraseUser removes what is left of a user who has no uploads and nothing to be deleted, and counts it in erased by
// table. It is false, and nothing is removed, where there is something again: the user goes on. An upload that comes in
// from one statement to the next keeps what belongs to it. Rows of the guides' tables stay.
func EraseUser(ctx context.Context, tx pgx.Tx, user string, erased map[string]int64) (done bool, err error) {
	b := &pgx.Batch{}
	queueUsageLock(b, user) // no upload is let in meanwhile where that is counted
	b.Queue(`
		SELECT NOT EXISTS (SELECT FROM slipway.uploads WHERE user_id = @user)
		   AND NOT EXISTS (SELECT FROM slipway.file_deletions WHERE user_id = @user)`, args{"user": user},
	).QueryRow(func(row pgx.Row) error { return row.Scan(&done) })
	if err := tx.SendBatch(ctx, b).Close(); err != nil || !done {
		return false, err
	}
	b = &pgx.Batch{}
	for _, t := range traces {
		switch t.table {
		case "slipway.uploads", "slipway.file_deletions", "public.uploadcare_files", "public.cloudinary_files":
		default:
			queueErase(b, t.table, t.where+` AND NOT EXISTS (SELECT FROM slipway.uploads WHERE user_id = @user)`, args{"user": user}, erased)
		}
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return false, fmt.Errorf("erase the user: %w", err)
	}
	return true, nil
}
