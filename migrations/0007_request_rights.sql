-- +goose Up

SET LOCAL lock_timeout = '10s';

-- A request writes what requests write, and nothing that only a worker finds out: what a provider stored,
-- how far a push is, whose an upload is. A statement of a request that needs more is to be given it here,
-- column by column.
REVOKE INSERT, UPDATE ON slipway.uploads FROM slipway_api;
GRANT INSERT (
        id, user_id, status, provider, resource_type, file_name, content_type, size, received_bytes, crc32c, metadata, tags,
        job_id, max_attempts, deliver_by, progress, created_at, staged_at, started_at, expires_at, unstaged_at),
    UPDATE (
        status, resource_type, job_id, lease_epoch, lease_owner, lease_until, pushed_high, attempt, takeovers, sessions_lost,
        next_attempt_at, deliver_by, error_code, error_message, error_retryable, error_fixable_by, version, started_at,
        expires_at, staged_until)
    ON slipway.uploads TO slipway_api;

-- Nothing writes these yet.
REVOKE INSERT, UPDATE, DELETE ON slipway.staging_reservations, slipway.idempotency_keys FROM slipway_api;
