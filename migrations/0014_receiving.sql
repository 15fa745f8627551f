-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Receiving is fenced: whoever adds to an upload's bytes holds receive_epoch, and everything it writes down
-- carries it.
ALTER TABLE slipway.uploads
    ADD COLUMN receive_held    boolean NOT NULL DEFAULT false, -- by somebody who has not let go
    ADD COLUMN receive_wanted  bigint,                         -- the epoch whose holder is asked to let go
    ADD COLUMN receive_segment bigint NOT NULL DEFAULT 0,      -- which segment its holder writes to
    ADD COLUMN segments        jsonb,                          -- where the bytes are, in order; NULL: in one run under the upload's own id
    ADD COLUMN partial         boolean NOT NULL DEFAULT false, -- a piece of a file, to be joined with others
    ADD COLUMN joined_to       uuid;                           -- the upload that has its segments
CREATE INDEX uploads_joined ON slipway.uploads (joined_to) WHERE status = 'joined' AND unstaged_at IS NULL;
GRANT INSERT (partial, segments),
    UPDATE (content_type, crc32c, file_name, joined_to, progress, receive_held, receive_segment, receive_wanted, received_bytes, segments, size,
        staged_at, unstaged_at)
    ON slipway.uploads TO slipway_api;

-- What a tus client said when it made an upload, as it said it: it may ask for that again.
CREATE TABLE slipway.tus_uploads (
    upload_id uuid PRIMARY KEY REFERENCES slipway.uploads ON DELETE CASCADE,
    user_id   text NOT NULL,
    metadata  text NOT NULL DEFAULT '', -- Upload-Metadata
    concat    text NOT NULL DEFAULT ''  -- Upload-Concat
);
ALTER TABLE slipway.tus_uploads ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON slipway.tus_uploads TO slipway_api
    USING (user_id = (SELECT slipway.user_id())) WITH CHECK (user_id = (SELECT slipway.user_id()));
CREATE POLICY every ON slipway.tus_uploads TO slipway_service USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON slipway.tus_uploads TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.tus_uploads TO slipway_service;

-- The pieces of a file are no uploads of their own where uploads are counted.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION slipway.count_uploads() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sign bigint := TG_ARGV[0];
BEGIN
    INSERT INTO slipway.usage_changes (
        user_id, staged_files, staged_bytes, pending_files, pending_bytes, stored_files, stored_bytes, uploads)
    SELECT u.user_id,
           sign * count(*) FILTER (WHERE u.staged_at IS NOT NULL AND u.unstaged_at IS NULL),
           sign * coalesce(sum(u.size) FILTER (WHERE u.staged_at IS NOT NULL AND u.unstaged_at IS NULL), 0),
           sign * count(*) FILTER (WHERE u.status IN ('queued', 'pushing', 'retrying')),
           sign * coalesce(sum(u.size) FILTER (WHERE u.status IN ('queued', 'pushing', 'retrying')), 0),
           sign * count(*) FILTER (WHERE u.status IN ('completed', 'deleting') AND u.asset IS NOT NULL),
           sign * coalesce(sum(u.size) FILTER (WHERE u.status IN ('completed', 'deleting') AND u.asset IS NOT NULL), 0),
           CASE WHEN sign > 0 THEN count(*) FILTER (WHERE NOT u.partial) ELSE 0 END
    FROM counted u
    GROUP BY u.user_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
