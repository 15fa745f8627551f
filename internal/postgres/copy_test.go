package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// What was on its way in the original is ended in the copy, which has neither the bytes nor the right.
func TestACopyLeavesToTheOriginalWhatWasOnItsWay(t *testing.T) {
	want := map[upload.Status]upload.Status{
		upload.Receiving: upload.Failed, upload.Fetching: upload.Failed, upload.Reserved: upload.Expired, upload.Verifying: upload.Failed,
		upload.Queued: upload.Failed, upload.Pushing: upload.Failed, upload.Retrying: upload.Failed,
	}
	b := newBench(t)
	uploads := map[upload.Status]upload.Upload{}
	for _, s := range upload.Statuses() {
		u := b.accepted(t, staged("ann"))
		b.exec(t, `UPDATE slipway.uploads SET status = $2, lease_until = now() + interval '1 hour', next_attempt_at = now() WHERE id = $1`, u.ID, s)
		uploads[s] = u
		if _, ended := want[s]; !ended {
			want[s] = s
		}
	}
	pushed := b.taken(t, staged("bob"))
	b.tx(t, func(tx pgx.Tx) error {
		_, err := postgres.BeginSession(t.Context(), tx, pushed, provider.Session{ID: "remote", PartSize: 10, Parts: 10}, "")
		return err
	})
	if err := postgres.Rehome(t.Context(), b.Pool, "postgres://branch.example/copy", true); err != nil {
		t.Fatal(err)
	}

	for s, u := range uploads {
		now := b.read(t, u.ID)
		if now.Status != want[s] {
			t.Errorf("what was %s is %s in the copy, want %s", s, now.Status, want[s])
		}
		if now.Unstaged == nil {
			t.Errorf("the copy believes to have the bytes of what was %s", s)
		}
		if now.Status == upload.Failed && s != upload.Failed && (now.Error == nil || now.Error.Code != upload.OtherInstallation || now.Error.Retryable || now.NextAttemptAt != nil) {
			t.Errorf("what was %s says %+v", s, now.Error)
		}
		last := one[string](t, b.Pool, `SELECT status FROM slipway.upload_events WHERE upload_id = $1 ORDER BY seq DESC LIMIT 1`, u.ID)
		if now.Status != s && last != string(now.Status) {
			t.Errorf("the last event of what was %s says %s", s, last)
		}
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE state NOT IN ('completed', 'cancelled', 'discarded')`); n != 0 {
		t.Errorf("%d jobs of the original's would run", n)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.push_sessions WHERE closed_at IS NULL`); n != 0 {
		t.Errorf("%d sessions of the original's are open", n)
	}
	if n, err := postgres.Adopt(t.Context(), b.Pool, b.queue); n != 0 || err != nil {
		t.Errorf("the sweep has found %d uploads to deliver, %v", n, err)
	}
	b.tx(t, func(tx pgx.Tx) error {
		err := postgres.Ack(t.Context(), tx, pushed, 1, nil, false)
		if err == nil {
			t.Error("a worker of the original's may still write")
		}
		return nil
	})
}

func TestADatabaseThatHasMovedGoesOn(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("ann"))
	before := b.dump(t, u.ID)
	if err := postgres.Rehome(t.Context(), b.Pool, "postgres://new.example/slipway", false); err != nil {
		t.Fatal(err)
	}
	if after := b.dump(t, u.ID); after != before {
		t.Errorf("the upload has changed from %s to %s", before, after)
	}
}
