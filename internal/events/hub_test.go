package events_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/events"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

// hub runs a hub on a database of its own.
func hub(t *testing.T) (*events.Hub, *pgxpool.Pool) {
	t.Helper()
	url := postgrestest.New(t)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	h := events.NewHub(url, postgres.DefaultNames, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		pool.Close()
	})
	until(t, "listening", h.Listening)
	return h, pool
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within 30 s", what)
		}
		<-tick.C
	}
}

func received(t *testing.T, news <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(30 * time.Second):
		t.Fatalf("no news of %s", what)
	}
}

// happen writes an event of a new upload, or of the one given.
func happen(t *testing.T, pool *pgxpool.Pool, id upload.ID) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `
			INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts)
			VALUES ($1, 'ann', 'queued', 'uploadcare', 'a', 'text/plain', 1, 1)
			ON CONFLICT DO NOTHING`, id)
		if err != nil {
			return err
		}
		return postgres.WriteEvents(t.Context(), tx, "ann", upload.Event{UploadID: id, Type: upload.StatusChanged, Status: upload.Queued})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewsReachWhoeverWatchesThatUpload(t *testing.T) {
	h, pool := hub(t)
	mine, other := upload.NewID(), upload.NewID()
	news, stop := h.Watch(mine)
	defer stop()
	second, stopSecond := h.Watch(mine)
	defer stopSecond()
	otherNews, stopOther := h.Watch(other)
	defer stopOther()

	happen(t, pool, mine)
	received(t, news, "mine")
	received(t, second, "mine, at the second watcher")
	until(t, "told of other alone", func() bool { // at first a look may come in between, which the hub owes to all when it begins to listen
		for len(news) > 0 {
			<-news
		}
		happen(t, pool, other)
		received(t, otherNews, "other")
		return len(news) == 0
	})
}

func TestALostConnectionWakesEverybodyAndIsReplaced(t *testing.T) {
	h, pool := hub(t)
	id := upload.NewID()
	news, stop := h.Watch(id)
	defer stop()
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`); err != nil {
		t.Fatal(err)
	}
	received(t, news, "the loss: something may have been missed")
	until(t, "listening again", h.Listening)
	for len(news) > 0 {
		<-news
	}
	happen(t, pool, id)
	received(t, news, "the upload, on the new connection")
}

func TestADeafHubWakesEverybodyNowAndThen(t *testing.T) {
	h := events.NewHub("postgres://nobody@127.0.0.1:1/none?connect_timeout=1", postgres.DefaultNames, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	defer running.Wait()
	defer cancel()
	news, stop := h.Watch(upload.NewID())
	defer stop()
	for range 2 {
		received(t, news, "a hub that cannot listen")
	}
	if h.Listening() {
		t.Error("the hub says that it listens")
	}
}

// oncePerLook counts the queries that are not the first of a look, which begins with news for whoever looks for itself.
type oncePerLook struct {
	postgres.Querier
	looks   <-chan struct{}
	queried chan struct{}
	again   atomic.Int64
}

func (o *oncePerLook) Query(ctx context.Context, sql string, a ...any) (pgx.Rows, error) {
	select {
	case <-o.looks:
	default:
		o.again.Add(1)
	}
	select {
	case o.queried <- struct{}{}:
	default:
	}
	return o.Querier.Query(ctx, sql, a...)
}

func TestADeafHubAsksOnceForAllWhoHaveSeenAVersion(t *testing.T) {
	_, pool := hub(t)
	deaf := events.NewHub("postgres://nobody@127.0.0.1:1/none?connect_timeout=1", postgres.DefaultNames, slog.New(slog.DiscardHandler))
	watches := map[upload.ID]*events.Watch{}
	var changed upload.ID
	for range 100 {
		changed = upload.NewID()
		happen(t, pool, changed)
		w := deaf.Follow(changed)
		defer w.Stop()
		w.Saw(1)
		watches[changed] = w
	}
	gone := deaf.Follow(upload.NewID())
	defer gone.Stop()
	gone.Saw(1)
	looks, stop := deaf.Watch(changed)
	defer stop()
	asks := &oncePerLook{Querier: pool, looks: looks, queried: make(chan struct{}, 1)}
	deaf.DB = asks

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { deaf.Run(ctx) })
	defer running.Wait()
	defer cancel()
	for range 3 {
		received(t, asks.queried, "a look")
	}
	received(t, gone.News(), "an upload that is not there any more")
	for id, w := range watches {
		if len(w.News()) > 0 {
			t.Errorf("%s has not changed, and there is news", id)
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE slipway.uploads SET version = 2 WHERE id = $1`, changed); err != nil {
		t.Fatal(err)
	}
	received(t, watches[changed].News(), "a change that was not announced")
	if n := asks.again.Load(); n > 0 {
		t.Errorf("the database was asked %d times more than the hub looked", n)
	}
}
