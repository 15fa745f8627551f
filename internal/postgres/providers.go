package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// ProviderState is what every process knows of a provider's account.
type ProviderState struct {
	Name         string
	Capabilities provider.Capabilities
	PausedUntil  *time.Time    // nothing is sent before, nor after it until a probe has ended the pause
	PausedFor    time.Duration // from now, by the database's clock; 0 or less when a probe is due
	PauseCode    string
	PauseReason  string
	MaxParallel  int // requests with a file's bytes that a process may have on their way; 0: as many as it likes
	Throttles    int // times in a row that the account was throttled
	CheckedAt    *time.Time
}

// A wait that the provider has asked for ends by itself, every other pause by a probe.
const (
	waitOver = `coalesce(p.pause_code = 'provider_throttled' AND p.paused_until <= now(), false)`

	providerColumns = `
		name, limits,
		CASE WHEN NOT ` + waitOver + ` THEN paused_until END,
		coalesce(CASE WHEN NOT ` + waitOver + ` THEN paused_until - now() END, interval '0'),
		coalesce(CASE WHEN NOT ` + waitOver + ` THEN pause_code END, ''),
		coalesce(CASE WHEN NOT ` + waitOver + ` THEN pause_reason END, ''),
		coalesce(` + allowedParallel + `, 0),
		CASE WHEN quiet_since > now() - interval '1 minute' THEN throttles ELSE 0 END,
		checked_at`

	allowedParallel = `(p.max_parallel + greatest(0, floor(extract(epoch FROM now() - p.quiet_since) / 60)))::int`
)

// LearnProvider writes down what a worker has learned of an account, and ends a pause: the check succeeded. What
// the provider has asked to be waited for is waited for.
func LearnProvider(ctx context.Context, db DB, name string, c provider.Capabilities) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.providers AS p (name, limits, checked_at)
		VALUES (@name, @limits, now())
		ON CONFLICT (name) DO UPDATE
		SET limits = @limits, checked_at = now(),
		    paused_until = CASE p.pause_code WHEN 'provider_throttled' THEN p.paused_until END,
		    pause_reason = CASE p.pause_code WHEN 'provider_throttled' THEN p.pause_reason END,
		    pause_code = CASE p.pause_code WHEN 'provider_throttled' THEN p.pause_code END`,
		args{"name": name, "limits": c})
	if err != nil {
		return fmt.Errorf("write the provider: %w", err)
	}
	return nil
}

// PauseProvider stops every worker from sending to an account for a while, and says why. What it has cost uploads
// in attempts since one succeeded, they get back.
func PauseProvider(ctx context.Context, db DB, name, code, reason string, pause time.Duration) error {
	_, err := db.Exec(ctx, `
		WITH cost AS (
			SELECT t.id, count(*) AS attempts
			FROM slipway.providers p, unnest(p.troubled) t(id)
			WHERE p.name = @name
			GROUP BY t.id
		), repaid AS (
			UPDATE slipway.uploads u
			SET attempt = greatest(u.attempt - cost.attempts, 0), version = u.version + 1
			FROM cost
			WHERE u.id = cost.id AND u.status IN ('queued', 'pushing', 'retrying')
		)
		INSERT INTO slipway.providers (name, paused_until, pause_code, pause_reason)
		VALUES (@name, now() + @pause, @code, @reason)
		ON CONFLICT (name) DO UPDATE
		SET paused_until = greatest(providers.paused_until, now() + @pause), pause_code = @code, pause_reason = @reason, troubled = '{}'`,
		args{"name": name, "code": code, "reason": reason, "pause": pause})
	if err != nil {
		return fmt.Errorf("pause the provider: %w", err)
	}
	return nil
}

// ThrottleProvider pauses an account for as long as its provider has asked for, and halves what each worker may
// have on its way, of at most full. Those who meet the same throttle halve it once.
func ThrottleProvider(ctx context.Context, db DB, name, reason string, wait time.Duration, full int) error {
	_, err := db.Exec(ctx, `
		INSERT INTO slipway.providers AS p (name, paused_until, pause_code, pause_reason, max_parallel, throttles, quiet_since)
		VALUES (@name, now() + @wait, 'provider_throttled', @reason, greatest(@full / 2, 1), 1, now() + @wait)
		ON CONFLICT (name) DO UPDATE
		SET paused_until = greatest(p.paused_until, now() + @wait), pause_code = 'provider_throttled', pause_reason = @reason,
		    max_parallel = CASE WHEN p.quiet_since > now() THEN p.max_parallel ELSE greatest(least(coalesce(`+allowedParallel+`, @full), @full) / 2, 1) END,
		    throttles = CASE WHEN p.quiet_since > now() THEN p.throttles WHEN p.quiet_since > now() - interval '1 minute' THEN p.throttles + 1 ELSE 1 END,
		    quiet_since = greatest(p.quiet_since, now() + @wait)`,
		args{"name": name, "reason": reason, "wait": wait, "full": full})
	if err != nil {
		return fmt.Errorf("throttle the provider: %w", err)
	}
	return nil
}

// ClaimProbe gives the right to ask whether a pause is over to one worker; the others wait for as long again.
func ClaimProbe(ctx context.Context, db DB, name string, wait time.Duration) (bool, error) {
	tag, err := db.Exec(ctx, `
		UPDATE slipway.providers
		SET paused_until = now() + @wait
		WHERE name = @name AND paused_until <= now()`, args{"name": name, "wait": wait})
	if err != nil {
		return false, fmt.Errorf("claim the probe: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// troublesKept bounds what is remembered of attempts that have failed.
const troublesKept = 100

// Trouble writes down that an attempt at an upload has failed, and returns how many uploads it has befallen since
// an attempt at any succeeded.
func Trouble(ctx context.Context, db DB, name string, id upload.ID) (uploads int, err error) {
	err = db.QueryRow(ctx, `
		INSERT INTO slipway.providers AS p (name, troubled)
		VALUES (@name, ARRAY[@id::uuid])
		ON CONFLICT (name) DO UPDATE
		SET troubled = (@id::uuid || p.troubled)[:@kept]
		RETURNING (SELECT count(DISTINCT id) FROM unnest(troubled) t(id))`, args{"name": name, "id": id, "kept": troublesKept}).Scan(&uploads)
	if err != nil {
		return 0, fmt.Errorf("write the provider's trouble: %w", err)
	}
	return uploads, nil
}

// ForgetTrouble writes down that an attempt has succeeded.
func ForgetTrouble(ctx context.Context, db DB, name string) error {
	_, err := db.Exec(ctx, `UPDATE slipway.providers SET troubled = '{}' WHERE name = @name AND troubled <> '{}'`, args{"name": name})
	if err != nil {
		return fmt.Errorf("forget the provider's trouble: %w", err)
	}
	return nil
}

// Postpone says why an upload waits longer than it was to, and for how long; its status stays. It returns
// ErrNoUpload when job is not the upload's, when somebody pushes it, or when it is to be given up before.
func Postpone(ctx context.Context, tx DB, id upload.ID, job int64, e upload.Error, after time.Duration) error {
	var ev upload.Event
	var user string
	var news bool
	err := tx.QueryRow(ctx, `
		UPDATE slipway.uploads u
		SET `+setError+`, next_attempt_at = now() + @after, version = version + 1
		FROM (SELECT id, error_code FROM slipway.uploads WHERE id = @id FOR UPDATE) before
		WHERE u.id = before.id AND u.job_id = @job AND u.status IN ('queued', 'retrying') AND (u.deliver_by IS NULL OR u.deliver_by > now() + @after)
		RETURNING u.user_id, u.status, u.attempt, before.error_code IS DISTINCT FROM @code`,
		errorArgs(e, args{"id": id, "job": job, "after": after})).Scan(&user, &ev.Status, &ev.Attempt, &news)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoUpload
	}
	if err != nil {
		return fmt.Errorf("postpone %s: %w", id, err)
	}
	if !news {
		return nil
	}
	ev.UploadID, ev.Type, ev.Data = id, upload.AttemptFailed, map[string]any{"code": e.Code, "message": e.Message}
	return WriteEvents(ctx, tx, user, ev)
}

// Provider returns what is known of an account; of one that no worker has looked at, only its name.
func Provider(ctx context.Context, db DB, name string) (ProviderState, error) {
	rows, err := db.Query(ctx, `
		SELECT `+providerColumns+`
		FROM slipway.providers p
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

// ProviderOf is Provider for the account that an upload goes to, if the upload waits for this job.
func ProviderOf(ctx context.Context, db DB, id upload.ID, job int64) (ProviderState, error) {
	rows, err := db.Query(ctx, `
		SELECT `+providerColumns+`
		FROM slipway.providers p
		WHERE name = (SELECT provider FROM slipway.uploads WHERE id = @id AND job_id = @job)`, args{"id": id, "job": job})
	if err != nil {
		return ProviderState{}, fmt.Errorf("read the upload's provider: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ProviderState])
	if errors.Is(err, pgx.ErrNoRows) {
		return ProviderState{}, nil
	}
	if err != nil {
		return p, fmt.Errorf("read the upload's provider: %w", err)
	}
	return p, nil
}

// Providers returns what is known of every account.
func Providers(ctx context.Context, db DB) ([]ProviderState, error) {
	rows, err := db.Query(ctx, `
		SELECT `+providerColumns+`
		FROM slipway.providers p
		ORDER BY name`, args{})
	return collect("read the providers", rows, err, pgx.RowToStructByPos[ProviderState])
}
