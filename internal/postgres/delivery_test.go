package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// begin opens a session of two parts for a push that is held.
func (b bench) begin(t *testing.T, u upload.Upload) *postgres.Session {
	t.Helper()
	var s *postgres.Session
	b.tx(t, func(tx pgx.Tx) (err error) {
		s, err = postgres.BeginSession(t.Context(), tx, u, provider.Session{ID: "remote", PartSize: 50, Parts: 2}, "")
		return err
	})
	return s
}

func part(n int) provider.Part {
	return provider.Part{Number: n, Size: 50, CRC32C: 0xffffffff, ETag: "etag", Carry: []byte{0, 1, 2}}
}

func asset(u upload.Upload) upload.Asset {
	return upload.Asset{
		ID: "asset of " + string(u.ID), URL: "https://cdn.test/" + string(u.ID) + "/", ResourceType: upload.Video, ContentType: "video/mp4",
		Size: u.Size, Width: 640, Height: 480, Format: "mp4", Version: 1713999601,
	}
}

// delivers goes the whole way of a push that is held.
func delivers(t *testing.T, b bench, u upload.Upload) {
	t.Helper()
	ctx := t.Context()
	s := b.begin(t, u)
	for n := range 2 {
		if err := postgres.Ack(ctx, b.Pool, u, s.Row, []provider.Part{part(n)}, false); err != nil {
			t.Error(err)
		}
	}
	if err := postgres.Finishing(ctx, b.Pool, u, s.Row); err != nil {
		t.Error(err)
	}
	if err := postgres.Pushed(ctx, b.Pool, u, s.Row, asset(u)); err != nil {
		t.Error(err)
	}
	b.tx(t, func(tx pgx.Tx) error { return postgres.Complete(ctx, tx, u, asset(u), 0) })
	if got := b.read(t, u.ID); got.Status != upload.Completed {
		t.Errorf("status = %s", got.Status)
	}
}

// held are the functions that only the holder of the lease may call. Those of one statement need no
// transaction to be harmless.
var held = map[string]func(ctx context.Context, b bench, u upload.Upload, session int64) error{
	"Renew": func(ctx context.Context, b bench, u upload.Upload, _ int64) error {
		kept, err := postgres.Renew(ctx, b.Pool, []postgres.Held{{ID: u.ID, Epoch: u.Epoch}}, time.Hour)
		if err == nil && !kept[u.ID] {
			err = postgres.ErrFenced
		}
		return err
	},
	"Ack": func(ctx context.Context, b bench, u upload.Upload, session int64) error {
		return postgres.Ack(ctx, b.Pool, u, session, []provider.Part{part(1)}, false)
	},
	"Finishing": func(ctx context.Context, b bench, u upload.Upload, session int64) error {
		return postgres.Finishing(ctx, b.Pool, u, session)
	},
	"Pushed": func(ctx context.Context, b bench, u upload.Upload, session int64) error {
		return postgres.Pushed(ctx, b.Pool, u, session, asset(u))
	},
	"AbandonSession": func(ctx context.Context, b bench, u upload.Upload, _ int64) error {
		return postgres.AbandonSession(ctx, b.Pool, u)
	},
	"LoseSession": func(ctx context.Context, b bench, u upload.Upload, _ int64) error {
		_, err := postgres.LoseSession(ctx, b.Pool, u)
		return err
	},
	"Ack with an event": inTx(func(ctx context.Context, tx pgx.Tx, u upload.Upload, session int64) error {
		return postgres.Ack(ctx, tx, u, session, []provider.Part{part(1)}, true)
	}),
	"BeginSession": inTx(func(ctx context.Context, tx pgx.Tx, u upload.Upload, _ int64) error {
		if err := postgres.CloseSession(ctx, tx, u.ID, "lost"); err != nil {
			return err
		}
		_, err := postgres.BeginSession(ctx, tx, u, provider.Session{ID: "other", PartSize: 100, Parts: 1}, "why")
		return err
	}),
	"Complete": inTx(func(ctx context.Context, tx pgx.Tx, u upload.Upload, _ int64) error {
		return postgres.Complete(ctx, tx, u, asset(u), time.Hour)
	}),
	"Fail": inTx(func(ctx context.Context, tx pgx.Tx, u upload.Upload, _ int64) error {
		return postgres.Fail(ctx, tx, u, upload.Error{Code: upload.ProviderRejected}, time.Hour)
	}),
	"Wait": inTx(func(ctx context.Context, tx pgx.Tx, u upload.Upload, _ int64) error {
		return postgres.Wait(ctx, tx, u, upload.Error{Code: upload.ProviderUnavailable}, time.Minute, false)
	}),
	"HandBack": func(ctx context.Context, b bench, u upload.Upload, _ int64) error {
		return pgx.BeginFunc(ctx, b.Pool, func(tx pgx.Tx) error { return postgres.HandBack(ctx, tx, b.queue, u) })
	},
}

func inTx(f func(ctx context.Context, tx pgx.Tx, u upload.Upload, session int64) error) func(context.Context, bench, upload.Upload, int64) error {
	return func(ctx context.Context, b bench, u upload.Upload, session int64) error {
		return pgx.BeginFunc(ctx, b.Pool, func(tx pgx.Tx) error { return f(ctx, tx, u, session) })
	}
}

func TestOnlyTheHolderWrites(t *testing.T) {
	for name, f := range held {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			older := b.taken(t, staged("user_123"))
			s := b.begin(t, older)
			if err := postgres.Ack(t.Context(), b.Pool, older, s.Row, []provider.Part{part(0)}, false); err != nil {
				t.Fatal(err)
			}
			holder := b.take(t, older, time.Minute)

			before := b.dump(t, older.ID)
			if err := f(t.Context(), b, older, s.Row); !errors.Is(err, postgres.ErrFenced) {
				t.Errorf("an older epoch gets %v, want ErrFenced", err)
			}
			if after := b.dump(t, older.ID); after != before {
				t.Errorf("an older epoch changed\n%s to\n%s", before, after)
			}
			b.exec(t, `UPDATE slipway.uploads SET status = 'canceled'`)
			before = b.dump(t, older.ID)
			if err := f(t.Context(), b, holder, s.Row); !errors.Is(err, postgres.ErrFenced) || b.dump(t, older.ID) != before {
				t.Errorf("the holder of an upload that was canceled gets %v, want ErrFenced", err)
			}
			b.exec(t, `UPDATE slipway.uploads SET status = 'pushing'`)
			if err := f(t.Context(), b, holder, s.Row); err != nil {
				t.Errorf("the holder gets %v", err)
			}
			if after := b.dump(t, older.ID); after == strings.Replace(before, `"canceled"`, `"pushing"`, 1) {
				t.Error("the holder changed nothing")
			}
		})
	}
}

func TestTakeIsForTheNamedJobAlone(t *testing.T) {
	b := newBench(t)
	u := b.accepted(t, staged("user_123"))
	before := b.dump(t, u.ID)
	_, err := postgres.Take(t.Context(), b.Pool, u.ID, u.JobID+1, "worker", time.Minute)
	if !errors.Is(err, postgres.ErrNoUpload) || b.dump(t, u.ID) != before {
		t.Errorf("another job gets %v", err)
	}
	taken := b.take(t, u, time.Minute)
	if taken.Status != upload.Pushing || taken.Attempt != 1 || taken.Epoch != 1 || taken.StartedAt == nil || taken.Version != 2 {
		t.Errorf("taken = %+v", taken)
	}
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Fail(t.Context(), tx, taken, upload.Error{Code: upload.ProviderRejected}, 0)
	})
	if _, err := postgres.Take(t.Context(), b.Pool, u.ID, u.JobID, "worker", time.Minute); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("a failed upload is taken: %v", err)
	}
}

func TestRenewPassesALockedRowOver(t *testing.T) {
	b := newBench(t)
	locked, free := b.taken(t, staged("user_123")), b.taken(t, staged("user_123"))
	both := []postgres.Held{{ID: locked.ID, Epoch: locked.Epoch}, {ID: free.ID, Epoch: free.Epoch}}
	b.tx(t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM slipway.uploads WHERE id = $1 FOR UPDATE`, locked.ID); err != nil {
			return err
		}
		kept, err := postgres.Renew(t.Context(), b.Pool, both, time.Hour)
		if want := map[upload.ID]bool{free.ID: true}; !reflect.DeepEqual(kept, want) {
			t.Errorf("kept = %v, want %v", kept, want)
		}
		return err
	})
	kept, err := postgres.Renew(t.Context(), b.Pool, both, time.Hour)
	if err != nil || !kept[locked.ID] || !kept[free.ID] {
		t.Errorf("kept = %v, %v, want both", kept, err)
	}
	if v := b.read(t, free.ID).Version; v != free.Version {
		t.Errorf("a heartbeat made version %d of %d", v, free.Version)
	}
}

func TestLedgerKeepsWhatWasWritten(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	if s, err := postgres.OpenSession(t.Context(), b.Pool, u.ID); s != nil || err != nil {
		t.Fatalf("session = %v, %v before the first", s, err)
	}
	want := provider.Session{
		ID: "remote", PartSize: 50, Parts: 2, LastPartCompletes: true, State: []byte(`{"k": "v"}`),
		ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Microsecond),
	}
	b.tx(t, func(tx pgx.Tx) error {
		_, err := postgres.BeginSession(t.Context(), tx, u, want, "")
		return err
	})
	s, err := postgres.OpenSession(t.Context(), b.Pool, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	want.ExpiresAt, s.ExpiresAt = want.ExpiresAt.UTC(), s.ExpiresAt.UTC()
	if !reflect.DeepEqual(s.Session, want) || s.Finishing || s.Asset != nil || len(s.Acked) != 0 {
		t.Errorf("session = %+v, want %+v", s, want)
	}

	err = postgres.Ack(t.Context(), b.Pool, u, s.Row, []provider.Part{part(1), part(0)}, false)
	if err != nil {
		t.Fatal(err)
	}
	a := asset(u)
	if err := postgres.Finishing(t.Context(), b.Pool, u, s.Row); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Pushed(t.Context(), b.Pool, u, s.Row, a); err != nil {
		t.Fatal(err)
	}
	s, err = postgres.OpenSession(t.Context(), b.Pool, u.ID)
	if err != nil || !s.Finishing || !reflect.DeepEqual(s.Asset, &a) || !reflect.DeepEqual(s.Acked, []provider.Part{part(0), part(1)}) {
		t.Errorf("session = %+v, %v", s, err)
	}
}

func TestAckTwiceCountsOnce(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	s := b.begin(t, u)
	for range 2 {
		if err := postgres.Ack(t.Context(), b.Pool, u, s.Row, []provider.Part{part(0)}, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.read(t, u.ID); got.Pushed != 50 || got.Progress != 0.75 {
		t.Errorf("pushed = %d, progress = %v, want 50 and 0.75", got.Pushed, got.Progress)
	}
	b.tx(t, func(tx pgx.Tx) error {
		_, err := postgres.LoseSession(t.Context(), tx, u)
		return err
	})
	before := b.dump(t, u.ID)
	if err := postgres.Ack(t.Context(), b.Pool, u, s.Row, []provider.Part{part(1)}, false); !errors.Is(err, postgres.ErrFenced) {
		t.Errorf("a part of a session that is lost gets %v, want ErrFenced", err)
	}
	if b.dump(t, u.ID) != before {
		t.Error("a part of a session that is lost was counted")
	}
}

func TestProgressResetsBudgets(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	budgets := func(attempt, takeovers, lost int) {
		t.Helper()
		type budget struct{ attempt, takeovers, lost int }
		var got budget
		err := b.QueryRow(t.Context(), `SELECT attempt, takeovers, sessions_lost FROM slipway.uploads WHERE id = $1`, u.ID).Scan(&got.attempt, &got.takeovers, &got.lost)
		if want := (budget{attempt, takeovers, lost}); err != nil || got != want {
			t.Errorf("budgets = %+v, %v, want %+v", got, err, want)
		}
	}
	spend := func() { b.exec(t, `UPDATE slipway.uploads SET attempt = 3, takeovers = 4`) }
	lose := func(want int) {
		t.Helper()
		b.tx(t, func(tx pgx.Tx) error {
			lost, err := postgres.LoseSession(t.Context(), tx, u)
			if lost != want {
				t.Errorf("%d sessions lost, want %d", lost, want)
			}
			return err
		})
	}
	ack := func(s *postgres.Session, n int) {
		t.Helper()
		if err := postgres.Ack(t.Context(), b.Pool, u, s.Row, []provider.Part{part(n)}, false); err != nil {
			t.Fatal(err)
		}
	}

	b.begin(t, u)
	lose(1)
	s := b.begin(t, u)
	spend()
	ack(s, 0)
	budgets(1, 0, 0)

	spend()
	lose(1)
	s = b.begin(t, u)
	if got := b.read(t, u.ID); got.Pushed != 0 || got.Progress != 0.75 {
		t.Errorf("pushed = %d, progress = %v in a new session, want 0 and what it was", got.Pushed, got.Progress)
	}
	ack(s, 0) // sent before
	budgets(3, 4, 1)
	ack(s, 1)
	budgets(1, 0, 0)
}

func TestComplete(t *testing.T) {
	const columns = `to_jsonb(f) - '{id,upload_timestamp}'::text[]`
	tests := map[string]struct {
		change    func(*upload.Upload)
		row, want string
	}{
		"uploadcare": {
			func(*upload.Upload) {},
			`SELECT ` + columns + ` || jsonb_build_object('upload_id', upload_id = $1, 'file_id', file_id = 'asset of ' || $1, 'file_url', file_url = 'https://cdn.test/' || $1 || '/') = $2::jsonb
			 FROM public.uploadcare_files f WHERE upload_timestamp IS NOT NULL`,
			`{"upload_id":true,"file_id":true,"file_url":true,"user_id":"user_123","file_name":"film.mp4","content_type":"video/mp4","size":100}`,
		},
		"cloudinary": {
			func(u *upload.Upload) { u.Provider, u.Tags = "cloudinary", []string{"a", "b"} },
			`SELECT ` + columns + ` || jsonb_build_object('upload_id', upload_id = $1, 'public_id', public_id = 'asset of ' || $1, 'media_url', media_url = 'https://cdn.test/' || $1 || '/') = $2::jsonb
			 FROM public.cloudinary_files f WHERE upload_timestamp IS NOT NULL`,
			`{"upload_id":true,"public_id":true,"media_url":true,"user_id":"user_123","file_name":"film.mp4","content_type":"video/mp4","size":100,
			  "resource_type":"video","version":1713999601,"format":"mp4","width":640,"height":480,"tags":["a","b"]}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			u := staged("user_123")
			tt.change(&u)
			u = b.taken(t, u)
			b.exec(t, `UPDATE slipway.uploads SET error_code = 'x', error_message = 'of an earlier attempt'`)
			delivers(t, b, u)

			got := b.read(t, u.ID)
			a := asset(u)
			if !reflect.DeepEqual(got.Asset, &a) || got.Progress != 1 || got.Pushed != u.Size || got.CompletedAt == nil || got.Error != nil || got.Version <= u.Version {
				t.Errorf("upload = %+v", got)
			}
			if !one[bool](t, b.Pool, tt.row, string(u.ID), tt.want) {
				t.Errorf("the guide's row is %s", one[string](t, b.Pool, `SELECT to_jsonb(f) FROM public.`+name+`_files f`))
			}
			if s, err := postgres.OpenSession(t.Context(), b.Pool, u.ID); s != nil || err != nil {
				t.Errorf("session %v, %v is open", s, err)
			}
			if outcome := one[string](t, b.Pool, `SELECT outcome FROM slipway.push_sessions`); outcome != "completed" {
				t.Errorf("outcome = %s", outcome)
			}
		})
	}
}

func TestAttemptThatEnds(t *testing.T) {
	failure := upload.Error{Code: upload.ProviderUnavailable, Message: "It answered 503.", Retryable: true, FixableBy: upload.ByProvider}
	tests := map[string]struct {
		end     func(tx pgx.Tx, b bench, u upload.Upload) error
		status  upload.Status
		attempt int
		failure *upload.Error
		staged  bool // until some time
	}{
		"to be tried again": {
			func(tx pgx.Tx, _ bench, u upload.Upload) error {
				return postgres.Wait(t.Context(), tx, u, failure, time.Minute, false)
			},
			upload.Retrying, 1, &failure, false,
		},
		"through no fault of its own": {
			func(tx pgx.Tx, _ bench, u upload.Upload) error {
				return postgres.Wait(t.Context(), tx, u, failure, time.Minute, true)
			},
			upload.Retrying, 0, &failure, false,
		},
		"with its worker": {
			func(tx pgx.Tx, b bench, u upload.Upload) error { return postgres.HandBack(t.Context(), tx, b.queue, u) },
			upload.Queued, 0, nil, false,
		},
		"for good": {
			func(tx pgx.Tx, _ bench, u upload.Upload) error {
				return postgres.Fail(t.Context(), tx, u, failure, time.Hour)
			},
			upload.Failed, 1, &failure, true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			u := b.taken(t, staged("user_123"))
			b.begin(t, u)
			b.tx(t, func(tx pgx.Tx) error { return tt.end(tx, b, u) })
			got := b.read(t, u.ID)
			if got.Status != tt.status || got.Attempt != tt.attempt || !reflect.DeepEqual(got.Error, tt.failure) || (got.StagedUntil != nil) != tt.staged {
				t.Errorf("upload = %+v, error %v", got, got.Error)
			}
			if waits := got.NextAttemptAt != nil; waits != (tt.status == upload.Retrying) {
				t.Errorf("next attempt at %v", got.NextAttemptAt)
			}
			if s, err := postgres.OpenSession(t.Context(), b.Pool, u.ID); s == nil || err != nil {
				t.Errorf("the session is gone: %v", err)
			}
			if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.uploads WHERE lease_owner IS NOT NULL`); n != 0 {
				t.Error("the lease is kept")
			}
		})
	}
}

// workerFunc works a push job as it likes.
type workerFunc struct {
	river.WorkerDefaults[upload.PushArgs]
	work func(context.Context, *river.Job[upload.PushArgs]) error
}

func (w *workerFunc) Work(ctx context.Context, job *river.Job[upload.PushArgs]) error {
	return w.work(ctx, job)
}

func TestCompleteJob(t *testing.T) {
	tests := map[string]struct {
		before string // what happens while it is worked
		want   error
		state  string
	}{
		"a running row is completed":          {`SELECT 1`, nil, "completed"},
		"one that another has retired is not": {`UPDATE slipway.river_job SET state = 'discarded', finalized_at = now()`, postgres.ErrNotCompleted, "discarded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			u := b.accepted(t, staged("user_123"))
			got := make(chan error)
			workers := river.NewWorkers()
			river.AddWorker(workers, &workerFunc{work: func(ctx context.Context, job *river.Job[upload.PushArgs]) error {
				_, err := b.Exec(ctx, tt.before)
				if err == nil {
					err = pgx.BeginFunc(ctx, b.Pool, func(tx pgx.Tx) error { return postgres.CompleteJob(ctx, tx, job) })
				}
				got <- err
				return nil
			}})
			client, err := river.NewClient(riverpgxv5.New(b.Pool), &river.Config{
				Schema: "slipway", Workers: workers, TestOnly: true, Logger: slog.New(slog.DiscardHandler),
				Queues: map[string]river.QueueConfig{upload.Queue(u.Provider, u.Size): {MaxWorkers: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, tt.want) {
				t.Errorf("CompleteJob = %v, want %v", err, tt.want)
			}
			if err := client.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if state := one[string](t, b.Pool, `SELECT state::text FROM slipway.river_job`); state != tt.state {
				t.Errorf("state = %s, want %s", state, tt.state)
			}
		})
	}
}

func TestAPushWithASessionGoesFirst(t *testing.T) {
	b := newBench(t)
	begun, fresh := b.taken(t, staged("user_123")), b.taken(t, staged("user_123"))
	b.begin(t, begun)
	for _, u := range []upload.Upload{begun, fresh} {
		b.tx(t, func(tx pgx.Tx) error {
			return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.ProviderUnavailable}, time.Minute, false)
		})
	}
	priority := func(u upload.Upload) int {
		return one[int](t, b.Pool, `SELECT priority FROM slipway.river_job WHERE id = $1`, u.JobID)
	}
	if first, second := priority(begun), priority(fresh); first != 1 || second <= first {
		t.Errorf("a push with a session has priority %d, one without %d", first, second)
	}
}
