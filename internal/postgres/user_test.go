package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestAsUserMayNotWriteForOthers(t *testing.T) {
	b := newBench(t)
	b.populate(t, "user_123")
	b.populate(t, "victim")
	id := upload.NewID()
	refused := map[string]struct {
		sql  string
		args []any
	}{
		"an upload of another": {`INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, max_attempts)
			VALUES ($1, 'victim', 'queued', 'uploadcare', 'x', 'x', 1)`, []any{id}},
		"giving one's own away":    {`UPDATE slipway.uploads SET user_id = 'victim'`, nil},
		"what is stored":           {`UPDATE slipway.uploads SET asset = '{}'`, nil},
		"what a job is to do":      {`UPDATE slipway.river_job SET args = '{}'`, nil},
		"an event of another":      {`INSERT INTO slipway.upload_events (upload_id, user_id, type, status) SELECT id, 'victim', 'status', 'queued' FROM slipway.uploads`, nil},
		"a changed event":          {`UPDATE slipway.upload_events SET type = 'x'`, nil},
		"a deleted upload":         {`DELETE FROM slipway.uploads`, nil},
		"a job of another":         {`INSERT INTO slipway.river_job (args, kind, max_attempts, metadata) VALUES ('{}', 'push', 1, '{"user_id":"victim"}')`, nil},
		"a job of nobody":          {`INSERT INTO slipway.river_job (args, kind, max_attempts) VALUES ('{}', 'push', 1)`, nil},
		"a reservation of another": {`INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) VALUES ($1, 'victim', 1, now())`, []any{id}},
		"a key of another":         {`INSERT INTO slipway.idempotency_keys (user_id, key, fingerprint, upload_id) VALUES ('victim', 'x', '', $1)`, []any{id}},
		"a file":                   {guides.UploadcareInsert, []any{"x", "x", "user_123"}},
		"a signature for another":  {`INSERT INTO slipway.direct_handouts (user_id, provider, minute) VALUES ('victim', 'uploadcare', now())`, nil},
		"an older signature":       {`UPDATE slipway.direct_handouts SET minute = minute - interval '1 hour'`, nil},
		"a claim of another":       {`INSERT INTO slipway.direct_uploads (upload_id, user_id, provider) SELECT id, 'victim', 'uploadcare' FROM slipway.uploads`, nil},
		"an asset as one's own":    {`UPDATE slipway.direct_uploads SET owned = true`, nil},
		"another's reservation":    {`UPDATE slipway.direct_uploads SET reservation = $1`, []any{id}},
		"the ledger":               {`SELECT FROM slipway.push_sessions`, nil},
		"the installation":         {`SELECT FROM slipway.installation`, nil},
		"the API keys":             {`SELECT FROM slipway.api_keys`, nil},
		"a provider's pause":       {`UPDATE slipway.providers SET paused_until = now()`, nil},
	}
	for name, tt := range refused {
		t.Run(name, func(t *testing.T) {
			err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), tt.sql, tt.args...)
				return err
			})
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "42501" {
				t.Errorf("error = %v, want 42501", err)
			}
		})
	}
	untouched := map[string]string{
		"somebody's upload": `UPDATE slipway.uploads SET status = 'failed' WHERE user_id = 'victim'`,
		"somebody's job":    `UPDATE slipway.river_job SET kind = 'x' WHERE metadata ->> 'user_id' = 'victim'`,
	}
	for name, sql := range untouched {
		t.Run(name, func(t *testing.T) {
			err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) error {
				tag, err := tx.Exec(t.Context(), sql)
				if err == nil && tag.RowsAffected() != 0 {
					err = fmt.Errorf("%d rows changed", tag.RowsAffected())
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// strangers are ids as tokens may name their users.
var strangers = []string{
	"user_123", "o'hara", `"quoted"`, `back\slash`, `{"sub":"user_123"}`, `","role":"slipway_service`, "père & <fils>", "用户", "🙂",
	"a\u2028b", "tab\tand\nline", " user_123", "USER_123", "%", "auth0|5f7c8ec7c33c6c004bbafe82", strings.Repeat("x", 1000), "$1", "@user", "\u0001",
}

func TestAsUserTakesAnyIDToTheLetter(t *testing.T) {
	b := newBench(t)
	for _, user := range strangers {
		b.accepted(t, staged(user))
	}
	for _, user := range strangers {
		err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
			if got := one[string](t, tx, `SELECT string_agg(user_id, ',') FROM slipway.uploads`); got != user {
				t.Errorf("%q sees the uploads of %q", user, got)
			}
			all, err := postgres.ListUploads(t.Context(), tx, user, postgres.UploadFilter{Limit: 10})
			if len(all.Uploads) != 1 {
				t.Errorf("%q has %d uploads", user, len(all.Uploads))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, user := range []string{"a\x00b", "a\xffb"} {
		err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(pgx.Tx) error {
			t.Errorf("%q is taken for text", user)
			return nil
		})
		if err == nil {
			t.Errorf("%q is nobody's id", user)
		}
	}
}

func TestAsUserWaitsForNoLockForLong(t *testing.T) {
	b := newBench(t)
	u := b.accepted(t, staged("user_123"))
	b.tx(t, func(holder pgx.Tx) error {
		if _, err := holder.Exec(t.Context(), `SELECT FROM slipway.uploads FOR UPDATE`); err != nil {
			return err
		}
		began := time.Now()
		err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) error {
			_, err := postgres.Requeue(t.Context(), tx, "user_123", u.ID, 0, 0)
			if errors.Is(err, postgres.ErrNoUpload) {
				_, err = tx.Exec(t.Context(), `UPDATE slipway.uploads SET version = version + 1`)
			}
			return err
		})
		if !postgres.Unreachable(err) || time.Since(began) > 6*time.Second {
			t.Errorf("%v after %s, want a lock that was not available within 3 s", err, time.Since(began))
		}
		return nil
	})
}

// A process may log in as a role of its own that owns nothing and is a member of slipway_service.
func TestServiceNeedsNoOwner(t *testing.T) {
	address := ownedBy(t, "CREATEROLE")
	if err := postgres.Migrate(t.Context(), postgres.Options{URL: address}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	b := benchAt(t, postgres.Options{URL: serving(t, address)})
	if err := postgres.CheckSchema(t.Context(), b.Pool, postgres.DefaultNames); err != nil {
		t.Error(err)
	}
	if err := postgres.CheckWall(t.Context(), b.Pool); err != nil {
		t.Error(err)
	}
	if err := postgres.MatchStaging(t.Context(), b.Pool, "store"); err != nil {
		t.Error(err)
	}
	u := b.taken(t, staged("user_123"))
	delivers(t, b, u)
	dead := b.taken(t, staged("somebody else"))
	b.exec(t, `UPDATE slipway.uploads SET lease_until = now() - interval '1 hour' WHERE id = $1`, dead.ID)
	b.exec(t, `UPDATE slipway.river_job SET attempted_at = now() - interval '1 hour' WHERE id = $1`, dead.JobID)
	if reaped, err := postgres.Reap(t.Context(), b.Pool, b.queue, time.Microsecond, 0); err != nil || len(reaped) != 1 {
		t.Errorf("reaped %v, %v", reaped, err)
	}
	if _, err := postgres.Adopt(t.Context(), b.Pool, b.queue); err != nil {
		t.Error(err)
	}
	if _, err := postgres.Unstage(t.Context(), b.Pool, u.ID); err != nil {
		t.Error(err)
	}
}
