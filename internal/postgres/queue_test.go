package postgres_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

const (
	never = 24 * time.Hour   // a ttl that is longer than the server's life
	short = time.Microsecond // one that the server has outlived
)

// die makes a worker's lease and fetch as old as that.
func (b bench) die(t *testing.T, u upload.Upload, ago time.Duration) {
	t.Helper()
	b.exec(t, `UPDATE slipway.uploads SET lease_until = now() - $2::interval WHERE id = $1 AND lease_until IS NOT NULL`, u.ID, ago)
	b.exec(t, `UPDATE slipway.river_job SET attempted_at = now() - $2::interval WHERE id = $1`, u.JobID, ago)
}

func (b bench) reap(t *testing.T, ttl time.Duration) []postgres.Reaped {
	t.Helper()
	reaped, err := postgres.Reap(t.Context(), b.Pool, b.queue, ttl, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return reaped
}

func TestReapHandsOver(t *testing.T) {
	b := newBench(t)
	dead := b.taken(t, staged("user_123"))
	s := b.begin(t, dead)
	b.die(t, dead, time.Minute)

	reaped := b.reap(t, short)
	if len(reaped) != 1 || reaped[0].ID != dead.ID || reaped[0].Job == dead.JobID || reaped[0].Takeovers != 1 || reaped[0].Overdue < 59*time.Second {
		t.Fatalf("reaped = %+v", reaped)
	}
	now := b.read(t, dead.ID)
	if now.Status != upload.Queued || now.JobID != reaped[0].Job || now.Epoch <= dead.Epoch || now.Attempt != 0 || now.Version <= dead.Version {
		t.Errorf("upload = %+v", now)
	}
	type row struct {
		State, Queue, User string
		Priority, Errors   int
		From               *int64
	}
	jobs := map[int64]row{}
	rows, err := b.Query(t.Context(), `
		SELECT id, state::text, queue, metadata ->> 'user_id', priority, coalesce(cardinality(errors), 0), (metadata -> 'takeover_of')::bigint
		FROM slipway.river_job`)
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	var r row
	if _, err := pgx.ForEachRow(rows, []any{&id, &r.State, &r.Queue, &r.User, &r.Priority, &r.Errors, &r.From}, func() error {
		jobs[id] = r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if old := jobs[dead.JobID]; old.State != "discarded" || old.Errors != 1 {
		t.Errorf("the dead row is %+v", old)
	}
	if next := jobs[now.JobID]; next.State != "available" || next.Queue != "uploadcare_small" || next.User != "user_123" || next.Priority != 1 || next.From == nil || *next.From != dead.JobID {
		t.Errorf("the new row is %+v", next)
	}

	if err := postgres.Ack(t.Context(), b.Pool, dead, s.Row, []provider.Part{part(0)}, false); !errors.Is(err, postgres.ErrFenced) {
		t.Errorf("the sleeper wakes and gets %v", err)
	}
	if _, err := postgres.Take(t.Context(), b.Pool, dead.ID, dead.JobID, "sleeper", time.Minute); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("the old job takes the upload: %v", err)
	}
	next := b.take(t, now, time.Minute)
	if next.Attempt != 1 {
		t.Errorf("attempt %d, want the one that was not its fault", next.Attempt)
	}
	if got, err := postgres.OpenSession(t.Context(), b.Pool, next.ID); err != nil || got == nil || got.Row != s.Row {
		t.Errorf("session = %v, %v, want the dead worker's", got, err)
	}
	if again := b.reap(t, short); len(again) != 0 {
		t.Errorf("reaped again: %+v", again)
	}
}

func TestReapWhom(t *testing.T) {
	tests := map[string]struct {
		make   func(t *testing.T, b bench) upload.Upload
		ttl    time.Duration
		reaped bool
	}{
		"a worker whose lease has run out": {func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.die(t, u, time.Minute)
			return u
		}, short, true},
		"a worker that died before it had a lease": {func(t *testing.T, b bench) upload.Upload {
			u := b.accepted(t, staged("user_123"))
			b.fetch(t, u.JobID, time.Minute)
			return u
		}, short, true},
		"a worker that died before it had a lease again": {func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.tx(t, func(tx pgx.Tx) error {
				return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.Internal}, 0, false)
			})
			b.fetch(t, u.JobID, 0)
			b.die(t, u, time.Minute)
			return u
		}, short, true},
		"not one that has ended its attempt and waits for River to hear of it": {func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.exec(t, `UPDATE slipway.river_job SET attempted_at = now() - interval '1 hour'`)
			b.tx(t, func(tx pgx.Tx) error {
				return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.Internal}, 0, false)
			})
			return u
		}, short, false},
		"not one that has handed back and waits for River to hear of it": {func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.exec(t, `UPDATE slipway.river_job SET attempted_at = now() - interval '1 hour'`)
			b.tx(t, func(tx pgx.Tx) error { return postgres.HandBack(t.Context(), tx, b.queue, u) })
			return u
		}, short, false},
		"not one with a live lease": {func(t *testing.T, b bench) upload.Upload {
			u := b.accepted(t, staged("user_123"))
			b.fetch(t, u.JobID, time.Hour)
			return b.take(t, u, time.Minute)
		}, short, false},
		"not one that has just fetched its job": {func(t *testing.T, b bench) upload.Upload {
			u := b.accepted(t, staged("user_123"))
			b.fetch(t, u.JobID, 0)
			return u
		}, time.Minute, false},
		"nobody while the database is younger than a lease": {func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.die(t, u, 2*never)
			return u
		}, never, false},
	}
	for _, state := range []string{"available", "cancelled", "completed", "discarded", "pending", "retryable", "scheduled"} {
		tests["not one whose River row is "+state] = struct {
			make   func(t *testing.T, b bench) upload.Upload
			ttl    time.Duration
			reaped bool
		}{func(t *testing.T, b bench) upload.Upload {
			u := b.taken(t, staged("user_123"))
			b.die(t, u, time.Minute)
			b.exec(t, `UPDATE slipway.river_job SET state = $1::text::slipway.river_job_state,
				finalized_at = CASE WHEN $1 IN ('cancelled', 'completed', 'discarded') THEN now() END`, state)
			return u
		}, short, false}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			u := tt.make(t, b)
			before := b.dump(t, u.ID)
			reaped := b.reap(t, tt.ttl)
			if got := len(reaped) == 1; got != tt.reaped {
				t.Fatalf("reaped = %+v", reaped)
			}
			if changed := b.dump(t, u.ID) != before; changed != tt.reaped {
				t.Errorf("changed = %t", changed)
			}
		})
	}
}

func TestReapCountsNoAttemptThatNeverBegan(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.Internal}, 0, false)
	})
	b.fetch(t, u.JobID, 0)
	b.die(t, u, time.Minute)
	b.reap(t, short)
	if got := b.read(t, u.ID); got.Attempt != 1 || got.Status != upload.Retrying {
		t.Errorf("%s after %d attempts, want retrying after 1", got.Status, got.Attempt)
	}
}

func TestReapKeepsTheNextAttemptWhereItWas(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.Internal}, time.Hour, false)
	})
	b.die(t, u, time.Minute) // before River heard of it
	b.reap(t, short)
	if !one[bool](t, b.Pool, `
		SELECT j.state = 'scheduled' AND u.status = 'retrying' AND abs(extract(epoch FROM j.scheduled_at - u.next_attempt_at)) < 0.001
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id`) {
		t.Error("the new job does not wait as the old one would have")
	}
}

func TestReapPassesALockedRowOver(t *testing.T) {
	b := newBench(t)
	locked, free := b.taken(t, staged("user_123")), b.taken(t, staged("user_123"))
	b.die(t, locked, time.Minute)
	b.die(t, free, time.Minute)
	b.tx(t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM slipway.uploads WHERE id = $1 FOR UPDATE`, locked.ID); err != nil {
			return err
		}
		if reaped := b.reap(t, short); len(reaped) != 1 || reaped[0].ID != free.ID {
			t.Errorf("reaped = %+v, want the free one", reaped)
		}
		return nil
	})
	if reaped := b.reap(t, short); len(reaped) != 1 || reaped[0].ID != locked.ID {
		t.Errorf("reaped = %+v, want the other", reaped)
	}
}

func TestReapWhileSomebodySleepsInATransaction(t *testing.T) {
	b := newBench(t)
	other, kept, free := b.accepted(t, staged("ann")), b.taken(t, staged("ann")), b.taken(t, staged("ben"))
	b.die(t, kept, 2*time.Minute) // comes first
	b.die(t, free, time.Minute)
	b.tx(t, func(tx pgx.Tx) error {
		if err := postgres.WriteEvents(t.Context(), tx, "ann", upload.Event{UploadID: other.ID, Type: upload.ProgressMade}); err != nil {
			return err
		}
		reaped, err := postgres.Reap(t.Context(), b.Pool, b.queue, short, time.Hour)
		if len(reaped) != 1 || reaped[0].ID != free.ID || !postgres.Unreachable(err) {
			t.Errorf("reaped = %+v, %v; want the other user's, and that one has to wait", reaped, err)
		}
		return nil
	})
	if reaped := b.reap(t, short); len(reaped) != 1 || reaped[0].ID != kept.ID {
		t.Errorf("reaped = %+v, want the first", reaped)
	}
}

func TestWhereAPushGoesOn(t *testing.T) {
	large := staged("user_123")
	large.Size = upload.SmallFile
	lane := map[string]func(t *testing.T, b bench, u upload.Upload){
		"whose worker has died": func(t *testing.T, b bench, u upload.Upload) {
			b.die(t, u, time.Minute)
			b.reap(t, short)
		},
		"that was handed back": func(t *testing.T, b bench, u upload.Upload) {
			b.tx(t, func(tx pgx.Tx) error { return postgres.HandBack(t.Context(), tx, b.queue, u) })
		},
	}
	for name, leave := range lane {
		t.Run("a large one "+name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			u := b.taken(t, large)
			leave(t, b, u)
			if !one[bool](t, b.Pool, `
				SELECT j.queue = 'uploadcare_resume' AND j.priority = 1 AND j.state = 'available'
				FROM slipway.river_job j
				JOIN slipway.uploads u ON u.job_id = j.id AND u.status = 'queued'`) {
				t.Error("it waits behind others")
			}
		})
	}
}

func TestReapByManyAtOnce(t *testing.T) {
	b := newBench(t)
	for n := range 20 {
		u := b.taken(t, staged(string(rune('a'+n%5))))
		b.die(t, u, time.Minute)
	}
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			_, err := postgres.Reap(t.Context(), b.Pool, b.queue, short, time.Hour)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	b.reap(t, short)
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.uploads WHERE takeovers = 1`); n != 20 {
		t.Errorf("%d of 20 were taken over once", n)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE state = 'available'`); n != 20 {
		t.Errorf("%d jobs for 20 uploads", n)
	}
}

func TestReapGivesUp(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	for n := 1; ; n++ {
		b.die(t, u, time.Minute)
		reaped := b.reap(t, short)
		u = b.read(t, u.ID)
		if u.Status == upload.Failed {
			if n != 6 || len(reaped) != 0 {
				t.Errorf("given up at death %d, reaped %+v", n, reaped)
			}
			break
		}
		b.fetch(t, u.JobID, 0)
		u = b.take(t, u, time.Minute)
	}
	if u.Error == nil || u.Error.Code != upload.WorkerLost || u.StagedUntil == nil {
		t.Errorf("upload = %+v", u)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE state NOT IN ('discarded')`); n != 0 {
		t.Errorf("%d jobs left", n)
	}
	job := u.JobID
	err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: u.UserID}, func(tx pgx.Tx) (err error) {
		if job, err = postgres.InsertPush(t.Context(), tx, b.queue, u); err != nil {
			return err
		}
		u, err = postgres.Requeue(t.Context(), tx, u.UserID, u.ID, job, time.Hour)
		return err
	})
	if err != nil || u.Status != upload.Queued || u.Error != nil || u.JobID != job || u.StagedUntil != nil {
		t.Errorf("retried: %+v, %v", u, err)
	}
}

func TestAdoptWhom(t *testing.T) {
	tests := map[string]struct {
		change  string
		adopted bool
	}{
		"whose row is gone":            {`DELETE FROM slipway.river_job`, true},
		"whose row was completed":      {`UPDATE slipway.river_job SET state = 'completed', finalized_at = now()`, true},
		"whose row was cancelled":      {`UPDATE slipway.river_job SET state = 'cancelled', finalized_at = now()`, true},
		"whose row was discarded":      {`UPDATE slipway.river_job SET state = 'discarded', finalized_at = now()`, true},
		"that never had one":           {`UPDATE slipway.uploads SET job_id = NULL`, true},
		"not while it waits":           {`UPDATE slipway.river_job SET state = 'available'`, false},
		"not while it runs":            {`SELECT 1`, false},
		"not while it will be retried": {`UPDATE slipway.river_job SET state = 'retryable'`, false},
		"not while it is scheduled":    {`UPDATE slipway.river_job SET state = 'scheduled'`, false},
		"not while its lease lives":    {`DELETE FROM slipway.river_job; UPDATE slipway.uploads SET lease_until = now() + interval '1 minute'`, false},
		"not when it has ended":        {`DELETE FROM slipway.river_job; UPDATE slipway.uploads SET status = 'completed'`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			u := b.taken(t, staged("user_123"))
			b.exec(t, `UPDATE slipway.uploads SET lease_until = now() - interval '1 second'`)
			b.exec(t, tt.change)
			n, err := postgres.Adopt(t.Context(), b.Pool, b.queue)
			if err != nil || (n == 1) != tt.adopted {
				t.Fatalf("adopted %d, %v", n, err)
			}
			if !tt.adopted {
				return
			}
			now := b.read(t, u.ID)
			if now.JobID == u.JobID || now.Epoch <= u.Epoch || now.Status != upload.Queued {
				t.Errorf("upload = %+v", now)
			}
			b.take(t, now, time.Minute)
			if n, err := postgres.Adopt(t.Context(), b.Pool, b.queue); n != 0 || err != nil {
				t.Errorf("adopted %d again, %v", n, err)
			}
		})
	}
}

func TestRetryAndUnstageExcludeEachOther(t *testing.T) {
	b := newBench(t)
	var retried, unstaged int
	for range 50 {
		u := b.taken(t, staged("user_123"))
		b.tx(t, func(tx pgx.Tx) error {
			return postgres.Fail(t.Context(), tx, u, upload.Error{Code: upload.Internal}, -time.Second)
		})
		var again, gone bool
		var g errgroup.Group
		g.Go(func() error {
			err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: u.UserID}, func(tx pgx.Tx) error {
				_, err := postgres.Requeue(t.Context(), tx, u.UserID, u.ID, u.JobID, time.Hour)
				return err
			})
			again = err == nil
			if errors.Is(err, postgres.ErrNoUpload) {
				return nil
			}
			return err
		})
		g.Go(func() (err error) {
			gone, err = postgres.Unstage(t.Context(), b.Pool, u.ID)
			return err
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		now := b.read(t, u.ID)
		if again == gone || again != (now.Status == upload.Queued) || gone != (now.Unstaged != nil) {
			t.Fatalf("retried %t, bytes gone %t: %s, unstaged at %v", again, gone, now.Status, now.Unstaged)
		}
		if again {
			retried++
		} else {
			unstaged++
		}
	}
	t.Logf("retried %d, unstaged %d", retried, unstaged)
}

func TestToUnstage(t *testing.T) {
	b := newBench(t)
	over, kept := b.taken(t, staged("user_123")), b.taken(t, staged("user_123"))
	b.taken(t, staged("user_123"))
	b.tx(t, func(tx pgx.Tx) error { return postgres.Complete(t.Context(), tx, over, asset(over), 0) })
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Fail(t.Context(), tx, kept, upload.Error{Code: upload.Internal}, time.Hour)
	})
	ids, err := postgres.ToUnstage(t.Context(), b.Pool, 10)
	if err != nil || !slices.Equal(ids, []upload.ID{over.ID}) {
		t.Errorf("to unstage: %v, %v", ids, err)
	}
	for n, want := range []bool{true, false} {
		if ok, err := postgres.Unstage(t.Context(), b.Pool, over.ID); ok != want || err != nil {
			t.Errorf("unstage %d = %t, %v", n, ok, err)
		}
	}
	if ids, err := postgres.ToUnstage(t.Context(), b.Pool, 10); err != nil || len(ids) != 0 {
		t.Errorf("to unstage: %v, %v", ids, err)
	}
}

func TestIdle(t *testing.T) {
	b := newBench(t)
	for _, want := range []bool{true, false, true} {
		if idle, err := postgres.Idle(t.Context(), b.Pool); idle != want || err != nil {
			t.Errorf("idle = %t, %v, want %t", idle, err, want)
		}
		if want {
			b.exec(t, `DELETE FROM slipway.uploads`)
			b.accepted(t, staged("user_123"))
		} else {
			b.exec(t, `UPDATE slipway.uploads SET status = 'failed'`)
		}
	}
}
