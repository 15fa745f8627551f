package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// usage is what alice uses, as one of her requests sees it.
func (b bench) usage(t *testing.T, everybody postgres.Limits) (u postgres.Usage) {
	t.Helper()
	err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) (err error) {
		u, err = postgres.ReadUsage(t.Context(), tx, "alice", "", everybody)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.Resets <= 0 || u.Resets > 24*time.Hour {
		t.Errorf("the day ends in %s", u.Resets)
	}
	u.Resets, u.Changes = 0, 0
	return u
}

// recounted is what the rows say that the counters are to say.
func (b bench) recounted(t *testing.T) string {
	t.Helper()
	return one[string](t, b.Pool, `
		SELECT coalesce(jsonb_agg(jsonb_build_object('user', user_id, 'staged', staged, 'pending', pending, 'stored', stored) ORDER BY user_id), '[]')::text
		FROM (SELECT user_id, coalesce(sum(size) FILTER (WHERE slipway.is_staged(u)), 0) AS staged,
		             coalesce(sum(size) FILTER (WHERE slipway.is_pending(u)), 0) AS pending,
		             coalesce(sum(size) FILTER (WHERE slipway.is_stored(u)), 0) AS stored
		      FROM slipway.uploads u GROUP BY 1) x
		WHERE staged <> 0 OR pending <> 0 OR stored <> 0`)
}

func (b bench) counted(t *testing.T) string {
	t.Helper()
	if err := postgres.AddUpUsage(t.Context(), b.Pool, ""); err != nil {
		t.Fatal(err)
	}
	return one[string](t, b.Pool, `
		SELECT coalesce(jsonb_agg(jsonb_build_object('user', user_id, 'staged', staged_bytes, 'pending', pending_bytes, 'stored', stored_bytes) ORDER BY user_id), '[]')::text
		FROM slipway.user_usage
		WHERE staged_bytes <> 0 OR pending_bytes <> 0 OR stored_bytes <> 0`)
}

func TestUsageFollowsAnUpload(t *testing.T) {
	b := newBench(t)
	b.accepted(t, staged("bob"))
	asset := upload.Asset{ID: "x", URL: "https://cdn.example/x", Size: 100}
	in, out := postgres.Amount{Files: 1, Bytes: 100}, postgres.Amount{}
	want := func(what string, staged, pending, stored postgres.Amount, uploads int64) {
		t.Helper()
		if got := b.usage(t, postgres.Limits{}); got != (postgres.Usage{Staged: staged, Pending: pending, Stored: stored, Uploads: uploads}) {
			t.Errorf("%s: usage is %+v", what, got)
		}
		if got, rows := b.counted(t), b.recounted(t); got != rows {
			t.Errorf("%s: counted %s, and the rows say %s", what, got, rows)
		}
	}

	want("before anything", out, out, out, 0)
	u := b.taken(t, staged("alice"))
	want("pushing", in, in, out, 1)
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.ProviderUnavailable}, 0, false)
	})
	want("retrying", in, in, out, 1)
	u = b.take(t, u, time.Minute)
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Fail(t.Context(), tx, u, upload.Error{Code: upload.ProviderRejected}, time.Hour)
	})
	want("failed", in, out, out, 1)
	b.tx(t, func(tx pgx.Tx) (err error) {
		if u.JobID, err = postgres.InsertPush(t.Context(), tx, b.queue, u); err != nil {
			return err
		}
		u, err = postgres.Requeue(t.Context(), tx, "alice", u.ID, u.JobID, time.Hour)
		return err
	})
	want("sent on its way again", in, in, out, 1)
	b.fetch(t, u.JobID, 0)
	u = b.take(t, u, time.Minute)
	b.tx(t, func(tx pgx.Tx) error { return postgres.Complete(t.Context(), tx, u, asset, -time.Second) })
	want("completed", in, out, in, 1)
	if ok, err := postgres.Unstage(t.Context(), b.Pool, u.ID); err != nil || !ok {
		t.Fatal(ok, err)
	}
	want("unstaged", out, out, in, 1)
	b.tx(t, func(tx pgx.Tx) error {
		_, err := postgres.DeleteUpload(t.Context(), tx, b.queue, "alice", u.ID)
		return err
	})
	want("being deleted", out, out, in, 1)
	d := one[upload.ID](t, b.Pool, `SELECT id FROM slipway.file_deletions`)
	b.tx(t, func(tx pgx.Tx) error {
		job := one[int64](t, tx, `SELECT job_id FROM slipway.file_deletions`)
		deletion, err := postgres.ReadDeletion(t.Context(), tx, d, job)
		if err != nil {
			return err
		}
		return postgres.FinishDeletion(t.Context(), tx, deletion)
	})
	want("deleted", out, out, out, 1)
	b.accepted(t, staged("alice"))
	want("another", in, in, out, 2)
	b.exec(t, `DELETE FROM slipway.uploads`)
	want("the rows gone", out, out, out, 2)
}

func TestADaysUploadsAreForgottenTheNext(t *testing.T) {
	b := newBench(t)
	b.accepted(t, staged("alice"))
	b.exec(t, `UPDATE slipway.usage_changes SET day = day - 1, uploads = 7`)
	if got := b.usage(t, postgres.Limits{}).Uploads; got != 0 {
		t.Errorf("%d uploads count that were begun yesterday, before they are added up", got)
	}
	b.counted(t)
	if got := b.usage(t, postgres.Limits{}).Uploads; got != 0 {
		t.Errorf("%d uploads count that were begun yesterday", got)
	}
	b.accepted(t, staged("alice"))
	if got := b.usage(t, postgres.Limits{}).Uploads; got != 1 {
		t.Errorf("%d uploads count, want today's one", got)
	}
	b.counted(t)
	if got := b.usage(t, postgres.Limits{}).Uploads; got != 1 {
		t.Errorf("%d uploads count once they are added up, want today's one", got)
	}
}

func TestASingleUsersLimitsGoBeforeEverybodys(t *testing.T) {
	b := newBench(t)
	b.exec(t, `INSERT INTO slipway.user_limits (user_id, stored_bytes, uploads_per_day) VALUES ('alice', 5, 0), ('bob', 6, 6)`)
	hundred := int64(100)
	got := b.usage(t, postgres.Limits{StagedBytes: &hundred, StoredBytes: &hundred}).Limits
	if got.StagedBytes == nil || *got.StagedBytes != 100 || got.StoredBytes == nil || *got.StoredBytes != 5 || got.Uploads != nil {
		t.Errorf("limits are %+v", got)
	}
}

func TestWhatIsHeldIsNobodyElsesToSee(t *testing.T) {
	b := newBench(t)
	id := upload.NewID()
	hold := func(user string, life time.Duration, allow func(postgres.Usage) error) error {
		return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
			return postgres.Hold(t.Context(), tx, user, id, 50, life, postgres.Limits{}, allow)
		})
	}
	yes := func(postgres.Usage) error { return nil }
	held := func() int64 { t.Helper(); return b.usage(t, postgres.Limits{}).Receiving.Bytes }

	refused := errors.New("no")
	if err := hold("alice", time.Minute, func(postgres.Usage) error { return refused }); !errors.Is(err, refused) || held() != 0 {
		t.Errorf("refused: error = %v, and %d bytes are held", err, held())
	}
	if err := hold("alice", time.Minute, yes); err != nil || held() != 50 {
		t.Errorf("error = %v, and %d bytes are held, want 50", err, held())
	}
	if err := hold("bob", time.Minute, yes); err == nil {
		t.Error("bob has taken alice's hold")
	}
	if err := hold("alice", -time.Minute, yes); err != nil || held() != 0 {
		t.Errorf("run out: error = %v, and %d bytes are held", err, held())
	}
	if kept, _, err := postgres.KeepHold(t.Context(), b.Pool, id, time.Minute); kept != 50 || err != nil || held() != 50 {
		t.Errorf("kept: %d, error = %v, and %d bytes are held, want 50", kept, err, held())
	}
	if kept, _, err := postgres.KeepHold(t.Context(), b.Pool, upload.NewID(), time.Minute); kept != 0 || err != nil {
		t.Errorf("%d bytes are kept that nobody holds, error = %v", kept, err)
	}
	if err := postgres.ShrinkHold(t.Context(), b.Pool, id, 20); err != nil || held() != 20 {
		t.Errorf("shrunk: error = %v, and %d bytes are held, want 20", err, held())
	}
	if err := postgres.Release(t.Context(), b.Pool, id); err != nil || held() != 0 {
		t.Errorf("let go: error = %v, and %d bytes are held", err, held())
	}
	if err := hold("alice", -time.Minute, yes); err != nil {
		t.Fatal(err)
	}
	if err := postgres.ForgetUsage(t.Context(), b.Pool); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.staging_reservations`); n != 0 {
		t.Errorf("%d holds are remembered that have run out", n)
	}
}
