package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"slipway/internal/upload"
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
// was stored until then can be deleted only there; upload tokens of the original's are good only there, too;
// and what was on its way goes on only there. Moved, it stays who it was.
func Rehome(ctx context.Context, db DB, url string, copied bool) error {
	host, database, err := Place(url)
	if err != nil {
		return err
	}
	b := &pgx.Batch{} // one transaction
	b.Queue(`
		UPDATE slipway.installation
		SET host = @host, database_name = @database,
		    id = CASE WHEN @copied THEN 'slipway-' || left(replace(gen_random_uuid()::text, '-', ''), 12) ELSE id END,
		    staging_id = CASE WHEN @copied THEN NULL ELSE staging_id END,
		    token_secret = CASE WHEN @copied THEN uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) ELSE token_secret END,
		    copied_at = CASE WHEN @copied THEN now() ELSE copied_at END`,
		args{"host": host, "database": database, "copied": copied}).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return ErrSchemaOld
		}
		return nil
	})
	if copied {
		leaveToOriginal(b)
	}
	if err := db.SendBatch(ctx, b).Close(); errors.Is(err, ErrSchemaOld) {
		return err
	} else if err != nil {
		return fmt.Errorf("write the installation: %w", err)
	}
	return nil
}

// leaveToOriginal ends what was on its way in the database that this is a copy of: its bytes are in the
// original's staging, and the original delivers them. Deletions stay, for whoever works on them sees whose the
// assets are.
func leaveToOriginal(b *pgx.Batch) {
	left := upload.Error{Code: upload.OtherInstallation, FixableBy: upload.ByYou,
		Message: "This database was copied while the file was on its way. The original delivers it there; send it again to have it here, too."}
	b.Queue(`
		WITH ended AS (
			UPDATE slipway.uploads
			SET `+setError+`, status = CASE status WHEN 'reserved' THEN 'expired' ELSE 'failed' END,
			    lease_epoch = lease_epoch + 1, receive_epoch = receive_epoch + 1, lease_owner = NULL, lease_until = NULL,
			    next_attempt_at = NULL, expires_at = NULL, version = version + 1
			WHERE status IN ('receiving', 'fetching', 'reserved', 'verifying', 'queued', 'pushing', 'retrying')
			RETURNING id, user_id, status, attempt
		)
		INSERT INTO slipway.upload_events (upload_id, user_id, type, status, attempt, data)
		SELECT id, user_id, 'status', status, attempt, jsonb_build_object('code', @code::text, 'message', @message::text)
		FROM ended
		ORDER BY user_id, id`, errorArgs(left, args{}))
	b.Queue(`
		UPDATE slipway.uploads
		SET unstaged_at = now(), staged_until = NULL, version = version + 1
		WHERE unstaged_at IS NULL`, args{})
	b.Queue(`DELETE FROM slipway.staging_reservations`, args{})
	b.Queue(`
		UPDATE slipway.push_sessions
		SET closed_at = now(), outcome = 'abandoned'
		WHERE closed_at IS NULL`, args{})
	b.Queue(`
		UPDATE slipway.direct_uploads d
		SET details_due = false, owned = d.owned AND u.status NOT IN ('failed', 'expired')
		FROM slipway.uploads u
		WHERE u.id = d.upload_id AND (d.details_due OR d.owned)`, args{})
	b.Queue(`
		UPDATE slipway.river_job
		SET state = 'cancelled', finalized_at = now()
		WHERE kind IN ('push', 'verify', 'hint') AND state NOT IN ('completed', 'cancelled', 'discarded')`, args{})
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
