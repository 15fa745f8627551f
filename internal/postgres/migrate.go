package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/sethvargo/go-retry"

	"slipway/migrations"
)

// ErrSchemaOld means that the database waits for a migration.
var ErrSchemaOld = errors.New("the database's schema is older than this program: run `slipway migrate`")

// migrationLock keeps River's migrations of one database apart from each other ("slipway" in base 36).
const migrationLock = 62099341468

// Migrate brings the database to this program's schema. It needs the direct URL of an owner. Any
// number of processes may run it at once; one works, the others wait. A guide table that is there
// and does not fit is refused before anything is changed, with the statement that mends it.
func Migrate(ctx context.Context, o Options, log *slog.Logger) error {
	o.MaxConns = 4
	pool, err := newPool(ctx, o, noTimeouts) // whoever waits for another's migration waits long
	if err != nil {
		return err
	}
	defer pool.Close()
	names := o.Names
	if names == (Names{}) {
		names = DefaultNames
	}
	var version int
	var role string
	if err := pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000, current_user`).Scan(&version, &role); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	if version < 15 {
		return fmt.Errorf("the database is PostgreSQL %d; 15 or newer is needed", version)
	}
	if role == names.Schema { // "$user" comes first in the search path
		return fmt.Errorf("the role %s is named like the schema, so that an app which logs in as it would find its unqualified tables there: "+
			"use another role, or another schema by DATABASE_SCHEMA", role)
	}
	if err := checkGuideTables(ctx, pool, names); err != nil {
		return err
	}
	if err := createSchemas(ctx, pool, names); err != nil {
		return err
	}
	if err := besideTraffic(ctx, log, func(ctx context.Context) error { return migrateOurs(ctx, pool, names, log) }); err != nil {
		return err
	}
	if err := besideTraffic(ctx, log, func(ctx context.Context) error { return migrateRiver(ctx, pool, names) }); err != nil {
		return fmt.Errorf("river's tables: %w", err)
	}
	host, database, err := Place(o.URL)
	if err != nil {
		return err
	}
	return settle(ctx, pool, host, database)
}

// trafficTolerance is how long a migration that is refused its locks is tried again.
const trafficTolerance = 2 * time.Minute

// besideTraffic repeats migrations that lost their locks to transactions which run meanwhile. Each migration is a
// transaction itself, so that what was lost has changed nothing, and what came before it is not done again.
func besideTraffic(ctx context.Context, log *slog.Logger, migrate func(context.Context) error) error {
	waits := retry.WithMaxDuration(trafficTolerance, retry.WithCappedDuration(5*time.Second, retry.WithJitterPercent(20, retry.NewFibonacci(100*time.Millisecond))))
	return retry.Do(ctx, waits, func(ctx context.Context) error {
		err := migrate(ctx)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "55P03") { // deadlock detected, lock not available
			log.Warn("the migration gives way to the traffic and is tried again", "error", err)
			return retry.RetryableError(err)
		}
		return err
	})
}

// createSchemas tolerates another process that creates them at the same moment, and an owner who may
// not create schemas and was given them.
func createSchemas(ctx context.Context, pool *pgxpool.Pool, n Names) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
			return err
		}
		for _, schema := range []string{n.Schema, n.Guide} {
			var there bool
			err := tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, schema).Scan(&there)
			if err == nil && !there {
				_, err = tx.Exec(ctx, "CREATE SCHEMA "+schema)
			}
			if err != nil {
				return fmt.Errorf("create schema %s: %w", schema, err)
			}
		}
		return nil
	})
}

func migrateOurs(ctx context.Context, pool *pgxpool.Pool, n Names, log *slog.Logger) error {
	named, err := named(migrations.FS, n)
	if err != nil {
		return err
	}
	// The only one of goose's lockers that works directly and through a transaction pooler.
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableName(n.Schema+".goose_lock"),
		lock.WithTableLockTimeout(250*time.Millisecond, 480),
		lock.WithTableUnlockTimeout(250*time.Millisecond, 40),
	)
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, named,
		goose.WithTableName(n.Schema+".goose_db_version"), goose.WithLocker(locker), goose.WithSlog(log))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// named is the migrations with n's schemas in them.
func named(src fs.FS, n Names) (fs.FS, error) {
	files, err := fs.Glob(src, "*.sql")
	if err != nil {
		return nil, err
	}
	out := fstest.MapFS{}
	for _, f := range files {
		b, err := fs.ReadFile(src, f)
		if err != nil {
			return nil, err
		}
		out[f] = &fstest.MapFile{Data: []byte(n.SQL(string(b)))}
	}
	return out, nil
}

// migrateRiver holds a lock in a transaction of its own, since rivermigrate can run neither
// concurrently nor, from empty, in one transaction.
func migrateRiver(ctx context.Context, pool *pgxpool.Pool, n Names) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock); err != nil {
			return err
		}
		m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: n.Schema, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, n.SQL(riverAccess)); err != nil {
			return fmt.Errorf("who may use them: %w", err)
		}
		if _, err := pool.Exec(ctx, n.SQL(riverLanes)); err != nil {
			return fmt.Errorf("whose turn it is: %w", err)
		}
		return nil
	})
}

// riverAccess puts River's jobs behind the same wall as the uploads that they are for: a request
// reaches only those that carry its own user. It inserts, where River's INSERT has an ON
// CONFLICT that sets kind to what it is, and it cancels.
const riverAccess = `
	SET LOCAL lock_timeout = '10s';
	DO $$
	BEGIN
	    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'slipway.river_job'::regclass) THEN
	        ALTER TABLE slipway.river_job ENABLE ROW LEVEL SECURITY;
	        CREATE POLICY own ON slipway.river_job TO slipway_api
	            USING (metadata ->> 'user_id' = (SELECT slipway.user_id()))
	            WITH CHECK (metadata ->> 'user_id' = (SELECT slipway.user_id()));
	        CREATE POLICY every ON slipway.river_job TO slipway_service USING (true) WITH CHECK (true);
	    END IF;
	END
	$$;
	REVOKE UPDATE ON slipway.river_job FROM slipway_api;
	GRANT SELECT, INSERT, UPDATE (kind, state, finalized_at, metadata) ON slipway.river_job TO slipway_api;
	GRANT USAGE ON SEQUENCE slipway.river_job_id_seq TO slipway_api;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA slipway TO slipway_service;
	GRANT USAGE ON ALL SEQUENCES IN SCHEMA slipway TO slipway_service;
`

// CheckSchema refuses a database that is older than this program. A newer one serves it too.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool, n Names) error {
	entries, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return err
	}
	var want, got int64
	for _, e := range entries {
		v, err := goose.NumericComponent(e)
		if err != nil {
			return err
		}
		want = max(want, v)
	}
	var there bool
	if err := pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, n.Schema+".goose_db_version").Scan(&there); err != nil {
		return unpermitted(pool, fmt.Errorf("read schema version: %w", err))
	}
	if !there {
		return ErrSchemaOld
	}
	err = pool.QueryRow(ctx, n.SQL(`SELECT coalesce(max(version_id), 0) FROM slipway.goose_db_version WHERE is_applied`)).Scan(&got)
	if err != nil {
		return unpermitted(pool, fmt.Errorf("read schema version: %w", err))
	}
	if got < want {
		return ErrSchemaOld
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: n.Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	res, err := m.Validate(ctx, nil)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if !res.OK {
		return ErrSchemaOld
	}
	return nil
}
