package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckWall asserts that what is done for a user is bound by the policies: the request role can be
// taken on, cannot pass them by, and sees nothing without claims.
func CheckWall(ctx context.Context, pool *pgxpool.Pool) error {
	return AsUser(ctx, pool, Claims{}, func(tx pgx.Tx) error {
		var role string
		var free bool
		var seen int
		err := tx.QueryRow(ctx, `
			SELECT r.rolname, r.rolsuper OR r.rolbypassrls, (SELECT count(*) FROM (SELECT FROM slipway.uploads LIMIT 1) u)
			FROM pg_roles r
			WHERE r.rolname = current_user`, args{}).Scan(&role, &free, &seen)
		switch {
		case err != nil:
			return fmt.Errorf("check the request role: %w", err)
		case role != "slipway_api":
			return fmt.Errorf("requests would run as %s, not as slipway_api", role)
		case free:
			return errors.New("role slipway_api bypasses row-level security; mend it with: ALTER ROLE slipway_api NOSUPERUSER NOBYPASSRLS")
		case seen != 0:
			return errors.New("role slipway_api sees uploads without being anybody; is row-level security off on slipway.uploads?")
		}
		return nil
	})
}
