package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SecureGuideTables turns row-level security of the guide tables on and adds our policies, as they are on
// tables that Slipway has made: a request sees its user's rows, our own processes all of them. It is not
// forced, so the owner, and with it the guide's own app, keeps its access. Doing it twice is harmless. It
// returns the other roles that may use the tables and see no row from now on, each with the policy that
// would let it.
func SecureGuideTables(ctx context.Context, o Options) (bound []string, err error) {
	err = asOwner(ctx, o, func(tx pgx.Tx, n Names) error {
		for _, t := range guideTables {
			table := n.Guide + "." + t.name
			if _, err := tx.Exec(ctx, `ALTER TABLE `+table+` ENABLE ROW LEVEL SECURITY`); err != nil {
				return fmt.Errorf("row-level security of %s: %w", table, err)
			}
			own := `user_id = (SELECT ` + n.Schema + `.user_id())`
			for _, p := range []struct{ name, role, rows string }{{ownPolicy, "slipway_api", own}, {allPolicy, "slipway_service", "true"}} {
				_, err := tx.Exec(ctx, `DROP POLICY IF EXISTS `+p.name+` ON `+table+`;
					CREATE POLICY `+p.name+` ON `+table+` TO `+p.role+` USING (`+p.rows+`) WITH CHECK (`+p.rows+`)`)
				if err != nil {
					return fmt.Errorf("policy %s on %s: %w", p.name, table, err)
				}
			}
			rows, err := tx.Query(ctx, boundRoles, table)
			roles, err := collect("look who may use "+table, rows, err, pgx.RowTo[string])
			if err != nil {
				return err
			}
			for _, role := range roles {
				bound = append(bound, fmt.Sprintf("role %s may use %s and sees no row of it from now on; if it is to: CREATE POLICY %s_all ON %s TO %s USING (true) WITH CHECK (true)",
					role, table, t.name, table, role))
			}
		}
		return nil
	})
	return bound, err
}

// The policies that let our own roles into the guide tables, as the first migration names them.
const (
	ownPolicy = "slipway_own"
	allPolicy = "slipway_all"
)

// boundRoles are those that the table's owner has let in and that no policy does, ours and Neon's apart.
const boundRoles = `
	SELECT DISTINCT quote_ident(r.rolname)
	FROM pg_class c
	CROSS JOIN aclexplode(c.relacl) a
	JOIN pg_roles r ON r.oid = a.grantee
	WHERE c.oid = to_regclass($1) AND r.oid <> c.relowner AND NOT r.rolsuper AND NOT r.rolbypassrls
	  AND r.rolname NOT IN ('slipway_api', 'slipway_service', 'authenticated', 'anonymous')
	  AND NOT EXISTS (
	      SELECT FROM pg_policies p
	      WHERE format('%I.%I', p.schemaname, p.tablename)::regclass = c.oid AND (r.rolname = ANY (p.roles) OR 'public' = ANY (p.roles)))
	ORDER BY 1`

// DataAPIRoles are the roles that Neon's Data API works as, with and without a token.
var DataAPIRoles = []string{"authenticated", "anonymous"}

// ErrUnsecured means that a guide table would show everything to whoever may read it.
var ErrUnsecured = errors.New("row-level security is off")

// OpenDataAPI lets the roles of Neon's Data API that exist read their own rows of the guide tables and of
// the view upload_status; it returns those roles. Whose rows are one's own says auth.user_id(), where Neon
// has made that function, or else the claims' subject. Nothing in schema auth is touched. Doing it twice is
// harmless. It returns ErrUnsecured where a guide table has no row-level security.
func OpenDataAPI(ctx context.Context, o Options) (roles []string, err error) {
	err = asOwner(ctx, o, func(tx pgx.Tx, n Names) error {
		rows, err := tx.Query(ctx, `SELECT rolname FROM pg_roles WHERE rolname = ANY ($1) ORDER BY rolname DESC`, DataAPIRoles)
		if roles, err = collect("look for the Data API's roles", rows, err, pgx.RowTo[string]); err != nil {
			return err
		}
		slices.SortFunc(roles, func(a, b string) int { return slices.Index(DataAPIRoles, a) - slices.Index(DataAPIRoles, b) })
		if len(roles) == 0 {
			return nil
		}
		me := n.Schema + `.user_id()`
		var theirs, usable bool
		err = tx.QueryRow(ctx, `
			SELECT count(*) > 0, coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')), false)
			FROM pg_proc p
			JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = 'auth' AND p.proname = 'user_id' AND p.pronargs = 0`).Scan(&theirs, &usable)
		switch {
		case err != nil:
			return fmt.Errorf("look for auth.user_id(): %w", err)
		case theirs && !usable:
			return errors.New("the tables' owner may not use auth.user_id(); mend it as the owner of schema auth with: GRANT USAGE ON SCHEMA auth TO the tables' owner")
		case theirs:
			me = `auth.user_id()`
		}
		tables := []string{n.Schema + ".uploads"}
		for _, t := range guideTables {
			tables = append(tables, n.Guide+"."+t.name)
		}
		for _, table := range tables {
			var on bool
			if err := tx.QueryRow(ctx, `SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass($1)`, table).Scan(&on); err != nil {
				return fmt.Errorf("look at %s: %w", table, err)
			}
			if !on {
				return fmt.Errorf("%w on %s, so that everybody would read everything; run `slipway migrate --rls-guide-tables --data-api`", ErrUnsecured, table)
			}
		}
		to := strings.Join(roles, ", ")
		for _, table := range tables {
			_, err := tx.Exec(ctx, `DROP POLICY IF EXISTS slipway_data_api ON `+table+`;
				CREATE POLICY slipway_data_api ON `+table+` FOR SELECT TO `+to+` USING (user_id = (SELECT `+me+`::text))`)
			if err != nil {
				return fmt.Errorf("policy on %s: %w", table, err)
			}
		}
		for _, role := range roles {
			for _, schema := range []string{n.Schema, n.Guide} {
				var may bool
				err := tx.QueryRow(ctx, `SELECT has_schema_privilege($1, $2, 'USAGE')`, role, schema).Scan(&may)
				if err == nil && !may {
					_, err = tx.Exec(ctx, `GRANT USAGE ON SCHEMA `+schema+` TO `+role)
				}
				if err != nil {
					return fmt.Errorf("let %s into schema %s: %w", role, schema, err)
				}
			}
		}
		_, err = tx.Exec(ctx, n.SQL(`
			GRANT SELECT ON public.uploadcare_files, public.cloudinary_files, slipway.upload_status TO `+to+`;
			GRANT SELECT (id, user_id, status, provider, file_name, size, asset, error_code, metadata, created_at, completed_at) ON slipway.uploads TO `+to))
		if err != nil {
			return fmt.Errorf("let %s read: %w", to, err)
		}
		return nil
	})
	return roles, err
}

// asOwner changes who may see what, one process at a time, in one transaction.
func asOwner(ctx context.Context, o Options, change func(pgx.Tx, Names) error) error {
	o.MaxConns = 1
	pool, err := newPool(ctx, o, noTimeouts)
	if err != nil {
		return err
	}
	defer pool.Close()
	names := o.Names
	if names == (Names{}) {
		names = DefaultNames
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1), set_config('lock_timeout', '10s', true)`, migrationLock); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
		return change(tx, names)
	})
}

// HiddenGuideTables are the guide tables with row-level security that lets no request of ours see a row.
func HiddenGuideTables(ctx context.Context, pool *pgxpool.Pool, n Names) ([]string, error) {
	var tables []string
	for _, t := range guideTables {
		tables = append(tables, n.Guide+"."+t.name)
	}
	rows, err := pool.Query(ctx, `
		SELECT t.name
		FROM unnest($1::text[]) t(name)
		JOIN pg_class c ON c.oid = to_regclass(t.name)
		WHERE c.relrowsecurity AND NOT EXISTS (
		    SELECT FROM pg_policy p
		    WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', 'r')
		      AND to_regrole('slipway_api')::oid = ANY (p.polroles))
		ORDER BY t.name`, tables)
	return collect("look at the guide tables' policies", rows, err, pgx.RowTo[string])
}
