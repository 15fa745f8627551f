package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestEventsHaveNoHoles(t *testing.T) {
	const writers, transactions = 16, 25
	b := newBench(t)
	users := []string{"a", "b", "c"}
	ids := map[string]upload.ID{}
	for _, user := range users {
		ids[user] = b.accepted(t, staged(user)).ID
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var readers, workers errgroup.Group
	seen := make([][]int64, len(users))
	for n, user := range users {
		readers.Go(func() error {
			var last int64
			for final := false; ; {
				events, err := postgres.Events(t.Context(), b.Pool, user, "", last, 7)
				if err != nil {
					return err
				}
				for _, e := range events {
					if e.Seq <= last || e.UserID != user {
						return fmt.Errorf("event %d of %s after %d of %s", e.Seq, e.UserID, last, user)
					}
					last = e.Seq
					seen[n] = append(seen[n], e.Seq)
				}
				if final && len(events) == 0 {
					return nil
				}
				final = ctx.Err() != nil
			}
		})
	}
	for range writers {
		workers.Go(func() error {
			for range transactions {
				of := slices.Clone(users)
				rand.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
				of = of[:1+rand.N(2)]
				slices.Sort(of) // the order in which a transaction over several users takes their locks
				err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
					for _, user := range of {
						e := upload.Event{UploadID: ids[user], Type: upload.ProgressMade, Status: upload.Pushing}
						if err := postgres.WriteEvents(t.Context(), tx, user, e, e); err != nil {
							return err
						}
					}
					_, err := tx.Exec(t.Context(), `SELECT pg_sleep(random() * 0.002)`)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		t.Error(err)
	}
	stop()
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	for n, user := range users {
		written := one[int](t, b.Pool, `SELECT count(*) FROM slipway.upload_events WHERE user_id = $1`, user)
		if len(seen[n]) != written {
			t.Errorf("the reader of %s missed %d of %d events", user, written-len(seen[n]), written)
		}
	}
}

func TestEventsOfOneUpload(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	b.taken(t, staged("user_123"))
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Wait(t.Context(), tx, u, upload.Error{Code: upload.ProviderUnavailable, Message: "It answered 503."}, time.Minute, false)
	})
	events, err := postgres.Events(t.Context(), b.Pool, "user_123", u.ID, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var statuses []upload.Status
	for _, e := range events {
		statuses = append(statuses, e.Status)
		if e.UploadID != u.ID || e.Data == nil || e.At.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	if !slices.Equal(statuses, []upload.Status{upload.Queued, upload.Pushing, upload.Retrying}) {
		t.Errorf("statuses = %v", statuses)
	}
	if got := events[2].Data["code"]; got != string(upload.ProviderUnavailable) {
		t.Errorf("code = %v", got)
	}
	if rest, err := postgres.Events(t.Context(), b.Pool, "user_123", u.ID, events[1].Seq, 10); err != nil || len(rest) != 1 {
		t.Errorf("%d events after the second, %v", len(rest), err)
	}
	if foreign, err := postgres.Events(t.Context(), b.Pool, "somebody else", u.ID, 0, 10); err != nil || len(foreign) != 0 {
		t.Errorf("%d events for somebody else, %v", len(foreign), err)
	}
}

func TestWhatIsReceivedIsToldOnceASecond(t *testing.T) {
	b := newBench(t)
	u := staged("user_123")
	u.ID = upload.NewID()
	b.tx(t, func(tx pgx.Tx) error { return postgres.InsertReceiving(t.Context(), tx, u, false, time.Hour) })
	b.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '2 seconds'`)
	for _, offset := range []int64{1, 2, 3} {
		if _, err := postgres.Checkpoint(t.Context(), b.Pool, "user_123", u.ID, postgres.Received{Size: u.Size, Offset: offset, Life: time.Hour}, false); err != nil {
			t.Fatal(err)
		}
	}
	b.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '2 seconds'`)
	for range 2 {
		if _, err := postgres.Checkpoint(t.Context(), b.Pool, "user_123", u.ID, postgres.Received{Size: u.Size, Offset: 4, Life: time.Hour}, false); err != nil {
			t.Fatal(err)
		}
	}
	events, err := postgres.Events(t.Context(), b.Pool, "user_123", u.ID, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var told []float64
	for _, e := range events {
		if e.Type == upload.ProgressMade && e.Status == upload.Receiving {
			told = append(told, e.Data["received_bytes"].(float64))
		}
	}
	if !slices.Equal(told, []float64{1, 4}) {
		t.Errorf("told of %v bytes, want 1 and, a while later, 4", told)
	}
}

func TestNewsOfBytesWaitForNobody(t *testing.T) {
	b := newBench(t)
	u := staged("user_123")
	u.ID = upload.NewID()
	b.tx(t, func(tx pgx.Tx) error { return postgres.InsertReceiving(t.Context(), tx, u, false, time.Hour) })
	b.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '2 seconds'`)
	checkpoint := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := postgres.Checkpoint(ctx, b.Pool, "user_123", u.ID, postgres.Received{Size: u.Size, Offset: 1, Life: time.Hour}, false); err != nil {
			t.Fatal(err)
		}
	}
	b.tx(t, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('slipway.events:user_123', 0))`)
		checkpoint()
		return err
	})
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.upload_events`); n != 1 {
		t.Errorf("%d events, want none but the first while somebody else is writing", n)
	}
	checkpoint()
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.upload_events`); n != 2 {
		t.Errorf("%d events, want the bytes told of afterwards", n)
	}
}
