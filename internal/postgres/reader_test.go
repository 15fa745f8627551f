package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func reader(t *testing.T, b bench, user string) postgres.Reader {
	t.Helper()
	r, err := postgres.ReadAs(b.Pool, postgres.Claims{Subject: user})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReaderSeesNobodyElse(t *testing.T) {
	b := benchAt(t, postgres.Options{URL: postgrestest.New(t), MaxConns: 2}) // users follow each other on a connection
	const users = 4
	for n := range users {
		b.accepted(t, staged(fmt.Sprintf("user_%d", n)))
	}
	var g errgroup.Group
	for n := range users {
		user := fmt.Sprintf("user_%d", n)
		r := reader(t, b, user)
		g.Go(func() error {
			for range 100 {
				rows, err := r.Query(t.Context(), `SELECT user_id FROM slipway.uploads`)
				if err != nil {
					return err
				}
				owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					return err
				}
				if len(owners) != 1 || owners[0] != user {
					return fmt.Errorf("%s sees the uploads of %q", user, owners)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestReaderChangesNothing(t *testing.T) {
	b := newBench(t)
	u := b.accepted(t, staged("user_123"))
	rows, err := reader(t, b, u.UserID).Query(t.Context(), `UPDATE slipway.uploads SET file_name = 'other' RETURNING file_name`)
	if err == nil {
		_, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "25006" {
		t.Errorf("an update is answered %v, want 25006, read only", err)
	}
	if name := one[string](t, b.Pool, `SELECT file_name FROM slipway.uploads`); name != u.FileName {
		t.Errorf("the file is called %q, want %q", name, u.FileName)
	}
}

func TestReaderLeavesNothingOnItsConnection(t *testing.T) {
	const many = `SELECT n FROM generate_series(1, 100000) n`
	ways := map[string]func(ctx context.Context, r postgres.Reader) error{
		"after all rows": func(ctx context.Context, r postgres.Reader) error {
			rows, err := r.Query(ctx, many)
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		},
		"after the first of many rows": func(ctx context.Context, r postgres.Reader) error {
			rows, err := r.Query(ctx, many)
			if err != nil {
				return err
			}
			rows.Next()
			rows.Close()
			return rows.Err()
		},
		"after a mistake": func(ctx context.Context, r postgres.Reader) error {
			if rows, err := r.Query(ctx, `SELECT * FROM nowhere`); err == nil {
				rows.Close()
				return errors.New("nowhere was found")
			}
			return nil
		},
		"after an error in a row": func(ctx context.Context, r postgres.Reader) error {
			rows, err := r.Query(ctx, `SELECT 1 / (2 - n) FROM generate_series(1, 3) n`)
			if err != nil {
				return err
			}
			if _, err := pgx.CollectRows(rows, pgx.RowTo[int]); err == nil {
				return errors.New("a division by zero gave a row")
			}
			return nil
		},
		"after a caller who left": func(ctx context.Context, r postgres.Reader) error {
			ctx, leave := context.WithCancel(ctx)
			defer leave()
			rows, err := r.Query(ctx, many)
			if err != nil {
				return err
			}
			leave()
			rows.Close()
			return nil
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			b := benchAt(t, postgres.Options{URL: postgrestest.New(t), MaxConns: 1})
			if err := way(t.Context(), reader(t, b, "user_123")); err != nil {
				t.Error(err)
			}
			state := one[string](t, b.Pool, `
				SELECT concat_ws(' ', current_user = session_user, coalesce(current_setting('request.jwt.claims', true), ''), current_setting('transaction_read_only'))`)
			if state != "true  off" && state != "t  off" {
				t.Errorf("left over: %q", state)
			}
		})
	}
}
