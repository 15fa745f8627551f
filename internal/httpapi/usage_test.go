package httpapi

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

func most(n int64) *int64 { return &n }

// holdTo makes the API hold users to limits.
func (a *API) holdTo(l postgres.Limits) {
	a.Quotas = quota.New(a.Pool, l, slog.New(slog.DiscardHandler))
	a.Ingest.Quotas = a.Quotas
	a.Direct.Claims = &ingest.Direct{Pool: a.Pool, Queue: a.Ingest.Queue, Quotas: a.Quotas, Installation: "slipway-test", MaxAttempts: 10, VerifyWithin: time.Hour}
	a.Direct.Uploadcare = &UploadcareAccount{PublicKey: "pub", SecretKey: "sec"}
}

func openWithin(t *testing.T, l postgres.Limits) *site {
	t.Helper()
	return open(t, func(a *API, _ *Options) { a.holdTo(l) })
}

// twin is another process of the same API, which shares nothing with the first but the database and staging.
func (s *site) twin(t *testing.T) *site {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: s.pool.Config().ConnString()})
	must(t, err)
	t.Cleanup(pool.Close)
	a, in := *s.api, s.api.Ingest
	a.Pool, a.Ingest = pool, &ingest.Ingest{
		Pool: pool, Queue: in.Queue, Staging: in.Staging, Log: in.Log, Providers: in.Providers, DefaultProvider: in.DefaultProvider,
		MaxBytes: in.MaxBytes, MaxAttempts: in.MaxAttempts, DeliverWithin: in.DeliverWithin,
	}
	a.holdTo(s.api.Quotas.Limits())
	other := *s
	other.api, other.pool = &a, pool
	other.running = run(t, Options{}, func(server *Server) { server.Mount(&a) })
	other.url = "http://" + other.addr
	return &other
}

func (s *site) usage(t *testing.T, headers ...string) usageView {
	t.Helper()
	return into[usageView](t, s.do(t, "GET", "/v1/usage", nil, headers...), http.StatusOK)
}

// unsized hides the length of what is read, so that it is sent in chunks.
type unsized struct{ io.Reader }

// Many at once, over two processes: as many get in as may, and what they use stands in the usage.
func TestAsManyUploadsGetInAsMay(t *testing.T) {
	const senders, size, fit = 32, 5, 7
	tests := map[string]struct {
		limits  postgres.Limits
		chunked bool
	}{
		"uploads a day":                   {postgres.Limits{Uploads: most(fit)}, false},
		"staged bytes":                    {postgres.Limits{StagedBytes: most(fit*size + size - 1)}, false},
		"stored bytes":                    {postgres.Limits{StoredBytes: most(fit * size)}, false},
		"staged bytes nobody declared":    {postgres.Limits{StagedBytes: most(fit * size)}, true},
		"stored bytes nobody declared":    {postgres.Limits{StoredBytes: most(fit*size + 1)}, true},
		"uploads a day, of unknown size":  {postgres.Limits{Uploads: most(fit)}, true},
		"stored bytes of a larger staged": {postgres.Limits{StoredBytes: most(fit * size), StagedBytes: most(1000)}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := openWithin(t, tt.limits)
			sites := []*site{first, first.twin(t)}
			statuses := make([]int, senders)
			send := func(i int) {
				var body io.Reader = strings.NewReader("hello")
				if tt.chunked {
					body = unsized{body}
				}
				statuses[i] = sites[i%2].do(t, "POST", "/v1/uploads?file_name=a.txt", body).StatusCode
			}
			var all sync.WaitGroup
			for i := range senders {
				all.Go(func() { send(i) })
			}
			all.Wait()
			for range 2 * fit { // whoever was refused by room that was only held comes again
				for i, status := range statuses {
					if status == http.StatusTooManyRequests {
						send(i)
						break
					}
				}
			}
			got := map[int]int{}
			for _, status := range statuses {
				got[status]++
			}
			if got[202] != fit || got[429] != senders-fit {
				t.Errorf("answers by status: %v, want %d of 202 and the rest 429", got, fit)
			}
			if n := first.count(t, "slipway.uploads"); n != fit {
				t.Errorf("%d uploads were recorded, want %d", n, fit)
			}
			if n := len(first.staged(t)); n != fit {
				t.Errorf("staging holds %d files, want %d", n, fit)
			}
			u := first.usage(t)
			if u.Staged.Files != fit || u.Staged.Bytes != fit*size || u.Stored.Pending.Bytes != fit*size || u.Uploads.Today != fit || u.Receiving.Files != 0 {
				t.Errorf("usage is %+v", u)
			}
		})
	}
}

func TestAsManyUploadsComeInAtTheSameTimeAsMay(t *testing.T) {
	const senders, fit = 32, 5
	first := openWithin(t, postgres.Limits{Receiving: most(fit)})
	sites := []*site{first, first.twin(t)}
	answers := make(chan int, senders)
	var bodies []*io.PipeWriter
	var all sync.WaitGroup
	defer all.Wait()
	for i := range senders {
		r, w := io.Pipe()
		bodies = append(bodies, w)
		all.Go(func() {
			a, err := sites[i%2].send(t, "POST", "/v1/uploads?file_name=a.txt", r)
			if err != nil {
				t.Error(err)
				answers <- 0
				return
			}
			answers <- a.StatusCode
		})
	}
	got := map[int]int{}
	wait := func(n int) {
		t.Helper()
		for range n {
			select {
			case status := <-answers:
				got[status]++
			case <-time.After(patience):
				t.Errorf("answers by status: %v, and no more came", got)
				return
			}
		}
	}
	wait(senders - fit) // are refused while the others have sent nothing
	if u := first.usage(t); got[429] != senders-fit || u.Receiving.Files != fit {
		t.Errorf("answers by status: %v, and %d are coming in; want %d", got, u.Receiving.Files, fit)
	}
	for _, w := range bodies {
		all.Go(func() {
			_, _ = io.WriteString(w, "hello") // those that were refused are not read
			_ = w.Close()
		})
	}
	wait(fit)
	if got[202] != fit {
		t.Errorf("answers by status: %v, want %d of 202", got, fit)
	}
	if u := first.usage(t); u.Receiving.Files != 0 {
		t.Errorf("%d still count as coming in", u.Receiving.Files)
	}
	first.put(t, "one-more.txt")
}

// fields reads a header of the draft as its policies' parameters.
func fields(t *testing.T, r reply, header string) map[string]map[string]any {
	t.Helper()
	list, err := httpsfv.UnmarshalList(r.Header.Values(header))
	if err != nil {
		t.Fatalf("%s %q: %v", header, r.Header.Values(header), err)
	}
	got := map[string]map[string]any{}
	for _, member := range list {
		item := member.(httpsfv.Item)
		params := map[string]any{}
		for _, name := range item.Params.Names() {
			params[name], _ = item.Params.Get(name)
		}
		got[item.Value.(string)] = params
	}
	return got
}

func TestARefusalSaysWhichQuotaAndUntilWhen(t *testing.T) {
	day := func(after int64) bool { return after > 0 && after <= 86400 }
	exactly := func(want int64) func(int64) bool { return func(after int64) bool { return after == want } }
	tests := map[string]struct {
		limits  postgres.Limits
		policy  string
		quota   map[string]any
		left    int64
		code    upload.Code
		after   func(seconds int64) bool
		another func(*site, *testing.T) reply // in the place of a second upload
	}{
		"uploads a day": {postgres.Limits{Uploads: most(1)}, "uploads", map[string]any{"q": int64(1), "w": int64(86400)}, 0, upload.DailyQuota, day, nil},
		"staged bytes":  {postgres.Limits{StagedBytes: most(9)}, "staged-bytes", map[string]any{"q": int64(9), "qu": "content-bytes"}, 4, upload.StagedQuota, exactly(60), nil},
		"stored bytes":  {postgres.Limits{StoredBytes: most(8)}, "stored-bytes", map[string]any{"q": int64(8), "qu": "content-bytes"}, 3, upload.StoredQuota, exactly(3600), nil},
		"the guide's form": {postgres.Limits{Uploads: most(1)}, "uploads", map[string]any{"q": int64(1), "w": int64(86400)}, 0, upload.DailyQuota, day,
			func(s *site, t *testing.T) reply { return s.post(t, "/upload", newForm().file("a.txt", "hello")) }},
		"a form as large as a file": {postgres.Limits{StagedBytes: most(mib)}, "staged-bytes", map[string]any{"q": int64(mib), "qu": "content-bytes"}, mib - 5, upload.StagedQuota, exactly(60),
			func(s *site, t *testing.T) reply {
				return s.post(t, "/upload", newForm().file("a.txt", strings.Repeat("x", mib-1)))
			}},
		"a body whose length nobody knows": {postgres.Limits{StoredBytes: most(1000)}, "stored-bytes", map[string]any{"q": int64(1000), "qu": "content-bytes"}, 995, upload.StoredQuota, exactly(3600),
			func(s *site, t *testing.T) reply {
				return s.do(t, "POST", "/v1/uploads", unsized{strings.NewReader(strings.Repeat("x", 999))})
			}},
		"a reserved upload": {postgres.Limits{Uploads: most(1)}, "uploads", map[string]any{"q": int64(1), "w": int64(86400)}, 0, upload.DailyQuota, day,
			func(s *site, t *testing.T) reply { return s.do(t, "GET", "/v1/direct/uploadcare?reserve=1", nil) }},
		"a reserved upload where all is full": {postgres.Limits{StoredBytes: most(5)}, "stored-bytes", map[string]any{"q": int64(5), "qu": "content-bytes"}, 0, upload.StoredQuota, exactly(3600),
			func(s *site, t *testing.T) reply { return s.do(t, "GET", "/v1/direct/uploadcare?reserve=1", nil) }},
		"a claim": {postgres.Limits{Uploads: most(1)}, "uploads", map[string]any{"q": int64(1), "w": int64(86400)}, 0, upload.DailyQuota, day,
			func(s *site, t *testing.T) reply {
				s.do(t, "GET", "/v1/direct/uploadcare", nil)
				return s.do(t, "POST", "/save-metadata", strings.NewReader(`{"provider":"uploadcare","file_id":"0193f1c2-0000-4000-8000-000000000000"}`))
			}},
		"requests a minute": {postgres.Limits{Requests: most(1)}, "requests", map[string]any{"q": int64(1), "w": int64(60)}, 0, upload.RateLimited,
			func(after int64) bool { return after > 50 && after <= 60 }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openWithin(t, tt.limits)
			s.put(t, "first.txt")
			if tt.another == nil {
				tt.another = func(s *site, t *testing.T) reply { return s.do(t, "POST", "/v1/uploads", strings.NewReader("hello")) }
			}
			r := tt.another(s, t)
			wantCode(t, r, http.StatusTooManyRequests, tt.code)
			if got := fields(t, r, "RateLimit-Policy"); fmt.Sprint(got[tt.policy]) != fmt.Sprint(tt.quota) || len(got) != 1 {
				t.Errorf("RateLimit-Policy is %v, want %s %v", got, tt.policy, tt.quota)
			}
			after, err := strconv.ParseInt(r.Header.Get("Retry-After"), 10, 64)
			if err != nil || !tt.after(after) {
				t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
			}
			if got := fields(t, r, "RateLimit")[tt.policy]; got["r"] != tt.left || got["t"] != after {
				t.Errorf("RateLimit is %v, want r=%d;t=%d", got, tt.left, after)
			}
			if p := r.problem(t); guideRoute(r.Request.URL.Path) && (p.Success == nil || *p.Success || p.Error == "") {
				t.Errorf("the guide's clients get %s", r.text)
			}
			if r := s.do(t, "GET", "/v1/uploads", nil, as(t, "bob")); r.StatusCode != http.StatusOK {
				t.Errorf("another user gets %d", r.StatusCode)
			}
			if n := s.count(t, "slipway.staging_reservations WHERE user_id <> ''"); n != 0 {
				t.Errorf("room is held for %d uploads that were refused", n)
			}
		})
	}
}

func TestAFileThatNeverFitsIsTooLarge(t *testing.T) {
	s := openWithin(t, postgres.Limits{StoredBytes: most(4)})
	for what, body := range map[string]io.Reader{"declared": strings.NewReader("hello"), "in chunks": unsized{strings.NewReader("hello")}} {
		r := s.do(t, "POST", "/v1/uploads", body)
		wantCode(t, r, http.StatusRequestEntityTooLarge, upload.TooLarge)
		if r.Header.Get("Retry-After") != "" {
			t.Errorf("%s: it may be tried again after %s", what, r.Header.Get("Retry-After"))
		}
	}
	s.wantNoTrace(t)
}

func TestARefusalLeavesNoBodyBehind(t *testing.T) {
	s := openWithin(t, postgres.Limits{Uploads: most(1), Requests: most(2)})
	s.put(t, "first.txt")
	authorization := "Authorization: Bearer " + tokenOf(t, "alice") + "\r\n"
	for kind, body := range bodiesWithATail() {
		for _, path := range []string{"/upload", "/v1/uploads"} {
			c := s.dial(t)
			c.send("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n" + authorization + body + head("GET", "/livez"))
			if first, err := c.read("POST"); err != nil || first.StatusCode != http.StatusTooManyRequests && first.StatusCode < 400 {
				t.Errorf("%s %s: first answer is %v, %v", path, kind, first.Response, err)
			}
			if next, err := c.read("GET"); err == nil && next.text != "ok\n" {
				t.Errorf("%s %s: second answer is %d %q, want that to GET /livez or none", path, kind, next.StatusCode, next.text)
			}
		}
	}
}

func TestUsageIsWhatItIs(t *testing.T) {
	s := openWithin(t, postgres.Limits{StoredBytes: most(100), Requests: most(60)})
	s.put(t, "bobs.txt", as(t, "bob"))
	u := s.put(t, "a.txt")
	s.change(t, u.ID, `status = 'failed', staged_until = now() + interval '1 hour'`)
	want := func(what string, staged, pending, stored int64) {
		t.Helper()
		got := s.usage(t)
		if got.Staged.Bytes != staged || got.Stored.Pending.Bytes != pending || got.Stored.Bytes != stored || got.Uploads.Today != 1 {
			t.Errorf("%s: usage is %+v", what, got)
		}
	}
	want("failed", 5, 0, 0)
	if r := s.do(t, "POST", "/v1/uploads/"+string(u.ID)+"/retry", nil); r.StatusCode != http.StatusAccepted {
		t.Fatalf("retry: %d %s", r.StatusCode, r.text)
	}
	want("sent again", 5, 5, 0)
	s.complete(t, u.ID)
	want("completed", 5, 0, 5)
	s.change(t, u.ID, `unstaged_at = now()`)
	want("unstaged", 0, 0, 5)
	s.change(t, u.ID, `status = 'deleted', asset = NULL`)
	want("deleted", 0, 0, 0)

	got := s.usage(t)
	if l := got.Stored.Limit; l == nil || *l != 100 || got.Staged.Limit != nil || got.Uploads.Limit != nil || got.Receiving.Limit != nil {
		t.Errorf("limits are not what they are: %+v", got)
	}
	if got.Requests.Limit == nil || *got.Requests.Limit != 60 || got.Requests.Left == nil || *got.Requests.Left >= 60 || got.Requests.ResetsAt == nil {
		t.Errorf("requests are %+v", got.Requests)
	}
	if until := time.Until(got.Uploads.ResetsAt); until <= -time.Second || until > 24*time.Hour {
		t.Errorf("the day ends at %s", got.Uploads.ResetsAt)
	}
}

func TestARetryNeedsRoom(t *testing.T) {
	s := openWithin(t, postgres.Limits{StoredBytes: most(9)})
	u := s.put(t, "a.txt")
	s.change(t, u.ID, `status = 'failed', staged_until = now() + interval '1 hour'`)
	s.put(t, "b.txt")
	wantCode(t, s.do(t, "POST", "/v1/uploads/"+string(u.ID)+"/retry", nil), http.StatusTooManyRequests, upload.StoredQuota)
}

func TestASingleUserMayHaveOtherLimits(t *testing.T) {
	s := openWithin(t, postgres.Limits{Uploads: most(1), Requests: most(600)})
	s.exec(t, `INSERT INTO slipway.user_limits (user_id, uploads_per_day, requests_per_minute) VALUES ('alice', 2, NULL), ('bob', NULL, 0)`)
	s.put(t, "a.txt")
	s.put(t, "b.txt")
	wantCode(t, s.do(t, "POST", "/v1/uploads", strings.NewReader("hello")), http.StatusTooManyRequests, upload.DailyQuota)
	wantCode(t, s.do(t, "GET", "/v1/usage", nil, as(t, "bob")), http.StatusTooManyRequests, upload.RateLimited)
}

func TestWithoutLimitsNothingIsHeldOrTold(t *testing.T) {
	s := open(t, nil)
	r := s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"))
	if r.StatusCode != http.StatusAccepted || r.Header.Get("RateLimit") != "" || r.Header.Get("RateLimit-Policy") != "" {
		t.Errorf("got %d %v", r.StatusCode, r.Header)
	}
	got := s.usage(t)
	if got.Staged.Bytes != 5 || got.Staged.Limit != nil || got.Requests.Limit != nil || got.Requests.Left != nil {
		t.Errorf("usage is %+v", got)
	}
}
