-- +goose Up

SET LOCAL lock_timeout = '10s';

-- What the sweep looks for every half minute.
CREATE INDEX uploads_unfinished ON slipway.uploads (expires_at) WHERE status = 'receiving';
CREATE INDEX uploads_deleting ON slipway.uploads (id) WHERE status = 'deleting';
