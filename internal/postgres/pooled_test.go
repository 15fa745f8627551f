package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func TestListenHearsNothingThroughAPooler(t *testing.T) {
	url := postgrestest.New(t)
	p := postgrestest.NewPooler(t, 4)
	b := benchAt(t, postgres.Options{URL: p.URL(t, url), Pooled: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := postgres.Hear(ctx, b.Pool, p.URL(t, url), postgres.DefaultNames); !errors.Is(err, postgres.ErrUnheard) || time.Since(began) > 10*time.Second {
		t.Errorf("Hear = %v after %s, want %v within 10 s", err, time.Since(began), postgres.ErrUnheard)
	}
}
