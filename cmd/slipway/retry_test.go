package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"slipway/internal/upload"
)

// invalidImage is what Cloudinary answers to a file that it will never take.
const invalidImage = `{"path":"/upload","action":"answer","status":400,"body":"{\"error\":{\"message\":\"Invalid image file\"}}"}`

// rejected sends files that Cloudinary does not take, and returns their ids. It takes them again afterwards.
func (s *system) rejected(t *testing.T, names ...string) (ids []string) {
	t.Helper()
	s.fault(t, "cloudinary", invalidImage)
	for _, name := range names {
		id, _ := s.put(t, "cloudinary", name)
		become(t, id, upload.Failed)
		ids = append(ids, id)
	}
	s.fault(t, "cloudinary", "")
	return ids
}

func TestRetryOfAllThatFailed(t *testing.T) {
	s := start(t)
	folder(t)
	for _, name := range []string{"a.bin", "b.bin", "c.bin"} {
		write(t, name, "content")
	}
	ids := s.rejected(t, "a.bin", "b.bin", "c.bin")
	for line, want := range map[string]string{
		"--all --dry-run":                                     "Would be retried: 3 uploads.\n",
		"--code provider_rejected --dry-run":                  "Would be retried: 3 uploads.\n",
		"--name b --after 1h --provider cloudinary --dry-run": "Would be retried: 1 upload.\n",
		"--dry-run " + ids[0] + " " + ids[1]:                  "Would be retried: 2 uploads.\n",
		"--code worker_lost":                                  "No failed upload is among them.\n",
		"--before 1d":                                         "No failed upload is among them.\n",
		"--dry-run " + ids[0] + " " + "0193f1c2-0000-7000-8000-000000000000": "Would be retried: 1 upload.\nNot retried: 1 upload. There is no upload with this id. (not_found)\n",
	} {
		if r := slipway(t.Context(), append([]string{"retry"}, strings.Fields(line)...)...); r.err != nil || r.stdout != want {
			t.Errorf("retry %s: %+v, want %q", line, r, want)
		}
	}
	if r := slipway(t.Context(), "retry", "--to", "uploadcare", ids[0]); r.err != nil || r.stdout != "a.bin is queued again\n" {
		t.Errorf("to another provider: %+v", r)
	}
	r := slipway(t.Context(), "retry", "--all", "--json")
	if r.err != nil || !strings.HasPrefix(r.stdout, `{"dry_run":false,"retried":{"count":2,"ids":["`+ids[1]+`","`+ids[2]+`"]},"not_retried":[],"next":null}`) {
		t.Errorf("as JSON: %+v", r)
	}
	if r := slipway(t.Context(), append([]string{"watch"}, ids...)...); r.err != nil {
		t.Errorf("after that: %+v", r)
	}
}

func TestRetrySaysWhatItCameTo(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n++
		next := "null"
		if n == 1 {
			next = `"/v1/uploads/retry?cursor=c"`
		}
		fmt.Fprintf(w, `{"retried":{"count":1000,"ids":[]},"not_retried":[{"code":"bytes_gone","message":"The file is not kept any more.","count":3,"ids":[]}],"next":%s}`, next)
	}))
	t.Cleanup(s.Close)
	t.Setenv("SLIPWAY_URL", s.URL)
	r := slipway(t.Context(), "retry", "--all")
	if exitCode(r.err) != exitFailed || r.err.Error() != "6 of 2,006 could not be retried" ||
		r.stdout != "Retried: 2,000 uploads.\nNot retried: 6 uploads. The file is not kept any more. (bytes_gone)\n" {
		t.Errorf("%+v", r)
	}
}

func TestRetryIsToldWhatToRetry(t *testing.T) {
	const id = "0193f1c2-0000-7000-8000-000000000001"
	for line, want := range map[string]string{
		"":                            "name uploads, or choose failed ones by --all or another flag",
		"--all " + id:                 "name uploads, or choose them by flags, not both",
		"--provider cloudinary " + id: "where those that are named go is said by --to",
		"--to cloudinary --all":       "--to goes with the ids of uploads",
		"--after yesterday":           `invalid argument "yesterday" for "--after" flag: give a time like 2026-11-30`,
	} {
		if r := slipway(t.Context(), append([]string{"retry"}, strings.Fields(line)...)...); exitCode(r.err) != exitUsage || !strings.Contains(r.err.Error(), want) {
			t.Errorf("retry %s: %+v, want %s", line, r, want)
		}
	}
}

func TestTimesOfFlags(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	for text, want := range map[string]string{
		"2026-11-30":                "2026-11-30T00:00:00Z",
		"2026-11-30 12:30:00":       "2026-11-30T12:30:00Z",
		"2026-11-30T12:30:00+02:00": "2026-11-30T12:30:00+02:00",
	} {
		var m moment
		if err := m.Set(text); err != nil || m.String() != want {
			t.Errorf("%s: got %s, %v", text, &m, err)
		}
	}
	for text, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "90m": 90 * time.Minute, "0d": 0} {
		var m moment
		if err := m.Set(text); err != nil || time.Since(*m.at)-want > time.Minute || time.Since(*m.at) < want {
			t.Errorf("%s: got %s, %v", text, &m, err)
		}
	}
	for _, text := range []string{"-7d", "-1h", "d", "", "noon", "99999999d"} {
		if err := new(moment).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
