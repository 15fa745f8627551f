-- +goose Up

SET LOCAL lock_timeout = '10s';

-- What the uploads of all workers have met at an account. max_parallel is how many requests with a file's bytes
-- a worker may have on their way; one more for each minute since quiet_since.
ALTER TABLE slipway.providers
    ADD COLUMN throttles   integer NOT NULL DEFAULT 0,   -- in a row, with less than a quiet minute between them
    ADD COLUMN quiet_since timestamptz,                  -- the end of the last wait that was asked for
    ADD COLUMN troubled    uuid[] NOT NULL DEFAULT '{}'; -- one for each attempt that has failed since one succeeded
