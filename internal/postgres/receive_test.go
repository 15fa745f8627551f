package postgres_test

import (
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// What is written down together is each user's own; one that cannot be holds up nobody.
func TestManyCheckpointsAtOnce(t *testing.T) {
	b := newBench(t)
	var all []postgres.Reached
	ids := map[string]upload.ID{}
	for _, user := range []string{"ann", "bob", "cid", "dot", "eve"} {
		u := staged(user)
		u.ID = upload.NewID()
		ids[user] = u.ID
		b.tx(t, func(tx pgx.Tx) error { return postgres.InsertReceiving(t.Context(), tx, u, false, time.Minute) })
		all = append(all, postgres.Reached{User: user, ID: u.ID, Received: postgres.Received{
			Size: u.Size, Offset: 3, CRC32C: 1 << 31, Segments: []upload.Segment{{Of: u.ID, Size: 3}}, Life: time.Hour, ContentType: "video/mp4"}})
	}
	b.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '2 seconds'`)
	b.exec(t, `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) SELECT id, user_id, 1, now() FROM slipway.uploads`)
	b.exec(t, `UPDATE slipway.uploads SET receive_epoch = 1 WHERE user_id = 'cid'`)                         // somebody else goes on with it
	b.tx(t, func(tx pgx.Tx) error { return postgres.AskForRelease(t.Context(), tx, "bob", ids["bob"], 0) }) // nobody holds it yet
	b.exec(t, `UPDATE slipway.uploads SET receive_held = true`)
	b.tx(t, func(tx pgx.Tx) error { return postgres.AskForRelease(t.Context(), tx, "bob", ids["bob"], 0) })
	all[4].User = "ann" // who has no such upload
	older := all[0]     // a receiver of the same upload that does not know yet that it was interrupted
	older.Epoch, older.Offset = -1, 2
	all = append([]postgres.Reached{older}, append(all, older)...)

	b.tx(t, func(tx pgx.Tx) error { // somebody has dot's row
		if _, err := tx.Exec(t.Context(), `SELECT FROM slipway.uploads WHERE user_id = 'dot' FOR UPDATE`); err != nil {
			return err
		}
		wanted, err := postgres.Checkpoints(t.Context(), b.Pool, all)
		if want := map[postgres.Turn]bool{{ID: ids["ann"]}: false, {ID: ids["bob"]}: true}; err != nil || !maps.Equal(wanted, want) {
			t.Errorf("written down is %v, %v, want %v", wanted, err, want)
		}
		return nil
	})
	for user, id := range ids {
		want := user == "ann" || user == "bob"
		got := one[bool](t, b.Pool, `
			SELECT received_bytes = 3 AND crc32c = 1::bigint << 31 AND segments = jsonb_build_array(jsonb_build_object('of', id, 'number', 0, 'size', 3))
			   AND content_type = 'video/mp4' AND file_name <> '' AND progress > 0 AND version = 2 AND expires_at > now() + interval '50 minutes'
			   AND receive_held AND (SELECT expires_at > now() + interval '50 minutes' FROM slipway.staging_reservations WHERE upload_id = id)
			   AND EXISTS (SELECT FROM slipway.upload_events e WHERE e.upload_id = u.id AND type = 'progress' AND e.user_id = u.user_id)
			FROM slipway.uploads u
			WHERE id = $1`, id)
		if got != want {
			t.Errorf("that %s's upload has come further is %t in the database, want %t", user, got, want)
		}
	}
	if wanted, err := postgres.Checkpoints(t.Context(), b.Pool, nil); err != nil || len(wanted) > 0 {
		t.Errorf("of none %v are written down, %v", wanted, err)
	}
}
