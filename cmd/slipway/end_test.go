package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"slipway/internal/upload"
)

// stalled sends files that Uploadcare does not take until the test ends, and returns their ids.
func (s *system) stalled(t *testing.T, names ...string) (ids []string) {
	t.Helper()
	s.fault(t, "uploadcare", `{"path":"^/base/","action":"stall"}`)
	t.Cleanup(func() { s.fault(t, "uploadcare", "") })
	return s.sent(t, "uploadcare", names...)
}

// sent puts files, one after the other, and returns their ids.
func (s *system) sent(t *testing.T, provider string, names ...string) (ids []string) {
	t.Helper()
	for _, name := range names {
		id, err := s.put(t, provider, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids = append(ids, id)
	}
	return ids
}

// put puts a file that comes in, and returns its id and how put ended: it may have seen how the upload did.
func (s *system) put(t *testing.T, provider, name string) (id string, err error) {
	t.Helper()
	r := slipway(t.Context(), "put", "--json", "--provider", provider, name)
	var told result
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || told.Upload.ID == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	return string(told.Upload.ID), r.err
}

// become waits until the upload has one of the statuses.
func become(t *testing.T, id string, want ...upload.Status) {
	t.Helper()
	deadline := time.After(longest)
	for {
		r := slipway(t.Context(), "status", id)
		for _, s := range want {
			if strings.Contains(r.stdout, "  status    "+string(s)) {
				return
			}
		}
		select {
		case <-deadline:
			t.Fatalf("%s did not become %s: %+v", id, want, r)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestCancelEndsWhatIsOnItsWay(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	ids := s.stalled(t, "a.bin", "b.bin")
	r := slipway(t.Context(), "cancel", ids[0], "here", ids[1])
	if exitCode(r.err) != exitFailed || r.stdout != "a.bin is canceled\nb.bin is canceled\n" || !strings.Contains(r.stderr, "here: this is no id") || r.err.Error() != "1 of 3 could not be answered" {
		t.Errorf("%+v", r)
	}
	if r := slipway(t.Context(), "cancel", "--json", ids[0]); r.err != nil || !strings.Contains(r.stdout, `"status":"canceled"`) {
		t.Errorf("twice: %+v", r)
	}
}

func TestCancelLeavesWhatHasEnded(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	id := s.sent(t, "uploadcare", "a.bin")[0]
	become(t, id, upload.Completed)
	r := slipway(t.Context(), "cancel", "--json", id)
	if exitCode(r.err) != exitFailed || !strings.Contains(r.stdout, `"code":"not_cancelable","status":409`) {
		t.Errorf("%+v", r)
	}
}

func TestRemoveDeletesAndAsksAScriptNothing(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	ids := s.sent(t, "uploadcare", "a.bin", "b.bin")
	for _, id := range ids {
		become(t, id, upload.Completed)
	}
	r := slipway(t.Context(), append([]string{"rm"}, ids...)...)
	if r.err != nil || r.stdout != "a.bin is being deleted\nb.bin is being deleted\n" || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if r := slipway(t.Context(), "rm", "--json", ids[0]); r.err != nil || !strings.Contains(r.stdout, `"status":"delet`) {
		t.Errorf("twice: %+v", r)
	}
}

func TestOnlyYesIsYes(t *testing.T) {
	for typed, want := range map[string]bool{"y\n": true, " Yes\n": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		c := command()
		c.SetErr(io.Discard)
		c.SetContext(t.Context())
		if err := confirm(c, strings.NewReader(typed), "Delete?"); (err == nil) != want {
			t.Errorf("%q: %v", typed, err)
		}
	}
}
