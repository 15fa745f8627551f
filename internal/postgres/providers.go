package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/provider"
)

// ProviderState is what every process knows of a provider's account.
type ProviderState struct {
	Name         string
	Capabilities provider.Capabilities
	PausedUntil  *time.Time // nothing is sent before; a probe then decides
	PauseCode    string
	PauseReason  string
	CheckedAt    *time.Time
}

// LearnProvider writes down what a worker has learned of an account, and ends a pause: the check succeeded.
func LearnProvider(ctx context.Context, db DB, name string, c provider.Capabilities) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.providers (name, limits, checked_at)
		VALUES (@name, @limits, now())
		ON CONFLICT (name) DO UPDATE
		SET limits = @limits, checked_at = now(), paused_until = NULL, pause_code = NULL, pause_reason = NULL`,
		args{"name": name, "limits": c})
	if err != nil {
		return fmt.Errorf("write the provider: %w", err)
	}
	return nil
}

// PauseProvider stops every worker from sending to an account for a while, and says why.
func PauseProvider(ctx context.Context, db DB, name, code, reason string, pause time.Duration) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.providers (name, paused_until, pause_code, pause_reason)
		VALUES (@name, now() + @pause, @code, @reason)
		ON CONFLICT (name) DO UPDATE
		SET paused_until = greatest(providers.paused_until, now() + @pause), pause_code = @code, pause_reason = @reason`,
		args{"name": name, "code": code, "reason": reason, "pause": pause})
	if err != nil {
		return fmt.Errorf("pause the provider: %w", err)
	}
	return nil
}

// Provider returns what is known of an account; of one that no worker has looked at, only its name.
func Provider(ctx context.Context, db DB, name string) (ProviderState, error) {
	rows, err := db.Query(ctx, `
		SELECT name, limits, paused_until, coalesce(pause_code, ''), coalesce(pause_reason, ''), checked_at
		FROM slipway.providers
		WHERE name = @name`, args{"name": name})
	if err != nil {
		return ProviderState{}, fmt.Errorf("read the provider: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ProviderState])
	if errors.Is(err, pgx.ErrNoRows) {
		return ProviderState{Name: name}, nil
	}
	if err != nil {
		return p, fmt.Errorf("read the provider: %w", err)
	}
	return p, nil
}

// Providers returns what is known of every account.
func Providers(ctx context.Context, db DB) ([]ProviderState, error) {
	rows, err := db.Query(ctx, `
		SELECT name, limits, paused_until, coalesce(pause_code, ''), coalesce(pause_reason, ''), checked_at
		FROM slipway.providers
		ORDER BY name`, args{})
	return collect("read the providers", rows, err, pgx.RowToStructByPos[ProviderState])
}
