package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// WriteEvents is the last step of a transaction over one user's uploads: it takes the user's lock,
// so that the numbers drawn are in the order of the commits, and announces the events to whoever
// listens. A transaction over several users calls it in the order of their ids.
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
				RETURNING seq, upload_id
			)
			SELECT pg_notify('slipway_events', upload_id || ' ' || seq) FROM e`,
			args{"upload": e.UploadID, "user": user, "type": e.Type, "status": e.Status, "attempt": e.Attempt, "data": e.Data})
	}
}

// Events returns a user's events after a sequence number, oldest first; upload narrows them to one.
func Events(ctx context.Context, db DB, user string, only upload.ID, after int64, limit int) ([]upload.Event, error) {
	where := ""
	if only != "" {
		where = ` AND upload_id = @upload`
	}
	rows, err := db.Query(ctx, `
		SELECT seq, upload_id, user_id, type, status, attempt, data, at
		FROM slipway.upload_events
		WHERE user_id = @user AND seq > @after`+where+`
		ORDER BY seq
		LIMIT @limit`, args{"user": user, "upload": only, "after": after, "limit": limit})
	return collect("read events", rows, err, pgx.RowToStructByPos[upload.Event])
}
