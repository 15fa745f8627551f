-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Notifications of providers that have been taken, so that none is taken twice while it is remembered.
CREATE TABLE slipway.webhooks (
    provider    text NOT NULL,
    digest      bytea NOT NULL CHECK (length(digest) = 32), -- SHA-256 of its body
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, digest)
);
CREATE INDEX webhooks_by_age ON slipway.webhooks (received_at);

-- A notification names an asset, and not whose it is.
CREATE INDEX direct_uploads_by_claim ON slipway.direct_uploads (provider, asset_id);

-- A notification comes in nobody's name, and may add a row but see none.
ALTER TABLE slipway.webhooks ENABLE ROW LEVEL SECURITY;
CREATE POLICY nobodys ON slipway.webhooks FOR INSERT TO slipway_api WITH CHECK ((SELECT slipway.user_id()) = '');
CREATE POLICY every ON slipway.webhooks TO slipway_service USING (true) WITH CHECK (true);
GRANT INSERT ON slipway.webhooks TO slipway_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON slipway.webhooks TO slipway_service;
