package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// APIKey is what is kept of a server's key.
type APIKey struct {
	ID         string
	Name       string
	Prefix     string // with which the key begins, and which shows which it is
	Hash       []byte // SHA-256 of the whole key
	Scopes     []string
	CreatedAt  time.Time
	LastUsedAt *time.Time // give or take some minutes
	ExpiresAt  *time.Time // nil: never
	RevokedAt  *time.Time
}

const keyColumns = `id::text, name, prefix, hash, scopes, created_at, last_used_at, expires_at, revoked_at`

// InsertKey keeps a new key, for a while unless life is 0, and returns it with what the database has added.
func InsertKey(ctx context.Context, db DB, k APIKey, life time.Duration) (APIKey, error) {
	rows, err := db.Query(ctx, `
		INSERT INTO slipway.api_keys (name, prefix, hash, scopes, expires_at)
		VALUES (@name, @prefix, @hash, @scopes, now() + nullif(@life, interval '0'))
		RETURNING `+keyColumns,
		args{"name": k.Name, "prefix": k.Prefix, "hash": k.Hash, "scopes": k.Scopes, "life": life})
	return oneKey("keep the API key", rows, err)
}

// Keys returns every key that there ever was, the newest first.
func Keys(ctx context.Context, db DB) ([]APIKey, error) {
	rows, err := db.Query(ctx, `
		SELECT `+keyColumns+`
		FROM slipway.api_keys
		ORDER BY created_at DESC, id`, args{})
	return collect("read the API keys", rows, err, pgx.RowToStructByPos[APIKey])
}

// LiveKeys returns the keys that are good now.
func LiveKeys(ctx context.Context, db DB) ([]APIKey, error) {
	rows, err := db.Query(ctx, `
		SELECT `+keyColumns+`
		FROM slipway.api_keys
		WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`, args{})
	return collect("read the API keys", rows, err, pgx.RowToStructByPos[APIKey])
}

// ErrNoKey means that no key is meant by what was given.
var ErrNoKey = errors.New("there is no such API key")

// RevokeKey makes the key with this id or prefix worthless, at once for the database and within seconds for
// every process. To do it again changes nothing. ErrNoKey is returned for one that is not there.
func RevokeKey(ctx context.Context, db DB, idOrPrefix string) (APIKey, error) {
	rows, err := db.Query(ctx, `
		UPDATE slipway.api_keys
		SET revoked_at = coalesce(revoked_at, now())
		WHERE id::text = @key OR prefix = @key
		RETURNING `+keyColumns, args{"key": idOrPrefix})
	return oneKey("revoke the API key", rows, err)
}

func oneKey(what string, rows pgx.Rows, err error) (APIKey, error) {
	if err != nil {
		return APIKey{}, fmt.Errorf("%s: %w", what, err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[APIKey])
	if errors.Is(err, pgx.ErrNoRows) {
		return k, ErrNoKey
	}
	if err != nil {
		return k, fmt.Errorf("%s: %w", what, err)
	}
	return k, nil
}

// NoteKeyUse writes down that a key was used, unless that has been done within every, by whomever.
func NoteKeyUse(ctx context.Context, db DB, id string, every time.Duration) error {
	_, err := db.Exec(ctx, `
		UPDATE slipway.api_keys
		SET last_used_at = now()
		WHERE id = @id::uuid AND (last_used_at IS NULL OR last_used_at < now() - @every::interval)`, args{"id": id, "every": every})
	if err != nil {
		return fmt.Errorf("note the use of an API key: %w", err)
	}
	return nil
}

// TokenSecret returns what the installation's upload tokens are signed with, where no other secret is set.
func TokenSecret(ctx context.Context, db DB) (secret []byte, err error) {
	if err = db.QueryRow(ctx, `SELECT token_secret FROM slipway.installation`, args{}).Scan(&secret); err != nil {
		return nil, fmt.Errorf("read the secret of upload tokens: %w", err)
	}
	return secret, nil
}
