-- +goose Up

SET LOCAL lock_timeout = '10s';

-- What is to be removed is not always an asset that is known: of an upload that is ended on its way it is
-- whatever its pushes may have left, which the ledger tells.
ALTER TABLE slipway.file_deletions
    ALTER COLUMN asset DROP NOT NULL,
    ADD COLUMN since timestamptz NOT NULL DEFAULT now(); -- when the latest was stopped who may have been sending

-- A request ends uploads that are being received, too.
GRANT UPDATE (receive_epoch) ON slipway.uploads TO slipway_api;

-- Gives the caller's failed upload to another provider: what is open at the old one is abandoned, and a push
-- begins anew. False where the old one may have stored the file.
-- +goose StatementBegin
CREATE FUNCTION slipway.change_provider(upload uuid, name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE slipway.uploads u
    SET provider = name, pushed_bytes = 0
    WHERE u.id = upload AND u.user_id = slipway.user_id() AND u.status = 'failed' AND NOT EXISTS (
        SELECT FROM slipway.push_sessions s
        WHERE s.upload_id = u.id AND (s.asset IS NOT NULL OR s.finishing AND u.error_code IS DISTINCT FROM 'provider_rejected'));
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE slipway.push_sessions s
    SET closed_at = now(), outcome = 'abandoned'
    WHERE s.upload_id = upload AND s.closed_at IS NULL;
    RETURN true;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION slipway.change_provider FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slipway.change_provider TO slipway_api, slipway_service;
