package postgres

import (
	"context"
	"fmt"
	"time"
)

// riverLanes lets River's strict priorities share a lane out among owners. A push that has not begun (one that
// has keeps priority 1) comes in at
//
//	2  where nothing else of its owner waits in the lane
//	3  where less than ten do
//	4  behind a backlog
//
// so that whoever sends a first file passes by what others have heaped up. What waits is counted by the statement
// that inserts the job, ten index entries at most. Two inserts of one owner do not see each other's rows: only
// one of them gets the lock, and the other knows that it is not the first.
const riverLanes = `
	SET LOCAL lock_timeout = '10s';
	CREATE OR REPLACE FUNCTION slipway.rank_push() RETURNS trigger
	LANGUAGE plpgsql
	AS $$
	DECLARE
	    owner   text := NEW.metadata ->> 'user_id';
	    first   boolean := pg_try_advisory_xact_lock(hashtext(NEW.queue), hashtext(owner));
	    waiting integer;
	BEGIN
	    SELECT count(*)
	    INTO waiting
	    FROM (
	        SELECT
	        FROM slipway.river_job
	        WHERE queue = NEW.queue AND metadata ->> 'user_id' = owner
	          AND kind = 'push' AND state IN ('available', 'scheduled', 'retryable')
	        LIMIT 10) w;
	    NEW.priority := CASE WHEN waiting >= 10 THEN 4 WHEN waiting > 0 OR NOT first THEN 3 ELSE 2 END;
	    RETURN NEW;
	END
	$$;
	REVOKE EXECUTE ON FUNCTION slipway.rank_push FROM PUBLIC;

	DO $$
	BEGIN
	    IF to_regclass('slipway.river_job_waiting') IS NULL THEN
	        CREATE INDEX river_job_waiting ON slipway.river_job (queue, (metadata ->> 'user_id'))
	            WHERE kind = 'push' AND state IN ('available', 'scheduled', 'retryable');
	        CREATE TRIGGER rank_push BEFORE INSERT ON slipway.river_job
	            FOR EACH ROW WHEN (NEW.kind = 'push' AND NEW.priority > 1)
	            EXECUTE FUNCTION slipway.rank_push();
	    END IF;
	END
	$$;
`

// TakeTurns keeps first files from starving what others have heaped up: in each of these lanes the push that has
// waited longest behind them, for patience at least, joins the end of their line. There stands never more than one
// such, so that no first file waits for two.
func TakeTurns(ctx context.Context, db DB, lanes []string, patience time.Duration) error {
	_, err := db.Exec(ctx, `
		UPDATE slipway.river_job
		SET priority = @new, scheduled_at = now(), metadata = metadata || '{"turn": true}'
		WHERE state = 'available' AND priority > @new AND id IN (
		    SELECT longest.id
		    FROM unnest(@lanes::text[]) lane
		    CROSS JOIN LATERAL (
		        SELECT head.id
		        FROM (VALUES (3), (4)) behind(priority)
		        CROSS JOIN LATERAL (
		            SELECT j.id, j.scheduled_at
		            FROM slipway.river_job j
		            WHERE j.state = 'available' AND j.queue = lane AND j.priority = behind.priority
		            ORDER BY j.scheduled_at, j.id
		            LIMIT 1) head
		        WHERE head.scheduled_at <= now() - @patience::interval
		        ORDER BY head.scheduled_at, head.id
		        LIMIT 1) longest
		    WHERE NOT EXISTS (
		        SELECT FROM slipway.river_job j
		        WHERE j.state = 'available' AND j.queue = lane AND j.priority = @new AND j.metadata ? 'turn'))`,
		args{"lanes": lanes, "patience": patience, "new": priorityNew})
	if err != nil {
		return fmt.Errorf("let backlogs take their turn: %w", err)
	}
	return nil
}
