package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

func migrate(ctx context.Context, url string) error {
	return postgres.Migrate(ctx, postgres.Options{URL: url}, slog.New(slog.DiscardHandler))
}

// bench is a migrated database with what its processes hold of it.
type bench struct {
	*pgxpool.Pool
	queue *postgres.Queue
}

func newBench(t *testing.T) bench {
	t.Helper()
	return benchAt(t, postgres.Options{URL: postgrestest.New(t), MaxConns: 40})
}

func benchAt(t *testing.T, o postgres.Options) bench {
	t.Helper()
	if o.Names == (postgres.Names{}) {
		o.Names = postgres.DefaultNames
	}
	pool, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	queue, err := postgres.NewQueue(pool, o.Names)
	if err != nil {
		t.Fatal(err)
	}
	return bench{pool, queue}
}

// staged is an upload as ingest hands it over.
func staged(user string) upload.Upload {
	return upload.Upload{
		ID: upload.NewID(), UserID: user, Provider: "uploadcare", ResourceType: upload.Video, FileName: "film.mp4",
		ContentType: "video/mp4", Size: 100, CRC32C: 0xdeadbeef, MaxAttempts: 3, CreatedAt: time.Now(),
	}
}

// accept does what ingest does with a staged file.
func (b bench) accept(ctx context.Context, u *upload.Upload) error {
	return postgres.AsUser(ctx, b.Pool, postgres.Claims{Subject: u.UserID}, func(tx pgx.Tx) (err error) {
		if u.JobID, err = postgres.InsertPush(ctx, tx, b.queue, *u); err != nil {
			return err
		}
		return postgres.InsertStaged(ctx, tx, *u, time.Hour)
	})
}

// accepted is an upload that waits for a worker.
func (b bench) accepted(t *testing.T, u upload.Upload) upload.Upload {
	t.Helper()
	if err := b.accept(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	return u
}

// fetch does what River does when a worker gets a job, so long ago.
func (b bench) fetch(t *testing.T, job int64, ago time.Duration) {
	t.Helper()
	b.exec(t, `UPDATE slipway.river_job SET state = 'running', attempt = attempt + 1, attempted_at = now() - $2::interval WHERE id = $1`, job, ago)
}

// taken is an upload that a worker pushes, with a lease of a minute.
func (b bench) taken(t *testing.T, u upload.Upload) upload.Upload {
	t.Helper()
	u = b.accepted(t, u)
	b.fetch(t, u.JobID, 0)
	return b.take(t, u, time.Minute)
}

func (b bench) take(t *testing.T, u upload.Upload, ttl time.Duration) upload.Upload {
	t.Helper()
	b.tx(t, func(tx pgx.Tx) (err error) {
		u, err = postgres.Take(t.Context(), tx, u.ID, u.JobID, "worker", ttl)
		return err
	})
	return u
}

func (b bench) tx(t *testing.T, f func(pgx.Tx) error) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), b.Pool, f); err != nil {
		t.Fatal(err)
	}
}

func (b bench) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (b bench) read(t *testing.T, id upload.ID) upload.Upload {
	t.Helper()
	u, err := postgres.UploadOf(t.Context(), b.Pool, id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// one is the single value that a query returns.
func one[T any](t *testing.T, db postgres.DB, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// dump is everything the database says of an upload, to tell whether something has changed.
func (b bench) dump(t *testing.T, id upload.ID) string {
	t.Helper()
	return one[string](t, b.Pool, `
		SELECT jsonb_build_object(
		    'upload', (SELECT to_jsonb(u) FROM slipway.uploads u WHERE id = $1),
		    'events', (SELECT jsonb_agg(e ORDER BY seq) FROM slipway.upload_events e WHERE upload_id = $1),
		    'sessions', (SELECT jsonb_agg(s ORDER BY id) FROM slipway.push_sessions s WHERE upload_id = $1),
		    'parts', (SELECT jsonb_agg(p ORDER BY session_id, number) FROM slipway.push_parts p JOIN slipway.push_sessions s ON s.id = session_id WHERE upload_id = $1),
		    'jobs', (SELECT jsonb_agg(j ORDER BY id) FROM slipway.river_job j WHERE args ->> 'upload_id' = $1::text),
		    'files', (SELECT jsonb_agg(f) FROM public.uploadcare_files f WHERE upload_id = $1))::text`, id)
}
