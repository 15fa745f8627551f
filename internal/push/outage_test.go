package push_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare"
	"slipway/internal/push"
	"slipway/internal/upload"
)

// cutOnce has the first step of a push end as statements do whose connection to the database is cut.
type cutOnce struct {
	provider.Provider
	once sync.Once
}

func (c *cutOnce) Begin(ctx context.Context, src provider.Source) (s provider.Session, err error) {
	c.once.Do(func() { err = fmt.Errorf("write the session: %w", io.ErrUnexpectedEOF) })
	if err != nil {
		return s, err
	}
	return c.Provider.Begin(ctx, src)
}

func TestALostDatabaseIsNoDamagedFile(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	content := random(1000)
	u := y.accept(t, "uploadcare", content)
	p, err := uploadcare.New(uploadcare.Options{
		PublicKey: "demopublickey", SecretKey: "demosecretkey", UploadBase: y.uploadcare.URL, RESTBase: y.uploadcare.URL, CDNBase: y.uploadcare.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := push.Start(t.Context(), y.pool, postgres.DefaultNames, y.staging, []provider.Provider{&cutOnce{Provider: p}}, y.settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	y.awaitStatus(t, u.ID, upload.Completed)
	y.delivered(t, "uploadcare", content)
}
