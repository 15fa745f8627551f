package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

// listen passes on what is announced until the test ends. When it returns, nothing is missed any more.
func listen(t *testing.T, o postgres.Options) <-chan string {
	t.Helper()
	if o.Names == (postgres.Names{}) {
		o.Names = postgres.DefaultNames
	}
	ctx, cancel := context.WithCancel(context.Background())
	news, ready, ended := make(chan string, 100), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- postgres.Listen(ctx, o.URL, o.Names, func() { close(ready) }, func(payload string) { news <- payload })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Listen = %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return news
}

func TestListenHearsEveryEvent(t *testing.T) {
	o := postgres.Options{URL: postgrestest.New(t)}
	b := benchAt(t, o)
	news := listen(t, o)
	for range 20 {
		u := b.accepted(t, staged("user_123"))
		if got := <-news; !strings.HasPrefix(got, string(u.ID)+" ") {
			t.Fatalf("news = %q, want of %s", got, u.ID)
		}
	}
}

func TestListenEndsWithTheConnection(t *testing.T) {
	o := postgres.Options{URL: postgrestest.New(t)}
	b := benchAt(t, o)
	ended := make(chan error, 1)
	go func() {
		ended <- postgres.Listen(t.Context(), o.URL, postgres.DefaultNames, func() {
			_, err := b.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`)
			if err != nil {
				t.Error(err)
			}
		}, func(string) {})
	}()
	if err := <-ended; !postgres.Unreachable(err) {
		t.Errorf("Listen = %v, want a lost connection", err)
	}
}
