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

func TestKeepsStatements(t *testing.T) {
	tests := map[string]struct {
		way  func(t *testing.T, direct string) string
		want bool
	}{
		"a database does":           {func(_ *testing.T, direct string) string { return direct }, true},
		"a pooler like Neon's does": {func(t *testing.T, direct string) string { return postgrestest.NewPooler(t, 4).URL(t, direct) }, true},
		"a pooler of the old kind does not": {func(t *testing.T, direct string) string {
			return postgrestest.NewPooler(t, 4, "max_prepared_statements = 0").URL(t, direct)
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := benchAt(t, postgres.Options{URL: tt.way(t, postgrestest.New(t)), Pooled: true, Describe: true})
			if got, err := postgres.KeepsStatements(t.Context(), b.Pool); got != tt.want || err != nil {
				t.Errorf("KeepsStatements = %t, %v, want %t", got, err, tt.want)
			}
			if n := one[int](t, b.Pool, `SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'slipway%'`); n != 0 {
				t.Errorf("%d statements are left", n)
			}
		})
	}
}

func TestAReaderOutlivesThePooler(t *testing.T) {
	p := postgrestest.NewPooler(t, 4)
	b := benchAt(t, postgres.Options{URL: p.URL(t, postgrestest.New(t)), Pooled: true, MaxConns: 4})
	u := b.accepted(t, staged("user_123"))
	for range 2 {
		b.nothingLeft(t, 4) // opens all four
		p.Restart(t)
		if _, err := postgres.GetUpload(t.Context(), reader(t, b, u.UserID), u.UserID, u.ID); err != nil {
			t.Error(err)
		}
	}
}
