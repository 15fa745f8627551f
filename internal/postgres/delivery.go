package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// ErrFenced means that the lease has gone to somebody else: stop, and change nothing.
var ErrFenced = errors.New("the lease has gone to another worker")

// Take begins an attempt: the lease goes to owner for ttl, every older holder is fenced off. It
// returns ErrNoUpload when job is not the one that may work, or the upload is not waiting for work.
func Take(ctx context.Context, tx DB, id upload.ID, job int64, owner string, ttl time.Duration) (upload.Upload, error) {
	u, err := oneUpload(tx.Query(ctx, `
		UPDATE slipway.uploads u
		SET status = 'pushing', lease_epoch = lease_epoch + 1, lease_owner = @owner, lease_until = now() + @ttl,
		    attempt = attempt + 1, started_at = coalesce(started_at, now()), next_attempt_at = NULL, version = version + 1
		WHERE u.id = @id AND u.job_id = @job AND u.status IN ('queued', 'retrying', 'pushing')
		RETURNING `+uploadColumns, args{"id": id, "job": job, "owner": owner, "ttl": ttl}))
	if err != nil {
		return u, err
	}
	return u, WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Pushing, Attempt: u.Attempt})
}

// Held is a lease as its holder knows it.
type Held struct {
	ID    upload.ID
	Epoch int64
}

// Renew prolongs leases by ttl and returns those that are still held. A row that somebody has locked
// is passed over, so that it cannot make the others expire.
func Renew(ctx context.Context, db DB, held []Held, ttl time.Duration) (map[upload.ID]bool, error) {
	ids, epochs := make([]upload.ID, len(held)), make([]int64, len(held))
	for i, h := range held {
		ids[i], epochs[i] = h.ID, h.Epoch
	}
	rows, err := db.Query(ctx, `
		WITH mine AS (
			SELECT u.id, u.lease_epoch = h.epoch AND u.status IN ('pushing', 'fetching') AS kept
			FROM slipway.uploads u
			JOIN unnest(@ids::uuid[], @epochs::bigint[]) h(id, epoch) ON h.id = u.id
			ORDER BY u.id
			FOR UPDATE OF u SKIP LOCKED
		), renewed AS (
			UPDATE slipway.uploads u
			SET lease_until = now() + @ttl
			FROM mine
			WHERE mine.kept AND u.id = mine.id
		)
		SELECT id, kept FROM mine`, args{"ids": ids, "epochs": epochs, "ttl": ttl})
	if err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	kept := map[upload.ID]bool{}
	var id upload.ID
	var ok bool
	_, err = pgx.ForEachRow(rows, []any{&id, &ok}, func() error {
		kept[id] = ok
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	return kept, nil
}

// Session is a provider's session as the ledger keeps it.
type Session struct {
	provider.Session
	Row       int64
	Finishing bool          // the completing call was sent; its outcome may be unknown
	Asset     *upload.Asset // pushed, and not lasting before it is committed at the provider
	Acked     []provider.Part
}

// OpenSession returns the upload's session in the ledger with its parts, or nil when a push must begin.
func OpenSession(ctx context.Context, db DB, id upload.ID) (*Session, error) {
	var s Session
	var expires *time.Time
	var asset []byte
	err := db.QueryRow(ctx, `
		SELECT id, remote_id, part_size, parts, last_part_completes, state, finishing, asset, expires_at
		FROM slipway.push_sessions
		WHERE upload_id = @id AND closed_at IS NULL`, args{"id": id}).
		Scan(&s.Row, &s.ID, &s.PartSize, &s.Parts, &s.LastPartCompletes, &s.State, &s.Finishing, &asset, &expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the session: %w", err)
	}
	if expires != nil {
		s.ExpiresAt = *expires
	}
	if asset != nil {
		if err := json.Unmarshal(asset, &s.Asset); err != nil {
			return nil, fmt.Errorf("asset of session %d: %w", s.Row, err)
		}
	}
	rows, err := db.Query(ctx, `
		SELECT number, size, crc32c, etag, carry
		FROM slipway.push_parts
		WHERE session_id = @session
		ORDER BY number`, args{"session": s.Row})
	if err != nil {
		return nil, fmt.Errorf("read the parts: %w", err)
	}
	s.Acked, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p provider.Part, err error) {
		var crc int64
		err = row.Scan(&p.Number, &p.Size, &crc, &p.ETag, &p.Carry)
		p.CRC32C = uint32(crc)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the parts: %w", err)
	}
	return &s, nil
}

// BeginSession writes a session into the ledger, before its first byte is sent, and counts the
// pushed bytes from zero again. reason says why, when it is not the upload's first; "" is by what its last attempt came to.
func BeginSession(ctx context.Context, tx DB, u upload.Upload, s provider.Session, reason string) (*Session, error) {
	if err := fence(ctx, tx, u, upload.Pushing, `pushed_bytes = 0, version = version + 1`, nil); err != nil {
		return nil, err
	}
	var expires *time.Time
	if !s.ExpiresAt.IsZero() {
		expires = &s.ExpiresAt
	}
	if len(s.State) == 0 {
		s.State = []byte(`{}`)
	}
	out := &Session{Session: s}
	var again bool
	err := tx.QueryRow(ctx, `
		INSERT INTO slipway.push_sessions (upload_id, provider, remote_id, part_size, parts, last_part_completes, state, expires_at)
		VALUES (@upload, @provider, @remote, @part_size, @parts, @last, @state, @expires)
		RETURNING id, EXISTS (SELECT FROM slipway.push_sessions s WHERE s.upload_id = @upload)`,
		args{"upload": u.ID, "provider": u.Provider, "remote": s.ID, "part_size": s.PartSize, "parts": s.Parts,
			"last": s.LastPartCompletes, "state": s.State, "expires": expires}).Scan(&out.Row, &again)
	if err != nil {
		return nil, fmt.Errorf("write the session: %w", err)
	}
	data := map[string]any{"parts": s.Parts, "part_size": s.PartSize}
	switch {
	case reason != "":
		data["reason"] = reason
	case again && u.Error != nil:
		data["reason"] = u.Error.Message
	case again:
		data["reason"] = "What was sent before cannot be gone on with."
	}
	return out, WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.SessionOpened, Status: upload.Pushing, Attempt: u.Attempt, Data: data})
}

// CloseSession ends the upload's open session; outcome is completed, lost or abandoned.
func CloseSession(ctx context.Context, tx DB, id upload.ID, outcome string) error {
	_, err := tx.Exec(ctx, `
		UPDATE slipway.push_sessions
		SET closed_at = now(), outcome = @outcome
		WHERE upload_id = @upload AND closed_at IS NULL`, args{"upload": id, "outcome": outcome})
	if err != nil {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}

// LoseSession ends a session that the provider no longer knows and counts it; it returns how many
// were lost without progress between them.
func LoseSession(ctx context.Context, tx DB, u upload.Upload) (lost int, err error) {
	err = tx.QueryRow(ctx, `
		UPDATE slipway.uploads
		SET sessions_lost = sessions_lost + 1
		WHERE id = @id AND lease_epoch = @epoch AND status = 'pushing'
		RETURNING sessions_lost`, args{"id": u.ID, "epoch": u.Epoch}).Scan(&lost)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrFenced
	}
	if err != nil {
		return 0, fmt.Errorf("count the lost session: %w", err)
	}
	return lost, CloseSession(ctx, tx, u.ID, "lost")
}

// AbandonSession ends the upload's open session without counting it, so that the next attempt begins another.
func AbandonSession(ctx context.Context, db DB, u upload.Upload) error {
	return ledger(ctx, db, u, `
		UPDATE slipway.push_sessions s
		SET closed_at = now(), outcome = 'abandoned'
		FROM held
		WHERE s.upload_id = held.id AND s.closed_at IS NULL`, args{})
}

// Finishing writes down that the completing call is about to be sent.
func Finishing(ctx context.Context, db DB, u upload.Upload, session int64) error {
	return ledger(ctx, db, u, `
		UPDATE slipway.push_sessions s
		SET finishing = true
		FROM held
		WHERE s.id = @session AND s.upload_id = held.id AND s.closed_at IS NULL`, args{"session": session})
}

// Ack writes parts that the provider has acknowledged into the ledger of its open session. Progress that was never made
// before resets the budgets. tell makes it an event, which a caller does at most once a second.
func Ack(ctx context.Context, tx DB, u upload.Upload, session int64, parts []provider.Part, tell bool) error {
	n := len(parts)
	numbers, sizes, crcs, etags, carries := make([]int, n), make([]int64, n), make([]int64, n), make([]string, n), make([][]byte, n)
	for i, p := range parts {
		numbers[i], sizes[i], crcs[i], etags[i], carries[i] = p.Number, p.Size, int64(p.CRC32C), p.ETag, p.Carry
	}
	var pushed int64
	var progress float64
	err := tx.QueryRow(ctx, `
		WITH held AS (
			SELECT u.id, s.id AS session
			FROM slipway.uploads u
			JOIN slipway.push_sessions s ON s.upload_id = u.id
			WHERE u.id = @id AND u.lease_epoch = @epoch AND u.status = 'pushing' AND s.id = @session AND s.closed_at IS NULL
			FOR UPDATE OF u
		), added AS (
			INSERT INTO slipway.push_parts (session_id, number, size, crc32c, etag, carry)
			SELECT held.session, p.number, p.size, p.crc32c, p.etag, p.carry
			FROM held, unnest(@numbers::int[], @sizes::bigint[], @crcs::bigint[], @etags::text[], @carries::bytea[]) p(number, size, crc32c, etag, carry)
			ON CONFLICT (session_id, number) DO NOTHING
			RETURNING size
		), total AS (SELECT coalesce(sum(size), 0) AS bytes FROM added)
		UPDATE slipway.uploads u
		SET pushed_bytes = pushed_bytes + total.bytes,
		    pushed_high = greatest(pushed_high, pushed_bytes + total.bytes),
		    progress = greatest(progress, (received_bytes + pushed_bytes + total.bytes) / (2.0 * size)),
		    attempt = CASE WHEN pushed_bytes + total.bytes > pushed_high THEN 1 ELSE attempt END,
		    takeovers = CASE WHEN pushed_bytes + total.bytes > pushed_high THEN 0 ELSE takeovers END,
		    sessions_lost = CASE WHEN pushed_bytes + total.bytes > pushed_high THEN 0 ELSE sessions_lost END,
		    version = version + 1
		FROM total, held
		WHERE u.id = held.id
		RETURNING u.pushed_bytes, round(u.progress::numeric, 4)`,
		args{"session": session, "numbers": numbers, "sizes": sizes, "crcs": crcs, "etags": etags, "carries": carries,
			"id": u.ID, "epoch": u.Epoch}).Scan(&pushed, &progress)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFenced
	}
	if err != nil {
		return fmt.Errorf("write the parts: %w", err)
	}
	if !tell {
		return nil
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.ProgressMade, Status: upload.Pushing, Attempt: u.Attempt, Data: map[string]any{"pushed_bytes": pushed, "progress": progress}})
}

// Pushed writes down an asset that the provider holds and that is not lasting yet, so that whoever
// goes on commits it instead of sending it again.
func Pushed(ctx context.Context, db DB, u upload.Upload, session int64, a upload.Asset) error {
	return ledger(ctx, db, u, `
		UPDATE slipway.push_sessions s
		SET asset = @asset
		FROM held
		WHERE s.id = @session AND s.upload_id = held.id AND s.closed_at IS NULL`, args{"session": session, "asset": a})
}

// Complete is the end of a push: the asset, the guide's row, the status and its event.
func Complete(ctx context.Context, tx DB, u upload.Upload, a upload.Asset, keepStaged time.Duration) error {
	err := fence(ctx, tx, u, upload.Pushing, `
		status = 'completed', asset = @asset, completed_at = now(), pushed_bytes = size, pushed_high = size, progress = 1,
		lease_owner = NULL, lease_until = NULL, staged_until = now() + @keep,
		error_code = NULL, error_message = NULL, error_retryable = NULL, error_fixable_by = NULL,
		version = version + 1`, args{"asset": a, "keep": keepStaged})
	if err != nil {
		return err
	}
	if err := CloseSession(ctx, tx, u.ID, "completed"); err != nil {
		return err
	}
	if err := insertGuideRow(ctx, tx, u, a); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Completed, Attempt: u.Attempt, Data: map[string]any{"url": a.URL}})
}

// insertGuideRow makes the asset a row as the guide's own code would, or completes the one that the
// guide's own code has made. A row of another user stays as it is.
func insertGuideRow(ctx context.Context, tx DB, u upload.Upload, a upload.Asset) error {
	statement := `
		INSERT INTO public.uploadcare_files AS f (
			file_id, file_url, user_id, upload_timestamp, upload_id, file_name, content_type, size)
		VALUES (@asset, @url, @user, now(), @upload, @file_name, @content_type, @size)
		ON CONFLICT (file_id) DO UPDATE
		SET upload_id = excluded.upload_id, file_url = excluded.file_url, file_name = excluded.file_name,
		    content_type = excluded.content_type, size = excluded.size
		WHERE f.user_id = excluded.user_id`
	if u.Provider == "cloudinary" {
		statement = `
			INSERT INTO public.cloudinary_files AS f (
				public_id, media_url, resource_type, user_id, upload_timestamp, upload_id, file_name, content_type, size,
				version, format, width, height, tags)
			VALUES (@asset, @url, @resource_type, @user, now(), @upload, @file_name, nullif(@content_type, ''), nullif(@size::bigint, 0),
				nullif(@version, 0), nullif(@format, ''), nullif(@width, 0), nullif(@height, 0), @tags)
			ON CONFLICT (public_id) DO UPDATE
			SET upload_id = excluded.upload_id, media_url = excluded.media_url, resource_type = excluded.resource_type,
			    file_name = excluded.file_name, content_type = excluded.content_type, size = excluded.size, version = excluded.version,
			    format = excluded.format, width = excluded.width, height = excluded.height, tags = excluded.tags
			WHERE f.user_id = excluded.user_id`
	}
	_, err := tx.Exec(ctx, statement, args{
		"asset": a.ID, "url": a.URL, "user": u.UserID, "upload": u.ID, "file_name": u.FileName, "content_type": u.ContentType, "size": a.Size,
		"resource_type": a.ResourceType, "version": a.Version, "format": a.Format, "width": a.Width, "height": a.Height, "tags": orNone(u.Tags),
	})
	if err != nil {
		return fmt.Errorf("write the guide's row: %w", err)
	}
	return nil
}

// Fail is the end of an upload that was given up; its bytes stay for keepStaged.
func Fail(ctx context.Context, tx DB, u upload.Upload, e upload.Error, keepStaged time.Duration) error {
	err := fence(ctx, tx, u, upload.Pushing, setError+`, status = 'failed', lease_owner = NULL, lease_until = NULL, next_attempt_at = NULL,
		staged_until = now() + @keep, version = version + 1`, errorArgs(e, args{"keep": keepStaged}))
	if err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Failed, Attempt: u.Attempt,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// Wait ends an attempt that will be tried again after a while, and says why. An attempt that was
// not the upload's fault is given back.
func Wait(ctx context.Context, tx DB, u upload.Upload, e upload.Error, after time.Duration, giveBack bool) error {
	err := fence(ctx, tx, u, upload.Pushing, setError+`, status = 'retrying', `+letGo+`, next_attempt_at = now() + @after,
		attempt = CASE WHEN @give_back THEN greatest(attempt - 1, 0) ELSE attempt END, version = version + 1`,
		errorArgs(e, args{"after": after, "give_back": giveBack}))
	if err != nil {
		return err
	}
	if err := goFirst(ctx, tx, u); err != nil {
		return err
	}
	return WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.StatusChanged, Status: upload.Retrying, Attempt: u.Attempt,
		Data: map[string]any{"code": e.Code, "message": e.Message}})
}

// letGo ends a lease whose upload goes on. River's row says that it runs until River has heard of it,
// and is not to be taken for a dead worker's meanwhile; whoever River gives it to need not wait.
const letGo = `lease_owner = NULL, lease_until = now() + interval '15 seconds'`

const setError = `error_code = @code, error_message = @message, error_retryable = @retryable, error_fixable_by = nullif(@fixable, '')`

func errorArgs(e upload.Error, a args) args {
	a["code"], a["message"], a["retryable"], a["fixable"] = e.Code, e.Message, e.Retryable, e.FixableBy
	return a
}

// ledger changes what the ledger says of an upload that the caller holds the lease of, or returns
// ErrFenced. The change is written against held, which keeps the lease from going elsewhere meanwhile.
func ledger(ctx context.Context, db DB, u upload.Upload, change string, a args) error {
	a["id"], a["epoch"] = u.ID, u.Epoch
	tag, err := db.Exec(ctx, `
		WITH held AS (
			SELECT id
			FROM slipway.uploads
			WHERE id = @id AND lease_epoch = @epoch AND status = 'pushing'
			FOR UPDATE
		)`+change, a)
	if err != nil {
		return fmt.Errorf("write the session: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrFenced
	}
	return nil
}

// fence changes a row of a status in which the caller holds the lease of it, or returns ErrFenced.
func fence(ctx context.Context, tx DB, u upload.Upload, in upload.Status, set string, a args) error {
	if a == nil {
		a = args{}
	}
	a["id"], a["epoch"], a["in"] = u.ID, u.Epoch, in
	tag, err := tx.Exec(ctx, `
		UPDATE slipway.uploads
		SET `+set+`
		WHERE id = @id AND lease_epoch = @epoch AND status = @in`, a)
	if err != nil {
		return fmt.Errorf("write the upload: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrFenced
	}
	return nil
}
