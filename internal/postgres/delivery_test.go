package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// delivers goes the whole way of a push that is held.
func delivers(t *testing.T, b bench, u upload.Upload) {
	t.Helper()
	ctx := t.Context()
	var s *postgres.Session
	b.tx(t, func(tx pgx.Tx) (err error) {
		s, err = postgres.BeginSession(ctx, tx, u, provider.Session{ID: "remote", PartSize: u.Size, Parts: 1}, "")
		return err
	})
	asset := upload.Asset{ID: "asset of " + string(u.ID), URL: "https://cdn.test/asset/", ResourceType: upload.Video, Size: u.Size}
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Ack(ctx, tx, u, s.Row, []provider.Part{{Number: 0, Size: u.Size, CRC32C: 7}}, true)
	})
	if err := postgres.Finishing(ctx, b.Pool, u, s.Row); err != nil {
		t.Error(err)
	}
	if err := postgres.Pushed(ctx, b.Pool, u, s.Row, asset); err != nil {
		t.Error(err)
	}
	b.tx(t, func(tx pgx.Tx) error { return postgres.Complete(ctx, tx, u, asset, 0) })
	if got := b.read(t, u.ID); got.Status != upload.Completed {
		t.Errorf("status = %s", got.Status)
	}
}
