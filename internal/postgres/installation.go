package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Installation is who a database is.
type Installation struct {
	ID             string // begins every name that we choose at a provider
	Host           string
	Database       string
	StagingID      string
	StagingClaimed bool // a staging store carries StagingID
}

// ErrCopy means that the database is a copy of the one that the installation belongs to.
var ErrCopy = errors.New("this database is a copy: what it says was delivered belongs to the original; " +
	"run `slipway migrate --copy` to make it an installation of its own, or `slipway migrate --moved` if the original is gone")

// settle gives a new database its identity.
func settle(ctx context.Context, db DB, host, database string) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.installation (host, database_name)
		VALUES (@host, @database)
		ON CONFLICT DO NOTHING`, args{"host": host, "database": database})
	if err != nil {
		return fmt.Errorf("write the installation: %w", err)
	}
	return nil
}

// ReadInstallation says who the database is, or ErrCopy when url leads to another place than the
// one it belongs to.
func ReadInstallation(ctx context.Context, db DB, url string) (Installation, error) {
	var in Installation
	err := db.QueryRow(ctx, `
		SELECT id, host, database_name, staging_id, staging_claimed_at IS NOT NULL
		FROM slipway.installation`, args{}).Scan(&in.ID, &in.Host, &in.Database, &in.StagingID, &in.StagingClaimed)
	if errors.Is(err, pgx.ErrNoRows) {
		return in, ErrSchemaOld
	}
	if err != nil {
		return in, fmt.Errorf("read the installation: %w", err)
	}
	host, database, err := Place(url)
	if err != nil {
		return in, err
	}
	if host != in.Host || database != in.Database {
		return in, fmt.Errorf("%w (it belongs to database %q on %q, this is %q on %q)", ErrCopy, in.Database, in.Host, database, host)
	}
	return in, nil
}

// Rehome makes the database the installation of the place that url leads to. As a copy it becomes
// somebody else: it gets ids of its own, so that nothing of the original's is ever overwritten.
// Moved, it stays who it was.
func Rehome(ctx context.Context, db DB, url string, copied bool) error {
	host, database, err := Place(url)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, `
		UPDATE slipway.installation
		SET host = @host, database_name = @database,
		    id = CASE WHEN @copied THEN 'slipway-' || left(replace(gen_random_uuid()::text, '-', ''), 12) ELSE id END,
		    staging_id = CASE WHEN @copied THEN gen_random_uuid()::text ELSE staging_id END,
		    staging_claimed_at = CASE WHEN @copied THEN NULL ELSE staging_claimed_at END`,
		args{"host": host, "database": database, "copied": copied})
	if err != nil {
		return fmt.Errorf("write the installation: %w", err)
	}
	return nil
}

// StagingClaimed records that a store carries the installation's staging id.
func StagingClaimed(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, `UPDATE slipway.installation SET staging_claimed_at = coalesce(staging_claimed_at, now())`, args{})
	return err
}
