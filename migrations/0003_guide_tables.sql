-- +goose Up

SET LOCAL lock_timeout = '10s';

-- When this database became an installation of its own: what was stored until then is the original's.
ALTER TABLE slipway.installation ADD COLUMN copied_at timestamptz;

-- Assets that are to be removed from their providers. A row goes when the provider has confirmed, in the
-- transaction that removes the guide's row.
CREATE TABLE slipway.file_deletions (
    id            uuid PRIMARY KEY,
    user_id       text NOT NULL CHECK (user_id <> ''),
    provider      text NOT NULL,
    asset         jsonb NOT NULL,
    upload_id     uuid UNIQUE,     -- none for a file from before Slipway
    guide_row     bigint,          -- none where the guide's own app has removed it
    stored_at     timestamptz,
    job_id        bigint NOT NULL, -- the only River row that may work on this
    attempt       integer NOT NULL DEFAULT 0,
    error_code    text,
    error_message text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, guide_row)
);

ALTER TABLE slipway.file_deletions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON slipway.file_deletions TO slipway_api
    USING (user_id = (SELECT slipway.user_id())) WITH CHECK (user_id = (SELECT slipway.user_id()));
CREATE POLICY every ON slipway.file_deletions TO slipway_service USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON slipway.file_deletions TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.file_deletions TO slipway_service;

-- Tells of an asset whether it belongs to the installation that this database is a copy of: another's id
-- begins its name, or it was stored before the copy was made. Requests may ask that and see no more of
-- the installation.
-- +goose StatementBegin
CREATE FUNCTION slipway.is_originals(provider text, asset_id text, stored_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT (provider = 'cloudinary' AND asset_id ~ '^slipway-[0-9a-f]{12}/' AND NOT starts_with(asset_id, i.id || '/'))
        OR (i.copied_at IS NOT NULL AND coalesce(stored_at, '-infinity') <= i.copied_at)
    FROM slipway.installation i;
END;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION slipway.is_originals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slipway.is_originals TO slipway_api, slipway_service;
