package push_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/providersim"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

func TestAFileIsDeliveredOnce(t *testing.T) {
	y := newYard(t)
	y.worker(t)
	for _, name := range []string{"uploadcare", "cloudinary"} {
		for _, size := range []int{1, 64 << 10, 6 * mib, 10*mib - 1, 10 * mib, 17*mib + 3} {
			t.Run(fmt.Sprintf("%s takes %d bytes", name, size), func(t *testing.T) {
				content := random(size)
				before := len(y.lasting(t, name))
				u := y.awaitStatus(t, y.accept(t, name, content).ID, upload.Completed)

				if got := y.lasting(t, name); len(got) != before+1 || !slices.Contains(got, sumOf(content)) {
					t.Errorf("%s keeps %d assets, %v; want %d with %s", name, len(got), got, before+1, sumOf(content))
				}
				if u.Pushed != u.Size || u.Progress != 1 || u.Attempt != 1 || u.Error != nil || u.CompletedAt == nil {
					t.Errorf("completed with %d of %d bytes pushed, progress %v, attempt %d, error %v", u.Pushed, u.Size, u.Progress, u.Attempt, u.Error)
				}
				f, err := postgres.GetFile(t.Context(), y.pool, "ann", u.ID)
				if err != nil || f.URL != u.Asset.URL || f.AssetID != u.Asset.ID {
					t.Errorf("the guide's row is %+v, %v; want the asset %+v", f, err, u.Asset)
				}
				y.await(t, u.ID, "let go of by staging", func(u upload.Upload) bool { return u.Unstaged != nil })
				var state string
				if err := y.pool.QueryRow(t.Context(), `SELECT state FROM slipway.river_job WHERE id = $1`, u.JobID).Scan(&state); err != nil || state != "completed" {
					t.Errorf("river's row is %q, %v; want completed", state, err)
				}
			})
		}
	}
}

// weather is what may go wrong at a provider without an upload failing or being delivered twice.
func TestBadWeatherPasses(t *testing.T) {
	tests := map[string]struct {
		provider string
		size     int
		rule     providersim.Rule
	}{
		"a part is answered 503":               {"uploadcare", 11 * mib, providersim.Rule{Method: "PUT", Path: "partNumber=2", Times: 2, Action: providersim.Answer, Status: 503}},
		"a part's answer is lost":              {"uploadcare", 11 * mib, providersim.Rule{Method: "PUT", Path: "partNumber=2", Times: 1, Action: providersim.ResetAfter}},
		"the start's answer is lost":           {"uploadcare", 11 * mib, providersim.Rule{Path: "^/multipart/start/", Times: 1, Action: providersim.ResetAfter}},
		"the completion's answer is lost":      {"uploadcare", 11 * mib, providersim.Rule{Path: "^/multipart/complete/", Times: 1, Action: providersim.ResetAfter}},
		"the store's answer is lost":           {"uploadcare", 11 * mib, providersim.Rule{Path: "/storage/$", Times: 1, Action: providersim.ResetAfter}},
		"a direct upload's answer is lost":     {"uploadcare", 100_000, providersim.Rule{Path: "^/base/", Times: 1, Action: providersim.ResetAfter}},
		"a direct upload arrives damaged":      {"uploadcare", 100_000, providersim.Rule{Path: "^/base/", Times: 1, Action: providersim.Corrupt}},
		"a part arrives damaged":               {"uploadcare", 11 * mib, providersim.Rule{Method: "PUT", Path: "partNumber=2", Times: 1, Action: providersim.Corrupt}},
		"a chunk is answered 502":              {"cloudinary", 13 * mib, providersim.Rule{Path: "/upload$", Skip: 1, Times: 2, Action: providersim.Answer, Status: 502, Body: "<html>"}},
		"a chunk's answer is lost":             {"cloudinary", 13 * mib, providersim.Rule{Path: "/upload$", Skip: 1, Times: 1, Action: providersim.ResetAfter}},
		"the last chunk's answer is lost":      {"cloudinary", 13 * mib, providersim.Rule{Path: "/upload$", Skip: 2, Times: 1, Action: providersim.ResetAfter}},
		"the only request's answer is lost":    {"cloudinary", 100_000, providersim.Rule{Path: "/upload$", Times: 1, Action: providersim.ResetAfter}},
		"a chunk arrives damaged":              {"cloudinary", 13 * mib, providersim.Rule{Path: "/upload$", Skip: 1, Times: 1, Action: providersim.Corrupt}},
		"the account is throttled for a while": {"cloudinary", 100_000, providersim.Rule{Path: "/upload$", Times: 2, Action: providersim.Answer, Status: 420, Header: map[string]string{"Retry-After": "1"}, Body: `{"error":{"message":"Rate Limit Exceeded"}}`}},
		"the account is unpaid for a while":    {"uploadcare", 100_000, providersim.Rule{Path: "^/base/", Times: 2, Action: providersim.Answer, Status: 403, Body: "Account has been blocked for non payment."}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			content := random(tt.size)
			y.fault(t, tt.provider, tt.rule)
			y.worker(t)
			u := y.accept(t, tt.provider, content)
			y.awaitStatus(t, u.ID, upload.Completed)
			y.delivered(t, tt.provider, content)
			if hits := y.controls[tt.provider].Faults.List()[0].Hits; hits != tt.rule.Times {
				t.Errorf("the fault struck %d times, want %d: the test has proven nothing", hits, tt.rule.Times)
			}
		})
	}
}

func TestAnOutageIsSaidOnceAndOfWhatItStopped(t *testing.T) {
	tests := map[string]struct {
		provider string
		rule     providersim.Rule
		says     string
	}{
		"Cloudinary says nothing": {"cloudinary", providersim.Rule{Path: "/upload$", Status: 503}, "Cloudinary answered 503 for part 0."},
		"Cloudinary says why": {"cloudinary", providersim.Rule{Path: "/upload$", Status: 500, Body: `{"error":{"message":"General Error"}}`},
			"Cloudinary answered 500 for part 0: General Error."},
		"Uploadcare says nothing": {"uploadcare", providersim.Rule{Path: "^/base/", Status: 502, Body: "<html>"}, "Uploadcare answered 502 for part 0."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			tt.rule.Action = providersim.Answer
			y.fault(t, tt.provider, tt.rule)
			y.worker(t)
			u := y.await(t, y.accept(t, tt.provider, random(1000)).ID, "tried", func(u upload.Upload) bool { return u.Error != nil })
			if u.Error.Message != tt.says {
				t.Errorf("its owner reads %q, want %q", u.Error.Message, tt.says)
			}
		})
	}
}

func TestARefusedFileFailsWithTheProvidersReason(t *testing.T) {
	y := newYard(t)
	y.fault(t, "uploadcare", providersim.Rule{Path: "^/base/", Times: 1, Action: providersim.Answer, Status: 400, Body: "Uploading of these file types is not allowed."})
	y.worker(t)
	content := random(1000)
	u := y.awaitStatus(t, y.accept(t, "uploadcare", content).ID, upload.Failed)
	if u.Error.Code != upload.ProviderRejected || u.Error.Retryable || u.Error.FixableBy != upload.ByYou || !regexp.MustCompile("not allowed").MatchString(u.Error.Message) {
		t.Errorf("failed with %+v", u.Error)
	}

	if _, err := y.ingest.Retry(t.Context(), "bob", u.ID, ""); !isCode(err, upload.NotFound) {
		t.Errorf("somebody else's retry: %v, want not_found", err)
	}
	if _, err := y.ingest.Retry(t.Context(), "ann", u.ID, ""); err != nil {
		t.Fatalf("retry: %v", err)
	}
	y.awaitStatus(t, u.ID, upload.Completed)
	y.delivered(t, "uploadcare", content)
	if _, err := y.ingest.Retry(t.Context(), "ann", u.ID, ""); !isCode(err, upload.NotFailed) {
		t.Errorf("retry of a completed upload: %v, want not_failed", err)
	}
}

func TestAnUploadIsGivenUpAfterItsAttempts(t *testing.T) {
	y := newYard(t)
	y.fault(t, "uploadcare", providersim.Rule{Path: "^/base/", Action: providersim.Answer, Status: 500})
	y.worker(t)
	u := y.awaitStatus(t, y.accept(t, "uploadcare", random(1000)).ID, upload.Failed)
	if u.Error.Code != upload.ProviderUnavailable || !u.Error.Retryable || u.Attempt != 3 {
		t.Errorf("failed at attempt %d with %+v, want provider_unavailable at attempt 3", u.Attempt, u.Error)
	}
}

func TestAnUploadIsGivenUpAtItsDeadline(t *testing.T) {
	y := newYard(t)
	y.ingest.DeliverWithin = 300 * time.Millisecond
	y.fault(t, "uploadcare", providersim.Rule{Path: "^/base/", Action: providersim.Answer, Status: 429, Header: map[string]string{"Retry-After": "1"}})
	y.worker(t)
	u := y.awaitStatus(t, y.accept(t, "uploadcare", random(1000)).ID, upload.Failed)
	if u.Error.Code != upload.DeadlineExceeded || !u.Error.Retryable {
		t.Errorf("failed with %+v, want delivery_deadline_exceeded", u.Error)
	}
}

func TestAWrongKeyPausesTheProviderAndSaysSo(t *testing.T) {
	y := newYard(t)
	refuse := providersim.Rule{Path: "^/(base|project)/", Action: providersim.Answer, Status: 401, Header: map[string]string{"Content-Type": "application/json"}, Body: `{"detail":"Incorrect authentication credentials."}`}
	y.fault(t, "uploadcare", refuse)
	y.worker(t)
	content := random(1000)
	u := y.accept(t, "uploadcare", content)
	waiting := y.await(t, u.ID, "waiting for the operator", func(u upload.Upload) bool { return u.Error != nil })
	if waiting.Error.Code != upload.ProviderAccount || waiting.Error.FixableBy != upload.ByOperator || waiting.Status.Final() {
		t.Errorf("%s with %+v", waiting.Status, waiting.Error)
	}
	state, err := postgres.Provider(t.Context(), y.pool, "uploadcare")
	if err != nil || state.PausedUntil == nil || state.PauseReason == "" {
		t.Errorf("the provider is %+v, %v; want it paused with a reason", state, err)
	}
	other := random(2000)
	y.awaitStatus(t, y.accept(t, "cloudinary", other).ID, upload.Completed) // one account does not stop the other

	y.controls["uploadcare"].Faults.Clear()
	done := y.awaitStatus(t, u.ID, upload.Completed)
	y.delivered(t, "uploadcare", content)
	if done.Attempt != 1 {
		t.Errorf("the pause has cost attempts: %d", done.Attempt)
	}
}

func TestMissingBytesWaitForTheOperator(t *testing.T) {
	y := newYard(t)
	content := random(1000)
	u := y.accept(t, "uploadcare", content)
	path := stagedPath(t, y.path, u.ID)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	y.worker(t)
	waiting := y.await(t, u.ID, "waiting for the operator", func(u upload.Upload) bool { return u.Error != nil })
	if waiting.Error.Code != upload.StagingUnreachable || waiting.Status != upload.Retrying {
		t.Errorf("%s with %+v", waiting.Status, waiting.Error)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	y.awaitStatus(t, u.ID, upload.Completed)
	y.delivered(t, "uploadcare", content)
}

func TestAStoppedWorkerHandsBackAndLosesNothing(t *testing.T) {
	tests := map[string]struct {
		provider string
		hold     providersim.Rule // keeps the push from going on after its first parts
		part     *regexp.Regexp
		parts    int
	}{
		"uploadcare": {"uploadcare", providersim.Rule{Method: "PUT", Path: "partNumber=[4-9]", Action: providersim.Stall}, regexp.MustCompile(`partNumber=[1-3]&`), 3},
		"cloudinary": {"cloudinary", providersim.Rule{Path: "/upload$", Skip: 3, Action: providersim.Stall}, regexp.MustCompile(`/upload$`), 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			content := random(29 * mib)
			y.fault(t, tt.provider, tt.hold)
			stop := y.worker(t)
			u := y.accept(t, tt.provider, content)
			y.await(t, u.ID, "three parts on", func(u upload.Upload) bool { return u.Pushed >= 15*mib })
			stop()
			back := y.awaitStatus(t, u.ID, upload.Queued)
			if back.Attempt != 0 && back.Attempt != 1 || back.JobID == u.JobID {
				t.Errorf("handed back at attempt %d with job %d, want no attempt lost and another job than %d", back.Attempt, back.JobID, u.JobID)
			}

			controls := y.controls[tt.provider]
			controls.Faults.Clear()
			controls.Requests.Clear()
			y.worker(t)
			y.awaitStatus(t, u.ID, upload.Completed)
			y.delivered(t, tt.provider, content)
			sent := controls.Requests.Find("", tt.part)
			if tt.provider == "uploadcare" && len(sent) != 0 {
				t.Errorf("parts that the provider had were sent again: %v", sent)
			}
			if tt.provider == "cloudinary" && len(sent) > 2 {
				t.Errorf("%d chunks were sent after the stop, want the 2 that were missing", len(sent))
			}
		})
	}
}

func TestAnAnswerThatDiedWithItsWorkerIsAskedForAgain(t *testing.T) {
	y := newYard(t)
	content := random(40_000)
	u := y.accept(t, "uploadcare", content)
	_, err := y.pool.Exec(t.Context(), `
		WITH session AS (
			INSERT INTO slipway.push_sessions (upload_id, provider, remote_id, part_size, parts, last_part_completes, finishing)
			VALUES ($1, 'uploadcare', '', $2, 1, true, true)
			RETURNING id
		)
		INSERT INTO slipway.push_parts (session_id, number, size, crc32c)
		SELECT id, 0, $2, $3 FROM session`, u.ID, len(content), int64(u.CRC32C))
	if err != nil {
		t.Fatal(err)
	}
	y.worker(t)
	if done := y.awaitStatus(t, u.ID, upload.Completed); done.Attempt != 1 {
		t.Errorf("it took %d attempts", done.Attempt)
	}
	y.delivered(t, "uploadcare", content)
}

func isCode(err error, want upload.Code) bool {
	var e *upload.Error
	return errors.As(err, &e) && e.Code == want
}

func stagedPath(t *testing.T, root string, id upload.ID) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, string(id)))
	if err != nil || len(found) != 1 {
		t.Fatalf("staged file of %s: %v, %v (%v)", id, found, err, staging.ErrMissing)
	}
	return found[0]
}
