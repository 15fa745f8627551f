package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckWall asserts that whoever the pool logs in as sees every user's rows, and that what is done for a
// user is bound by the policies: the request role can be taken on, cannot pass them by, and every table
// that it may touch has them.
func CheckWall(ctx context.Context, pool *pgxpool.Pool) error {
	if err := checkLogin(ctx, pool); err != nil {
		return err
	}
	return unpermitted(pool, checkRequests(ctx, pool))
}

// unpermitted adds to a refusal what lets the role that the pool logs in as do what our processes do.
func unpermitted(pool *pgxpool.Pool, err error) error {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == notPermitted {
		return fmt.Errorf("%w; mend it with: %s", err, letServe(pool))
	}
	return err
}

const notPermitted = "42501"

// letServe is the statement that lets the role serve which the pool logs in as.
func letServe(pool *pgxpool.Pool) string {
	return "GRANT slipway_service, slipway_api TO " + pgx.Identifier{pool.Config().ConnConfig.User}.Sanitize()
}

// checkLogin looks whether all is seen: a row that is not would be taken for one that is not there.
func checkLogin(ctx context.Context, pool *pgxpool.Pool) error {
	var hidden, forced []string
	err := pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(t.name) FILTER (WHERE NOT t.owned AND (t.bound AND NOT t.served OR NOT has_table_privilege(t.oid, 'SELECT'))), '{}'),
		       coalesce(array_agg(t.name) FILTER (WHERE t.owned AND t.bound), '{}')
		FROM (
		    SELECT c.oid, c.oid::regclass::text AS name, row_security_active(c.oid) AS bound,
		           pg_has_role(c.relowner, 'USAGE') AS owned, pg_has_role('slipway_service', 'USAGE') AS served
		    FROM pg_class c
		    WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'slipway.uploads'::regclass)
		      AND c.relkind IN ('r', 'p') AND c.relrowsecurity
		    ORDER BY 2) t`, args{}).Scan(&hidden, &forced)
	switch {
	case err != nil:
		return unpermitted(pool, fmt.Errorf("check the role that was logged in as: %w", err))
	case len(hidden) > 0:
		return fmt.Errorf("role %s does not see every user's rows in %s; mend it with: %s",
			pool.Config().ConnConfig.User, strings.Join(hidden, ", "), letServe(pool))
	case len(forced) > 0:
		return fmt.Errorf("row-level security binds the owner of %s, too; mend it with: ALTER TABLE %s NO FORCE ROW LEVEL SECURITY",
			strings.Join(forced, ", "), forced[0])
	}
	return nil
}

func checkRequests(ctx context.Context, pool *pgxpool.Pool) error {
	return AsUser(ctx, pool, Claims{}, func(tx pgx.Tx) error {
		var role string
		var free bool
		var open []string
		err := tx.QueryRow(ctx, `
			SELECT r.rolname, r.rolsuper OR r.rolbypassrls, ARRAY(
			    SELECT c.oid::regclass::text
			    FROM pg_class c
			    WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'slipway.uploads'::regclass) AND c.relkind IN ('r', 'p')
			      AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE') AND NOT row_security_active(c.oid)
			    ORDER BY 1)
			FROM pg_roles r
			WHERE r.rolname = current_user`, args{}).Scan(&role, &free, &open)
		switch {
		case err != nil:
			return fmt.Errorf("check the request role: %w", err)
		case role != "slipway_api":
			return fmt.Errorf("requests would run as %s, not as slipway_api", role)
		case free:
			return errors.New("role slipway_api bypasses row-level security; mend it with: ALTER ROLE slipway_api NOSUPERUSER NOBYPASSRLS")
		case len(open) > 0:
			return fmt.Errorf("role slipway_api is not bound by row-level security on %s; mend it with: ALTER TABLE %s ENABLE ROW LEVEL SECURITY",
				strings.Join(open, ", "), open[0])
		}
		return nil
	})
}
