package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/upload"
)

// Reception is an upload whose bytes come in by the requests of one holder after the other, or have come in.
type Reception struct {
	upload.Upload // Size is 0 as long as nobody has said it

	ReceiveEpoch int64     // of the right to add bytes: the latest holder's
	Held         bool      // that holder has not let go
	Wanted       bool      // and is asked to
	Segment      int64     // number of the segment to write to
	Partial      bool      // a piece of a file, to be joined with others
	JoinedTo     upload.ID // the upload that has been made of it and others; "" before
}

const receptionColumns = uploadColumns + `,
	u.receive_epoch, u.receive_held, u.receive_wanted IS NOT DISTINCT FROM u.receive_epoch, u.receive_segment, u.partial, coalesce(u.joined_to::text, '')`

func scanReception(row pgx.CollectableRow) (r Reception, err error) {
	r.Upload, err = scanUploadAnd(row, &r.ReceiveEpoch, &r.Held, &r.Wanted, &r.Segment, &r.Partial, &r.JoinedTo)
	return r, err
}

func oneReception(rows pgx.Rows, err error) (Reception, error) {
	if err != nil {
		return Reception{}, fmt.Errorf("upload: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanReception)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("upload: %w", err)
	}
	return r, err
}

// GetReception returns a user's upload with what its receivers know of it, also one that was joined to
// another, or ErrNoUpload.
func GetReception(ctx context.Context, db Querier, user string, id upload.ID) (Reception, error) {
	r, err := oneReception(db.Query(ctx, `
		SELECT `+receptionColumns+`
		FROM slipway.uploads u
		WHERE u.id = @id AND u.user_id = @user`, args{"id": id, "user": user}))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, ErrNoUpload
	}
	return r, err
}

// AskForRelease asks the holder of an epoch to write down how far it has come and to let go. Whoever watches the upload
// is woken when it has.
func AskForRelease(ctx context.Context, db DB, user string, id upload.ID, epoch int64) error {
	_, err := db.Exec(ctx, `
		WITH asked AS (
			UPDATE slipway.uploads
			SET receive_wanted = receive_epoch
			WHERE id = @id AND user_id = @user AND status IN `+receiving+` AND receive_epoch = @epoch AND receive_held
			RETURNING id, receive_epoch
		)
		SELECT `+askedFor+` FROM asked`, args{"id": id, "user": user, "epoch": epoch})
	if err != nil {
		return fmt.Errorf("ask for the release of %s: %w", id, err)
	}
	return nil
}

const (
	// receiving are the states in which bytes come in.
	receiving = `('receiving', 'fetching')`
	// announced wakes whoever watches the upload id. It is no event: nothing is to be read in its history.
	announced = `pg_notify('slipway_events', id || ' 0')`
	// askedFor tells the receivers of an upload, up to an epoch, to let go of it.
	askedFor = `pg_notify('slipway_events', id || ' want ' || receive_epoch)`
)

// TakeOver gives the right to add bytes to who has seen the upload under an epoch, and returns the upload as
// the one before has left it. Where that one has not let go, and may not know yet that it is fenced off, a
// new segment begins. With hold false nobody has the right afterwards. ErrFenced: somebody else was quicker, or the upload has ended.
func TakeOver(ctx context.Context, db DB, user string, id upload.ID, seen int64, hold bool) (Reception, error) {
	r, err := oneReception(db.Query(ctx, `
		UPDATE slipway.uploads u
		SET receive_epoch = u.receive_epoch + 1, receive_held = @hold,
		    receive_segment = CASE WHEN u.receive_held THEN u.receive_epoch + 1 ELSE u.receive_segment END
		WHERE u.id = @id AND u.user_id = @user AND u.status IN `+receiving+` AND u.receive_epoch = @seen
		RETURNING `+receptionColumns, args{"id": id, "user": user, "seen": seen, "hold": hold}))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, ErrFenced
	}
	return r, err
}

// Received is how far an upload's bytes have come, under the epoch of who received them.
type Received struct {
	Epoch    int64
	Size     int64 // of the whole; 0 as long as nobody has said it
	Offset   int64 // bytes that are durable
	CRC32C   uint32
	Segments []upload.Segment
	Life     time.Duration // until the upload expires, when nothing more comes

	FileName     string // "": as it was, as long as nobody has looked at the content
	ContentType  string
	ResourceType upload.ResourceType
}

func (r Received) args(user string, id upload.ID) args {
	return args{"user": user, "id": id, "epoch": r.Epoch, "offset": r.Offset, "crc32c": int64(r.CRC32C), "segments": r.Segments, "life": r.Life, "size": r.Size,
		"file_name": r.FileName, "content_type": r.ContentType, "resource_type": r.ResourceType}
}

// received is what a Received says of an upload.
const received = `
	size = nullif(@size::bigint, 0), received_bytes = @offset::bigint, crc32c = @crc32c, segments = @segments,
	file_name = coalesce(nullif(@file_name, ''), u.file_name),
	content_type = coalesce(nullif(@content_type, ''), u.content_type),
	resource_type = coalesce(nullif(@resource_type, ''), u.resource_type)`

// Checkpoint writes down how far an upload's bytes have come, prolongs its life and the room that is held for it, and
// tells whether its receiver is asked to let go; with release it does. It may be repeated. ErrFenced:
// nothing was written down.
func Checkpoint(ctx context.Context, db DB, user string, id upload.ID, r Received, release bool) (wanted bool, err error) {
	a := r.args(user, id)
	a["release"] = release
	b := &pgx.Batch{}
	b.Queue(`
		WITH room AS (
			UPDATE slipway.staging_reservations
			SET expires_at = now() + @life
			WHERE upload_id = @id
		), received AS (
			UPDATE slipway.uploads u
			SET `+received+`, receive_held = NOT @release, `+advanced+`
			WHERE u.id = @id AND u.user_id = @user AND u.status IN `+receiving+` AND u.receive_epoch = @epoch
			RETURNING id, `+isWanted+` AS wanted
		)
		SELECT wanted, `+announced+` FROM received`, a).QueryRow(func(row pgx.Row) error { return row.Scan(&wanted, nil) })
	queueReceived(b, receivedOf{ID: id, User: user, Epoch: r.Epoch})
	err = db.SendBatch(ctx, b).Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, ErrFenced
	case err != nil:
		return false, fmt.Errorf("write down what was received of %s: %w", id, err)
	}
	return wanted, nil
}

const (
	// advanced is what a checkpoint changes besides.
	advanced = `
		expires_at = now() + @life,
		progress = greatest(u.progress, coalesce(@offset::float8 / (2 * nullif(@size, 0)), 0)),
		version = u.version + (u.received_bytes <> @offset OR u.size IS DISTINCT FROM nullif(@size, 0))::int`
	isWanted = `u.receive_wanted IS NOT DISTINCT FROM u.receive_epoch`
)

// Reached is how far one upload of many has come.
type Reached struct {
	User string
	ID   upload.ID
	Received
}

// receivedOf is Reached as the database reads it.
type receivedOf struct {
	ID           upload.ID           `json:"id"`
	User         string              `json:"user_id"`
	Epoch        int64               `json:"epoch"`
	Size         int64               `json:"size"`
	Offset       int64               `json:"offset"`
	CRC32C       int64               `json:"crc32c"`
	Segments     []upload.Segment    `json:"segments"`
	Life         float64             `json:"seconds"`
	FileName     string              `json:"file_name"`
	ContentType  string              `json:"content_type"`
	ResourceType upload.ResourceType `json:"resource_type"`
}

// Turn is the right of one receiver, after others, to add to an upload.
type Turn struct {
	ID    upload.ID
	Epoch int64
}

// Checkpoints is Checkpoint, without a release, of many users' uploads at once, for who may act for all of them. It returns which
// were written down, and whether their receivers are asked to let go. Of one that is missing, somebody else has the row at the
// moment, or it is fenced off; Checkpoint tells.
func Checkpoints(ctx context.Context, pool *pgxpool.Pool, all []Reached) (wanted map[Turn]bool, err error) {
	wanted = make(map[Turn]bool, len(all))
	if len(all) == 0 {
		return wanted, nil
	}
	came := make([]receivedOf, len(all))
	for i, r := range all {
		came[i] = receivedOf{r.ID, r.User, r.Epoch, r.Size, r.Offset, int64(r.CRC32C), r.Segments, r.Life.Seconds(), r.FileName, r.ContentType, r.ResourceType}
	}
	b := &pgx.Batch{}
	b.Queue(`
		WITH came AS MATERIALIZED (
			SELECT *, make_interval(secs => seconds) AS life
			FROM jsonb_to_recordset(@came) AS c (
				id uuid, user_id text, epoch bigint, size bigint, "offset" bigint, crc32c bigint, segments jsonb, seconds float8,
				file_name text, content_type text, resource_type text)
		), free AS (
			SELECT u.id, c.epoch
			FROM slipway.uploads u
			JOIN came c ON c.id = u.id AND c.user_id = u.user_id AND c.epoch = u.receive_epoch
			WHERE u.status IN `+receiving+`
			ORDER BY u.id
			FOR UPDATE OF u SKIP LOCKED
		), rooms AS (
			SELECT free.id, free.epoch
			FROM slipway.staging_reservations r
			JOIN free ON free.id = r.upload_id
			FOR UPDATE OF r SKIP LOCKED
		), room AS (
			UPDATE slipway.staging_reservations r
			SET expires_at = now() + c.life
			FROM rooms
			JOIN came c USING (id, epoch)
			WHERE r.upload_id = c.id
		), received AS (
			UPDATE slipway.uploads u
			SET `+ofEach.Replace(received+`,`+advanced)+`
			FROM free
			JOIN came c USING (id, epoch)
			WHERE u.id = c.id
			RETURNING u.id, c.epoch, `+isWanted+` AS wanted
		)
		SELECT id, epoch, wanted, `+announced+` FROM received`, args{"came": came}).Query(func(rows pgx.Rows) error {
		var turn Turn
		var asked bool
		_, err := pgx.ForEachRow(rows, []any{&turn.ID, &turn.Epoch, &asked, nil}, func() error {
			wanted[turn] = asked
			return nil
		})
		return err
	})
	queueReceived(b, came...)
	if err := pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("write down what was received of %d uploads: %w", len(all), err)
	}
	return wanted, nil
}

// ofEach makes a change of one upload one of many.
var ofEach = strings.NewReplacer("@", "c.")

// FinishReceiving sends an upload on its way whose bytes are all there, with the job that will push it. It is the last
// step of its transaction. ErrFenced: it is not the receiver's to finish any more.
func FinishReceiving(ctx context.Context, tx pgx.Tx, u upload.Upload, r Received, deliverWithin time.Duration) (upload.Upload, error) {
	a := r.args(u.UserID, u.ID)
	a["job"], a["deliver_within"] = u.JobID, deliverWithin
	if err := Release(ctx, tx, u.ID); err != nil {
		return u, err
	}
	done, err := oneUpload(tx.Query(ctx, `
		UPDATE slipway.uploads u
		SET status = 'queued', job_id = @job, `+received+`,
		    receive_held = false, staged_at = now(), deliver_by = now() + @deliver_within, expires_at = NULL, progress = 0.5,
		    version = u.version + 1
		WHERE u.id = @id AND u.user_id = @user AND u.status IN `+receiving+` AND u.receive_epoch = @epoch AND NOT u.partial
		RETURNING `+uploadColumns, a))
	if errors.Is(err, ErrNoUpload) {
		return u, ErrFenced
	}
	if err != nil {
		return u, err
	}
	return done, WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Queued})
}

// InsertReceiving inserts an upload whose bytes are yet to come, with its first event, and expects them for life.
// What it says of its size is 0 where nobody has.
func InsertReceiving(ctx context.Context, tx DB, u upload.Upload, partial bool, life time.Duration) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO slipway.uploads (
			id, user_id, status, provider, resource_type, file_name, content_type, size, metadata, tags, max_attempts, created_at, expires_at, partial)
		VALUES (
			@id, @user, 'receiving', @provider, nullif(@resource_type, ''), @file_name, @content_type, nullif(@size::bigint, 0), @metadata, @tags,
			@max_attempts, @created, now() + @life, @partial)`,
		args{
			"id": u.ID, "user": u.UserID, "provider": u.Provider, "resource_type": u.ResourceType, "file_name": u.FileName,
			"content_type": u.ContentType, "size": u.Size, "metadata": orEmpty(u.Metadata), "tags": orNone(u.Tags),
			"max_attempts": u.MaxAttempts, "created": u.CreatedAt, "life": life, "partial": partial,
		})
	if err != nil {
		return fmt.Errorf("insert the upload: %w", err)
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Receiving})
}

// RefuseReceiving ends an upload whose content may not come in. Its bytes are to be removed afterwards. ErrFenced: it is
// not the receiver's to end any more.
func RefuseReceiving(ctx context.Context, tx pgx.Tx, user string, id upload.ID, epoch int64, e upload.Error) error {
	if err := Release(ctx, tx, id); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET status = 'failed', `+setError+`, receive_epoch = receive_epoch + 1, receive_held = false, unstaged_at = now(), expires_at = NULL,
		    version = version + 1
		WHERE id = @id AND user_id = @user AND status IN `+receiving+` AND receive_epoch = @epoch`,
		errorArgs(e, args{"id": id, "user": user, "epoch": epoch}))
	if err != nil {
		return fmt.Errorf("refuse the upload: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrFenced
	}
	return WriteEvents(ctx, tx, user, upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Failed,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// FinishReceived sends up to limit uploads on their way whose bytes are all there although nobody has been able to say so, and
// returns how many: their senders need not come back.
func FinishReceived(ctx context.Context, pool *pgxpool.Pool, q *Queue, limit int, deliverWithin time.Duration) (n int, err error) {
	for more := true; more && n < limit && err == nil; {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			more = false
			r, err := oneReception(tx.Query(ctx, `
				SELECT `+receptionColumns+`
				FROM slipway.uploads u
				WHERE u.status = 'receiving' AND NOT u.partial AND u.received_bytes = u.size
				ORDER BY u.expires_at
				LIMIT 1
				FOR UPDATE SKIP LOCKED`, args{}))
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			if r.JobID, err = InsertPush(ctx, tx, q, r.Upload); err != nil {
				return err
			}
			_, err = FinishReceiving(ctx, tx, r.Upload, Received{Epoch: r.ReceiveEpoch, Size: r.Size, Offset: r.Received, CRC32C: r.CRC32C, Segments: r.Segments}, deliverWithin)
			more = true
			return err
		})
		if more && err == nil {
			n++
		}
	}
	return n, err
}
