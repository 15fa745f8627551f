package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	os.Exit(postgrestest.Main(m, migrate))
}

func migrate(ctx context.Context, url string) error {
	return postgres.Migrate(ctx, postgres.Options{URL: url}, slog.New(slog.DiscardHandler))
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 40})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
