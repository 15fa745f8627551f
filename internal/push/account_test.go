package push_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/providersim"
	"slipway/internal/providersim/uploadcare"
	"slipway/internal/upload"
)

// wire is the way from the workers to the providers, on which a test may answer, and listens.
type wire struct {
	answer func(*http.Request) *http.Response // nil, or nil from it: the provider answers

	mu   sync.Mutex
	sent []sent
	now  int // requests with bytes on their way
	most int
}

// sent is a request with a file's bytes.
type sent struct {
	from, to time.Time
	status   int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	bytes := strings.HasPrefix(r.URL.Path, "/base/") || strings.HasSuffix(r.URL.Path, "/upload") || r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
	began := time.Now()
	w.count(bytes, 1)
	resp, err := w.pass(r)
	w.count(bytes, -1)
	if err == nil && bytes {
		w.mu.Lock()
		w.sent = append(w.sent, sent{began, time.Now(), resp.StatusCode})
		w.mu.Unlock()
	}
	return resp, err
}

func (w *wire) count(bytes bool, n int) {
	if !bytes {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now += n
	w.most = max(w.most, w.now)
}

func (w *wire) pass(r *http.Request) (*http.Response, error) {
	if w.answer != nil {
		if resp := w.answer(r); resp != nil {
			if r.Body != nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
			resp.Request = r
			return resp, nil
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

func answered(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func (y *yard) state(t *testing.T, name string) postgres.ProviderState {
	t.Helper()
	state, err := postgres.Provider(t.Context(), y.pool, name)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (y *yard) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := y.pool.Exec(t.Context(), sql, a...); err != nil {
		t.Fatal(err)
	}
}

// pauses counts how often an account is paused from now on.
func (y *yard) pauses(t *testing.T) func() int {
	t.Helper()
	y.exec(t, `CREATE TABLE pauses (reason text)`)
	y.exec(t, `CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO pauses VALUES (NEW.pause_reason); RETURN NULL; END $$`)
	y.exec(t, `CREATE TRIGGER noted AFTER INSERT OR UPDATE ON slipway.providers FOR EACH ROW WHEN (NEW.paused_until IS NOT NULL) EXECUTE FUNCTION noted()`)
	return func() (n int) {
		t.Helper()
		if err := y.pool.QueryRow(t.Context(), `SELECT count(*) FROM pauses`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func TestAPoisonedFileNeverPausesTheOthers(t *testing.T) {
	tests := map[string]struct {
		provider string
		answer   func() *http.Response
		code     upload.Code
	}{
		"its content is refused":                    {"uploadcare", func() *http.Response { return answered(400, "The file is infected by EICAR virus.") }, upload.ProviderRejected},
		"it is denied with keys that are good":      {"uploadcare", func() *http.Response { return answered(403, "No.") }, upload.ProviderAccount},
		"it makes the provider stumble":             {"uploadcare", func() *http.Response { return answered(500, "Internal error.") }, upload.ProviderUnavailable},
		"its content is refused by Cloudinary":      {"cloudinary", func() *http.Response { return answered(400, `{"error":{"message":"Invalid image file"}}`) }, upload.ProviderRejected},
		"its signature is wrong with keys that fit": {"cloudinary", func() *http.Response { return answered(401, `{"error":{"message":"Invalid Signature 1"}}`) }, upload.ProviderAccount},
		"it is not allowed in the account's plan":   {"cloudinary", func() *http.Response { return answered(403, `{"error":{"message":"Not enabled"}}`) }, upload.ProviderAccount},
		"it makes Cloudinary stumble":               {"cloudinary", func() *http.Response { return answered(500, `{"error":{"message":"General Error"}}`) }, upload.ProviderUnavailable},
		"it is more than Cloudinary's plan can take": {"cloudinary", func() *http.Response {
			return answered(400, `{"error":{"message":"File size too large. Got 7000. Maximum is 10."}}`)
		}, upload.ProviderRejected},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			const size = 77_000
			y.line = &wire{answer: func(r *http.Request) *http.Response {
				if r.ContentLength > size && r.ContentLength < size+5000 {
					return tt.answer()
				}
				return nil
			}}
			pauses := y.pauses(t)
			y.worker(t)
			poisoned := y.accept(t, tt.provider, random(size))
			var others []upload.ID
			for range 6 {
				others = append(others, y.accept(t, tt.provider, random(1000)).ID)
			}
			for _, id := range others {
				if u := y.awaitStatus(t, id, upload.Completed); u.Attempt != 1 {
					t.Errorf("another file took %d attempts", u.Attempt)
				}
			}
			if u := y.awaitStatus(t, poisoned.ID, upload.Failed); u.Error.Code != tt.code {
				t.Errorf("failed with %+v, want %s", u.Error, tt.code)
			}
			if n := pauses(); n != 0 {
				t.Errorf("the account was paused %d times", n)
			}
		})
	}
}

func TestOneStumbleOverTheAccountItselfPausesNobody(t *testing.T) {
	for provider, question := range map[string]string{"uploadcare": "^/project/", "cloudinary": "/ping$"} {
		for name, rule := range map[string]providersim.Rule{
			"an answer that is none": {Action: providersim.Answer, Status: 502, Body: "<html>"},
			"a cut connection":       {Action: providersim.ResetBefore},
		} {
			t.Run(provider+", "+name, func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				pauses := y.pauses(t)
				rule.Path, rule.Times = question, 1
				y.fault(t, provider, rule)
				y.worker(t)
				if u := y.awaitStatus(t, y.accept(t, provider, random(1000)).ID, upload.Completed); u.Attempt != 1 {
					t.Errorf("the upload took %d attempts", u.Attempt)
				}
				if n := pauses(); n != 0 {
					t.Errorf("the account was paused %d times", n)
				}
				if rules := y.controls[provider].Faults.List(); rules[0].Hits != 1 {
					t.Errorf("the question was asked %d times amiss, want once", rules[0].Hits)
				}
			})
		}
	}
}

func TestAnAccountInTroubleKeepsItsUploadsWaiting(t *testing.T) {
	for _, account := range []string{"unpaid", "blocked", "limits"} {
		t.Run(account, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			line := &wire{}
			y.line = line
			set := func(to string) {
				if err := y.uploadcare.Configure(func(c *uploadcare.Config) { c.Account = to }); err != nil {
					t.Fatal(err)
				}
			}
			set(account)
			var ids []upload.ID
			for range 5 {
				ids = append(ids, y.accept(t, "uploadcare", random(1000)).ID)
			}
			y.worker(t)
			for _, id := range ids {
				u := y.await(t, id, "told", func(u upload.Upload) bool { return u.Error != nil })
				if u.Error.Code != upload.ProviderAccount || u.Error.FixableBy != upload.ByOperator || u.Status.Final() || u.Attempt > 1 {
					t.Errorf("%s at attempt %d with %+v", u.Status, u.Attempt, u.Error)
				}
			}
			set("")
			for _, id := range ids {
				if u := y.awaitStatus(t, id, upload.Completed); u.Attempt != 1 {
					t.Errorf("the pause has cost attempts: %d", u.Attempt)
				}
			}
			if got := y.lasting(t, "uploadcare"); len(got) != len(ids) {
				t.Errorf("%d assets of %d", len(got), len(ids))
			}
		})
	}
}

// A second stands for ten minutes, and the 50 ms between probes for 30 s.
func TestAnOutageIsOnePauseThatCostsNoAttempt(t *testing.T) {
	const outage = time.Second
	tests := map[string]struct {
		provider, down string
	}{
		"all of Uploadcare":            {"uploadcare", "."},
		"Uploadcare's uploads alone":   {"uploadcare", "^/(base|multipart)/"},
		"all of Cloudinary":            {"cloudinary", "."},
		"Cloudinary's uploads alone":   {"cloudinary", "/upload$"},
		"Cloudinary, by a lone upload": {"cloudinary", "."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			y.fault(t, tt.provider, providersim.Rule{Path: tt.down, Action: providersim.Answer, Status: 503, Body: "<html>"})
			n := 8
			if strings.Contains(name, "by a lone") {
				n = 1
			}
			var ids []upload.ID
			for range n {
				ids = append(ids, y.accept(t, tt.provider, random(1000)).ID)
			}
			y.worker(t)
			y.await(t, ids[0], "told of the outage", func(u upload.Upload) bool {
				return u.Error != nil && u.Error.Code == upload.ProviderUnavailable && y.state(t, tt.provider).PausedUntil != nil
			})
			over := time.NewTimer(outage)
			defer over.Stop()
			<-over.C
			for _, id := range ids {
				if u, err := postgres.UploadOf(t.Context(), y.pool, id); err != nil || u.Status.Final() {
					t.Errorf("in the outage: %s, %+v, %v", u.Status, u.Error, err)
				}
			}
			controls := y.controls[tt.provider]
			controls.Requests.Clear()
			controls.Faults.Clear()
			for _, id := range ids {
				if u := y.awaitStatus(t, id, upload.Completed); u.Attempt != 1 {
					t.Errorf("the outage has cost attempts: %d", u.Attempt)
				}
			}
			probes := len(controls.Requests.Find("", regexp.MustCompile(`^/project/|/ping$`)))
			if probes > 2 {
				t.Errorf("it took %d probes to see that the outage is over", probes)
			}
		})
	}
}

func TestNobodySendsBeforeARetryAfterHasPassed(t *testing.T) {
	const part = 64 * kib
	tests := map[string]struct {
		provider string
		size     int
		refusal  providersim.Rule
	}{
		"Uploadcare's posts":  {"uploadcare", 1000, providersim.Rule{Path: "^/base/", Status: 429, Body: "Request was throttled."}},
		"Uploadcare's parts":  {"uploadcare", 6 * part, providersim.Rule{Path: "partNumber=2", Status: 503, Body: "<Error><Code>SlowDown</Code></Error>"}},
		"Cloudinary's posts":  {"cloudinary", 1000, providersim.Rule{Path: "/upload$", Status: 420, Body: `{"error":{"message":"Rate Limit Exceeded"}}`}},
		"Cloudinary's chunks": {"cloudinary", 4 * part, providersim.Rule{Path: "/upload$", Skip: 2, Status: 429, Body: `{"error":{"message":"Too many"}}`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			line := &wire{}
			y.line = line
			tt.refusal.Action, tt.refusal.Times, tt.refusal.Header = providersim.Answer, 1, map[string]string{"Retry-After": "2"}
			y.fault(t, tt.provider, tt.refusal)
			y.small(t, part, 10*time.Second)
			var ids []upload.ID
			for range 6 {
				ids = append(ids, y.accept(t, tt.provider, random(tt.size)).ID)
			}
			y.worker(t)
			y.worker(t) // another process
			for _, id := range ids {
				if u := y.awaitStatus(t, id, upload.Completed); u.Attempt != 1 {
					t.Errorf("the wait has cost attempts: %d", u.Attempt)
				}
			}
			line.mu.Lock()
			defer line.mu.Unlock()
			at := slices.IndexFunc(line.sent, func(s sent) bool { return s.status == tt.refusal.Status })
			if at < 0 {
				t.Fatal("nobody was throttled: the test has proven nothing")
			}
			const written = 300 * time.Millisecond // until every worker reads of it
			asked := line.sent[at].to
			for _, s := range line.sent {
				if s.from.After(asked.Add(written)) && s.from.Before(asked.Add(2*time.Second)) {
					t.Errorf("%s after they asked to wait 2 s, somebody sent", s.from.Sub(asked))
				}
			}
		})
	}
}

func TestAThrottleHalvesWhatIsOnItsWay(t *testing.T) {
	const part = 64 * kib
	y := newYard(t)
	y.small(t, part, 10*time.Second)
	line := &wire{}
	y.line = line
	y.fault(t, "uploadcare", providersim.Rule{Path: "^/base/", Times: 1, Action: providersim.Answer, Status: 429, Body: "Request was throttled."})
	y.worker(t)
	u := y.accept(t, "uploadcare", random(1000))
	y.awaitStatus(t, u.ID, upload.Completed)
	half := len(upload.Queues("uploadcare")) * y.settings.FilesInFlight * y.settings.PartsInFlight / 2
	if got := y.state(t, "uploadcare"); got.MaxParallel != half || got.Throttles != 1 || got.PausedUntil != nil {
		t.Errorf("after a throttle %+v, want %d at once and no pause left", got, half)
	}
	y.exec(t, `UPDATE slipway.providers SET quiet_since = quiet_since - interval '2 minutes'`)
	if got := y.state(t, "uploadcare"); got.MaxParallel != half+2 || got.Throttles != 0 {
		t.Errorf("after two quiet minutes %+v, want %d at once", got, half+2)
	}

	y.exec(t, `UPDATE slipway.providers SET max_parallel = 1, quiet_since = now()`)
	y.fault(t, "uploadcare", providersim.Rule{Method: "PUT", Action: providersim.Delay, Delay: 20})
	line.most = 0
	var ids []upload.ID
	for range 2 {
		ids = append(ids, y.accept(t, "uploadcare", random(4*part)).ID)
	}
	for _, id := range ids {
		y.awaitStatus(t, id, upload.Completed)
	}
	if line.most != 1 {
		t.Errorf("%d requests were on their way at once, 1 is allowed", line.most)
	}
}

func TestNoMoreConnectionsThanAreAllowed(t *testing.T) {
	const part = 64 * kib
	y := newYard(t)
	y.small(t, part, 10*time.Second)
	y.settings.FilesInFlight, y.settings.PartsInFlight, y.settings.Connections = 2, 4, 3
	line := &wire{}
	y.line = line
	y.fault(t, "uploadcare", providersim.Rule{Method: "PUT", Action: providersim.Delay, Delay: 20})
	y.worker(t)
	var ids []upload.ID
	for range 2 {
		ids = append(ids, y.accept(t, "uploadcare", random(8*part)).ID)
	}
	for _, id := range ids {
		y.awaitStatus(t, id, upload.Completed)
	}
	if line.most != 3 {
		t.Errorf("%d requests with bytes were on their way at once, want 3", line.most)
	}
}

func TestThrottlesWithoutATimeAreWaitedForLongerEachTime(t *testing.T) {
	y := newYard(t)
	var waits []int
	var mu sync.Mutex
	y.settings.Backoff = func(n int) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, n)
		return 20 * time.Millisecond
	}
	y.fault(t, "cloudinary", providersim.Rule{Path: "/upload$", Times: 3, Action: providersim.Answer, Status: 420, Body: `{"error":{"message":"Rate Limit Exceeded"}}`})
	y.worker(t)
	u := y.awaitStatus(t, y.accept(t, "cloudinary", random(1000)).ID, upload.Completed)
	if fmt.Sprint(waits) != "[1 2 3]" || u.Attempt != 1 {
		t.Errorf("waited as after %v at attempt %d, want [1 2 3] at attempt 1", waits, u.Attempt)
	}
}

func TestASpentAdminQuotaKeepsOnlyThoseWaitingWhoNeedIt(t *testing.T) {
	y := newYard(t)
	y.worker(t)
	settings := y.cloudinary.Settings()
	settings.AdminQuota = 0
	y.cloudinary.Set(settings)
	y.fault(t, "cloudinary", providersim.Rule{Path: "/upload$", Times: 1, Action: providersim.ResetAfter})
	content := random(1000)
	u := y.accept(t, "cloudinary", content)
	waiting := y.await(t, u.ID, "waiting", func(u upload.Upload) bool { return u.Status == upload.Retrying })
	if e := waiting.Error; e.Code != upload.ProviderThrottled || !strings.Contains(e.Message, "asked again at") || waiting.Attempt != 0 {
		t.Errorf("waits at attempt %d with %+v", waiting.Attempt, e)
	}
	if until := waiting.NextAttemptAt; until == nil || time.Until(*until) < time.Second || time.Until(*until) > time.Hour+time.Minute {
		t.Errorf("waits until %v, want the end of the hour", until)
	}
	other := y.accept(t, "cloudinary", random(2000))
	y.awaitStatus(t, other.ID, upload.Completed)

	settings.AdminQuota = 500
	y.cloudinary.Set(settings)
	y.await(t, u.ID, "completed, asked again and again", func(now upload.Upload) bool { // River writes down a moment later that its job waits
		y.exec(t, `UPDATE slipway.river_job SET scheduled_at = now(), state = 'available' WHERE id = $1 AND state IN ('scheduled', 'retryable')`, waiting.JobID)
		return now.Status == upload.Completed
	})
	if got := y.lasting(t, "cloudinary"); len(got) != 2 || !slices.Contains(got, sumOf(content)) {
		t.Errorf("cloudinary keeps %v", got)
	}
}
