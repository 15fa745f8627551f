package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func TestMigrateAgain(t *testing.T) {
	url := postgrestest.New(t)
	b := benchAt(t, postgres.Options{URL: url})
	u := b.accepted(t, staged("user_123"))
	before := one[string](t, b.Pool, `SELECT id FROM slipway.installation`)

	if err := migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if got := b.read(t, u.ID); got.Status != upload.Queued {
		t.Errorf("status = %s, want the upload as it was", got.Status)
	}
	if after := one[string](t, b.Pool, `SELECT id FROM slipway.installation`); after != before {
		t.Errorf("installation %s became %s", before, after)
	}
}

func TestMigrateAtOnce(t *testing.T) {
	url := postgrestest.Empty(t)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error { return migrate(t.Context(), url) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	b := benchAt(t, postgres.Options{URL: url})
	b.accepted(t, staged("user_123"))
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.installation`); n != 1 {
		t.Errorf("%d installations", n)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`); n != 0 {
		t.Errorf("%d advisory locks left", n)
	}
}

func TestMigrateIntoOtherSchemas(t *testing.T) {
	o := postgres.Options{URL: postgrestest.Empty(t), Names: postgres.Names{Schema: "acme", Guide: "app"}}
	for range 2 {
		if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	b := benchAt(t, o)
	if err := postgres.CheckSchema(t.Context(), b.Pool, o.Names); err != nil {
		t.Error(err)
	}
	if err := postgres.CheckWall(t.Context(), b.Pool); err != nil {
		t.Error(err)
	}
	if _, err := postgres.ReadInstallation(t.Context(), b.Pool, o.URL); err != nil {
		t.Error(err)
	}

	news := listen(t, o)
	u := b.accepted(t, staged("user_123"))
	if got := <-news; !strings.HasPrefix(got, string(u.ID)) {
		t.Errorf("news = %q, want of %s", got, u.ID)
	}
	b.exec(t, `UPDATE acme.river_job SET state = 'running', attempt = 1, attempted_at = now()`)
	u = b.take(t, u, 0)
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Complete(t.Context(), tx, u, upload.Asset{ID: "asset", URL: "https://cdn.test/asset/", Size: u.Size}, 0)
	})
	var f postgres.File
	err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) (err error) {
		f, err = postgres.GetFile(t.Context(), tx, "user_123", u.ID)
		return err
	})
	if err != nil || f.AssetID != "asset" {
		t.Errorf("file = %+v, %v", f, err)
	}

	left := one[[]string](t, b.Pool, `
		SELECT coalesce(array_agg(n.nspname || '.' || c.relname), '{}')
		FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('slipway', 'public')`)
	if len(left) > 0 {
		t.Errorf("outside the schemas there is %v", left)
	}
}

func TestMigrateAdoptsWhatIsThere(t *testing.T) {
	for name, rls := range map[string]bool{"row-level security off": false, "row-level security on": true} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.Empty(t)
			b := benchAt(t, postgres.Options{URL: url})
			b.exec(t, `CREATE TABLE public.uploads (id int)`)
			b.exec(t, `CREATE TABLE public.river_job (id int)`)
			b.exec(t, `CREATE TABLE public.goose_db_version (id int)`)
			b.exec(t, guides.UploadcareTable)
			b.exec(t, guides.CloudinaryTable)
			b.exec(t, guides.UploadcareInsert, "old", "https://ucarecdn.com/old/", "user_123")
			b.exec(t, guides.CloudinaryInsert, "old", "https://res.cloudinary.com/old", "image", "user_123")
			if rls {
				b.exec(t, `ALTER TABLE uploadcare_files ENABLE ROW LEVEL SECURITY`)
				b.exec(t, `ALTER TABLE cloudinary_files ENABLE ROW LEVEL SECURITY`)
				b.exec(t, `CREATE POLICY theirs ON uploadcare_files FOR SELECT USING (user_id = 'nobody')`)
			}

			if err := migrate(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			for _, table := range []string{"uploadcare_files", "cloudinary_files"} {
				if on := one[bool](t, b.Pool, `SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass($1)`, table); on != rls {
					t.Errorf("row-level security of %s = %t, was %t", table, on, rls)
				}
			}
			theirs := one[int](t, b.Pool, `SELECT count(*) FROM pg_policies WHERE schemaname = 'public' AND policyname NOT LIKE 'slipway%'`)
			others := one[int](t, b.Pool, `SELECT count(*) FROM pg_policies WHERE schemaname = 'public' AND policyname LIKE 'slipway%' AND NOT roles <@ '{slipway_api,slipway_service}'`)
			if rls && theirs != 1 || !rls && theirs != 0 || others != 0 {
				t.Errorf("%d policies of theirs, %d of ours that bind others", theirs, others)
			}

			b.exec(t, guides.UploadcareInsert, "new", "https://ucarecdn.com/new/", "user_123")
			b.exec(t, guides.CloudinaryInsert, "new", "https://res.cloudinary.com/new", "image", "user_123")
			for _, query := range []string{guides.UploadcareSelect, guides.CloudinarySelect} {
				rows, err := b.Query(t.Context(), query)
				if err != nil {
					t.Fatal(err)
				}
				ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
					v, err := row.Values()
					return v[1].(string), err
				})
				if err != nil || len(ids) != 2 || ids[0] != "old" || ids[1] != "new" {
					t.Errorf("rows = %v, %v, want old and new", ids, err)
				}
			}

			u := b.taken(t, staged("user_123"))
			b.tx(t, func(tx pgx.Tx) error {
				return postgres.Complete(t.Context(), tx, u, upload.Asset{ID: "ours", URL: "https://cdn.test/ours/", Size: u.Size}, 0)
			})
			var files []postgres.File
			err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) (err error) {
				files, err = postgres.ListFiles(t.Context(), tx, "user_123", postgres.FileFilter{Limit: 10})
				return err
			})
			if err != nil || len(files) != 5 {
				t.Errorf("%d files, %v, want 5", len(files), err)
			}
		})
	}
}

// A guide's app goes on while its database is migrated, and reads its tables in another order than they are migrated in.
func TestMigrateGivesWayToTraffic(t *testing.T) {
	url := postgrestest.Empty(t)
	b := benchAt(t, postgres.Options{URL: url})
	b.exec(t, guides.UploadcareTable)
	b.exec(t, guides.CloudinaryTable)
	var migrating errgroup.Group
	b.tx(t, func(app pgx.Tx) error {
		for _, sql := range []string{`SET LOCAL deadlock_timeout = '1min'`, `LOCK public.cloudinary_files IN ACCESS SHARE MODE`} {
			if _, err := app.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		migrating.Go(func() error { return migrate(t.Context(), url) })
		eventually(t, func() bool {
			return one[bool](t, b.Pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'cloudinary_files'::regclass AND NOT granted)`)
		})
		_, err := app.Exec(t.Context(), `LOCK public.uploadcare_files IN ACCESS SHARE MODE`)
		return err
	})
	if err := migrating.Wait(); err != nil {
		t.Error(err)
	}
	if n := one[int](t, b.Pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n == 0 {
		t.Error("the app and the migration never waited for each other")
	}
}

// owners are the kinds of role that a hosted database is migrated by; none is a superuser.
var owners = map[string]string{
	"an owner like Neon's": "CREATEROLE CREATEDB BYPASSRLS",
	"a plain owner":        "CREATEROLE",
}

func TestMigrateAsOwner(t *testing.T) {
	for name, attributes := range owners {
		t.Run(name, func(t *testing.T) {
			o := postgres.Options{URL: ownedBy(t, attributes)}
			if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			b := benchAt(t, o)
			if err := postgres.CheckWall(t.Context(), b.Pool); err != nil {
				t.Error(err)
			}
			u := b.taken(t, staged("user_123"))
			b.tx(t, func(tx pgx.Tx) error {
				return postgres.Complete(t.Context(), tx, u, upload.Asset{ID: "asset", URL: "https://cdn.test/asset/", Size: u.Size}, 0)
			})
			if n := one[int](t, b.Pool, `SELECT count(*) FROM public.uploadcare_files`); n != 1 {
				t.Errorf("%d guide rows", n)
			}
		})
	}
}

// password is that of roles that tests make; a pooler asks for it.
const password = "s3cret"

// ownedBy returns the URL of an empty database for a role of its own.
func ownedBy(t *testing.T, attributes string) string {
	t.Helper()
	u, err := url.Parse(postgrestest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	database := strings.TrimPrefix(u.Path, "/")
	role := "owner_of_" + database
	for _, sql := range []string{
		`CREATE ROLE ` + role + ` LOGIN PASSWORD '` + password + `' ` + attributes,
		`ALTER DATABASE ` + database + ` OWNER TO ` + role,
		// From PostgreSQL 16 on a role that somebody else has made is his to give away; on a hosted server the owner makes it.
		`DO $$ BEGIN
		    IF current_setting('server_version_num')::int >= 160000 AND to_regrole('slipway_api') IS NOT NULL
		       AND (SELECT rolcreaterole FROM pg_roles WHERE rolname = '` + role + `') THEN
		        GRANT slipway_api, slipway_service TO ` + role + `;
		    END IF;
		END $$`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

func TestMigrateNamesTheMissingRight(t *testing.T) {
	o := postgres.Options{URL: ownedBy(t, "")}
	postgrestest.New(t) // the roles are there
	err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler))
	_, mend, found := strings.Cut(errorText(err), "mend it as a superuser with: ")
	if !found {
		t.Fatalf("%v, want the statement that mends it", err)
	}
	mend, _, _ = strings.Cut(mend, " (SQLSTATE")
	super := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL("postgres")})
	super.exec(t, mend)
	super.exec(t, strings.ReplaceAll(mend, "slipway_api", "slipway_service"))
	if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("after %s: %v", mend, err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestCheckSchema(t *testing.T) {
	tests := map[string]struct {
		database func(t testing.TB) string
		change   string
		want     error
	}{
		"the program's own is accepted":  {postgrestest.New, ``, nil},
		"none is too old":                {postgrestest.Empty, ``, postgres.ErrSchemaOld},
		"an older one of ours is":        {postgrestest.New, `DELETE FROM slipway.goose_db_version WHERE version_id > 0`, postgres.ErrSchemaOld},
		"an older one of River's is":     {postgrestest.New, `DELETE FROM slipway.river_migration WHERE version = (SELECT max(version) FROM slipway.river_migration)`, postgres.ErrSchemaOld},
		"a newer one of ours is welcome": {postgrestest.New, `INSERT INTO slipway.goose_db_version (version_id, is_applied) VALUES (99, true)`, nil},
		"and so is one of River's":       {postgrestest.New, `INSERT INTO slipway.river_migration (line, version) VALUES ('main', 99)`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := benchAt(t, postgres.Options{URL: tt.database(t)})
			b.exec(t, tt.change)
			if err := postgres.CheckSchema(t.Context(), b.Pool, postgres.DefaultNames); !errors.Is(err, tt.want) {
				t.Errorf("CheckSchema = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestARoleIsNotNamedLikeTheSchema(t *testing.T) {
	t.Parallel()
	url := postgrestest.Empty(t) // its owner is app
	err := postgres.Migrate(t.Context(), postgres.Options{URL: url, Names: postgres.Names{Schema: "app", Guide: "public"}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "DATABASE_SCHEMA") {
		t.Errorf("migrated with %v, want a refusal that says what to do", err)
	}
}
