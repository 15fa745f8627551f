package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

// adopted is a database of the guides' with a row of two users in each table, migrated by its owner.
func adopted(t *testing.T, attributes string) (postgres.Options, bench) {
	t.Helper()
	o := postgres.Options{URL: ownedBy(t, attributes)}
	b := benchAt(t, o)
	b.exec(t, `CREATE SCHEMA app`)
	o.Names = postgres.Names{Schema: "slipway", Guide: "app"}
	b.exec(t, `SET search_path = app; `+guides.UploadcareTable+guides.CloudinaryTable)
	b = benchAt(t, o)
	for _, user := range []string{"user_123", "bob"} {
		b.exec(t, strings.Replace(guides.UploadcareInsert, "uploadcare_files", "app.uploadcare_files", 1), user, "https://ucarecdn.com/x/", user)
		b.exec(t, strings.Replace(guides.CloudinaryInsert, "cloudinary_files", "app.cloudinary_files", 1), user, "https://res.cloudinary.com/x", "image", user)
	}
	if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return o, b
}

func TestSecureGuideTables(t *testing.T) {
	for name, attributes := range owners {
		t.Run(name, func(t *testing.T) {
			o, b := adopted(t, attributes)
			b.exec(t, `CREATE ROLE reader_of_`+strings.TrimPrefix(path(t, o.URL), "/"))
			reader := one[string](t, b.Pool, `SELECT 'reader_of_' || current_database()`)
			b.exec(t, `GRANT SELECT ON app.cloudinary_files TO `+reader)
			if hidden, err := postgres.HiddenGuideTables(t.Context(), b.Pool, o.Names); len(hidden) > 0 || err != nil {
				t.Errorf("before: %v, %v hidden", hidden, err)
			}
			b.exec(t, `ALTER TABLE app.uploadcare_files ENABLE ROW LEVEL SECURITY`)
			if hidden, err := postgres.HiddenGuideTables(t.Context(), b.Pool, o.Names); !slices.Equal(hidden, []string{"app.uploadcare_files"}) || err != nil {
				t.Errorf("with row-level security by hand: %v, %v hidden", hidden, err)
			}
			for range 2 {
				bound, err := postgres.SecureGuideTables(t.Context(), o)
				if err != nil || len(bound) != 1 || !strings.HasPrefix(bound[0], "role "+reader+" may use app.cloudinary_files") {
					t.Fatalf("bound = %v, %v", bound, err)
				}
			}
			if hidden, err := postgres.HiddenGuideTables(t.Context(), b.Pool, o.Names); len(hidden) > 0 || err != nil {
				t.Errorf("after: %v, %v hidden", hidden, err)
			}
			for _, table := range []string{"app.uploadcare_files", "app.cloudinary_files"} {
				if !one[bool](t, b.Pool, `SELECT relrowsecurity AND NOT relforcerowsecurity FROM pg_class WHERE oid = to_regclass($1)`, table) {
					t.Errorf("%s has no row-level security, or has it forced", table)
				}
				if n := one[int](t, b.Pool, `SELECT count(*) FROM `+table); n != 2 {
					t.Errorf("the owner sees %d rows of %s, want all", n, table)
				}
				n, err := asUser(t, b, func(tx pgx.Tx) (n int, err error) {
					err = tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n)
					return n, err
				})
				if n != 1 || err != nil {
					t.Errorf("a user sees %d rows of %s, %v", n, table, err)
				}
			}
			b.exec(t, `UPDATE app.uploadcare_files SET file_url = file_url`)
		})
	}
}

func path(t *testing.T, s string) string {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}

func TestOpenDataAPI(t *testing.T) {
	o, b := adopted(t, "CREATEROLE BYPASSRLS")
	if roles, err := postgres.OpenDataAPI(t.Context(), o); len(roles) > 0 || err != nil {
		t.Fatalf("without the roles: %v, %v", roles, err)
	}
	super := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL(strings.TrimPrefix(path(t, o.URL), "/")), MaxConns: 1})
	super.exec(t, `CREATE ROLE authenticated; CREATE ROLE anonymous`)
	t.Cleanup(func() {
		_, err := super.Exec(context.WithoutCancel(t.Context()), `DROP OWNED BY authenticated, anonymous; DROP ROLE authenticated, anonymous`)
		if err != nil {
			t.Error(err)
		}
	})
	if _, err := postgres.OpenDataAPI(t.Context(), o); !errors.Is(err, postgres.ErrUnsecured) {
		t.Fatalf("over tables that everybody could read: %v", err)
	}
	if _, err := postgres.SecureGuideTables(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.accepted(t, staged("user_123"))
	b.accepted(t, staged("bob"))

	// rows counts what a role sees with a setting that tells who asks.
	rows := func(role, setting, value string) (n int) {
		t.Helper()
		super.tx(t, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SELECT set_config('role', $1, true), set_config($2, $3, true)`, role, setting, value); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), `
				SELECT (SELECT count(*) FROM app.uploadcare_files) + (SELECT count(*) FROM app.cloudinary_files) + (SELECT count(*) FROM slipway.upload_status)`).Scan(&n)
		})
		return n
	}
	open := func() {
		t.Helper()
		for range 2 {
			if roles, err := postgres.OpenDataAPI(t.Context(), o); !slices.Equal(roles, postgres.DataAPIRoles) || err != nil {
				t.Fatalf("roles = %v, %v", roles, err)
			}
		}
	}
	open()
	const claims = "request.jwt.claims"
	if mine, nobodys := rows("authenticated", claims, `{"sub":"user_123"}`), rows("anonymous", claims, ``); mine != 3 || nobodys != 0 {
		t.Errorf("by the claims: %d rows of mine, %d of nobody's; want 3 and 0", mine, nobodys)
	}
	super.exec(t, `CREATE SCHEMA auth; CREATE FUNCTION auth.user_id() RETURNS text LANGUAGE sql STABLE RETURN current_setting('test.user', true);
		GRANT USAGE ON SCHEMA auth TO authenticated, anonymous`)
	if _, err := postgres.OpenDataAPI(t.Context(), o); err == nil || !strings.Contains(err.Error(), "GRANT USAGE ON SCHEMA auth") {
		t.Errorf("by a function that the owner may not use: %v", err)
	}
	super.exec(t, `GRANT USAGE ON SCHEMA auth TO `+one[string](t, b.Pool, `SELECT current_user`))
	before := one[string](t, super.Pool, `SELECT pg_get_functiondef('auth.user_id'::regproc)`)
	open()
	if mine, by := rows("authenticated", "test.user", "user_123"), rows("authenticated", claims, `{"sub":"user_123"}`); mine != 3 || by != 0 {
		t.Errorf("by auth.user_id(): %d rows of mine, %d by claims that it does not read; want 3 and 0", mine, by)
	}
	if after := one[string](t, super.Pool, `SELECT pg_get_functiondef('auth.user_id'::regproc)`); after != before {
		t.Errorf("auth.user_id() has become %s", after)
	}
	for _, sql := range []string{`SELECT crc32c FROM slipway.uploads`, `DELETE FROM app.uploadcare_files`, `SELECT FROM slipway.upload_events`} {
		err := pgx.BeginFunc(t.Context(), super.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE authenticated`); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		if err == nil {
			t.Errorf("the Data API may %s", sql)
		}
	}
}
