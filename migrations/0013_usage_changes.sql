-- +goose Up

SET LOCAL lock_timeout = '10s';

-- What users have come to use since user_usage was added up. Nobody waits for anybody to write it down, and
-- a statement over many new uploads writes one row for each of their owners.
CREATE TABLE slipway.usage_changes (
    user_id       text NOT NULL,
    staged_files  bigint NOT NULL,
    staged_bytes  bigint NOT NULL,
    pending_files bigint NOT NULL,
    pending_bytes bigint NOT NULL,
    stored_files  bigint NOT NULL,
    stored_bytes  bigint NOT NULL,
    day           date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    uploads       bigint NOT NULL
);
CREATE INDEX usage_changes_by_user ON slipway.usage_changes (user_id);

ALTER TABLE slipway.usage_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON slipway.usage_changes FOR SELECT TO slipway_api USING (user_id = (SELECT slipway.user_id()));
CREATE POLICY every ON slipway.usage_changes TO slipway_service USING (true) WITH CHECK (true);
GRANT SELECT ON slipway.usage_changes TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.usage_changes TO slipway_service;

DROP TRIGGER count_new ON slipway.uploads;
DROP TRIGGER count_changed ON slipway.uploads;
DROP FUNCTION slipway.count_upload;

-- Counts the uploads of a statement, by this sign: 1 where they came, -1 where they went.
-- +goose StatementBegin
CREATE FUNCTION slipway.count_uploads() RETURNS trigger
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
           CASE WHEN sign > 0 THEN count(*) ELSE 0 END
    FROM counted u
    GROUP BY u.user_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Counts what an upload has come to count for.
-- +goose StatementBegin
CREATE FUNCTION slipway.recount_upload() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was bigint := coalesce(OLD.size, 0);
    is_now bigint := coalesce(NEW.size, 0);
BEGIN
    INSERT INTO slipway.usage_changes (
        user_id, staged_files, staged_bytes, pending_files, pending_bytes, stored_files, stored_bytes, uploads)
    VALUES (
        NEW.user_id,
        slipway.is_staged(NEW)::int - slipway.is_staged(OLD)::int,
        slipway.is_staged(NEW)::int * is_now - slipway.is_staged(OLD)::int * was,
        slipway.is_pending(NEW)::int - slipway.is_pending(OLD)::int,
        slipway.is_pending(NEW)::int * is_now - slipway.is_pending(OLD)::int * was,
        slipway.is_stored(NEW)::int - slipway.is_stored(OLD)::int,
        slipway.is_stored(NEW)::int * is_now - slipway.is_stored(OLD)::int * was,
        0);
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION slipway.count_uploads, slipway.recount_upload FROM PUBLIC;

CREATE TRIGGER count_new AFTER INSERT ON slipway.uploads
    REFERENCING NEW TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION slipway.count_uploads('1');
CREATE TRIGGER count_gone AFTER DELETE ON slipway.uploads
    REFERENCING OLD TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION slipway.count_uploads('-1');
CREATE TRIGGER count_changed AFTER UPDATE ON slipway.uploads
    FOR EACH ROW
    WHEN (slipway.is_staged(NEW) <> slipway.is_staged(OLD) OR slipway.is_pending(NEW) <> slipway.is_pending(OLD)
          OR slipway.is_stored(NEW) <> slipway.is_stored(OLD) OR NEW.size IS DISTINCT FROM OLD.size)
    EXECUTE FUNCTION slipway.recount_upload();
