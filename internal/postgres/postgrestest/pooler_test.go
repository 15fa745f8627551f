package postgrestest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres/postgrestest"
)

func TestPoolerSharesConnectionsBetweenTransactions(t *testing.T) {
	url := postgrestest.New(t)
	p := postgrestest.NewPooler(t, 1)
	first, second := connect(t, p.URL(t, url)), connect(t, p.URL(t, url))
	backend := one(t, first, "SELECT pg_backend_pid()::text")
	if other := one(t, second, "SELECT pg_backend_pid()::text"); other != backend {
		t.Errorf("a second client has connection %s to the server, not the first one's %s", other, backend)
	}
	execute(t, first, "SET lock_timeout = '7s'")
	if got := one(t, second, "SHOW lock_timeout"); got != "7s" {
		t.Errorf("lock_timeout = %s: state is not shared, as it is by a pooler in transaction mode", got)
	}
	for range 3 { // prepared by the one, known by the name to the other
		if got := one(t, second, "SELECT $1::text", "x"); got != "x" {
			t.Errorf("a prepared statement returned %q", got)
		}
		if got := one(t, first, "SELECT $1::text", "y"); got != "y" {
			t.Errorf("a prepared statement returned %q", got)
		}
	}
}

func TestPoolerComesBackAtItsAddress(t *testing.T) {
	url := postgrestest.New(t)
	p := postgrestest.NewPooler(t, 1)
	before := connect(t, p.URL(t, url))
	p.Stop(t)
	if err := before.Ping(t.Context()); err == nil {
		t.Error("a connection has survived")
	}
	if _, err := pgx.Connect(t.Context(), p.URL(t, url)); err == nil {
		t.Error("connected to a pooler that is stopped")
	}
	p.Start(t)
	one(t, connect(t, p.URL(t, url)), "SELECT 'x'")
}
