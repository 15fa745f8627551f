package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// Limits are how much one user may use; nil is as much as they like.
type Limits struct {
	StagedBytes *int64 // in staging at the same time
	StoredBytes *int64 // with the providers, and on the way there
	Uploads     *int64 // begun on one day, UTC
	Receiving   *int64 // uploads that come in at the same time
	Requests    *int64 // in a minute
}

// Amount is so many files of so many bytes together.
type Amount struct{ Files, Bytes int64 }

// Usage is how much a user uses.
type Usage struct {
	Staged    Amount // in staging
	Pending   Amount // on the way to a provider
	Stored    Amount // with a provider
	Receiving Amount // held for what is coming in; bytes as far as they were declared
	Begun     int64  // of those, files that are uploads already, or pieces of what will be
	Uploads   int64  // begun today, UTC
	Resets    time.Duration
	Limits    Limits // the user's own

	Changes int64 // that are not added up yet
}

// ReadUsage returns how much a user uses beside what is held for the upload except, and the user's own
// limits where all users have one.
func ReadUsage(ctx context.Context, db DB, user string, except upload.ID, everybody Limits) (u Usage, err error) {
	b := &pgx.Batch{}
	queueUsage(b, user, except, everybody, &u)
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return u, fmt.Errorf("read the usage: %w", err)
	}
	return u, nil
}

// LockUsage is ReadUsage for a transaction that will use more: until it ends, no other adds to what the
// user uses. It comes before the user's rows are locked.
func LockUsage(ctx context.Context, tx DB, user string, except upload.ID, everybody Limits) (u Usage, err error) {
	b := &pgx.Batch{}
	queueUsageLock(b, user)
	queueUsage(b, user, except, everybody, &u)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return u, fmt.Errorf("lock the usage: %w", err)
	}
	return u, nil
}

func queueUsageLock(b *pgx.Batch, user string) {
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('slipway.usage:' || @user, 0))`, args{"user": user})
}

func queueUsage(b *pgx.Batch, user string, except upload.ID, everybody Limits, u *Usage) {
	b.Queue(`
		SELECT coalesce(t.staged_files, 0) + c.staged_files, coalesce(t.staged_bytes, 0) + c.staged_bytes,
		       coalesce(t.pending_files, 0) + c.pending_files, coalesce(t.pending_bytes, 0) + c.pending_bytes,
		       coalesce(t.stored_files, 0) + c.stored_files, coalesce(t.stored_bytes, 0) + c.stored_bytes,
		       CASE WHEN t.day = d.today THEN t.uploads ELSE 0 END + c.uploads,
		       h.files, h.bytes, h.begun, c.changes, (d.today + 1)::timestamp AT TIME ZONE 'UTC' - now(),
		       CASE WHEN @staged::bigint IS NOT NULL THEN coalesce(l.staged_bytes, @staged) END,
		       CASE WHEN @stored::bigint IS NOT NULL THEN coalesce(l.stored_bytes, @stored) END,
		       CASE WHEN @uploads::bigint IS NOT NULL THEN coalesce(l.uploads_per_day, @uploads) END,
		       CASE WHEN @receiving::bigint IS NOT NULL THEN coalesce(l.concurrent_uploads, @receiving) END,
		       CASE WHEN @requests::bigint IS NOT NULL THEN coalesce(l.requests_per_minute, @requests) END
		FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) d
		LEFT JOIN slipway.user_usage t ON t.user_id = @user
		LEFT JOIN slipway.user_limits l ON l.user_id = @user
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(staged_files), 0)::bigint AS staged_files, coalesce(sum(staged_bytes), 0)::bigint AS staged_bytes,
			       coalesce(sum(pending_files), 0)::bigint AS pending_files, coalesce(sum(pending_bytes), 0)::bigint AS pending_bytes,
			       coalesce(sum(stored_files), 0)::bigint AS stored_files, coalesce(sum(stored_bytes), 0)::bigint AS stored_bytes,
			       coalesce(sum(uploads) FILTER (WHERE day = d.today), 0)::bigint AS uploads,
			       count(*) AS changes
			FROM slipway.usage_changes
			WHERE user_id = @user
		) c
		CROSS JOIN (
			SELECT count(*) AS files, coalesce(sum(r.bytes), 0)::bigint AS bytes, count(w.id) AS begun
			FROM slipway.staging_reservations r
			LEFT JOIN slipway.uploads w ON w.id = r.upload_id
			WHERE r.user_id = @user AND r.bytes > 0 AND r.upload_id IS DISTINCT FROM nullif(@except, '')::uuid AND r.expires_at > now()
		) h`,
		args{"user": user, "except": string(except), "staged": everybody.StagedBytes, "stored": everybody.StoredBytes,
			"uploads": everybody.Uploads, "receiving": everybody.Receiving, "requests": everybody.Requests},
	).QueryRow(func(row pgx.Row) error {
		return row.Scan(&u.Staged.Files, &u.Staged.Bytes, &u.Pending.Files, &u.Pending.Bytes, &u.Stored.Files, &u.Stored.Bytes, &u.Uploads,
			&u.Receiving.Files, &u.Receiving.Bytes, &u.Begun, &u.Changes, &u.Resets,
			&u.Limits.StagedBytes, &u.Limits.StoredBytes, &u.Limits.Uploads, &u.Limits.Receiving, &u.Limits.Requests)
	})
}

// Hold keeps room for an upload that is about to come in, for as long as life, if allow lets it: it is
// asked with what the user uses and what is held for their other uploads. A commit of it may be lost, for
// what is refused is refused again when the upload is inserted.
func Hold(ctx context.Context, tx DB, user string, id upload.ID, bytes int64, life time.Duration, everybody Limits, allow func(Usage) error) error {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	queueUsageLock(b, user)
	queueAllowed(b, user, id, everybody, allow)
	b.Queue(`DELETE FROM slipway.staging_reservations WHERE user_id = @user AND expires_at < now()`, args{"user": user})
	b.Queue(`
		INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at)
		VALUES (@id, @user, @bytes, now() + @life)
		ON CONFLICT (upload_id) DO UPDATE SET bytes = excluded.bytes, expires_at = excluded.expires_at`,
		args{"id": id, "user": user, "bytes": bytes, "life": life})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("hold room: %w", err)
	}
	return nil
}

// queueAllowed reads the usage in b and ends b with an error where allow has one.
func queueAllowed(b *pgx.Batch, user string, except upload.ID, everybody Limits, allow func(Usage) error) {
	var u Usage
	queueUsage(b, user, except, everybody, &u)
	read := b.QueuedQueries[len(b.QueuedQueries)-1]
	scan := read.Fn
	read.Fn = func(br pgx.BatchResults) error {
		if err := scan(br); err != nil {
			return err
		}
		return allow(u)
	}
}

// KeepHold keeps what is held for an upload at least for so long from now, and returns how much that is: in its
// owner's quotas, and in staging.
func KeepHold(ctx context.Context, db DB, id upload.ID, life time.Duration) (bytes, room int64, err error) {
	err = db.QueryRow(ctx, `
		UPDATE slipway.staging_reservations
		SET expires_at = greatest(expires_at, now() + @life)
		WHERE upload_id = @id
		RETURNING bytes, room`, args{"id": id, "life": life}).Scan(&bytes, &room)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, fmt.Errorf("keep the room: %w", err)
	}
	return bytes, room, nil
}

// ShrinkHold lets go of what is held for an upload beyond its first bytes.
func ShrinkHold(ctx context.Context, db DB, id upload.ID, bytes int64) error {
	_, err := db.Exec(ctx, `
		UPDATE slipway.staging_reservations
		SET bytes = least(bytes, @bytes), room = least(room, @bytes)
		WHERE upload_id = @id`, args{"id": id, "bytes": bytes})
	if err != nil {
		return fmt.Errorf("shrink the room: %w", err)
	}
	return nil
}

// Release lets go what is held for an upload.
func Release(ctx context.Context, db DB, id upload.ID) error {
	_, err := db.Exec(ctx, `DELETE FROM slipway.staging_reservations WHERE upload_id = @id`, args{"id": id})
	if err != nil {
		return fmt.Errorf("release the room: %w", err)
	}
	return nil
}

// InsertWithin is InsertStaged for an upload whose owner has limits, if allow lets it. What was held for
// the upload is let go.
func InsertWithin(ctx context.Context, tx DB, u upload.Upload, deliverWithin time.Duration, everybody Limits, allow func(Usage) error) error {
	b := &pgx.Batch{}
	queueUsageLock(b, u.UserID)
	queueAllowed(b, u.UserID, u.ID, everybody, allow)
	queueRelease(b, u.ID)
	return insertStaged(ctx, tx, b, u, deliverWithin)
}

// InsertHeld is InsertStaged for an upload that room was held for, which is let go.
func InsertHeld(ctx context.Context, tx DB, u upload.Upload, deliverWithin time.Duration) error {
	b := &pgx.Batch{}
	queueRelease(b, u.ID)
	return insertStaged(ctx, tx, b, u, deliverWithin)
}

func queueRelease(b *pgx.Batch, id upload.ID) {
	b.Queue(`DELETE FROM slipway.staging_reservations WHERE upload_id = @id`, args{"id": id})
}

// RequestLimit is how many requests a user may send in a minute where everybody else may send so many.
func RequestLimit(ctx context.Context, db DB, user string, everybody int64) (n int64, err error) {
	err = db.QueryRow(ctx, `
		SELECT coalesce((SELECT requests_per_minute FROM slipway.user_limits WHERE user_id = @user), @everybody)`,
		args{"user": user, "everybody": everybody}).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read the limit: %w", err)
	}
	return n, nil
}

// addUpBatch bounds one statement, and the transaction that it is.
const addUpBatch = 10_000

// AddUpUsage adds to what users use what has changed since, so that there is little to add for who asks: of
// one user, or of all where user is "".
func AddUpUsage(ctx context.Context, db DB, user string) error {
	for {
		var n int
		err := db.QueryRow(ctx, `
			WITH gone AS (
				DELETE FROM slipway.usage_changes
				WHERE ctid IN (
				    SELECT ctid
				    FROM slipway.usage_changes
				    WHERE @user::text = '' OR user_id = @user
				    LIMIT @batch
				    FOR UPDATE SKIP LOCKED)
				RETURNING *
			), latest AS (
				SELECT *, max(day) OVER (PARTITION BY user_id) AS last_day FROM gone
			), added AS (
				INSERT INTO slipway.user_usage AS t (
					user_id, staged_files, staged_bytes, pending_files, pending_bytes, stored_files, stored_bytes, day, uploads)
				SELECT user_id, sum(staged_files), sum(staged_bytes), sum(pending_files), sum(pending_bytes), sum(stored_files), sum(stored_bytes),
				       last_day, coalesce(sum(uploads) FILTER (WHERE day = last_day), 0)
				FROM latest
				GROUP BY user_id, last_day
				ORDER BY user_id
				ON CONFLICT (user_id) DO UPDATE
				SET staged_files = t.staged_files + excluded.staged_files, staged_bytes = t.staged_bytes + excluded.staged_bytes,
				    pending_files = t.pending_files + excluded.pending_files, pending_bytes = t.pending_bytes + excluded.pending_bytes,
				    stored_files = t.stored_files + excluded.stored_files, stored_bytes = t.stored_bytes + excluded.stored_bytes,
				    uploads = CASE WHEN t.day < excluded.day THEN excluded.uploads WHEN t.day = excluded.day THEN t.uploads + excluded.uploads ELSE t.uploads END,
				    day = greatest(t.day, excluded.day)
			)
			SELECT count(*) FROM gone`, args{"batch": addUpBatch, "user": user}).Scan(&n)
		if err != nil {
			return fmt.Errorf("add up the usage: %w", err)
		}
		if n < addUpBatch {
			return nil
		}
	}
}

// ForgetUsage removes what is held for uploads that ended unseen, the places of who has not come again, and rates
// that are full again.
func ForgetUsage(ctx context.Context, db DB) error {
	for _, table := range []string{"staging_reservations", "staging_waits", "request_rates"} {
		if _, err := db.Exec(ctx, `DELETE FROM slipway.`+table+` WHERE expires_at < now()`, args{}); err != nil {
			return fmt.Errorf("forget old %s: %w", table, err)
		}
	}
	return nil
}
