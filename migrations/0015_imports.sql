-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Where an upload is fetched from, and how it was asked for. An address may hold a token: a request writes it and
-- cannot read it again.
CREATE TABLE slipway.imports (
    upload_id     uuid PRIMARY KEY REFERENCES slipway.uploads ON DELETE CASCADE,
    user_id       text NOT NULL,
    url           text NOT NULL,
    file_name     text NOT NULL DEFAULT '', -- '': as the source calls it
    resource_type text NOT NULL DEFAULT '', -- '': by the content
    max_bytes     bigint NOT NULL,          -- that the file may have
    fetch_by      timestamptz NOT NULL,     -- when an import that has not come in is given up
    validator     text NOT NULL DEFAULT ''  -- by which the source knows the file that was begun; '': it cannot be gone on with
);
ALTER TABLE slipway.imports ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON slipway.imports FOR INSERT TO slipway_api WITH CHECK (user_id = (SELECT slipway.user_id()));
CREATE POLICY every ON slipway.imports TO slipway_service USING (true) WITH CHECK (true);
GRANT INSERT (upload_id, user_id, url, file_name, resource_type, max_bytes, fetch_by) ON slipway.imports TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.imports TO slipway_service;

-- The address is forgotten with the end of the import, whoever ends it, and no room is held for it any more.
-- +goose StatementBegin
CREATE FUNCTION slipway.forget_import() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM slipway.imports WHERE upload_id = NEW.id;
    DELETE FROM slipway.staging_reservations WHERE upload_id = NEW.id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION slipway.forget_import FROM PUBLIC;
CREATE TRIGGER forget_import AFTER UPDATE OF status ON slipway.uploads
    FOR EACH ROW WHEN (OLD.status = 'fetching' AND NEW.status <> 'fetching')
    EXECUTE FUNCTION slipway.forget_import();

-- Imports have jobs as pushes have, which are looked after by the same statements.
DROP INDEX slipway.uploads_in_delivery;
CREATE INDEX uploads_in_delivery ON slipway.uploads (job_id) WHERE status IN ('fetching', 'queued', 'pushing', 'retrying');
