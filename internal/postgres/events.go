package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/upload"
)

// WriteEvents is the last step of a transaction over one user's uploads: it takes the user's lock,
// so that the numbers drawn are in the order of the commits, and announces the events to whoever
// listens, as "<upload id> <sequence number> <user>". A transaction over several users calls it in the
// order of their ids.
func WriteEvents(ctx context.Context, tx DB, user string, events ...upload.Event) error {
	b := &pgx.Batch{}
	queueEvents(b, user, events...)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

func queueEvents(b *pgx.Batch, user string, events ...upload.Event) {
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('slipway.events:' || @user, 0))`, args{"user": user})
	for _, e := range events {
		if e.Data == nil {
			e.Data = map[string]any{}
		}
		b.Queue(`
			WITH e AS (
				INSERT INTO slipway.upload_events (upload_id, user_id, type, status, attempt, data)
				VALUES (@upload, @user, @type, @status, @attempt, @data)
				RETURNING seq, upload_id, user_id
			)
			SELECT pg_notify('slipway_events', upload_id || ' ' || seq || ' ' || user_id) FROM e`,
			args{"upload": e.UploadID, "user": user, "type": e.Type, "status": e.Status, "attempt": e.Attempt, "data": e.Data})
	}
}

// queueReceived tells how much has been received of uploads, after the statement in b that has written it down: of each at
// most once a second, and only while nobody else is writing its user's history, for whom such news are not worth
// waiting. It costs no round trip of its own.
func queueReceived(b *pgx.Batch, all ...receivedOf) {
	b.Queue(`
		WITH due AS MATERIALIZED (
			SELECT u.id, u.user_id, u.status, u.attempt, u.received_bytes, u.progress,
			       pg_try_advisory_xact_lock(hashtextextended('slipway.events:' || u.user_id, 0)) AS first
			FROM jsonb_to_recordset(@came) AS c (id uuid, user_id text, epoch bigint)
			JOIN slipway.uploads u USING (id, user_id)
			LEFT JOIN LATERAL (
				SELECT e.at, (e.data ->> 'received_bytes')::bigint AS received_bytes
				FROM slipway.upload_events e
				WHERE e.upload_id = u.id
				ORDER BY e.seq DESC
				LIMIT 1) last ON true
			WHERE u.status IN `+receiving+` AND u.receive_epoch = c.epoch AND u.received_bytes > 0
				AND (last.at > clock_timestamp() - interval '1 second' OR last.received_bytes IS NOT DISTINCT FROM u.received_bytes) IS NOT TRUE
		), e AS (
			INSERT INTO slipway.upload_events (upload_id, user_id, type, status, attempt, data)
			SELECT id, user_id, @type, status, attempt, jsonb_build_object('received_bytes', received_bytes, 'progress', round(progress::numeric, 4))
			FROM due
			WHERE first
			RETURNING seq, upload_id, user_id
		)
		SELECT pg_notify('slipway_events', upload_id || ' ' || seq || ' ' || user_id) FROM e`,
		args{"came": all, "type": upload.ProgressMade})
}

const eventColumns = `e.seq, e.upload_id, e.user_id, e.type, e.status, e.attempt, e.data, e.at`

// Events returns a user's events after a sequence number, oldest first; upload narrows them to one.
func Events(ctx context.Context, db Querier, user string, only upload.ID, after int64, limit int) ([]upload.Event, error) {
	where := ""
	if only != "" {
		where = ` AND e.upload_id = @upload`
	}
	rows, err := db.Query(ctx, `
		SELECT `+eventColumns+`
		FROM slipway.upload_events e
		WHERE e.user_id = @user AND e.seq > @after`+where+`
		ORDER BY e.seq
		LIMIT @limit`, args{"user": user, "upload": only, "after": after, "limit": limit})
	return collect("read events", rows, err, pgx.RowToStructByPos[upload.Event])
}

// EventsOf returns what has come of several users' events, each after the sequence number that was last
// seen of theirs, oldest first and at most limit of each. It is for who feeds them to their owners.
func EventsOf(ctx context.Context, db Querier, after map[string]int64, limit int) ([]upload.Event, error) {
	users, seen := make([]string, 0, len(after)), make([]int64, 0, len(after))
	for user, seq := range after {
		users, seen = append(users, user), append(seen, seq)
	}
	rows, err := db.Query(ctx, `
		SELECT e.*
		FROM unnest(@users::text[], @after::bigint[]) AS seen(user_id, seq)
		CROSS JOIN LATERAL (
			SELECT `+eventColumns+`
			FROM slipway.upload_events e
			WHERE e.user_id = seen.user_id AND e.seq > seen.seq
			ORDER BY e.seq
			LIMIT @limit) e
		ORDER BY e.seq`, args{"users": users, "after": seen, "limit": limit})
	return collect("read events", rows, err, pgx.RowToStructByPos[upload.Event])
}

// LogBounds are the ends of a user's history.
type LogBounds struct {
	Pruned int64 // nobody's events up to this sequence number are all there any more
	Last   int64 // the sequence number of the user's last event; 0 for none
}

// Reached tells whether the log still has everything after a sequence number. It has not for numbers that were
// never given, as after the restore of an older database.
func (b LogBounds) Reached(seq int64) bool { return b.Pruned <= seq && seq <= b.End() }

// End is the place after which nothing has happened yet.
func (b LogBounds) End() int64 { return max(b.Pruned, b.Last) }

// EventLog returns the ends of a user's history.
func EventLog(ctx context.Context, db Querier, user string) (LogBounds, error) {
	rows, err := db.Query(ctx, `
		SELECT l.pruned_through, coalesce((SELECT max(e.seq) FROM slipway.upload_events e WHERE e.user_id = @user), 0)
		FROM slipway.event_log l`, args{"user": user})
	if err != nil {
		return LogBounds{}, fmt.Errorf("read the ends of the history: %w", err)
	}
	bounds, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[LogBounds])
	if err != nil {
		return bounds, fmt.Errorf("read the ends of the history: %w", err)
	}
	return bounds, nil
}

// PruneEvents removes up to limit of the oldest events, as far as they are older than keep, and returns how
// many. It locks no more than those, and nobody waits for it.
func PruneEvents(ctx context.Context, pool *pgxpool.Pool, keep time.Duration, limit int) (n int, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			WITH oldest AS (
				SELECT seq, at
				FROM slipway.upload_events
				ORDER BY seq
				LIMIT @limit
				FOR UPDATE SKIP LOCKED
			), kept AS (
				SELECT min(seq) AS seq FROM oldest WHERE at >= now() - @keep::interval
			), gone AS (
				DELETE FROM slipway.upload_events e
				USING oldest
				WHERE e.seq = oldest.seq AND oldest.seq < coalesce((SELECT seq FROM kept), oldest.seq + 1)
				RETURNING e.seq
			), noted AS (
				UPDATE slipway.event_log
				SET pruned_through = greatest(pruned_through, (SELECT max(seq) FROM gone))
				WHERE EXISTS (SELECT FROM gone)
			)
			SELECT count(*) FROM gone`, args{"limit": limit, "keep": keep}).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("prune the history: %w", err)
	}
	return n, nil
}
