package postgres_test

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func of(user, provider string, size int64) upload.Upload {
	u := staged(user)
	u.Provider, u.Size = provider, size
	return u
}

func (b bench) priority(t *testing.T, job int64) int {
	t.Helper()
	return one[int](t, b.Pool, `SELECT priority FROM slipway.river_job WHERE id = $1`, job)
}

func TestWhoHasLessWaitingGoesFirst(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		others int           // that came before it
		like   upload.Upload // what they are
		since  string        // what became of them
		want   int
	}{
		"a first file passes by":                        {0, upload.Upload{}, ``, 2},
		"a second comes after first ones":               {1, of("ann", "uploadcare", 100), ``, 3},
		"a tenth too":                                   {9, of("ann", "uploadcare", 100), ``, 3},
		"more are a backlog":                            {10, of("ann", "uploadcare", 100), ``, 4},
		"what others have waiting is not the owner's":   {12, of("bob", "uploadcare", 100), ``, 2},
		"the other lane's is not this one's":            {12, of("ann", "uploadcare", upload.SmallFile), ``, 2},
		"another provider's outage is not this one's":   {12, of("ann", "cloudinary", 100), ``, 2},
		"what is being worked does not wait":            {12, of("ann", "uploadcare", 100), `UPDATE slipway.river_job SET state = 'running'`, 2},
		"what is done does not wait":                    {12, of("ann", "uploadcare", 100), `UPDATE slipway.river_job SET state = 'completed', finalized_at = now()`, 2},
		"what is tried again later still waits":         {12, of("ann", "uploadcare", 100), `UPDATE slipway.river_job SET state = 'retryable'`, 4},
		"what waits for the provider to come back does": {12, of("ann", "uploadcare", 100), `UPDATE slipway.river_job SET state = 'scheduled'`, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for range tt.others {
				u := tt.like
				u.ID = upload.NewID()
				b.accepted(t, u)
			}
			if tt.since != "" {
				b.exec(t, tt.since)
			}
			u := b.accepted(t, of("ann", "uploadcare", 100))
			if got := b.priority(t, u.JobID); got != tt.want {
				t.Errorf("priority = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestOfFilesThatComeAtOnceOneIsFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var g errgroup.Group
	for range 24 {
		g.Go(func() error {
			u := of("ann", "uploadcare", 100)
			return b.accept(t.Context(), &u)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if first := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE priority = 2`); first != 1 {
		t.Errorf("%d of 24 have a first file's priority, want 1", first)
	}
}

// line is who is next in a lane, in River's order.
func (b bench) line(t *testing.T, lane string) (users []string) {
	t.Helper()
	return one[[]string](t, b.Pool, `
		SELECT coalesce(array_agg(metadata ->> 'user_id' ORDER BY priority, scheduled_at, id), '{}')
		FROM slipway.river_job
		WHERE state = 'available' AND queue = $1`, lane)
}

func TestBacklogsTakeTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	lane := upload.Queue("uploadcare", 100)
	lanes := upload.Queues("uploadcare")
	takeTurns := func(patience time.Duration) {
		t.Helper()
		if err := postgres.TakeTurns(t.Context(), b.Pool, lanes, patience); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := b.line(t, lane); !slices.Equal(got, want) {
			t.Errorf("%s: the line is %q, want %q", when, got, want)
		}
	}
	first := func() {
		t.Helper()
		b.exec(t, `
			UPDATE slipway.river_job
			SET state = 'running'
			WHERE id = (SELECT id FROM slipway.river_job WHERE state = 'available' AND queue = $1 ORDER BY priority, scheduled_at, id LIMIT 1)`, lane)
	}
	for _, user := range []string{"ann", "ann", "ann", "bob", "cid"} {
		b.accepted(t, of(user, "uploadcare", 100))
	}
	expect("as they came", "ann", "bob", "cid", "ann", "ann")
	takeTurns(time.Hour)
	expect("nobody has waited long", "ann", "bob", "cid", "ann", "ann")
	first()
	takeTurns(0)
	b.accepted(t, of("dot", "uploadcare", 100))
	takeTurns(0)
	expect("one stands in the line of first files", "bob", "cid", "ann", "dot", "ann")
	first()
	first()
	first()
	takeTurns(0)
	expect("the next may when its turn has come", "dot", "ann")
	if turns := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE metadata ? 'turn'`); turns != 2 {
		t.Errorf("%d have taken a turn, want 2", turns)
	}
}
