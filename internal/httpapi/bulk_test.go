package httpapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// failed makes n uploads that have failed, one a minute since the year began, and returns them oldest first.
func (s *site) failed(t testing.TB, user string, n int, set string) (ids []upload.ID) {
	t.Helper()
	for range n {
		ids = append(ids, upload.NewID())
	}
	s.exec(t, `
		INSERT INTO slipway.uploads (id, user_id, status, provider, resource_type, file_name, content_type, size, received_bytes, crc32c, max_attempts,
		                             job_id, attempt, progress, created_at, staged_at, staged_until,
		                             error_code, error_message, error_retryable, error_fixable_by)
		SELECT f.id, $2, 'failed', 'uploadcare', 'image', 'a.jpg', 'image/jpeg', 5, 5, 0, 10,
		       1, 10, 0.5, '2026-01-01Z'::timestamptz + n * interval '1 minute', now(), now() + interval '1 day',
		       'provider_unavailable', 'Uploadcare answered 503.', true, 'provider'
		FROM unnest($1::uuid[]) WITH ORDINALITY AS f(id, n)`, ids, user)
	if set != "" {
		s.exec(t, `UPDATE slipway.uploads SET `+set+` WHERE id = ANY ($1)`, ids)
	}
	return ids
}

func (s *site) retryAll(t testing.TB, path, body string, status int, headers ...string) retryAnswer {
	t.Helper()
	return into[retryAnswer](t, s.do(t, "POST", path, strings.NewReader(body), headers...), status)
}

// wantRetried checks that each of these waits for a worker, as if it had never failed, and that its owner has been told.
func (s *site) wantRetried(t testing.TB, ids []upload.ID) {
	t.Helper()
	var n int
	must(t, s.pool.QueryRow(t.Context(), `
		SELECT count(*)
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id AND j.args ->> 'upload_id' = u.id::text AND j.metadata ->> 'user_id' = u.user_id AND j.state = 'available'
		WHERE u.id = ANY ($1) AND u.status = 'queued' AND u.attempt = 0 AND u.error_code IS NULL AND u.staged_until IS NULL AND u.deliver_by > now() AND u.version = 2
		  AND 1 = (SELECT count(*) FROM slipway.upload_events e WHERE e.upload_id = u.id AND e.user_id = u.user_id AND e.type = 'status' AND e.status = 'queued' AND e.data = '{"reason": "retry"}')
		  AND 1 = (SELECT count(*) FROM slipway.river_job o WHERE o.args ->> 'upload_id' = u.id::text)`, ids).Scan(&n))
	if n != len(ids) {
		t.Errorf("%d of %d wait for a worker", n, len(ids))
	}
}

// all is everything that the database says of uploads.
func (s *site) all(t testing.TB) (text string) {
	t.Helper()
	must(t, s.pool.QueryRow(t.Context(), `
		SELECT jsonb_build_array(
		    (SELECT jsonb_agg(u ORDER BY id) FROM slipway.uploads u),
		    (SELECT jsonb_agg(e ORDER BY seq) FROM slipway.upload_events e),
		    (SELECT jsonb_agg(j ORDER BY id) FROM slipway.river_job j),
		    (SELECT jsonb_agg(c) FROM slipway.usage_changes c))::text`).Scan(&text))
	return text
}

// reasons are why uploads were not retried.
func (v retryAnswer) reasons() map[upload.Code][]upload.ID {
	all := map[upload.Code][]upload.ID{}
	for _, g := range v.NotRetried {
		all[g.Code] = g.IDs
		if g.Count != len(g.IDs) || g.Message == "" {
			all[g.Code] = nil
		}
	}
	return all
}

func TestRetryWhatAFilterChooses(t *testing.T) {
	s := open(t, nil)
	plain := s.failed(t, "alice", 3, "")
	rejected := s.failed(t, "alice", 2, `error_code = 'provider_rejected'`)
	elsewhere := s.failed(t, "alice", 2, `provider = 'cloudinary', file_name = 'b_%.jpg'`)
	later := s.failed(t, "alice", 1, `created_at = '2026-03-01Z'`)
	gone := s.failed(t, "alice", 1, `unstaged_at = now(), error_code = 'worker_lost'`)
	s.failed(t, "alice", 1, `partial = true`)
	s.failed(t, "alice", 1, `status = 'canceled'`)
	s.failed(t, "bob", 2, "")
	tests := map[string]struct {
		choice string
		want   []upload.ID
	}{
		"all of them":           {``, slices.Concat(plain, rejected, elsewhere, later)},
		"by the error":          {`,"error_code":"provider_rejected"`, rejected},
		"by the provider":       {`,"provider":"cloudinary"`, elsewhere},
		"by the name":           {`,"q":"b_%"`, elsewhere},
		"since a time":          {`,"created_after":"2026-02-28T22:59:59-01:00"`, later},
		"not at the very time":  {`,"created_after":"2026-02-28T23:00:00-01:00"`, nil},
		"until a time":          {`,"created_before":"2026-01-01T00:01:30Z"`, []upload.ID{plain[0], rejected[0], elsewhere[0]}},
		"by ids":                {fmt.Sprintf(`,"ids":[%q,%q,%q]`, later[0], plain[1], later[0]), []upload.ID{plain[1], later[0]}},
		"no ids are none":       {`,"ids":[]`, nil},
		"null is not asked for": {`,"error_code":"provider_rejected","ids":null,"limit":null,"created_after":null,"provider":null`, rejected},
	}
	before := s.all(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := s.retryAll(t, retryAllPath, `{"dry_run":true`+tt.choice+`}`, 200)
			if !v.DryRun || v.Next != nil || v.Retried.Count != len(tt.want) || !slices.Equal(v.Retried.IDs, append([]upload.ID{}, tt.want...)) {
				t.Errorf("it would retry %+v, want %v", v, tt.want)
			}
		})
	}
	if now := s.all(t); now != before {
		t.Errorf("asking what would be done has changed\n%s\nto\n%s", before, now)
	}

	v := s.retryAll(t, retryAllPath, `{}`, 202)
	want := slices.Concat(plain, rejected, elsewhere, later)
	if v.DryRun || !slices.Equal(v.Retried.IDs, want) || !maps.EqualFunc(v.reasons(), map[upload.Code][]upload.ID{upload.BytesGone: gone}, slices.Equal) {
		t.Errorf("retried was %+v", v)
	}
	s.wantRetried(t, want)
	if n := s.count(t, `slipway.uploads WHERE user_id = 'bob' AND version = 1`); n != 2 {
		t.Errorf("of bob's two %d are as they were", n)
	}
	if again := s.retryAll(t, retryAllPath, `{}`, 202); again.Retried.Count != 0 || again.Retried.IDs == nil {
		t.Errorf("the second time it was %+v", again)
	}
	s.wantRetried(t, want)
}

func TestRetryTellsWhyNot(t *testing.T) {
	s := open(t, nil)
	ok, gone := s.failed(t, "alice", 1, ""), s.failed(t, "alice", 1, `unstaged_at = now()`)
	canceled, joined := s.failed(t, "alice", 1, `status = 'canceled'`), s.failed(t, "alice", 1, `status = 'joined'`)
	foreign, unknown := s.failed(t, "bob", 1, ""), []upload.ID{upload.NewID()}
	var ids []string
	for _, id := range slices.Concat(ok, gone, canceled, joined, foreign, unknown, unknown) {
		ids = append(ids, fmt.Sprintf("%q", id))
	}
	v := s.retryAll(t, retryAllPath, `{"ids":[`+strings.Join(ids, ",")+`]}`, 202)
	want := map[upload.Code][]upload.ID{upload.BytesGone: gone, upload.NotFailed: canceled, upload.NotFound: slices.Concat(joined, foreign, unknown)}
	if !slices.Equal(v.Retried.IDs, ok) || !maps.EqualFunc(v.reasons(), want, slices.Equal) || v.Next != nil {
		t.Errorf("got %+v, want %v", v, want)
	}
	s.wantRetried(t, ok)
	if n := s.count(t, `slipway.river_job`); n != 1 {
		t.Errorf("there are %d jobs", n)
	}
}

func TestRetryBatchAfterBatch(t *testing.T) {
	s := open(t, nil)
	ids := s.failed(t, "alice", 7, "")
	s.exec(t, `UPDATE slipway.uploads SET unstaged_at = now() WHERE id = $1`, ids[2])
	path, body := retryAllPath, `{"error_code":"provider_unavailable","limit":3}`
	var batches []int
	for range 5 {
		v := s.retryAll(t, path, body, 202)
		if again := s.retryAll(t, path, body, 202); len(batches) > 0 && again.Retried.Count > 3-v.Retried.Count {
			t.Errorf("sent twice it retried %v after %v", again.Retried, v.Retried)
		}
		batches = append(batches, v.Retried.Count)
		if v.Next == nil {
			break
		}
		path = *v.Next
	}
	if slices.Max(batches) > 3 || s.count(t, `slipway.uploads WHERE status = 'failed'`) != 1 {
		t.Errorf("the batches were %v", batches)
	}
	s.wantRetried(t, slices.Delete(ids, 2, 3))

	more := s.failed(t, "alice", 3, "")
	v := s.retryAll(t, retryAllPath, `{"limit":1}`, 202) // of the one whose bytes are gone
	if v.Retried.Count != 0 || v.Next == nil {
		t.Fatalf("got %+v", v)
	}
	cursor := *v.Next
	wantCode(t, s.do(t, "POST", cursor, strings.NewReader(`{}`), as(t, "bob")), 400, upload.InvalidCursor)
	wantCode(t, s.do(t, "GET", uploadsPath+"?cursor="+cursorIn(t, cursor), nil), 400, upload.InvalidCursor)
	if v := s.retryAll(t, cursor, `{}`, 202); !slices.Equal(v.Retried.IDs, more) {
		t.Errorf("the rest is %+v", v)
	}
}

func TestRetryWithinTheQuota(t *testing.T) {
	s := openWithin(t, postgres.Limits{StoredBytes: most(100)})
	huge := s.failed(t, "alice", 1, `size = 101`)
	first := s.failed(t, "alice", 1, `size = 60`)
	second := s.failed(t, "alice", 1, `size = 60`)
	small := s.failed(t, "alice", 1, `size = 30`)
	want := map[upload.Code][]upload.ID{upload.TooLarge: huge, upload.StoredQuota: second}
	fits := slices.Concat(first, small)
	for _, body := range []string{`{"dry_run":true}`, `{}`} {
		r := s.do(t, "POST", retryAllPath, strings.NewReader(body))
		v := into[retryAnswer](t, r, r.StatusCode)
		if !slices.Equal(v.Retried.IDs, fits) || !maps.EqualFunc(v.reasons(), want, slices.Equal) {
			t.Errorf("%s: got %s", body, r.text)
		}
	}
	s.wantRetried(t, fits)
	v := s.retryAll(t, retryAllPath, `{}`, 202)
	if v.Retried.Count != 0 || !maps.EqualFunc(v.reasons(), want, slices.Equal) {
		t.Errorf("the second time it was %+v", v)
	}
}

// Whoever asks at the same time shares the work: nothing is retried twice.
func TestRetryAtTheSameTime(t *testing.T) {
	for name, limits := range map[string]postgres.Limits{"with quotas": {StoredBytes: most(1 << 40)}, "without": {}} {
		t.Run(name, func(t *testing.T) {
			s := openWithin(t, limits)
			ids := s.failed(t, "alice", 300, "")
			var retried atomic.Int64
			var all sync.WaitGroup
			for n := range 4 {
				all.Go(func() {
					for path := retryAllPath; path != ""; {
						r, err := s.send(t, "POST", path, strings.NewReader(fmt.Sprintf(`{"limit":%d}`, 50+n)))
						if err != nil || r.StatusCode != 202 {
							t.Errorf("got %v %s", err, r.text)
							return
						}
						v := into[retryAnswer](t, r, 202)
						retried.Add(int64(v.Retried.Count))
						if path = ""; v.Next != nil {
							path = *v.Next
						}
					}
				})
			}
			all.Go(func() { // who retries single ones meanwhile
				for _, id := range ids[100:120] {
					if r, err := s.send(t, "POST", retryPath(id), nil); err == nil && r.StatusCode == 202 {
						retried.Add(1)
					} else if err != nil || r.StatusCode != 409 {
						t.Errorf("a single one: %v %s", err, r.text)
					}
				}
			})
			all.Wait()
			if n := retried.Load(); n != int64(len(ids)) {
				t.Errorf("%d of %d were retried", n, len(ids))
			}
			s.wantRetried(t, ids)
		})
	}
}

func TestWhatChoosesNothingThatIsKnownRetriesNothing(t *testing.T) {
	s := open(t, nil)
	s.failed(t, "alice", 1, "")
	many := strings.Repeat(`"`+noUploadID+`",`, maxBatch) + `"` + noUploadID + `"`
	for name, tt := range map[string]struct {
		body   string
		status int
		code   upload.Code
	}{
		"no body":                 {``, 400, upload.InvalidRequest},
		"no JSON":                 {`all`, 400, upload.InvalidRequest},
		"a list":                  {`[]`, 400, upload.InvalidRequest},
		"two bodies":              {`{}{"dry_run":true}`, 400, upload.InvalidRequest},
		"a member with a slip":    {`{"error_codes":"session_lost"}`, 400, upload.InvalidRequest},
		"a time that is none":     {`{"created_after":"yesterday"}`, 400, upload.InvalidRequest},
		"nested without end":      {strings.Repeat(`[`, 100), 400, upload.JSONTooDeep},
		"an unknown provider":     {`{"provider":"s3"}`, 422, upload.UnknownProvider},
		"a name with a NUL":       {`{"q":"a\u0000"}`, 422, upload.InvalidParameter},
		"a code with a NUL":       {`{"error_code":"\u0000"}`, 422, upload.InvalidParameter},
		"a batch of none":         {`{"limit":0}`, 422, upload.InvalidParameter},
		"a batch of too many":     {`{"limit":1001}`, 422, upload.InvalidParameter},
		"what is no id":           {`{"ids":["1"]}`, 422, upload.InvalidParameter},
		"too many ids":            {`{"ids":[` + many + `]}`, 422, upload.InvalidParameter},
		"ids beside another wish": {`{"ids":[],"provider":"uploadcare"}`, 422, upload.InvalidParameter},
		"a body that is huge":     {`{"q":"` + strings.Repeat("a", maxJSON) + `"}`, 413, upload.BodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, s.do(t, "POST", retryAllPath, strings.NewReader(tt.body)), tt.status, tt.code)
		})
	}
	if n := s.count(t, `slipway.river_job`); n != 0 {
		t.Errorf("there are %d jobs", n)
	}
}

// statements counts what is sent to the database.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) { s.n.Add(1) }
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// traced is a site that counts the statements of retries.
func traced(t testing.TB) (*site, *statements) {
	sent := new(statements)
	s := open(t, func(a *API, _ *Options) {
		c := a.Pool.Config()
		c.ConnConfig.Tracer = sent
		pool, err := pgxpool.NewWithConfig(t.Context(), c)
		must(t, err)
		t.Cleanup(pool.Close)
		a.Ingest.Pool = pool
		a.Ingest.Queue, err = postgres.NewQueue(pool, postgres.DefaultNames)
		must(t, err)
		a.holdTo(postgres.Limits{StoredBytes: most(1 << 40)})
	})
	return s, sent
}

func TestABatchTakesAsManyStatementsAsOneUpload(t *testing.T) {
	s, sent := traced(t)
	var took []int64
	for _, n := range []int{1, 1, 200} { // the first opens the connection
		s.failed(t, "alice", n, "")
		sent.n.Store(0)
		if v := s.retryAll(t, retryAllPath, `{}`, 202); v.Retried.Count != n {
			t.Fatalf("of %d were retried %d", n, v.Retried.Count)
		}
		took = append(took, sent.n.Load())
	}
	if took[1] != took[2] || took[1] > 12 {
		t.Errorf("one upload takes %d statements, 200 take %d", took[1], took[2])
	}
}

func BenchmarkRetry10000(b *testing.B) {
	s, sent := traced(b)
	for b.Loop() {
		b.StopTimer()
		s.exec(b, `DELETE FROM slipway.uploads`)
		s.exec(b, `DELETE FROM slipway.river_job`)
		for range 10 {
			s.failed(b, "alice", 1000, "")
		}
		s.exec(b, `ANALYZE slipway.uploads`)
		sent.n.Store(0)
		b.StartTimer()
		slowest, retried := time.Duration(0), 0
		for path := retryAllPath; path != ""; {
			begun := time.Now()
			v := s.retryAll(b, path, `{}`, 202)
			slowest, retried = max(slowest, time.Since(begun)), retried+v.Retried.Count
			if path = ""; v.Next != nil {
				path = *v.Next
			}
		}
		if retried != 10_000 {
			b.Fatalf("%d were retried", retried)
		}
		b.ReportMetric(float64(sent.n.Load()), "statements")
		b.ReportMetric(float64(slowest.Milliseconds()), "ms/slowest-batch")
	}
}
