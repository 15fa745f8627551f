-- +goose Up

-- Better refused and run again than a live table that nobody can read while we wait for its lock.
SET LOCAL lock_timeout = '10s';

-- Requests run as slipway_api, which owns nothing and is bound by the policies below; our own
-- processes that do not log in as the owner run as slipway_service. Roles belong to the whole
-- cluster: another database's migration may be creating them at this moment. From PostgreSQL 16 on
-- whoever creates a role is its member without the right to become it.
-- +goose StatementBegin
DO $$
DECLARE
    role_name text;
    become text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['slipway_api', 'slipway_service'] LOOP
        IF to_regrole(role_name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role_name);
                EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', role_name, '3s');
                EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', role_name, '5s');
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL;
                WHEN insufficient_privilege THEN
                    RAISE insufficient_privilege USING MESSAGE = format(
                        'role %1$s is missing and %2$I may not create it; mend it as a superuser with: '
                        'CREATE ROLE %1$s NOLOGIN NOINHERIT; GRANT %1$s TO %2$I', role_name, current_user);
            END;
        END IF;
        IF NOT pg_has_role(role_name, become) THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', role_name, current_user);
            EXCEPTION
                WHEN unique_violation THEN
                    NULL;
                WHEN insufficient_privilege THEN
                    RAISE insufficient_privilege USING MESSAGE = format(
                        '%2$I may not act as role %1$s; mend it as a superuser with: GRANT %1$s TO %2$I', role_name, current_user);
            END;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA slipway TO slipway_api, slipway_service;

-- The user whom a request speaks for: the subject of the claims set for its transaction.
-- +goose StatementBegin
CREATE FUNCTION slipway.user_id() RETURNS text
LANGUAGE sql STABLE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
-- +goose StatementEnd

-- One row: who this database is. A copy of the database (a branch, a restore, a template copy)
-- carries the same id under another host or name, and must not touch what the original delivered.
CREATE TABLE slipway.installation (
    only_one           boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id                 text NOT NULL DEFAULT 'slipway-' || left(replace(gen_random_uuid()::text, '-', ''), 12),
    host               text NOT NULL,
    database_name      text NOT NULL,
    staging_id         text, -- of the store that the first process found; no process works with another
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE slipway.uploads (
    id               uuid PRIMARY KEY,
    user_id          text NOT NULL CHECK (user_id <> ''),
    status           text NOT NULL CHECK (status IN (
                         'receiving', 'fetching', 'reserved', 'verifying', 'queued', 'pushing', 'retrying',
                         'completed', 'failed', 'canceled', 'expired', 'joined', 'deleting', 'deleted')),
    provider         text NOT NULL,
    resource_type    text CHECK (resource_type IN ('image', 'video', 'raw')),
    file_name        text NOT NULL,
    content_type     text NOT NULL,
    size             bigint CHECK (size > 0),
    received_bytes   bigint NOT NULL DEFAULT 0,
    crc32c           bigint,
    metadata         jsonb NOT NULL DEFAULT '{}',
    tags             text[] NOT NULL DEFAULT '{}',

    -- Delivery. job_id names the only River row that may work on this upload.
    job_id           bigint,
    lease_epoch      bigint NOT NULL DEFAULT 0,
    lease_owner      text,
    lease_until      timestamptz,
    receive_epoch    bigint NOT NULL DEFAULT 0,
    pushed_bytes     bigint NOT NULL DEFAULT 0,
    pushed_high      bigint NOT NULL DEFAULT 0,  -- most bytes ever acknowledged; budgets reset when it grows
    attempt          integer NOT NULL DEFAULT 0, -- since the last progress
    max_attempts     integer NOT NULL,
    takeovers        integer NOT NULL DEFAULT 0,
    sessions_lost    integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz,
    deliver_by       timestamptz,
    error_code       text,
    error_message    text,
    error_retryable  boolean,
    error_fixable_by text,

    -- What the provider stored.
    asset            jsonb,

    version          bigint NOT NULL DEFAULT 1,
    progress         real NOT NULL DEFAULT 0,    -- high-water mark
    created_at       timestamptz NOT NULL DEFAULT now(),
    staged_at        timestamptz,
    started_at       timestamptz,
    completed_at     timestamptz,
    expires_at       timestamptz,
    staged_until     timestamptz,
    unstaged_at      timestamptz
);
CREATE INDEX uploads_by_user ON slipway.uploads (user_id, id DESC);
CREATE INDEX uploads_by_user_status ON slipway.uploads (user_id, status, id DESC);
CREATE INDEX uploads_by_user_name ON slipway.uploads (user_id, file_name text_pattern_ops);
CREATE INDEX uploads_in_delivery ON slipway.uploads (job_id) WHERE status IN ('queued', 'pushing', 'retrying');
CREATE INDEX uploads_to_unstage ON slipway.uploads (staged_until)
    WHERE unstaged_at IS NULL AND status IN ('completed', 'failed', 'canceled', 'expired');

-- The history. Within a user, commit order is number order: whoever writes takes the user's
-- advisory lock as the last step before the INSERT.
CREATE TABLE slipway.upload_events (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id uuid NOT NULL REFERENCES slipway.uploads ON DELETE CASCADE,
    user_id   text NOT NULL,
    type      text NOT NULL,
    status    text NOT NULL,
    attempt   integer NOT NULL DEFAULT 0,
    data      jsonb NOT NULL DEFAULT '{}',
    at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX upload_events_by_user ON slipway.upload_events (user_id, seq);
CREATE INDEX upload_events_by_upload ON slipway.upload_events (upload_id, seq);

-- The ledger: a session before its first byte, each part after it was acknowledged.
CREATE TABLE slipway.push_sessions (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id           uuid NOT NULL REFERENCES slipway.uploads ON DELETE CASCADE,
    provider            text NOT NULL,
    remote_id           text NOT NULL,
    part_size           bigint NOT NULL,
    parts               integer NOT NULL,
    last_part_completes boolean NOT NULL,
    state               jsonb NOT NULL DEFAULT '{}',
    finishing           boolean NOT NULL DEFAULT false, -- the completing call was sent; its outcome may be unknown
    asset               jsonb,                          -- pushed, and not lasting before it is committed at the provider
    expires_at          timestamptz,
    opened_at           timestamptz NOT NULL DEFAULT now(),
    closed_at           timestamptz,
    outcome             text                            -- completed, lost, abandoned
);
CREATE UNIQUE INDEX push_sessions_open ON slipway.push_sessions (upload_id) WHERE closed_at IS NULL;
CREATE INDEX push_sessions_by_upload ON slipway.push_sessions (upload_id, id);

CREATE TABLE slipway.push_parts (
    session_id bigint NOT NULL REFERENCES slipway.push_sessions ON DELETE CASCADE,
    number     integer NOT NULL,
    size       bigint NOT NULL,
    crc32c     bigint NOT NULL,
    etag       text NOT NULL DEFAULT '',
    carry      bytea,
    acked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, number)
);

CREATE TABLE slipway.staging_reservations (
    upload_id  uuid PRIMARY KEY,
    user_id    text NOT NULL,
    bytes      bigint NOT NULL CHECK (bytes >= 0),
    expires_at timestamptz NOT NULL
);
CREATE INDEX staging_reservations_by_user ON slipway.staging_reservations (user_id);

-- One row for each provider's account: what it takes, and whether anything may be sent to it now.
CREATE TABLE slipway.providers (
    name         text PRIMARY KEY,
    account      text NOT NULL DEFAULT '',
    limits       jsonb NOT NULL DEFAULT '{}', -- the capabilities the worker has learned
    paused_until timestamptz,
    pause_code   text,
    pause_reason text,
    max_parallel integer,
    checked_at   timestamptz
);

CREATE TABLE slipway.idempotency_keys (
    user_id     text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    upload_id   uuid NOT NULL,
    held_until  timestamptz,
    final_at    timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);

CREATE TABLE slipway.api_keys (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text NOT NULL,
    prefix       text NOT NULL UNIQUE,
    hash         bytea NOT NULL,
    scopes       text[] NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- The guides' tables, to the letter; one that is already there is adopted, its rows and its row-level
-- security left as they are. Where that is on, it would hide every row from our own roles, which are
-- therefore let in by policies that bind nobody else.
-- +goose StatementBegin
DO $$
DECLARE
    t regclass;
BEGIN
    IF to_regclass('public.uploadcare_files') IS NULL THEN
        CREATE TABLE public.uploadcare_files (
            id SERIAL PRIMARY KEY,
            file_id TEXT NOT NULL UNIQUE,
            file_url TEXT NOT NULL,
            user_id TEXT NOT NULL,
            upload_timestamp TIMESTAMPTZ DEFAULT NOW()
        );
        ALTER TABLE public.uploadcare_files ENABLE ROW LEVEL SECURITY;
    END IF;
    IF to_regclass('public.cloudinary_files') IS NULL THEN
        CREATE TABLE public.cloudinary_files (
            id SERIAL PRIMARY KEY,
            public_id TEXT NOT NULL UNIQUE,
            media_url TEXT NOT NULL,
            resource_type TEXT NOT NULL,
            user_id TEXT NOT NULL,
            upload_timestamp TIMESTAMPTZ DEFAULT NOW()
        );
        ALTER TABLE public.cloudinary_files ENABLE ROW LEVEL SECURITY;
    END IF;
    FOR t IN
        SELECT oid
        FROM pg_class
        WHERE oid IN ('public.uploadcare_files'::regclass, 'public.cloudinary_files'::regclass) AND relrowsecurity
    LOOP
        EXECUTE format('CREATE POLICY slipway_own ON %s TO slipway_api '
            'USING (user_id = (SELECT slipway.user_id())) WITH CHECK (user_id = (SELECT slipway.user_id()))', t);
        EXECUTE format('CREATE POLICY slipway_all ON %s TO slipway_service USING (true) WITH CHECK (true)', t);
    END LOOP;
    -- Everybody may look into the schema public, and nobody into another.
    IF EXISTS (
        SELECT FROM pg_class
        WHERE oid = 'public.uploadcare_files'::regclass AND NOT (
            has_schema_privilege('slipway_api', relnamespace, 'USAGE') AND has_schema_privilege('slipway_service', relnamespace, 'USAGE')))
    THEN
        GRANT USAGE ON SCHEMA public TO slipway_api, slipway_service;
    END IF;
END
$$;
-- +goose StatementEnd

ALTER TABLE public.uploadcare_files
    ADD COLUMN IF NOT EXISTS upload_id uuid,
    ADD COLUMN IF NOT EXISTS file_name text,
    ADD COLUMN IF NOT EXISTS content_type text,
    ADD COLUMN IF NOT EXISTS size bigint;
ALTER TABLE public.cloudinary_files
    ADD COLUMN IF NOT EXISTS upload_id uuid,
    ADD COLUMN IF NOT EXISTS file_name text,
    ADD COLUMN IF NOT EXISTS content_type text,
    ADD COLUMN IF NOT EXISTS size bigint,
    ADD COLUMN IF NOT EXISTS version bigint,
    ADD COLUMN IF NOT EXISTS format text,
    ADD COLUMN IF NOT EXISTS width integer,
    ADD COLUMN IF NOT EXISTS height integer,
    ADD COLUMN IF NOT EXISTS tags text[];
CREATE INDEX IF NOT EXISTS slipway_uploadcare_files_by_user
    ON public.uploadcare_files (user_id, (coalesce(upload_timestamp, '-infinity')) DESC, id DESC);
CREATE INDEX IF NOT EXISTS slipway_cloudinary_files_by_user
    ON public.cloudinary_files (user_id, (coalesce(upload_timestamp, '-infinity')) DESC, id DESC);
CREATE UNIQUE INDEX IF NOT EXISTS slipway_uploadcare_files_by_upload ON public.uploadcare_files (upload_id);
CREATE UNIQUE INDEX IF NOT EXISTS slipway_cloudinary_files_by_upload ON public.cloudinary_files (upload_id);

-- A stable view for programs that read the database themselves.
CREATE VIEW slipway.upload_status WITH (security_invoker = true) AS
SELECT id, user_id, status, provider, file_name, size, asset ->> 'url' AS url, error_code, metadata, created_at, completed_at
FROM slipway.uploads;

-- The second wall: ENABLE, not FORCE; the owner keeps its access.
-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['uploads', 'upload_events', 'staging_reservations', 'idempotency_keys'] LOOP
        EXECUTE format('ALTER TABLE slipway.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own ON slipway.%I TO slipway_api '
            'USING (user_id = (SELECT slipway.user_id())) WITH CHECK (user_id = (SELECT slipway.user_id()))', t);
        EXECUTE format('CREATE POLICY every ON slipway.%I TO slipway_service USING (true) WITH CHECK (true)', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['installation', 'push_sessions', 'push_parts', 'providers', 'api_keys'] LOOP
        EXECUTE format('ALTER TABLE slipway.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY every ON slipway.%I TO slipway_service USING (true) WITH CHECK (true)', t);
    END LOOP;
END
$$;
-- +goose StatementEnd
CREATE POLICY anyone ON slipway.providers FOR SELECT TO slipway_api USING (true);

GRANT SELECT, INSERT, UPDATE ON slipway.uploads, slipway.idempotency_keys TO slipway_api;
GRANT SELECT, INSERT ON slipway.upload_events TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.staging_reservations TO slipway_api;
GRANT SELECT ON slipway.providers, slipway.upload_status TO slipway_api;
GRANT SELECT ON public.uploadcare_files, public.cloudinary_files TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA slipway TO slipway_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA slipway TO slipway_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.uploadcare_files, public.cloudinary_files TO slipway_service;
-- +goose StatementBegin
DO $$
DECLARE
    t text;
    s text;
BEGIN
    FOREACH t IN ARRAY ARRAY['public.uploadcare_files', 'public.cloudinary_files'] LOOP
        s := pg_get_serial_sequence(t, 'id');
        IF s IS NOT NULL THEN
            EXECUTE 'GRANT USAGE ON SEQUENCE ' || s || ' TO slipway_service';
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd
