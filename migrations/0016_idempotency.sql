-- +goose Up

SET LOCAL lock_timeout = '10s';

-- A key that a client gives a request, so that it can be sent again and is done once. upload_id is the upload that
-- is being made, by whoever holds the key until held_until, or that was made, at final_at. A key goes with its upload,
-- whose row is written after it.
ALTER TABLE slipway.idempotency_keys
    ADD COLUMN length     bigint NOT NULL DEFAULT -1,  -- bytes of the body as declared; -1 when they were not
    ADD COLUMN boundary   integer NOT NULL DEFAULT 0,  -- bytes of what parts a form, which is another each time
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    ADD COLUMN made       uuid REFERENCES slipway.uploads ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ALTER COLUMN held_until SET NOT NULL,
    ALTER COLUMN held_until SET DEFAULT now();
CREATE INDEX idempotency_keys_expired ON slipway.idempotency_keys (expires_at);
CREATE UNIQUE INDEX idempotency_keys_by_upload ON slipway.idempotency_keys (made);

-- A request claims its user's keys, makes them final, and lets them go.
GRANT INSERT (user_id, key, fingerprint, length, boundary, upload_id, held_until, final_at, expires_at, made),
    UPDATE (fingerprint, length, boundary, upload_id, held_until, final_at, expires_at, made),
    DELETE
    ON slipway.idempotency_keys TO slipway_api;
