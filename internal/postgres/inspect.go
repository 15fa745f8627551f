package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Facts are what can be said of a database by looking at it.
type Facts struct {
	Version    string // of the server, such as "16.2"
	Supported  bool   // new enough for the migrations
	Role       string // that was logged in as
	Superuser  bool
	BypassRLS  bool
	Schema     int64  // the newest migration that was applied; 0 is none
	StagingID  string // of the store that the installation has; "" while it has none
	GuideReady bool   // both guide tables are there
}

// Inspect looks at a database and changes nothing.
func Inspect(ctx context.Context, db DB, n Names) (Facts, error) {
	var f Facts
	var number int
	var migrated, settled bool
	err := db.QueryRow(ctx, `
		SELECT current_setting('server_version'), current_setting('server_version_num')::int, r.rolname, r.rolsuper, r.rolbypassrls,
		       to_regclass(@goose) IS NOT NULL, to_regclass(@installation) IS NOT NULL,
		       to_regclass('public.uploadcare_files') IS NOT NULL AND to_regclass('public.cloudinary_files') IS NOT NULL
		FROM pg_roles r
		WHERE r.rolname = current_user`,
		args{"goose": n.Schema + ".goose_db_version", "installation": n.Schema + ".installation"},
	).Scan(&f.Version, &number, &f.Role, &f.Superuser, &f.BypassRLS, &migrated, &settled, &f.GuideReady)
	if err != nil {
		return f, fmt.Errorf("look at the database: %w", err)
	}
	f.Supported = number/10000 >= oldestServer
	if migrated {
		err := db.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM slipway.goose_db_version WHERE is_applied`, args{}).Scan(&f.Schema)
		if err != nil {
			return f, fmt.Errorf("read schema version: %w", err)
		}
	}
	if settled && f.Schema > 0 {
		err := db.QueryRow(ctx, `SELECT coalesce(max(staging_id), '') FROM slipway.installation`, args{}).Scan(&f.StagingID)
		if err != nil {
			return f, fmt.Errorf("read the installation: %w", err)
		}
	}
	return f, nil
}

// oldestServer is the first major version of PostgreSQL that has all that the migrations use.
const oldestServer = 15

// Lack is a right that a migration needs and the role has not.
type Lack struct{ Problem, Remedy string }

// Lacking are the rights that the first migration would miss. A remedy is a statement for an owner.
func Lacking(ctx context.Context, db DB, n Names) ([]Lack, error) {
	var role, database string
	var schema, roles, guideThere, guide bool
	err := db.QueryRow(ctx, `
		SELECT current_user, current_database(),
		       CASE WHEN to_regnamespace(@schema) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
		            ELSE has_schema_privilege(to_regnamespace(@schema), 'CREATE') END,
		       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
		           OR 2 = (SELECT count(*) FROM pg_roles WHERE rolname IN ('slipway_api', 'slipway_service') AND pg_has_role(current_user, oid, 'MEMBER')),
		       to_regnamespace(@guide) IS NOT NULL,
		       to_regclass('public.uploadcare_files') IS NOT NULL AND to_regclass('public.cloudinary_files') IS NOT NULL
		           OR coalesce(has_schema_privilege(to_regnamespace(@guide), 'CREATE'), false)`,
		args{"schema": n.Schema, "guide": n.Guide}).Scan(&role, &database, &schema, &roles, &guideThere, &guide)
	if err != nil {
		return nil, fmt.Errorf("look at the role's rights: %w", err)
	}
	var lacks []Lack
	if !schema {
		lacks = append(lacks, Lack{fmt.Sprintf("role %s may not create schema %s and its tables", role, n.Schema),
			fmt.Sprintf("as the database's owner: GRANT CREATE ON DATABASE %q TO %q", database, role)})
	}
	if !roles {
		lacks = append(lacks, Lack{fmt.Sprintf("role %s may not create the roles slipway_api and slipway_service", role),
			fmt.Sprintf("as a superuser: ALTER ROLE %q CREATEROLE", role)})
	}
	if !guideThere {
		lacks = append(lacks, Lack{"schema " + n.Guide + " is not there", "create it, or set GUIDE_SCHEMA to the one that has, or is to have, the guides' tables"})
	} else if !guide {
		lacks = append(lacks, Lack{fmt.Sprintf("role %s may not create the guides' tables in schema %s", role, n.Guide),
			fmt.Sprintf("as that schema's owner: GRANT CREATE ON SCHEMA %s TO %q", n.Guide, role)})
	}
	return lacks, nil
}

// GuideFaults are what is wrong with guide tables that are there, each with the statement that mends it.
func GuideFaults(ctx context.Context, pool *pgxpool.Pool, n Names) ([]error, error) {
	err := checkGuideTables(ctx, pool, n)
	var all interface{ Unwrap() []error }
	if errors.As(err, &all) {
		return all.Unwrap(), nil
	}
	return nil, err
}

// ErrUnheard means that a listener hears nothing: something between it and the database, such as a
// transaction pooler, does not carry LISTEN.
var ErrUnheard = errors.New("what the database announces does not arrive")

// Hear measures how long it takes from an announcement at db to a listener at url. It ends with
// ErrUnheard when ctx does first.
func Hear(ctx context.Context, db DB, url string, n Names) (time.Duration, error) {
	listening, stop := context.WithCancel(ctx)
	word := "doctor " + uuid.NewString() // of no upload
	ready, heard, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- Listen(listening, url, n, func() { close(ready) }, func(payload string) {
			if payload == word {
				once.Do(func() { close(heard) })
			}
		})
	}()
	running := true
	defer func() {
		if stop(); running {
			<-ended //nolint:errcheck // it was asked to
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		running = false
		return 0, err
	}
	sent := time.Now()
	if _, err := db.Exec(ctx, `SELECT pg_notify('slipway_events', @word)`, args{"word": word}); err != nil {
		return 0, fmt.Errorf("announce: %w", err)
	}
	select {
	case <-heard:
		return time.Since(sent), nil
	case <-ctx.Done():
		return 0, ErrUnheard
	case err := <-ended:
		running = false
		if ctx.Err() != nil {
			return 0, ErrUnheard
		}
		return 0, err
	}
}
