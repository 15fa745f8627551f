-- +goose Up

SET LOCAL lock_timeout = '10s';

-- A key is known by the SHA-256 of the whole of it; its prefix is no secret.
ALTER TABLE slipway.api_keys
    ADD COLUMN expires_at timestamptz,
    ADD CHECK (name <> ''),
    ADD CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['act', 'admin']),
    ADD CHECK (octet_length(hash) = 32);

-- From this every process derives the key that signs upload tokens, where no secret for that is set. It is
-- two random UUIDs, 244 bits.
ALTER TABLE slipway.installation
    ADD COLUMN token_secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
