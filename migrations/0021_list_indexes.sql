-- +goose Up

SET LOCAL lock_timeout = '10s';

-- Lists of uploads are read in their order, newest first, whatever they are narrowed by: of all that are listed,
CREATE INDEX uploads_listed ON slipway.uploads (user_id, created_at DESC, id DESC) WHERE status NOT IN ('joined', 'deleted') AND NOT partial;
-- of each status at each provider,
CREATE INDEX uploads_by_status ON slipway.uploads (user_id, status, provider, created_at DESC, id DESC);
-- and of each reason why something went wrong.
CREATE INDEX uploads_by_error ON slipway.uploads (user_id, error_code, status, provider, created_at DESC, id DESC) WHERE error_code IS NOT NULL;
-- Failed ones are retried by the thousand in the order of their ids.
CREATE INDEX uploads_failed ON slipway.uploads (user_id, id) WHERE status = 'failed';

DROP INDEX slipway.uploads_by_user;
DROP INDEX slipway.uploads_by_user_status;
