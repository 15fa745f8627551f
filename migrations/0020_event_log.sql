-- +goose Up

SET LOCAL lock_timeout = '10s';

-- How far the history has been pruned: whoever has read less than that may have missed something.
CREATE TABLE slipway.event_log (
    only_one       boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    pruned_through bigint NOT NULL DEFAULT 0 -- the highest seq that is gone
);
INSERT INTO slipway.event_log DEFAULT VALUES;
ALTER TABLE slipway.event_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY anyone ON slipway.event_log FOR SELECT TO slipway_api USING (true);
CREATE POLICY every ON slipway.event_log TO slipway_service USING (true) WITH CHECK (true);
GRANT SELECT ON slipway.event_log TO slipway_api;
GRANT SELECT, UPDATE ON slipway.event_log TO slipway_service;
