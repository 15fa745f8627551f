package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// GetReceptions returns those of these uploads that are the user's, by their ids.
func GetReceptions(ctx context.Context, db Querier, user string, ids []upload.ID) (map[upload.ID]Reception, error) {
	rows, err := db.Query(ctx, `
		SELECT `+receptionColumns+`
		FROM slipway.uploads u
		WHERE u.id = ANY (@ids::uuid[]) AND u.user_id = @user`, args{"ids": ids, "user": user})
	found, err := collect("look for partial uploads", rows, err, scanReception)
	if err != nil {
		return nil, err
	}
	all := make(map[upload.ID]Reception, len(found))
	for _, r := range found {
		all[r.ID] = r
	}
	return all, nil
}

// JoinPieces gives the segments of partial uploads to another one, which the transaction inserts, and lets the room go
// that was held for them. ErrFenced: one of them is not as it was seen.
func JoinPieces(ctx context.Context, tx pgx.Tx, user string, to upload.ID, pieces []Reception) error {
	ids, epochs, events := make([]upload.ID, len(pieces)), make([]int64, len(pieces)), make([]upload.Event, len(pieces))
	for i, p := range pieces {
		ids[i], epochs[i] = p.ID, p.ReceiveEpoch
		events[i] = upload.Event{UploadID: p.ID, Type: upload.StatusChanged, Status: upload.Joined, Data: map[string]any{"upload_id": to}}
	}
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads u
		SET status = 'joined', joined_to = @to, receive_epoch = receive_epoch + 1, receive_held = false, expires_at = NULL, version = version + 1
		FROM (
			SELECT w.id
			FROM slipway.uploads w
			JOIN unnest(@ids::uuid[], @epochs::bigint[]) seen(id, epoch) ON seen.id = w.id
			WHERE w.user_id = @user AND w.status = 'receiving' AND w.partial AND w.received_bytes = w.size AND w.receive_epoch = seen.epoch
			ORDER BY w.id
			FOR UPDATE OF w) piece
		WHERE u.id = piece.id`, args{"to": to, "user": user, "ids": ids, "epochs": epochs})
	if err != nil {
		return fmt.Errorf("join the pieces: %w", err)
	}
	if int(tag.RowsAffected()) != len(pieces) {
		return ErrFenced
	}
	if _, err := tx.Exec(ctx, `DELETE FROM slipway.staging_reservations WHERE upload_id = ANY (@ids::uuid[])`, args{"ids": ids}); err != nil {
		return fmt.Errorf("release the room: %w", err)
	}
	return WriteEvents(ctx, tx, user, events...)
}

// UnstageJoined writes down that the bytes of up to limit pieces leave staging, and returns whose: the file that they are
// pieces of has let its own go. It comes before they are removed.
func UnstageJoined(ctx context.Context, db DB, limit int) ([]upload.ID, error) {
	rows, err := db.Query(ctx, `
		UPDATE slipway.uploads u
		SET unstaged_at = now(), version = version + 1
		FROM (
			SELECT p.id
			FROM slipway.uploads p
			WHERE p.status = 'joined' AND p.unstaged_at IS NULL AND NOT EXISTS (
			    SELECT FROM slipway.uploads f WHERE f.id = p.joined_to AND f.unstaged_at IS NULL)
			LIMIT @limit
			FOR UPDATE OF p SKIP LOCKED) piece
		WHERE u.id = piece.id
		RETURNING u.id`, args{"limit": limit})
	return collect("let the bytes of pieces go", rows, err, pgx.RowTo[upload.ID])
}

// TusSaid is what a tus client said of an upload when it made it, as it said it.
type TusSaid struct {
	Metadata string // Upload-Metadata
	Concat   string // Upload-Concat
}

// InsertTus writes down what a client said of an upload.
func InsertTus(ctx context.Context, tx DB, user string, id upload.ID, said TusSaid) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO slipway.tus_uploads (upload_id, user_id, metadata, concat)
		VALUES (@id, @user, @metadata, @concat)`, args{"id": id, "user": user, "metadata": said.Metadata, "concat": said.Concat})
	if err != nil {
		return fmt.Errorf("write down what was said of the upload: %w", err)
	}
	return nil
}

// GetTus returns what a client said of an upload, or ErrNoUpload for one that did not come in by tus.
func GetTus(ctx context.Context, db Querier, user string, id upload.ID) (TusSaid, error) {
	rows, err := db.Query(ctx, `
		SELECT metadata, concat
		FROM slipway.tus_uploads
		WHERE upload_id = @id AND user_id = @user`, args{"id": id, "user": user})
	said, err := collect("read what was said of the upload", rows, err, pgx.RowToStructByPos[TusSaid])
	if err == nil && len(said) == 0 {
		err = ErrNoUpload
	}
	if err != nil {
		return TusSaid{}, err
	}
	return said[0], nil
}
