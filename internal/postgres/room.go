package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// RoomAsk is what somebody wants of the room in staging, all that they have there already included.
type RoomAsk struct {
	ID    upload.ID // of the upload, or of a process that asks for small ones in advance
	User  string    // "": a process
	Held  int64     // bytes that are kept where there is no room for Least
	Least int64     // bytes; fewer are of no use
	Most  int64     // bytes
	Part  int64     // no more than one in so many of the bytes that are left goes beyond Least; 0: all

	Budget *int64 // bytes that may be in staging and on the way there; nil is as many as the disk has
	Disk   int64  // bytes that the disk takes beside what has been written
	Queued bool   // whoever was told to come about now, and waits for longer, goes first
	Life   time.Duration
}

func (a RoomAsk) args() args {
	return args{
		"id": a.ID, "user": a.User, "held": a.Held, "least": a.Least, "most": a.Most, "part": max(a.Part, 1),
		"budget": a.Budget, "disk": a.Disk, "queued": a.Queued, "life": a.Life,
	}
}

// staged are all bytes in staging that rows name, and held those for which there is room kept, by all processes.
// What has come of the latter is on the disk already where the upload's row says so.
const (
	staged = `
		(SELECT coalesce(sum(staged_bytes), 0) FROM slipway.user_usage WHERE staged_bytes <> 0)
		+ (SELECT coalesce(sum(staged_bytes), 0) FROM slipway.usage_changes)`
	held = `
		SELECT coalesce(sum(r.room), 0) AS bytes, coalesce(sum(greatest(r.room - coalesce(u.received_bytes, 0), 0)), 0) AS unwritten
		FROM slipway.staging_reservations r
		LEFT JOIN slipway.uploads u ON u.id = r.upload_id
		WHERE r.room > 0 AND r.expires_at > now()`
)

// roomLeft is how many bytes there are for who asks, in the budget and on the disk, and how many of them are for
// those who go first.
const roomLeft = `
	others AS (` + held + ` AND r.upload_id <> @id),
	first AS (
		SELECT coalesce(sum(w.bytes), 0) AS bytes
		FROM slipway.staging_waits w
		WHERE @queued AND w.told > 1 AND w.due_at < now() + interval '5 seconds' AND w.expires_at > now()
		  AND w.since < coalesce((
		      SELECT min(m.since)
		      FROM slipway.staging_waits m
		      WHERE (m.upload_id = @id OR m.upload_id IS NULL AND m.user_id = @user AND m.bytes = @most) AND m.expires_at > now()), 'infinity')
	),
	room AS (
		SELECT least(
		           CASE WHEN @budget::bigint IS NOT NULL THEN @budget - others.bytes - (` + staged + `) END,
		           @disk::bigint - others.unwritten + coalesce((SELECT received_bytes FROM slipway.uploads WHERE id = @id), 0))::bigint AS bytes,
		       first.bytes::bigint AS first
		FROM others, first
	)`

// TakeRoom keeps room in staging, for as long as a.Life, and returns how much is kept now: at least a.Least, or
// a.Held where there is no room for that, and how much there was. No two decide at the same time, in whatever
// processes, so that never more is kept than there is. A commit of it may be lost, for it may be asked again.
func TakeRoom(ctx context.Context, db DB, a RoomAsk) (kept, left int64, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('slipway.staging', 0))`, args{})
	b.Queue(`
		WITH `+roomLeft+`, taken AS (
			SELECT CASE WHEN fits THEN least(@most, greatest(@least, (room.bytes - first) / @part)) ELSE @held END::bigint AS bytes, fits
			FROM room, LATERAL (SELECT room.bytes - first >= @least AS fits) f
		), kept AS (
			INSERT INTO slipway.staging_reservations AS r (upload_id, user_id, bytes, room, expires_at)
			SELECT @id, @user, 0, bytes, now() + @life
			FROM taken
			WHERE bytes > 0 OR @user = ''
			ON CONFLICT (upload_id) DO UPDATE
			SET room = excluded.room, expires_at = greatest(r.expires_at, excluded.expires_at)
		), come AS (
			DELETE FROM slipway.staging_waits
			WHERE ctid = (
			    SELECT w.ctid
			    FROM slipway.staging_waits w, taken
			    WHERE @queued AND fits AND (w.upload_id = @id OR w.upload_id IS NULL AND w.user_id = @user AND w.bytes = @most)
			    ORDER BY w.upload_id IS NULL, w.since
			    LIMIT 1)
		)
		SELECT taken.bytes, room.bytes FROM taken, room`, a.args()).QueryRow(func(row pgx.Row) error { return row.Scan(&kept, &left) })
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return 0, 0, fmt.Errorf("take room in staging: %w", err)
	}
	return kept, left, nil
}

// RoomLeft tells whether TakeRoom would find room for a.Least, and how much there is.
func RoomLeft(ctx context.Context, db DB, a RoomAsk) (fits bool, left int64, err error) {
	err = db.QueryRow(ctx, `WITH `+roomLeft+` SELECT bytes - first >= @least, bytes FROM room`, a.args()).Scan(&fits, &left)
	if err != nil {
		return false, 0, fmt.Errorf("look for room in staging: %w", err)
	}
	return fits, left, nil
}

// drained is how fast staging empties: the bytes of the uploads that have left it last, by the seconds in which it
// had any of them; between one and the next it may have been empty. NULL when none has left it for 5 min. What was
// kept after a failure is not of the flow.
const drained = `
	drained AS (
		SELECT sum(size) / greatest(
		           extract(epoch FROM sum(least(unstaged_at - before, unstaged_at - staged_at)) + least(now() - max(unstaged_at), interval '30 seconds')),
		           0.1) AS per_second
		FROM (
			SELECT size, staged_at, unstaged_at,
			       coalesce(lag(unstaged_at) OVER (ORDER BY unstaged_at),
			                CASE WHEN count(*) OVER () < 1000 THEN now() - interval '5 minutes' ELSE unstaged_at END) AS before
			FROM (
				SELECT size, staged_at, unstaged_at
				FROM slipway.uploads
				WHERE unstaged_at > now() - interval '5 minutes' AND staged_at IS NOT NULL AND status = 'completed'
				ORDER BY unstaged_at DESC
				LIMIT 1000) latest
		) left_staging
	)`

// How long whoever finds no room is told to wait.
const (
	shortestWait = time.Second
	longestWait  = 5 * time.Minute
	// afterDue is how long the place is kept of who does not come when it is due.
	afterDue = 10 * time.Second
	// guessedDrain is believed of a staging that nothing has left lately, bytes per second, for waits up to longestGuess:
	// by then there is a measure, unless nothing moves.
	guessedDrain = 32 << 20
	longestGuess = 30 * time.Second
)

// QueueForRoom gives a place among those who wait for room to who found none for a file of so many bytes, or keeps
// the place of who comes again as they were told, and returns how long it will be until there is room: by how fast
// staging empties, and who waits in front. It grows with each time that it was not enough. left is how much room
// there is. An upload that is named has one place, and may look earlier whether there is room.
func QueueForRoom(ctx context.Context, db DB, user string, named upload.ID, bytes, left int64) (wait time.Duration, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('slipway.staging_waits', 0))`, args{})
	b.Queue(`
		WITH `+drained+`, mine AS (
			SELECT ctid, since, told, due_at < now() + interval '1 second' AS due
			FROM slipway.staging_waits
			WHERE CASE WHEN @named = '' THEN upload_id IS NULL AND user_id = @user AND bytes = @bytes AND due_at < now() + interval '1 second' AND expires_at > now()
			           ELSE upload_id = nullif(@named, '')::uuid END
			ORDER BY since
			LIMIT 1
		), ahead AS (
			SELECT coalesce(sum(w.bytes), 0) AS bytes
			FROM slipway.staging_waits w
			WHERE w.expires_at > now() AND w.since < coalesce((SELECT since FROM mine), 'infinity')
		), estimate AS (
			SELECT greatest(
			           least((@bytes + ahead.bytes - @left) / coalesce(drained.per_second, @guess),
			                 CASE WHEN drained.per_second IS NULL THEN @longest_guess::float8 ELSE @longest::float8 END),
			           power(2, least(coalesce((SELECT told FROM mine), 0), 6)),
			           @shortest) AS seconds
			FROM ahead, drained
		), said AS (
			SELECT make_interval(secs => ceil(seconds * (1 + 0.2 * random()) + random())) AS wait
			FROM estimate
		), again AS (
			UPDATE slipway.staging_waits w
			SET told = w.told + mine.due::int, due_at = now() + said.wait, expires_at = now() + said.wait + @after_due
			FROM mine, said
			WHERE w.ctid = mine.ctid
		), new AS (
			INSERT INTO slipway.staging_waits (user_id, bytes, due_at, expires_at, upload_id)
			SELECT @user, @bytes, now() + wait, now() + wait + @after_due, nullif(@named, '')::uuid
			FROM said
			WHERE NOT EXISTS (SELECT FROM mine)
		)
		SELECT wait FROM said`,
		args{"user": user, "named": string(named), "bytes": bytes, "left": left, "guess": float64(guessedDrain), "shortest": shortestWait.Seconds(),
			"longest": longestWait.Seconds(), "longest_guess": longestGuess.Seconds(), "after_due": afterDue},
	).QueryRow(func(row pgx.Row) error { return row.Scan(&wait) })
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return 0, fmt.Errorf("queue for room in staging: %w", err)
	}
	return wait, nil
}

// Room is how staging's room is used, by all users and processes.
type Room struct {
	Staged    int64    // bytes that rows name
	Held      int64    // bytes for which room is kept
	Unwritten int64    // of those, bytes that have not come yet, as far as rows tell
	Waiting   int64    // files that were refused for want of room, and told to come again
	Drain     *float64 // bytes that leave staging in a second; nil when none have lately
}

// ReadRoom returns how staging's room is used.
func ReadRoom(ctx context.Context, db DB) (r Room, err error) {
	err = db.QueryRow(ctx, `
		WITH `+drained+`
		SELECT (`+staged+`)::bigint, held.bytes::bigint, held.unwritten::bigint,
		       (SELECT count(*) FROM slipway.staging_waits WHERE expires_at > now()), drained.per_second::float8
		FROM (`+held+`) held, drained`, args{}).Scan(&r.Staged, &r.Held, &r.Unwritten, &r.Waiting, &r.Drain)
	if err != nil {
		return r, fmt.Errorf("read how staging's room is used: %w", err)
	}
	return r, nil
}
