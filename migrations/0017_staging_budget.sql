-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Of what staging may hold, room is kept for what is coming in: for an upload, or, for small ones in advance, by a
-- process, under an id of its own and in nobody's name. bytes are what count for the user's quotas.
ALTER TABLE slipway.staging_reservations ADD COLUMN room bigint NOT NULL DEFAULT 0 CHECK (room >= 0);
GRANT UPDATE (bytes) ON slipway.staging_reservations TO slipway_api;

-- What all users have in staging is added up without reading those who have nothing there.
CREATE INDEX user_usage_staged ON slipway.user_usage (staged_bytes) WHERE staged_bytes <> 0;

-- How fast staging empties is read from what has left it last.
CREATE INDEX uploads_left_staging ON slipway.uploads (unstaged_at) WHERE unstaged_at IS NOT NULL AND staged_at IS NOT NULL;

-- Who was refused for want of room, and when they were told to come again. A crash of the database forgets it,
-- and that costs them their place.
CREATE UNLOGGED TABLE slipway.staging_waits (
    user_id    text NOT NULL,
    bytes      bigint NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(), -- the first refusal
    told       integer NOT NULL DEFAULT 1,                     -- how many there were
    due_at     timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX staging_waits_by_user ON slipway.staging_waits (user_id, bytes, since);
ALTER TABLE slipway.staging_waits ENABLE ROW LEVEL SECURITY;
CREATE POLICY every ON slipway.staging_waits TO slipway_service USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.staging_waits TO slipway_service;
