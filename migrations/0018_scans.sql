-- +goose Up

SET LOCAL lock_timeout = '10s';

-- When a scanner let the file pass: whoever takes the push over does not ask again.
ALTER TABLE slipway.uploads ADD COLUMN scanned_at timestamptz;
