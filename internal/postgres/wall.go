package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckWall asserts that what is done for a user is bound by the policies: the request role can be
// taken on, cannot pass them by, and every table that it may touch has them.
func CheckWall(ctx context.Context, pool *pgxpool.Pool) error {
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
