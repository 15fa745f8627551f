package postgres_test

import (
	"log/slog"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestRoomIsKeptByALoginThatOwnsNothing(t *testing.T) {
	owner := ownedBy(t, owners["a plain owner"])
	if err := postgres.Migrate(t.Context(), postgres.Options{URL: owner}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	b := benchAt(t, postgres.Options{URL: serving(t, owner)})
	b.accepted(t, staged("alice"))
	budget := int64(1000)
	ask := postgres.RoomAsk{ID: upload.NewID(), User: "alice", Least: 400, Most: 400, Queued: true, Budget: &budget, Disk: 1 << 40, Life: time.Minute}
	kept, before, err := postgres.TakeRoom(t.Context(), b.Pool, ask)
	if err != nil || kept != 400 || before <= 400 || before >= 1000 {
		t.Fatalf("%d bytes are kept of %d, %v; want 400 of what is left beside alice's file", kept, before, err)
	}
	if fits, left, err := postgres.RoomLeft(t.Context(), b.Pool, postgres.RoomAsk{ID: upload.NewID(), Least: 1000, Budget: &budget, Disk: 1 << 40}); fits || left != before-400 || err != nil {
		t.Errorf("left are %d bytes, %v; want %d", left, err, before-400)
	}
	if wait, err := postgres.QueueForRoom(t.Context(), b.Pool, "alice", "", 1000, 0); wait < time.Second || wait > time.Minute || err != nil {
		t.Errorf("told to wait %s, %v", wait, err)
	}
	if r, err := postgres.ReadRoom(t.Context(), b.Pool); r.Held != 400 || r.Staged != 1000-before || r.Waiting != 1 || r.Drain != nil || err != nil {
		t.Errorf("the room is used as %+v, %v", r, err)
	}
	b.exec(t, `UPDATE slipway.staging_waits SET expires_at = now() - interval '1 second'`)
	if err := postgres.ForgetUsage(t.Context(), b.Pool); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.staging_waits`); n != 0 {
		t.Errorf("%d places are kept of who has not come", n)
	}
}
