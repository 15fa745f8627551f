-- +goose Up

SET LOCAL lock_timeout = '10s';

-- To whom signatures for direct uploads were handed out, and in which minute. An asset whose name was
-- not reserved can be claimed by nobody else.
CREATE TABLE slipway.direct_handouts (
    user_id  text NOT NULL CHECK (user_id <> ''),
    provider text NOT NULL,
    minute   timestamptz NOT NULL,
    PRIMARY KEY (user_id, provider, minute)
);
CREATE INDEX direct_handouts_by_age ON slipway.direct_handouts (minute);

-- What an upload is for that its owner's browser sends straight to the provider.
CREATE TABLE slipway.direct_uploads (
    upload_id   uuid PRIMARY KEY REFERENCES slipway.uploads ON DELETE CASCADE,
    user_id     text NOT NULL,
    provider    text NOT NULL,
    asset_id    text,                           -- reserved, or as the owner claims it
    reservation uuid,                           -- the upload in whose name a signature was handed out
    version     bigint CHECK (version > 0),     -- of an asset of Cloudinary's, proven by the signature of its answer
    owned       boolean NOT NULL DEFAULT false, -- verified: nobody else's any more
    details_due boolean NOT NULL DEFAULT false  -- completed on the proof alone
);
CREATE INDEX direct_uploads_by_asset ON slipway.direct_uploads (user_id, provider, asset_id);
CREATE INDEX direct_uploads_by_reservation ON slipway.direct_uploads (reservation) WHERE reservation IS NOT NULL;
CREATE INDEX direct_uploads_due ON slipway.direct_uploads (upload_id) WHERE details_due;
CREATE UNIQUE INDEX direct_uploads_owned ON slipway.direct_uploads (provider, asset_id) WHERE owned;
CREATE INDEX uploads_direct ON slipway.uploads (status, expires_at) WHERE status IN ('reserved', 'verifying');

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['direct_handouts', 'direct_uploads'] LOOP
        EXECUTE format('ALTER TABLE slipway.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own ON slipway.%I TO slipway_api '
            'USING (user_id = (SELECT slipway.user_id())) WITH CHECK (user_id = (SELECT slipway.user_id()))', t);
        EXECUTE format('CREATE POLICY every ON slipway.%I TO slipway_service USING (true) WITH CHECK (true)', t);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- Whose an asset is only the worker decides.
GRANT SELECT, INSERT ON slipway.direct_handouts TO slipway_api;
GRANT SELECT, INSERT (upload_id, user_id, provider, asset_id, reservation, version), UPDATE (asset_id, version)
    ON slipway.direct_uploads TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.direct_handouts, slipway.direct_uploads TO slipway_service;
