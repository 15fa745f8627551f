package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func lockFailed(t *testing.T, b bench, user string) []upload.Upload {
	t.Helper()
	found, err := asUser(t, b, func(tx pgx.Tx) ([]upload.Upload, error) {
		return postgres.LockFailed(t.Context(), tx, user, postgres.FailedFilter{UploadFilter: postgres.UploadFilter{Limit: 100}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func requeueAll(t *testing.T, b bench, user string, uploads []upload.Upload) error {
	return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		return postgres.RequeueAll(t.Context(), tx, b.queue, user, uploads, time.Hour)
	})
}

// One upload leaves the same behind whether it is sent again alone or with others.
func TestRequeueAllIsRequeueForEach(t *testing.T) {
	b := newBench(t)
	const spent = `attempt = 3, takeovers = 5, sessions_lost = 1, pushed_bytes = 50, pushed_high = 100, lease_owner = 'x', lease_until = now(),
		status = 'failed', staged_until = now(), error_code = 'internal', error_message = 'x', error_retryable = true, error_fixable_by = 'operator'`
	alone, together := b.accepted(t, staged("user_123")), b.accepted(t, staged("user_123"))
	b.exec(t, `UPDATE slipway.uploads SET `+spent)
	if _, err := asUser(t, b, func(tx pgx.Tx) (upload.Upload, error) {
		u := b.read(t, alone.ID)
		job, err := postgres.InsertPush(t.Context(), tx, b.queue, u)
		if err != nil {
			return u, err
		}
		return postgres.Requeue(t.Context(), tx, u.UserID, u.ID, job, time.Hour)
	}); err != nil {
		t.Fatal(err)
	}
	failed := lockFailed(t, b, "user_123")
	if len(failed) != 1 || failed[0].ID != together.ID {
		t.Fatalf("failed are %v", failed)
	}
	if err := requeueAll(t, b, "user_123", failed); err != nil {
		t.Fatal(err)
	}
	const left = `
		SELECT jsonb_build_array(
		    (SELECT to_jsonb(u) - '{id,job_id,created_at,staged_at,deliver_by}'::text[] FROM slipway.uploads u WHERE id = $1),
		    (SELECT jsonb_agg(to_jsonb(e) - '{seq,upload_id,at}'::text[] ORDER BY seq) FROM slipway.upload_events e WHERE upload_id = $1),
		    (SELECT jsonb_build_array(j.queue, j.kind, j.priority, j.state, j.max_attempts, j.metadata ->> 'user_id', j.args = jsonb_build_object('upload_id', u.id))
		     FROM slipway.river_job j JOIN slipway.uploads u ON u.job_id = j.id WHERE u.id = $1))::text`
	single, many := one[string](t, b.Pool, left, alone.ID), one[string](t, b.Pool, left, together.ID)
	if single != many {
		t.Errorf("together:\n%s\nalone:\n%s", many, single)
	}
}

func TestRequeueAllTellsInTheOrderItWasGiven(t *testing.T) {
	b := newBench(t)
	for range 20 {
		b.accepted(t, staged("user_123"))
	}
	b.exec(t, `UPDATE slipway.uploads SET status = 'failed'`)
	b.exec(t, `DELETE FROM slipway.upload_events`)
	failed := lockFailed(t, b, "user_123")
	if err := requeueAll(t, b, "user_123", failed); err != nil {
		t.Fatal(err)
	}
	var want, got []upload.ID
	for _, u := range failed {
		want = append(want, u.ID)
	}
	said, err := postgres.Events(t.Context(), b.Pool, "user_123", "", 0, 100)
	for _, e := range said {
		got = append(got, e.UploadID)
	}
	if err != nil || len(got) != 20 || !slices.Equal(got, want) {
		t.Errorf("events are of %v, %v, want %v", got, err, want)
	}
}

func TestRequeueAllIsAllOrNothing(t *testing.T) {
	b := newBench(t)
	failed := b.accepted(t, staged("user_123"))
	b.exec(t, `UPDATE slipway.uploads SET status = 'failed'`)
	foreign := b.accepted(t, staged("somebody else"))
	b.exec(t, `UPDATE slipway.uploads SET status = 'failed' WHERE id = $1`, foreign.ID)
	waits := b.accepted(t, staged("user_123"))
	gone := b.accepted(t, staged("user_123"))
	b.exec(t, `UPDATE slipway.uploads SET status = 'failed', unstaged_at = now() WHERE id = $1`, gone.ID)
	if found := lockFailed(t, b, "user_123"); len(found) != 2 || found[0].ID != failed.ID || found[1].ID != gone.ID {
		t.Errorf("of user_123 have failed %v", found)
	}
	for what, other := range map[string]upload.Upload{"somebody else's": foreign, "one that waits": waits, "one whose bytes are gone": gone} {
		before := b.dump(t, failed.ID) + b.dump(t, other.ID)
		if err := requeueAll(t, b, "user_123", []upload.Upload{failed, other}); err == nil {
			t.Errorf("%s was sent again", what)
		}
		if now := b.dump(t, failed.ID) + b.dump(t, other.ID); now != before {
			t.Errorf("with %s: it was\n%s\nand is\n%s", what, before, now)
		}
	}
}
