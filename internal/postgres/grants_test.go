package postgres_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// rights are all that a request may do: what slipway_api was given, and what everybody may. Whoever adds to
// them says why in the migration.
var rights = map[string]string{
	"schema slipway":   "USAGE",
	"schema public":    "USAGE",
	"uploadcare_files": "SELECT",
	"cloudinary_files": "SELECT",

	"slipway.uploads": "SELECT, INSERT (content_type, crc32c, created_at, deliver_by, expires_at, file_name, id, job_id, max_attempts, metadata, partial, progress, " +
		"provider, received_bytes, resource_type, segments, size, staged_at, started_at, status, tags, unstaged_at, user_id), " +
		"UPDATE (attempt, content_type, crc32c, deliver_by, error_code, error_fixable_by, error_message, error_retryable, expires_at, file_name, job_id, joined_to, lease_epoch, lease_owner, " +
		"lease_until, next_attempt_at, progress, pushed_high, receive_epoch, receive_held, receive_segment, receive_wanted, received_bytes, resource_type, segments, " +
		"sessions_lost, size, staged_at, staged_until, started_at, status, takeovers, unstaged_at, version)",
	"slipway.tus_uploads":          "SELECT, INSERT",
	"slipway.upload_status":        "SELECT",
	"slipway.upload_events":        "SELECT, INSERT",
	"slipway.event_log":            "SELECT",
	"slipway.direct_handouts":      "SELECT, INSERT",
	"slipway.direct_uploads":       "SELECT, INSERT (asset_id, provider, reservation, upload_id, user_id, version), UPDATE (asset_id, version)",
	"slipway.imports":              "INSERT (fetch_by, file_name, max_bytes, resource_type, upload_id, url, user_id)",
	"slipway.file_deletions":       "SELECT, INSERT",
	"slipway.staging_reservations": "SELECT, DELETE, INSERT (bytes, expires_at, upload_id, user_id), UPDATE (bytes, expires_at)",
	"slipway.idempotency_keys": "SELECT, DELETE, INSERT (boundary, expires_at, final_at, fingerprint, held_until, key, length, made, upload_id, user_id), " +
		"UPDATE (boundary, expires_at, final_at, fingerprint, held_until, length, made, upload_id)",
	"slipway.user_usage":    "SELECT",
	"slipway.usage_changes": "SELECT",
	"slipway.user_limits":   "SELECT",
	"slipway.providers":     "SELECT",
	"slipway.webhooks":      "INSERT",

	"slipway.river_job":                 "SELECT, INSERT, UPDATE (finalized_at, kind, metadata, state)",
	"sequence slipway.river_job_id_seq": "USAGE",
	"function slipway.river_job_state_in_bitmask(bit,slipway.river_job_state)": "EXECUTE",

	"function slipway.user_id()":                                        "EXECUTE",
	"function slipway.is_originals(text,text,timestamp with time zone)": "EXECUTE AS ITS OWNER",
	"function slipway.change_provider(uuid,text)":                       "EXECUTE AS ITS OWNER",
	"function slipway.is_staged(slipway.uploads)":                       "EXECUTE",
	"function slipway.is_pending(slipway.uploads)":                      "EXECUTE",
	"function slipway.is_stored(slipway.uploads)":                       "EXECUTE",
}

// rightsOf lists what slipway_api may do with everything in our schemas.
const rightsOf = `
	SELECT 'schema ' || n.nspname, concat_ws(', ', CASE WHEN has_schema_privilege('slipway_api', n.oid, 'USAGE') THEN 'USAGE' END,
	       CASE WHEN has_schema_privilege('slipway_api', n.oid, 'CREATE') THEN 'CREATE' END)
	FROM pg_namespace n
	WHERE n.nspname IN ('slipway', 'public')
	UNION ALL
	SELECT c.oid::regclass::text, concat_ws(', ',
	       (SELECT string_agg(p, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
	        WHERE has_table_privilege('slipway_api', c.oid, p)),
	       (SELECT string_agg(format('%s (%s)', p, columns), ', ')
	        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p
	        CROSS JOIN LATERAL (
	            SELECT string_agg(a.attname, ', ' ORDER BY a.attname) AS columns
	            FROM pg_attribute a
	            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	              AND has_column_privilege('slipway_api', c.oid, a.attnum, p)) h
	        WHERE columns IS NOT NULL AND NOT has_table_privilege('slipway_api', c.oid, p)))
	FROM pg_class c
	JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname IN ('slipway', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
	UNION ALL
	SELECT 'sequence ' || c.oid::regclass::text, (SELECT string_agg(p, ', ') FROM unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p
	       WHERE has_sequence_privilege('slipway_api', c.oid, p))
	FROM pg_class c
	JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname IN ('slipway', 'public') AND c.relkind = 'S'
	UNION ALL
	SELECT 'function ' || p.oid::regprocedure::text,
	       CASE WHEN has_function_privilege('slipway_api', p.oid, 'EXECUTE') THEN 'EXECUTE' || CASE WHEN p.prosecdef THEN ' AS ITS OWNER' ELSE '' END END
	FROM pg_proc p
	JOIN pg_namespace n ON n.oid = p.pronamespace
	WHERE n.nspname IN ('slipway', 'public') AND p.prorettype <> 'trigger'::regtype`

func TestARequestMayDoWhatItNeedsAndNoMore(t *testing.T) {
	b := newBench(t)
	got := map[string]string{}
	rows, err := b.Query(t.Context(), rightsOf)
	if err != nil {
		t.Fatal(err)
	}
	var what string
	var may *string
	_, err = pgx.ForEachRow(rows, []any{&what, &may}, func() error {
		if may != nil && *may != "" {
			got[what] = *may
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range slices.Sorted(maps.Keys(got)) {
		if rights[what] != got[what] {
			t.Errorf("on %s a request may\n\t%q, want\n\t%q", what, got[what], rights[what])
		}
	}
	for what, want := range rights {
		if got[what] == "" {
			t.Errorf("on %s a request may nothing, want %q", what, want)
		}
	}
}

// everybodys are tables that a request may read and that say nothing of single users.
var everybodys = []string{"slipway.providers", "slipway.event_log"}

// A table that keeps anything of a user's stands behind the wall: whoever makes a new one is told here.
func TestNothingOfAUsersIsOutsideTheWall(t *testing.T) {
	b := newBench(t)
	type table struct {
		Name      string
		Users     bool     // names a user, or belongs to a table that does
		Rivers    bool     // made by River or goose
		Secured   bool     // row-level security is on
		Reached   bool     // a request may do something with it
		Read      bool     // a request may read it
		Served    bool     // our processes see all of it
		Unbound   []string // policies for requests that do not ask for the user
		Strangers []string // roles of policies that are none of ours
	}
	rows, err := b.Query(t.Context(), `
		WITH RECURSIVE users(oid) AS (
		    SELECT attrelid FROM pg_attribute WHERE attname = 'user_id'
		    UNION
		    SELECT f.conrelid FROM users u JOIN pg_constraint f ON f.confrelid = u.oid AND f.contype = 'f'
		)
		SELECT n.nspname || '.' || c.relname AS name,
		       c.oid IN (SELECT oid FROM users) AS users,
		       c.relname ~ '^(river|goose)_' AS rivers,
		       c.relrowsecurity AS secured,
		       has_table_privilege('slipway_api', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
		           OR has_any_column_privilege('slipway_api', c.oid, 'SELECT, INSERT, UPDATE') AS reached,
		       has_any_column_privilege('slipway_api', c.oid, 'SELECT') AS read,
		       coalesce(bool_or(p.roles = '{slipway_service}' AND p.cmd = 'ALL' AND p.qual = 'true' AND p.with_check = 'true'), false) AS served,
		       coalesce(array_agg(p.policyname) FILTER (WHERE 'slipway_api' = ANY (p.roles)
		           AND NOT (coalesce(p.qual, 'user_id()') LIKE '%user_id()%' AND coalesce(p.with_check, 'user_id()') LIKE '%user_id()%')), '{}') AS unbound,
		       coalesce(array_agg(p.roles::text) FILTER (WHERE NOT p.roles <@ '{slipway_api,slipway_service}'), '{}') AS strangers
		FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_policies p ON p.schemaname = n.nspname AND p.tablename = c.relname
		WHERE n.nspname IN ('slipway', 'public') AND c.relkind IN ('r', 'p', 'm', 'f')
		GROUP BY c.oid, n.nspname, c.relname
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByName[table])
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) < 15 {
		t.Errorf("only %d tables were looked at", len(tables))
	}
	for _, c := range tables {
		t.Run(c.Name, func(t *testing.T) {
			if !c.Secured && (c.Users || c.Reached || !c.Rivers) {
				t.Error("row-level security is off")
			}
			if c.Secured && !c.Served {
				t.Error("our own processes, logged in as slipway_service, do not see every row")
			}
			if len(c.Unbound) > 0 && !slices.Contains(everybodys, c.Name) {
				t.Errorf("policies %q show requests more than their own user's rows", c.Unbound)
			}
			if len(c.Strangers) > 0 {
				t.Errorf("there are policies for %q", c.Strangers)
			}
			if _, visited := behind[c.Name]; c.Read && !visited && !slices.Contains(everybodys, c.Name) {
				t.Error("requests may read it: put it into behind and populate, so that the wall is tried")
			}
		})
	}
}
