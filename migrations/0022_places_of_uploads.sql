-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Whose place it is among those who wait for room: that of a file that comes by several requests, or is fetched. Who sends one in one
-- request comes as another each time. Some databases had the column before there was this migration.
ALTER TABLE slipway.staging_waits ADD COLUMN IF NOT EXISTS upload_id uuid UNIQUE;
