package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

func TestAnUploadAsJSON(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	s.change(t, u.ID, `status = 'retrying', pushed_bytes = 2, progress = 0.6949, attempt = 2, next_attempt_at = now() + interval '9 seconds',
		error_code = 'provider_unavailable', error_message = 'Uploadcare answered 503 for part 81', error_retryable = true, error_fixable_by = 'provider',
		metadata = '{"album":"7"}', tags = '{trip}', started_at = now()`)
	r := s.do(t, "GET", "/v1/uploads/"+string(u.ID), nil)
	times := regexp.MustCompile(`"20[^"]*Z"`)
	got := times.ReplaceAllString(strings.ReplaceAll(r.text, string(u.ID), "ID"), "TIME")
	want := `{"id":"ID","status":"retrying","provider":"uploadcare","resource_type":"raw","file_name":"film.mp4","content_type":"text/plain; charset=utf-8",` +
		`"size":5,"received_bytes":5,"pushed_bytes":2,"progress":0.69,"crc32c":"mnG7TA==","attempt":2,"max_attempts":10,"next_attempt_at":TIME,` +
		`"error":{"code":"provider_unavailable","message":"Uploadcare answered 503 for part 81","retryable":true,"fixable_by":"provider"},` +
		`"asset":null,"url":"` + s.url + `/v1/files/ID/content","metadata":{"album":"7"},"tags":["trip"],"version":2,` +
		`"created_at":TIME,"staged_at":TIME,"started_at":TIME,"completed_at":null,"expires_at":null,"staged_until":null,` +
		`"links":{"self":"/v1/uploads/ID","events":"/v1/uploads/ID/events","retry":null,"cancel":"/v1/uploads/ID/cancel"}}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if after := r.Header.Get("Retry-After"); after != "9" {
		t.Errorf("Retry-After is %s, want the 9 s until the next attempt", after)
	}
}

func TestProgressIsOneOnlyAtTheEnd(t *testing.T) {
	for _, tt := range []struct {
		u    upload.Upload
		want float64
	}{
		{upload.Upload{Status: upload.Pushing, Progress: 0.998}, 0.99},
		{upload.Upload{Status: upload.Pushing, Progress: 1}, 0.99},
		{upload.Upload{Status: upload.Pushing, Progress: 0.686}, 0.69},
		{upload.Upload{Status: upload.Completed, Progress: 0.5}, 1},
	} {
		if got := progress(tt.u); got != tt.want {
			t.Errorf("progress of %s at %v is %v, want %v", tt.u.Status, tt.u.Progress, got, tt.want)
		}
	}
}

func TestWhoHasTheUploadAlreadyIsToldSo(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	r := s.do(t, "GET", u.Links.Self, nil)
	tag := r.Header.Get("ETag")
	if tag != `"1"` {
		t.Fatalf("ETag is %s", tag)
	}
	for name, tt := range map[string]struct {
		header string
		status int
	}{
		"the same version":      {tag, 304},
		"a proxy's weak form":   {"W/" + tag, 304},
		"one of several":        {`"7", ` + tag, 304},
		"any":                   {"*", 304},
		"another version":       {`"7"`, 200},
		"a part of the version": {`"11"`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "GET", u.Links.Self, nil, "If-None-Match: "+tt.header)
			if r.StatusCode != tt.status || r.Header.Get("ETag") != tag || (tt.status == 304) != (r.text == "") {
				t.Errorf("got %d %q with ETag %s", r.StatusCode, r.text, r.Header.Get("ETag"))
			}
		})
	}
	s.complete(t, u.ID)
	r = s.do(t, "GET", u.Links.Self, nil, "If-None-Match: "+tag)
	if r.StatusCode != 200 || r.Header.Get("ETag") != `"2"` || r.Header.Get("Retry-After") != "" {
		t.Errorf("after a change: %d, ETag %s, Retry-After %q", r.StatusCode, r.Header.Get("ETag"), r.Header.Get("Retry-After"))
	}
}

// later is a reply that is being waited for.
type later struct {
	reply
	err  error
	took time.Duration
}

func (s *site) later(t *testing.T, path string, headers ...string) <-chan later {
	t.Helper()
	c := make(chan later, 1)
	start := time.Now()
	go func() {
		r, err := s.send(t, "GET", path, nil, headers...)
		c <- later{r, err, time.Since(start)}
	}()
	return c
}

// awaitRequest waits until the server has read something on a connection that is open.
func (s *site) awaitRequest(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for used := false; !used; {
		if time.Now().After(deadline) {
			t.Fatal("no request came")
		}
		s.guard.each(func(c *guardConn) { used = used || c.used.Load() })
	}
}

func TestALongPoll(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	know := `If-None-Match: "1"`

	t.Run("ends without a change when its time is over", func(t *testing.T) {
		r := <-s.later(t, u.Links.Self, know, "Prefer: wait=1")
		if r.err != nil || r.StatusCode != 304 || r.took < time.Second || r.Header.Get("Preference-Applied") != "wait=1" {
			t.Errorf("got %d after %s, %v", r.StatusCode, r.took, r.err)
		}
	})
	t.Run("of who knows nothing ends with the upload as it is", func(t *testing.T) {
		r := <-s.later(t, u.Links.Self, "Prefer: wait=1")
		if r.err != nil || r.StatusCode != 200 || r.took < time.Second {
			t.Errorf("got %d after %s, %v", r.StatusCode, r.took, r.err)
		}
	})
	t.Run("ends at the next change", func(t *testing.T) {
		waiting := s.later(t, u.Links.Self, know, "Prefer: wait=50")
		s.awaitRequest(t)
		s.change(t, u.ID, `status = 'pushing'`)
		r := <-waiting
		if r.err != nil || r.StatusCode != 200 || r.Header.Get("ETag") != `"2"` || !strings.Contains(r.text, `"pushing"`) {
			t.Errorf("got %d %s, %v", r.StatusCode, r.text, r.err)
		}
	})
	t.Run("ends at once when the client is behind", func(t *testing.T) {
		if r := <-s.later(t, u.Links.Self, know, "Prefer: wait=50"); r.err != nil || r.StatusCode != 200 || r.took > patience {
			t.Errorf("got %d after %s, %v", r.StatusCode, r.took, r.err)
		}
	})
	t.Run("ends at once when nothing can change any more", func(t *testing.T) {
		s.complete(t, u.ID)
		if r := <-s.later(t, u.Links.Self, "Prefer: wait=50"); r.err != nil || r.StatusCode != 200 || r.took > patience {
			t.Errorf("got %d after %s, %v", r.StatusCode, r.took, r.err)
		}
	})
	t.Run("goes home when the server stops", func(t *testing.T) {
		waiting := s.later(t, u.Links.Self, `If-None-Match: "3"`, "Prefer: wait=50")
		s.awaitRequest(t)
		s.end()
		if r := <-waiting; r.took > patience { // it was answered, or it came too late to be
			t.Errorf("it took %s", r.took)
		}
	})
}

// walk follows next from path and returns the ids of all pages.
func walk(t *testing.T, s *site, path, list string) (ids []string) {
	t.Helper()
	for pages := 0; path != ""; pages++ {
		if pages > 100 {
			t.Fatal("next leads in circles")
		}
		page := into[map[string]json.RawMessage](t, s.do(t, "GET", path, nil), 200)
		var items []struct{ ID string }
		must(t, json.Unmarshal(page[list], &items))
		for _, i := range items {
			ids = append(ids, i.ID)
		}
		path = ""
		if string(page["next"]) != "null" {
			must(t, json.Unmarshal(page["next"], &path))
		}
	}
	return ids
}

func TestTheListOfUploads(t *testing.T) {
	s := open(t, nil)
	var all, failed []string
	batch := &pgx.Batch{}
	for i := range 50 {
		id := upload.NewID()
		status, provider := "queued", "uploadcare"
		if i%5 == 0 {
			status = "failed"
		}
		if i%2 == 0 {
			provider = "cloudinary"
		}
		if status == "failed" && provider == "cloudinary" {
			failed = append(failed, string(id))
		}
		all = append(all, string(id))
		batch.Queue(`
			INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts, created_at)
			VALUES ($1, 'alice', $2, $3, 'a', 'text/plain', 5, 10, '2026-01-01')`, id, status, provider)
	}
	must(t, s.pool.SendBatch(t.Context(), batch).Close())
	s.put(t, "bob's", as(t, "bob"))
	slices.Reverse(all)
	slices.Reverse(failed)

	for path, want := range map[string][]string{
		"/v1/uploads?limit=7":   all,
		"/v1/uploads?limit=50":  all,
		"/v1/uploads":           all,
		"/v1/uploads?limit=100": all,
		"/v1/uploads?limit=2&status=failed&provider=cloudinary":           failed,
		"/v1/uploads?limit=3&status=failed,completed&provider=cloudinary": failed,
		"/v1/uploads?limit=3&status=failed&status=x&provider=cloudinary":  nil,
		"/v1/uploads?status=completed":                                    nil,
	} {
		t.Run(path, func(t *testing.T) {
			if strings.Contains(path, "status=x") {
				wantCode(t, s.do(t, "GET", path, nil), 422, upload.InvalidParameter)
				return
			}
			if got := walk(t, s, path, "uploads"); !slices.Equal(got, want) {
				t.Errorf("got %d ids %v, want %d %v", len(got), got, len(want), want)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	const fails = `status = 'failed', error_code = 'provider_rejected', error_message = 'no', error_retryable = false`
	s.change(t, u.ID, fails)
	failed := into[uploadView](t, s.do(t, "GET", u.Links.Self, nil), 200)
	if failed.Links.Retry == nil {
		t.Fatal("a failed upload has no link to retry")
	}
	r := s.do(t, "POST", *failed.Links.Retry, nil)
	again := into[uploadView](t, r, http.StatusAccepted)
	if again.Status != upload.Queued || again.Error != nil || again.Version <= failed.Version || r.Header.Get("Location") != s.url+u.Links.Self {
		t.Errorf("got %s", r.text)
	}
	wantCode(t, s.do(t, "POST", *failed.Links.Retry, nil), 409, upload.NotFailed)

	s.change(t, u.ID, fails)
	r = s.do(t, "POST", *failed.Links.Retry, nil, "Accept: text/html")
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/uploads/"+string(u.ID) {
		t.Errorf("from a browser: %d to %s", r.StatusCode, r.Header.Get("Location"))
	}

	s.change(t, u.ID, fails+`, unstaged_at = now()`)
	wantCode(t, s.do(t, "POST", *failed.Links.Retry, nil), 410, upload.BytesGone)
	if gone := into[uploadView](t, s.do(t, "GET", u.Links.Self, nil), 200); gone.Links.Retry != nil {
		t.Error("an upload whose bytes are gone has a link to retry")
	}
}

func TestAForeignUploadIsAsUnknownAsOneThatIsNot(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	s.complete(t, u.ID)
	var row int64
	must(t, s.pool.QueryRow(t.Context(), `SELECT id FROM public.uploadcare_files`).Scan(&row))
	own, unknown := string(u.ID), string(upload.NewID())
	instance := regexp.MustCompile(`urn:uuid:[0-9a-f-]*`)
	for _, route := range s.app.GetRoutes(true) {
		if !strings.Contains(route.Path, ":id") || route.Method == "HEAD" || strings.HasPrefix(route.Path, tusPath) { // which knows no upload that came by another way
			continue
		}
		ids := map[string]string{own: unknown}
		if strings.HasPrefix(route.Path, "/v1/files/") {
			ids[fmt.Sprint("uploadcare-", row)] = "uploadcare-999999"
		}
		for own, unknown := range ids {
			t.Run(route.Method+" "+strings.Replace(route.Path, ":id", own, 1), func(t *testing.T) {
				ask := func(id, user string) reply {
					return s.do(t, route.Method, strings.Replace(route.Path, ":id", id, 1), nil, as(t, user))
				}
				if mine := ask(own, "alice"); mine.StatusCode == 404 {
					t.Fatalf("its owner got %d %s", mine.StatusCode, mine.text)
				}
				foreign, none := ask(own, "bob"), ask(unknown, "bob")
				if foreign.StatusCode != 404 || none.StatusCode != 404 {
					t.Errorf("got %d for a foreign and %d for an unknown one", foreign.StatusCode, none.StatusCode)
				}
				if a, b := instance.ReplaceAllString(foreign.text, ""), instance.ReplaceAllString(none.text, ""); a != b {
					t.Errorf("foreign %s\nunknown %s", a, b)
				}
			})
		}
	}
}
