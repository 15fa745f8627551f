-- +goose Up

SET LOCAL lock_timeout = '10s';

-- How much each user uses, added up as uploads come, change and go, so that nothing is summed up to ask.
CREATE TABLE slipway.user_usage (
    user_id       text PRIMARY KEY CHECK (user_id <> ''),
    staged_files  bigint NOT NULL DEFAULT 0, -- whose bytes are in staging
    staged_bytes  bigint NOT NULL DEFAULT 0,
    pending_files bigint NOT NULL DEFAULT 0, -- on the way to a provider
    pending_bytes bigint NOT NULL DEFAULT 0,
    stored_files  bigint NOT NULL DEFAULT 0, -- that a provider has
    stored_bytes  bigint NOT NULL DEFAULT 0,
    day           date NOT NULL,             -- UTC, of the latest upload
    uploads       bigint NOT NULL DEFAULT 0  -- begun on that day
) WITH (fillfactor = 50);

-- What single users may use where that differs from the settings; NULL is as set for everybody.
CREATE TABLE slipway.user_limits (
    user_id             text PRIMARY KEY CHECK (user_id <> ''),
    staged_bytes        bigint CHECK (staged_bytes >= 0),
    stored_bytes        bigint CHECK (stored_bytes >= 0),
    uploads_per_day     bigint CHECK (uploads_per_day >= 0),
    concurrent_uploads  bigint CHECK (concurrent_uploads >= 0),
    requests_per_minute bigint CHECK (requests_per_minute BETWEEN 0 AND 1000000)
);

-- When the requests that a user has been granted are used up at the even rate (GCRA). A crash of the
-- database forgets it, and that costs nobody anything.
CREATE UNLOGGED TABLE slipway.request_rates (
    user_id    text PRIMARY KEY,
    arrival    bigint NOT NULL, -- Unix time, ns
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION slipway.is_staged(u slipway.uploads) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN u.staged_at IS NOT NULL AND u.unstaged_at IS NULL;

CREATE FUNCTION slipway.is_pending(u slipway.uploads) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(u.status IN ('queued', 'pushing', 'retrying'), false);

CREATE FUNCTION slipway.is_stored(u slipway.uploads) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(u.status IN ('completed', 'deleting'), false) AND u.asset IS NOT NULL;

-- Adds to its owner's usage what an upload has come to count for since.
-- +goose StatementBegin
CREATE FUNCTION slipway.count_upload() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO slipway.user_usage AS t (
        user_id, staged_files, staged_bytes, pending_files, pending_bytes, stored_files, stored_bytes, day, uploads)
    VALUES (
        coalesce(NEW.user_id, OLD.user_id),
        slipway.is_staged(NEW)::int - slipway.is_staged(OLD)::int,
        CASE WHEN slipway.is_staged(NEW) THEN coalesce(NEW.size, 0) ELSE 0 END - CASE WHEN slipway.is_staged(OLD) THEN coalesce(OLD.size, 0) ELSE 0 END,
        slipway.is_pending(NEW)::int - slipway.is_pending(OLD)::int,
        CASE WHEN slipway.is_pending(NEW) THEN coalesce(NEW.size, 0) ELSE 0 END - CASE WHEN slipway.is_pending(OLD) THEN coalesce(OLD.size, 0) ELSE 0 END,
        slipway.is_stored(NEW)::int - slipway.is_stored(OLD)::int,
        CASE WHEN slipway.is_stored(NEW) THEN coalesce(NEW.size, 0) ELSE 0 END - CASE WHEN slipway.is_stored(OLD) THEN coalesce(OLD.size, 0) ELSE 0 END,
        (now() AT TIME ZONE 'UTC')::date,
        (TG_OP = 'INSERT')::int)
    ON CONFLICT (user_id) DO UPDATE
    SET staged_files = t.staged_files + excluded.staged_files, staged_bytes = t.staged_bytes + excluded.staged_bytes,
        pending_files = t.pending_files + excluded.pending_files, pending_bytes = t.pending_bytes + excluded.pending_bytes,
        stored_files = t.stored_files + excluded.stored_files, stored_bytes = t.stored_bytes + excluded.stored_bytes,
        uploads = CASE WHEN t.day < excluded.day THEN excluded.uploads ELSE t.uploads + excluded.uploads END,
        day = greatest(t.day, excluded.day);
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION slipway.count_upload FROM PUBLIC;

-- At the commit, so that transactions of one user wait for each other no longer than that takes.
CREATE CONSTRAINT TRIGGER count_new AFTER INSERT OR DELETE ON slipway.uploads
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slipway.count_upload();
CREATE CONSTRAINT TRIGGER count_changed AFTER UPDATE ON slipway.uploads
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (slipway.is_staged(NEW) <> slipway.is_staged(OLD) OR slipway.is_pending(NEW) <> slipway.is_pending(OLD)
          OR slipway.is_stored(NEW) <> slipway.is_stored(OLD) OR NEW.size IS DISTINCT FROM OLD.size)
    EXECUTE FUNCTION slipway.count_upload();

INSERT INTO slipway.user_usage (
    user_id, staged_files, staged_bytes, pending_files, pending_bytes, stored_files, stored_bytes, day, uploads)
SELECT u.user_id,
       count(*) FILTER (WHERE slipway.is_staged(u)), coalesce(sum(u.size) FILTER (WHERE slipway.is_staged(u)), 0),
       count(*) FILTER (WHERE slipway.is_pending(u)), coalesce(sum(u.size) FILTER (WHERE slipway.is_pending(u)), 0),
       count(*) FILTER (WHERE slipway.is_stored(u)), coalesce(sum(u.size) FILTER (WHERE slipway.is_stored(u)), 0),
       (now() AT TIME ZONE 'UTC')::date,
       count(*) FILTER (WHERE (u.created_at AT TIME ZONE 'UTC')::date = (now() AT TIME ZONE 'UTC')::date)
FROM slipway.uploads u
GROUP BY u.user_id;

-- A request sees what its user uses and may use, and changes neither; it knows nothing of rates. It holds
-- room for what is coming in.
-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['user_usage', 'user_limits', 'request_rates'] LOOP
        EXECUTE format('ALTER TABLE slipway.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY every ON slipway.%I TO slipway_service USING (true) WITH CHECK (true)', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['user_usage', 'user_limits'] LOOP
        EXECUTE format('CREATE POLICY own ON slipway.%I FOR SELECT TO slipway_api USING (user_id = (SELECT slipway.user_id()))', t);
    END LOOP;
END
$$;
-- +goose StatementEnd
GRANT INSERT (upload_id, user_id, bytes, expires_at), UPDATE (expires_at), DELETE ON slipway.staging_reservations TO slipway_api;
GRANT SELECT ON slipway.user_usage, slipway.user_limits TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.user_usage, slipway.user_limits, slipway.request_rates TO slipway_service;
