package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func idsOf(uploads []upload.Upload) (ids []upload.ID) {
	for _, u := range uploads {
		ids = append(ids, u.ID)
	}
	return ids
}

func TestListUploads(t *testing.T) {
	b := newBench(t)
	var ids []upload.ID // newest first
	for n := range 9 {
		u := staged("user_123")
		if n%3 == 0 {
			u.Provider = "cloudinary"
		}
		u = b.accepted(t, u)
		b.accepted(t, staged("somebody else"))
		ids = slices.Insert(ids, 0, u.ID)
	}
	b.exec(t, `UPDATE slipway.uploads SET status = 'failed' WHERE id = ANY ($1)`, ids[:2])
	b.exec(t, `UPDATE slipway.uploads SET status = 'joined' WHERE id = $1`, ids[2])
	b.exec(t, `UPDATE slipway.uploads SET status = 'deleted' WHERE id = $1`, ids[3])
	tests := map[string]struct {
		filter postgres.UploadFilter
		want   []upload.ID
	}{
		"all, newest first":    {postgres.UploadFilter{Limit: 10}, slices.Concat(ids[:2], ids[4:])},
		"a page":               {postgres.UploadFilter{Limit: 3}, slices.Concat(ids[:2], ids[4:5])},
		"the next page":        {postgres.UploadFilter{Limit: 3, Before: ids[4]}, ids[5:8]},
		"by status":            {postgres.UploadFilter{Limit: 10, Statuses: []upload.Status{upload.Failed}}, ids[:2]},
		"by statuses":          {postgres.UploadFilter{Limit: 10, Statuses: []upload.Status{upload.Failed, upload.Queued}}, slices.Concat(ids[:2], ids[4:])},
		"by provider":          {postgres.UploadFilter{Limit: 10, Provider: "cloudinary"}, []upload.ID{ids[5], ids[8]}},
		"of a status of none":  {postgres.UploadFilter{Limit: 10, Statuses: []upload.Status{upload.Joined}}, nil},
		"everything about one": {postgres.UploadFilter{Limit: 10, Provider: "cloudinary", Statuses: []upload.Status{upload.Queued}, Before: ids[5]}, ids[8:]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			page, err := asUser(t, b, func(tx pgx.Tx) (postgres.UploadPage, error) {
				return postgres.ListUploads(t.Context(), tx, "user_123", tt.filter)
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := idsOf(page.Uploads); !slices.Equal(got, tt.want) {
				t.Errorf("ids = %v, want %v", got, tt.want)
			}
		})
	}
}

// past has a user's history of many uploads, in which what is rare is old: the newest third is deleted, another third
// waits or is completed, and the oldest has what is looked for.
func past(t *testing.T, b bench, user string, many int) {
	t.Helper()
	b.exec(t, `
		INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts, error_code, created_at)
		SELECT gen_random_uuid(), $1,
		       CASE WHEN n <= $2 / 3 THEN 'deleted'
		            WHEN n <= $2 - 600 THEN (ARRAY['completed', 'completed', 'queued', 'failed', 'canceled'])[1 + n % 5]
		            WHEN n % 2 = 0 THEN 'failed' ELSE 'expired' END,
		       CASE WHEN n > $2 - 300 AND n % 3 = 0 THEN 'cloudinary' ELSE 'uploadcare' END,
		       CASE WHEN n > $2 - 20 THEN 'rare' WHEN n > $2 - 4000 THEN 'old' WHEN n % 2 = 0 THEN 'IMG_' ELSE 'film_' END || n,
		       'text/plain', 1, 3,
		       CASE WHEN n > $2 - 300 THEN 'integrity' WHEN n % 5 = 3 THEN 'provider_rejected' END,
		       now() - n * interval '1 minute'
		FROM generate_series(1, $2) n`, user, many)
}

// rowsRead is how many rows of uploads, or entries of their indexes, a connection has read; it grows within a transaction.
const rowsRead = `
	SELECT (SELECT pg_stat_get_xact_tuples_returned('slipway.uploads'::regclass))
	     + (SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'slipway.uploads'::regclass)::bigint`

// Each combination of filters is asked for, from the beginning of the list and from far behind it, as often as it takes to
// have its statements planned for all values at once.
func TestNoFilterReadsAUsersWholeHistory(t *testing.T) {
	const many, page = 15_000, 20
	fill := newBench(t)
	for _, user := range []string{"user_123", "somebody else"} {
		past(t, fill, user, many)
	}
	fill.exec(t, `VACUUM ANALYZE slipway.uploads`)
	behind := one[upload.ID](t, fill.Pool, `SELECT id FROM slipway.uploads WHERE user_id = 'user_123' AND status = 'completed' ORDER BY created_at DESC OFFSET 2000 LIMIT 1`)
	ago := func(minutes int) *time.Time { return new(time.Now().Add(-time.Duration(minutes) * time.Minute)) }

	type choice struct {
		name string
		set  func(*postgres.UploadFilter)
	}
	none := choice{"", func(*postgres.UploadFilter) {}}
	choices := [][]choice{
		{none, {"status", func(f *postgres.UploadFilter) { f.Statuses = []upload.Status{upload.Expired} }},
			{"statuses", func(f *postgres.UploadFilter) { f.Statuses = []upload.Status{upload.Failed, upload.Receiving} }}},
		{none, {"provider", func(f *postgres.UploadFilter) { f.Provider = "cloudinary" }}},
		{none, {"code", func(f *postgres.UploadFilter) { f.ErrorCode = "integrity" }}, {"many's code", func(f *postgres.UploadFilter) { f.ErrorCode = "provider_rejected" }}},
		{none, {"after", func(f *postgres.UploadFilter) { f.CreatedAfter = ago(many - 10) }}, {"before", func(f *postgres.UploadFilter) { f.CreatedBefore = ago(many - 10) }}},
		{none, {"rare name", func(f *postgres.UploadFilter) { f.NamePrefix = "rare" }}, {"old name", func(f *postgres.UploadFilter) { f.NamePrefix = "old" }}},
		{none, {"behind", func(f *postgres.UploadFilter) { f.Before = behind }}},
	}
	combinations := []choice{none}
	for _, more := range choices {
		var next []choice
		for _, c := range combinations {
			for _, m := range more {
				next = append(next, choice{strings.TrimSpace(c.name + " " + m.name), func(f *postgres.UploadFilter) { c.set(f); m.set(f) }})
			}
		}
		combinations = next
	}
	for _, plan := range []string{"force_custom_plan", "force_generic_plan"} {
		most := map[bool]int64{}
		b := benchAt(t, postgres.Options{URL: postgrestest.Server(t).URL(one[string](t, fill.Pool, `SELECT current_database()`))})
		for _, c := range combinations {
			f := postgres.UploadFilter{Limit: page}
			c.set(&f)
			var before, after int64
			err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT set_config('plan_cache_mode', $1, true)`, plan); err != nil {
					return err
				}
				if err := tx.QueryRow(t.Context(), rowsRead).Scan(&before); err != nil {
					return err
				}
				if _, err := postgres.ListUploads(t.Context(), tx, "user_123", f); err != nil {
					return err
				}
				return tx.QueryRow(t.Context(), rowsRead).Scan(&after)
			})
			if err != nil {
				t.Fatal(err)
			}
			bound := int64(700) // 24 pages, and their rows
			if f.NamePrefix != "" {
				bound = 4000 // 500 of each status at each provider that the user has, and as many names
			}
			read := after - before
			if read > bound {
				t.Errorf("%s, %q reads %d rows of a history of %d, want at most %d", plan, c.name, read, many, bound)
			}
			most[f.NamePrefix != ""] = max(most[f.NamePrefix != ""], read)
		}
		if most[false] == 0 || most[true] == 0 {
			t.Error("nothing was read")
		}
		t.Logf("%s: %d combinations read at most %d rows, and %d with a name", plan, len(combinations), most[false], most[true])
	}
}

// Whatever a list is narrowed by, its pages have together what is asked for, once and in order.
func TestPagesHaveWhatIsAskedFor(t *testing.T) {
	b := newBench(t)
	past(t, b, "user_123", 6000)
	b.exec(t, `UPDATE slipway.uploads SET created_at = (SELECT max(created_at) FROM slipway.uploads) WHERE file_name LIKE 'IMG_%5'`) // at the same time
	b.exec(t, `UPDATE slipway.uploads SET partial = true WHERE status = 'canceled' AND file_name LIKE '%7'`)
	rows, err := b.Query(t.Context(), `SELECT id, status, provider, coalesce(error_code, ''), file_name, created_at FROM slipway.uploads WHERE NOT partial ORDER BY created_at DESC, id DESC`)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID                   upload.ID
		Status               upload.Status
		Provider, Code, Name string
		At                   time.Time
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	pick := func(of ...string) string { return of[rand.IntN(len(of))] }
	short := 0
	for range 60 {
		f := postgres.UploadFilter{
			Provider: pick("", "", "uploadcare", "cloudinary"), ErrorCode: pick("", "", "integrity", "provider_rejected"),
			NamePrefix: pick("", "", "IMG_", "old", "rare", "film_1", "none"), Limit: 1 + rand.IntN(300),
		}
		for range rand.IntN(3) {
			f.Statuses = append(f.Statuses, upload.Statuses()[rand.IntN(len(upload.Statuses()))])
		}
		if rand.IntN(3) == 0 {
			f.CreatedAfter = &all[rand.IntN(len(all))].At
		}
		if rand.IntN(3) == 0 {
			f.CreatedBefore = &all[rand.IntN(len(all))].At
		}
		var want, got []upload.ID
		for _, r := range all {
			if r.Status != upload.Deleted && (len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)) && (f.Provider == "" || f.Provider == r.Provider) &&
				(f.ErrorCode == "" || f.ErrorCode == r.Code) && strings.HasPrefix(r.Name, f.NamePrefix) &&
				(f.CreatedAfter == nil || r.At.After(*f.CreatedAfter)) && (f.CreatedBefore == nil || r.At.Before(*f.CreatedBefore)) {
				want = append(want, r.ID)
			}
		}
		asked := fmt.Sprintf("%+v", f)
		for more := true; more; more = f.Before != "" {
			page, err := asUser(t, b, func(tx pgx.Tx) (postgres.UploadPage, error) {
				return postgres.ListUploads(t.Context(), tx, "user_123", f)
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Uploads) < f.Limit && page.Next != "" {
				short++
			}
			got = append(got, idsOf(page.Uploads)...)
			f.Before = page.Next
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d uploads, want %d", asked, len(got), len(want))
		}
	}
	if short == 0 {
		t.Error("no page was short: nothing was looked through")
	}
}
