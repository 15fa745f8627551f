package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Installation is who a database is.
type Installation struct {
	ID       string // begins every name that we choose at a provider
	Host     string
	Database string
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
		SELECT id, host, database_name
		FROM slipway.installation`, args{}).Scan(&in.ID, &in.Host, &in.Database)
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
// somebody else: it gets ids of its own, so that nothing of the original's is ever overwritten, and what
// was stored until then can be deleted only there; upload tokens of the original's are good only there, too.
// Moved, it stays who it was.
func Rehome(ctx context.Context, db DB, url string, copied bool) error {
	host, database, err := Place(url)
	if err != nil {
		return err
	}
	tag, err := db.Exec(ctx, `
		UPDATE slipway.installation
		SET host = @host, database_name = @database,
		    id = CASE WHEN @copied THEN 'slipway-' || left(replace(gen_random_uuid()::text, '-', ''), 12) ELSE id END,
		    staging_id = CASE WHEN @copied THEN NULL ELSE staging_id END,
		    token_secret = CASE WHEN @copied THEN uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) ELSE token_secret END,
		    copied_at = CASE WHEN @copied THEN now() ELSE copied_at END`,
		args{"host": host, "database": database, "copied": copied})
	if err != nil {
		return fmt.Errorf("write the installation: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrSchemaOld
	}
	return nil
}

// ErrOtherStaging means that a process sees another staging store than the one whose bytes the
// database knows.
var ErrOtherStaging = errors.New("this is not the staging store that the uploads in the database were received into; " +
	"set STAGING_DIR to that one, or mount its volume")

// MatchStaging makes the store with this id the installation's, if it has none yet, or compares.
func MatchStaging(ctx context.Context, db DB, id string) error {
	var known string
	err := db.QueryRow(ctx, `
		UPDATE slipway.installation
		SET staging_id = coalesce(staging_id, @id)
		RETURNING staging_id`, args{"id": id}).Scan(&known)
	if err != nil {
		return fmt.Errorf("compare the staging store: %w", err)
	}
	if known != id {
		return fmt.Errorf("%w (known: %s, here: %s)", ErrOtherStaging, known, id)
	}
	return nil
}
