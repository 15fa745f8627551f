package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

// behind lists what a request may read and how a row there names its user.
var behind = map[string]string{
	"slipway.uploads":              "user_id",
	"slipway.upload_events":        "user_id",
	"slipway.staging_reservations": "user_id",
	"slipway.idempotency_keys":     "user_id",
	"slipway.direct_handouts":      "user_id",
	"slipway.direct_uploads":       "user_id",
	"slipway.upload_status":        "user_id",
	"slipway.file_deletions":       "user_id",
	"slipway.user_usage":           "user_id",
	"slipway.usage_changes":        "user_id",
	"slipway.user_limits":          "user_id",
	"slipway.tus_uploads":          "user_id",
	"slipway.river_job":            "metadata ->> 'user_id'",
	"public.uploadcare_files":      "user_id",
	"public.cloudinary_files":      "user_id",
}

// populate gives a user a row in everything that a request may read.
func (b bench) populate(t *testing.T, user string) {
	t.Helper()
	u := b.accepted(t, staged(user))
	b.exec(t, `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) VALUES ($1, $2, 1, now())`, u.ID, user)
	b.exec(t, `INSERT INTO slipway.idempotency_keys (user_id, key, fingerprint, upload_id) VALUES ($1, 'k', '', $2)`, user, u.ID)
	b.exec(t, `INSERT INTO slipway.direct_handouts (user_id, provider, minute) VALUES ($1, 'uploadcare', now())`, user)
	b.exec(t, `INSERT INTO slipway.direct_uploads (upload_id, user_id, provider) VALUES ($1, $2, 'uploadcare')`, u.ID, user)
	b.exec(t, `INSERT INTO slipway.file_deletions (id, user_id, provider, asset, job_id) VALUES ($1, $2, 'uploadcare', '{}', 0)`, upload.NewID(), user)
	b.exec(t, `INSERT INTO slipway.user_usage (user_id, day) VALUES ($1, now())`, user)
	b.exec(t, `INSERT INTO slipway.user_limits (user_id) VALUES ($1)`, user)
	b.exec(t, `INSERT INTO slipway.tus_uploads (upload_id, user_id) VALUES ($1, $2)`, u.ID, user)
	b.exec(t, guides.UploadcareInsert, "asset of "+user, "https://cdn.test/", user)
	b.exec(t, guides.CloudinaryInsert, "asset of "+user, "https://cdn.test/", "image", user)
}

// logins are direct URLs of migrated databases, by what the processes log in as.
func logins(t *testing.T) map[string]string {
	t.Helper()
	urls := map[string]string{"a superuser": postgrestest.New(t)}
	for name, attributes := range owners {
		urls[name] = ownedBy(t, attributes)
		if err := postgres.Migrate(t.Context(), postgres.Options{URL: urls[name]}, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	urls["a login role that owns nothing"] = serving(t, urls["a plain owner"])
	return urls
}

// serving makes a role that owns nothing and may do what our processes do, and returns its URL of the same database.
func serving(t *testing.T, owner string) string {
	t.Helper()
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	role := "serves_" + strings.TrimPrefix(u.Path, "/")
	super := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL("postgres")})
	super.exec(t, `CREATE ROLE `+role+` LOGIN IN ROLE slipway_service, slipway_api PASSWORD '`+password+`'`)
	u.User = url.UserPassword(role, password)
	return u.String()
}

// ways lead from a direct URL to the database.
var ways = map[string]func(t *testing.T, connections int) (through func(direct string) string){
	"directly": func(*testing.T, int) func(string) string {
		return func(direct string) string { return direct }
	},
	"through a pooler": func(t *testing.T, connections int) func(string) string {
		p := postgrestest.NewPooler(t, connections)
		return func(direct string) string { return p.URL(t, direct) }
	},
}

// With every WHERE left out only the wall stands between users, whoever the processes log in as.
func TestNobodySeesAnothersRows(t *testing.T) {
	const goroutines, transactions, users, connections = 32, 200, 8, 4
	for way, begin := range ways {
		t.Run(way, func(t *testing.T) {
			through := begin(t, connections)
			urls := logins(t)
			var running errgroup.Group
			for login, direct := range urls {
				b := benchAt(t, postgres.Options{URL: through(direct), MaxConns: 2 * connections})
				var crowd []string
				for n := range users {
					crowd = append(crowd, fmt.Sprintf("user %d of %s", n, login))
					b.populate(t, crowd[n])
				}
				for range goroutines / len(urls) {
					running.Go(func() error {
						for range transactions {
							if err := b.visit(t.Context(), crowd[rand.N(len(crowd))]); err != nil {
								return fmt.Errorf("%s: %w", login, err)
							}
							if err := leftOver(t.Context(), b); err != nil {
								return fmt.Errorf("%s: %w", login, err)
							}
						}
						return nil
					})
				}
				defer func() {
					b.nothingLeft(t, connections)
					if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.uploads WHERE error_message <> user_id`); n != 0 {
						t.Errorf("%s: %d uploads were written by others", login, n)
					}
				}()
			}
			if err := running.Wait(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// visit reads and writes all that a user's transaction may, and ends it in one way or another.
func (b bench) visit(ctx context.Context, user string) error {
	ending := "a commit"
	switch n := rand.N(100); {
	case n < 3:
		ending = []string{"canceled in mid-statement", "canceled between statements", "a deadline in mid-statement"}[n]
	case n < 30:
		ending = []string{"an error", "a statement's error", "a statement's error unmentioned", "a panic"}[n%4]
	}
	if rand.N(4) == 0 {
		return b.ask(ctx, user)
	}
	var wrong error
	err := end(ctx, b, user, ending, func(tx pgx.Tx) error {
		wrong = sees(ctx, tx, user)
		return wrong
	})
	if wrong != nil || ending == "a commit" {
		return err
	}
	return nil
}

// ask reads for a user in a single round trip, and leaves before the answer is read now and then.
func (b bench) ask(ctx context.Context, user string) error {
	r, err := postgres.ReadAs(b.Pool, postgres.Claims{Subject: user})
	if err != nil {
		return err
	}
	table := readable[rand.N(len(readable))]
	rows, err := r.Query(ctx, `SELECT `+behind[table]+` FROM `+table)
	if err != nil {
		return err
	}
	if rand.N(8) == 0 {
		rows.Close()
		return rows.Err()
	}
	owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && (len(owners) != 1 || owners[0] != user) {
		err = fmt.Errorf("%s is shown the rows of %q in %s", user, owners, table)
	}
	return err
}

// sees tells whether a transaction for the user is bound by the policies, by one of what it may read.
func sees(ctx context.Context, tx pgx.Tx, user string) error {
	var role string
	var free bool
	var mine, others int
	table := readable[rand.N(len(readable))]
	err := tx.QueryRow(ctx, `
		SELECT current_user, (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
		       count(*) FILTER (WHERE `+behind[table]+` = $1), count(*) FILTER (WHERE `+behind[table]+` IS DISTINCT FROM $1)
		FROM `+table, user).Scan(&role, &free, &mine, &others)
	if err != nil {
		return err
	}
	if role != "slipway_api" || free {
		return fmt.Errorf("%s acts as %s, free of the policies: %t", user, role, free)
	}
	if mine != 1 || others != 0 {
		return fmt.Errorf("%s sees %d rows of its own in %s, not 1, and %d of others", user, mine, table, others)
	}
	if rand.N(4) > 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, `UPDATE slipway.uploads SET error_message = $1`, user)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%s changed %d uploads", user, tag.RowsAffected())
	}
	return err
}

var readable = slices.Collect(maps.Keys(behind))

var errBoom = errors.New("boom")

// endings are the ways in which a user's transaction comes to its end. cancel ends the context that it was begun with.
var endings = map[string]func(ctx context.Context, cancel func(), tx pgx.Tx) error{
	"a commit": func(context.Context, func(), pgx.Tx) error { return nil },
	"an error": func(context.Context, func(), pgx.Tx) error { return errBoom },
	"a statement's error": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT 1/0`)
		return err
	},
	"a statement's error unmentioned": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, `SELECT 1/0`)
		return nil
	},
	"a panic": func(context.Context, func(), pgx.Tx) error { panic(errBoom) },
	"canceled in mid-statement": func(ctx context.Context, cancel func(), tx pgx.Tx) error {
		time.AfterFunc(2*time.Millisecond, cancel)
		_, err := tx.Exec(ctx, `SELECT pg_sleep(0.2)`)
		return err
	},
	"canceled between statements": func(_ context.Context, cancel func(), _ pgx.Tx) error {
		cancel()
		return nil
	},
	"a deadline in mid-statement": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		defer cancel()
		_, err := tx.Exec(ctx, `SELECT pg_sleep(0.2)`)
		return err
	},
	"a statement's timeout": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', '2ms', true)`)
		if err == nil {
			_, err = tx.Exec(ctx, `SELECT pg_sleep(0.2)`)
		}
		return err
	},
	"the end of its connection": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	},
	"forgotten too long": func(ctx context.Context, _ func(), tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '1ms', true)`)
		for err == nil {
			_, err = tx.Exec(ctx, `SELECT`)
		}
		return err
	},
}

// end runs f for a user, then brings the transaction to an end.
func end(ctx context.Context, b bench, user, ending string, f func(pgx.Tx) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if r := recover(); r != nil && r != any(errBoom) {
			panic(r)
		}
	}()
	return postgres.AsUser(ctx, b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return endings[ending](ctx, cancel, tx)
	})
}

// leftOver tells what a connection still has of a user's transaction.
func leftOver(ctx context.Context, db postgres.DB) error {
	var role, login, claims string
	err := db.QueryRow(ctx, `SELECT current_user, session_user, coalesce(current_setting('request.jwt.claims', true), '')`).Scan(&role, &login, &claims)
	if err == nil && (role != login || claims != "") {
		err = fmt.Errorf("left over: role %s of %s, claims %q", role, login, claims)
	}
	return err
}

// nothingLeft looks at so many of the server's connections at once.
func (b bench) nothingLeft(t *testing.T, connections int) {
	t.Helper()
	backends := map[int]bool{}
	for range connections {
		tx, err := b.Begin(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		defer tx.Rollback(t.Context())
		if err := leftOver(t.Context(), tx); err != nil {
			t.Error(err)
		}
		backends[one[int](t, tx, `SELECT pg_backend_pid()`)] = true
	}
	if len(backends) != connections {
		t.Errorf("looked at %d connections, not %d", len(backends), connections)
	}
}

func TestAsUserLeavesNothingOnItsConnection(t *testing.T) {
	for way, begin := range ways {
		through := begin(t, 1)
		url := postgrestest.New(t)
		for ending := range endings {
			t.Run(ending+", "+way, func(t *testing.T) {
				b := benchAt(t, postgres.Options{URL: through(url), MaxConns: 1})
				before := one[int](t, b.Pool, `SELECT pg_backend_pid()`)
				err := end(t.Context(), b, "user_123", ending, func(tx pgx.Tx) error {
					if got := one[string](t, tx, `SHOW lock_timeout`); got != "3s" {
						t.Errorf("lock_timeout = %s", got)
					}
					return nil
				})
				if (err == nil) != (ending == "a commit" || ending == "a panic") {
					t.Errorf("error = %v", err)
				}
				if err := leftOver(t.Context(), b); err != nil {
					t.Error(err)
				}
				if after := one[int](t, b.Pool, `SELECT pg_backend_pid()`); after != before && !slices.Contains(disconnects, ending) {
					t.Errorf("another connection, %d, not %d", after, before)
				}
			})
		}
	}
}

// disconnects are the endings that cost the connection.
var disconnects = []string{"canceled in mid-statement", "canceled between statements", "a deadline in mid-statement", "the end of its connection", "forgotten too long"}

func TestCheckWall(t *testing.T) {
	tests := map[string]struct{ change, undo, want string }{
		"a whole wall is accepted": {``, ``, ``},
		"row-level security off":   {`ALTER TABLE slipway.upload_events DISABLE ROW LEVEL SECURITY`, ``, `ALTER TABLE slipway.upload_events ENABLE ROW LEVEL SECURITY`},
		"off on River's jobs":      {`ALTER TABLE slipway.river_job DISABLE ROW LEVEL SECURITY`, ``, `slipway.river_job`},
		"owned by the requests":    {`ALTER TABLE slipway.uploads OWNER TO slipway_api`, ``, `slipway.uploads`},
		"a role that passes by":    {`ALTER ROLE slipway_api BYPASSRLS`, `ALTER ROLE slipway_api NOBYPASSRLS`, `ALTER ROLE slipway_api NOSUPERUSER NOBYPASSRLS`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.exec(t, tt.change)
			defer b.exec(t, tt.undo)
			err := postgres.CheckWall(t.Context(), b.Pool)
			if (err == nil) != (tt.want == "") || !strings.Contains(errorText(err), tt.want) {
				t.Errorf("CheckWall = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTheLoginServesOrIsToldHow(t *testing.T) {
	owner := ownedBy(t, "CREATEROLE")
	if err := postgres.Migrate(t.Context(), postgres.Options{URL: owner}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	database := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL(strings.TrimPrefix(at.Path, "/"))}) // as a superuser
	tests := map[string]struct {
		role   string // what is made
		change string // what else is done
		refuse bool
	}{
		"a member of both roles":               {"IN ROLE slipway_service, slipway_api", ``, false},
		"a member of neither":                  {"", ``, true},
		"one that may only act for users":      {"IN ROLE slipway_api", ``, true},
		"one that may not act for users":       {"IN ROLE slipway_service", ``, true},
		"one whom no policy shows what it may": {"IN ROLE slipway_api", `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA slipway TO %s`, true},
	}
	number := 0
	for name, tt := range tests {
		number++
		role := fmt.Sprintf("Login %d", number)
		t.Run(name, func(t *testing.T) {
			quoted := pgx.Identifier{role}.Sanitize()
			database.exec(t, `CREATE ROLE `+quoted+` LOGIN PASSWORD '`+password+`' `+tt.role)
			if tt.change != "" {
				database.exec(t, fmt.Sprintf(tt.change, quoted))
			}
			login := *at
			login.User = url.UserPassword(role, password)
			checked := func() error {
				b := benchAt(t, postgres.Options{URL: login.String()})
				if err := postgres.CheckSchema(t.Context(), b.Pool, postgres.DefaultNames); err != nil {
					return err
				}
				return postgres.CheckWall(t.Context(), b.Pool)
			}
			err = checked()
			if (err != nil) != tt.refuse {
				t.Fatalf("checked with %v", err)
			}
			if tt.refuse {
				_, mend, _ := strings.Cut(err.Error(), "; mend it with: ")
				database.exec(t, mend)
				if again := checked(); again != nil {
					t.Errorf("%v; after that: %v", err, again)
				}
			}
		})
	}

	t.Run("an owner who is bound, too", func(t *testing.T) {
		b := benchAt(t, postgres.Options{URL: owner})
		b.exec(t, `ALTER TABLE slipway.uploads FORCE ROW LEVEL SECURITY`)
		err := postgres.CheckWall(t.Context(), b.Pool)
		_, mend, found := strings.Cut(errorText(err), "; mend it with: ")
		if !found {
			t.Fatalf("checked with %v", err)
		}
		b.exec(t, mend)
		if err := postgres.CheckWall(t.Context(), b.Pool); err != nil {
			t.Error(err)
		}
	})
}

// A user's own role, such as a dashboard's or a notebook's, runs what the guides show.
func TestTheGuidesQueriesShowOnesOwn(t *testing.T) {
	for way, begin := range ways {
		t.Run(way, func(t *testing.T) {
			through := begin(t, 2)
			direct, err := url.Parse(ownedBy(t, "CREATEROLE"))
			if err != nil {
				t.Fatal(err)
			}
			owner := postgres.Options{URL: direct.String()}
			if err := postgres.Migrate(t.Context(), owner, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			b := benchAt(t, owner)
			for _, user := range []string{"user_123", "bob"} {
				b.populate(t, user)
			}
			role := "reads_" + strings.TrimPrefix(direct.Path, "/")
			super := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL("postgres")})
			super.exec(t, `CREATE ROLE `+role+` LOGIN IN ROLE slipway_api PASSWORD '`+password+`'`)
			direct.User = url.UserPassword(role, password)
			own := benchAt(t, postgres.Options{URL: through(direct.String()), Pooled: true})
			if free := one[bool](t, own.Pool, `SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user`); free {
				t.Fatalf("%s is not bound by policies", role)
			}

			tests := map[string]struct {
				claims  string
				guides  int // rows that the guides' query for user_123 finds
				without int // and without its WHERE
			}{
				"user_123":           {`{"sub":"user_123"}`, 1, 1},
				"somebody else":      {`{"sub":"bob"}`, 0, 1},
				"one without files":  {`{"sub":"carol"}`, 0, 0},
				"one without an id":  {`{}`, 0, 0},
				"one without claims": {``, 0, 0},
			}
			for name, tt := range tests {
				for _, query := range []string{guides.UploadcareSelect, guides.CloudinarySelect} {
					all, _, _ := strings.Cut(query, "WHERE")
					for query, want := range map[string]int{query: tt.guides, all: tt.without} {
						err := pgx.BeginFunc(t.Context(), own.Pool, func(tx pgx.Tx) error {
							if _, err := tx.Exec(t.Context(), `SELECT set_config('request.jwt.claims', $1, true)`, tt.claims); err != nil {
								return err
							}
							rows, err := tx.Query(t.Context(), query)
							if err != nil {
								return err
							}
							found, err := pgx.CollectRows(rows, pgx.RowToMap)
							if len(found) != want {
								t.Errorf("%s finds %v by %s", name, found, query)
							}
							return err
						})
						if err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
}
