package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ends asks for the end of an upload, and returns what it is from then on.
func (s *stack) ends(t *testing.T, method, path string) uploadView {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var u uploadView
	if err := json.NewDecoder(resp.Body).Decode(&u); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s: %s, %v", method, path, resp.Status, err)
	}
	return u
}

// sending counts the requests that a simulated provider is receiving parts by.
func sending(t *testing.T, control, part string) (n int) {
	t.Helper()
	var log struct {
		Requests []struct {
			Target string `json:"target"`
			Ended  bool   `json:"ended"`
		}
	}
	getJSON(t, control+"/requests", &log)
	for _, r := range log.Requests {
		if strings.Contains(r.Target, part) && !r.Ended {
			n++
		}
	}
	return n
}

// stored counts the assets that a simulated provider keeps.
func stored(t *testing.T, control string) (n int) {
	t.Helper()
	var all json.RawMessage
	getJSON(t, control+"/files", &all)
	type file struct {
		Stored  *bool `json:"stored"`
		Removed bool  `json:"removed"`
	}
	var files []file
	if err := json.Unmarshal(all, &files); err != nil {
		var list struct{ Files []file }
		if err := json.Unmarshal(all, &list); err != nil {
			t.Fatal(err)
		}
		files = list.Files
	}
	for _, f := range files {
		if (f.Stored == nil || *f.Stored) && !f.Removed {
			n++
		}
	}
	return n
}

func TestACanceledPushStopsInAnotherProcess(t *testing.T) {
	t.Parallel()
	for provider, part := range map[string]string{"uploadcare": "partNumber=", "cloudinary": "/upload"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			s := dev(t, "--without", "worker")
			control := s.sim + "/_sim/" + provider
			s.line(t, provider, 4*mib) // the push of a file takes 6 s and more
			begin := func() uploadView {
				t.Helper()
				path, _ := file(t, "film.mp4", 96*mib)
				var u uploadView
				curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
				return u
			}
			ended := func(u uploadView, status string) {
				t.Helper()
				s.awaitStatus(t, 30*time.Second, u.ID, status)
				await(t, 10*time.Second, "staging to let the bytes go", func() bool {
					left, err := filepath.Glob(filepath.Join(s.dir, "staging", u.ID+"*"))
					return err == nil && len(left) == 0
				})
				if n := stored(t, control); n != 0 {
					t.Errorf("%s keeps %d assets", provider, n)
				}
			}

			worker := start(t, s.env, "worker")
			awake := begin()
			await(t, 30*time.Second, "the push to begin", func() bool { return sending(t, control, part) > 0 })
			asked := time.Now()
			if u := s.ends(t, "POST", "/v1/uploads/"+awake.ID+"/cancel"); u.Status != "canceled" {
				t.Errorf("it is %s", u.Status)
			}
			await(t, 4*time.Second, "the push to stop", func() bool { return sending(t, control, part) == 0 })
			t.Logf("it stopped within %s", time.Since(asked).Round(time.Millisecond))
			ended(awake, "canceled")

			asleep := begin()
			await(t, 30*time.Second, "the push to begin", func() bool { return sending(t, control, part) > 0 })
			worker.suspend(t)
			s.ends(t, "DELETE", "/v1/uploads/"+asleep.ID)
			other := start(t, s.env, "worker")
			ended(asleep, "deleted")
			other.stop(t, 30*time.Second)
			worker.signal(t, syscall.SIGCONT)
			await(t, 10*time.Second, "the sleeper to stop", func() bool { return sending(t, control, part) == 0 })
			ended(asleep, "deleted")
		})
	}
}
