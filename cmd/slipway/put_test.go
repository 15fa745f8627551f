package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/client"
	"slipway/internal/upload"
)

const film = "père & fils (1).mp4"

func TestPutToTheEnd(t *testing.T) {
	start(t)
	folder(t)
	content := strings.Repeat("abcdefgh", 1<<17)
	write(t, film, content)
	write(t, "one", "x")
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		r := slipway(t.Context(), "put", "--wait", "--provider", provider, "--meta", "album=7", "--tag", "trip,sea", film, "one")
		urls := strings.Fields(r.stdout)
		if r.err != nil || len(urls) != 2 {
			t.Fatalf("%s: got %+v, want two URLs", provider, r)
		}
		if got := fetch(t, urls[0]); got != content {
			t.Errorf("%s serves %d other bytes", urls[0], len(got))
		}
		if got := fetch(t, urls[1]); got != "x" {
			t.Errorf("%s serves %q", urls[1], got)
		}
		for _, want := range []string{film + ": received, 1.0 MiB in", film + ": delivered to " + provider, "one: received, 1 B in"} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q is not in %s", want, r.stderr)
			}
		}
	}
}

func TestPutWithoutWaiting(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, film, "content")
	r := slipway(t.Context(), "put", "--json", "--meta", "album=7", "--tag", "trip", "--type", "raw", film)
	var told struct {
		File   string
		Upload client.Upload
	}
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || r.err != nil {
		t.Fatalf("got %+v: %v", r, err)
	}
	u := told.Upload
	if told.File != film || u.FileName != film || u.ResourceType != "raw" || u.Metadata["album"] != "7" || fmt.Sprint(u.Tags) != "[trip]" || !strings.HasPrefix(u.URL, s.url+"/v1/files/") {
		t.Errorf("got %s", r.stdout)
	}
	r = slipway(t.Context(), "put", film)
	if link := strings.TrimSpace(r.stdout); r.err != nil || !strings.HasPrefix(link, s.url+"/v1/files/") || !strings.HasSuffix(link, "/content") {
		t.Errorf("got %+v, want the link to the content", r)
	}
}

func TestArgumentsThatAreNoFiles(t *testing.T) {
	start(t)
	folder(t)
	write(t, "good", "x")
	write(t, "empty", "")
	write(t, "folder/file", "x")
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	r := slipway(t.Context(), "put", "good", "./good", "nothere", "empty", "folder", "pipe", "/dev/null", "-", "good/below", "evil\x1b[2J")
	if r.err == nil || r.err.Error() != "8 of 9 files are not where they should be" || len(strings.Fields(r.stdout)) != 1 {
		t.Errorf("got %+v, want one URL and 8 of 9", r)
	}
	for _, want := range []string{
		"./good: given twice (good); it is sent once\n", "nothere: there is no such file.\n", "empty: it is empty; there is nothing to deliver.\n",
		"folder: it is a folder; name the files in it.\n", "pipe: it is no ordinary file.\n", "/dev/null: it is no ordinary file.\n",
		"-: what comes by a pipe has no name and no length; write it to a file first.\n", "good/below: it cannot be looked at: not a directory.\n",
		`"evil\x1b[2J": there is no such file.`,
	} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%q is not in %s", want, r.stderr)
		}
	}
	r = slipway(t.Context(), "put", "--json", "nothere")
	if r.err == nil || r.stdout != `{"file":"nothere","error":{"detail":"there is no such file."}}`+"\n" {
		t.Errorf("as JSON: %+v", r)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	start(t)
	folder(t)
	write(t, "a", "x")
	write(t, "large", strings.Repeat("x", 65<<20))
	tests := map[string]struct {
		args []string
		want string
	}{
		"an unknown provider":        {[]string{"put", "--provider", "ftp", "a"}, `a: Provider "ftp" is not configured here; use uploadcare or cloudinary.`},
		"a file over the limit":      {[]string{"put", "large"}, "larger than 64 MiB"},
		"metadata without a value":   {[]string{"put", "--meta", "album", "a"}, `--meta "album": give it as key=value`},
		"metadata that nobody takes": {[]string{"put", "--meta", "a b=c", "a"}, `--meta "a b=c": a key is 1 to 64 of A-Z a-z 0-9 _ . : -`},
		"metadata without a word":    {[]string{"put", "--meta", "album=", "a"}, `--meta "album=": give it as key=value`},
		"metadata that is none":      {[]string{"put", "--meta", "name=b", "a"}, `--meta "name=b": name says something else of a file; name it otherwise`},
		"an unknown type":            {[]string{"put", "--type", "song", "a"}, `resource_type "song" is not known`},
		"no file":                    {[]string{"put"}, "requires at least 1 arg"},
		"no id":                      {[]string{"status", "film.mp4"}, "film.mp4: this is no id; `slipway list` shows them."},
		"an unknown id":              {[]string{"status", "0193f1c2-0000-7000-8000-000000000000"}, "There is no upload with this id."},
		"an unknown status":          {[]string{"list", "--status", "lost"}, `there is no status "lost"; there are receiving, `},
		"a limit that is none":       {[]string{"list", "--limit", "0"}, "--limit 0: give 1 or more"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := slipway(t.Context(), tt.args...)
			if r.err == nil || !strings.Contains(r.stderr+r.err.Error(), tt.want) || r.stdout != "" {
				t.Errorf("got %+v, want %q", r, tt.want)
			}
		})
	}
}

func TestAnUploadThatFailsAndIsRetried(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	s.fault(t, "cloudinary", invalidImage)
	r := slipway(t.Context(), "put", "--wait", "--json", "--provider", "cloudinary", "a.bin")
	var told struct {
		Upload client.Upload
		Error  struct{ Code, Detail string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || r.err == nil {
		t.Fatalf("got %+v: %v", r, err)
	}
	id := string(told.Upload.ID)
	if told.Error.Code != "provider_rejected" || !strings.Contains(told.Error.Detail, "To try again: `slipway retry "+id) || !strings.Contains(r.stderr, told.Error.Detail) {
		t.Errorf("got %+v", r)
	}
	if r := slipway(t.Context(), "status", id); r.err != nil || !strings.Contains(r.stdout, "  status    failed\n") || !strings.Contains(r.stdout, "(provider_rejected)") || !strings.Contains(r.stdout, "slipway retry "+id) {
		t.Errorf("its status is shown as %+v", r)
	}
	if r := slipway(t.Context(), "list", "--status", "failed", "--provider", "cloudinary"); r.err != nil || !strings.Contains(r.stdout, id+"  failed  7 B   cloudinary") {
		t.Errorf("the list is %+v", r)
	}

	s.fault(t, "cloudinary", "")
	if r := slipway(t.Context(), "retry", id); r.err != nil || r.stdout != "a.bin is queued again\n" {
		t.Errorf("retry: %+v", r)
	}
	become(t, strings.ToUpper(id), upload.Completed)
	r = slipway(t.Context(), "retry", "--json", id)
	if r.err == nil || !strings.Contains(r.stdout, `"code":"not_failed","status":409`) || strings.Contains(r.stderr, "Its id is") {
		t.Errorf("a retry of what is completed: %+v", r)
	}
}

// created answers a request of tus that makes an upload, and has all of a small file.
func created(w http.ResponseWriter, r *http.Request, id string) {
	n, _ := io.Copy(io.Discard, r.Body)
	w.Header().Set("Tus-Resumable", "1.0.0")
	w.Header().Set("Location", "/v1/tus/"+id)
	w.Header().Set("Upload-Offset", strconv.FormatInt(n, 10))
	w.WriteHeader(http.StatusCreated)
}

func TestTroubleOnTheWayIsTold(t *testing.T) {
	const id = "0193f1c2-0000-7000-8000-000000000001"
	told := []string{
		`"status":"queued","version":1`,
		`"status":"retrying","version":2,"next_attempt_at":"2026-01-02T03:04:05Z","error":{"code":"provider_unavailable","message":"Uploadcare answered 503.","retryable":true}`,
		`"status":"pushing","version":3,"error":{"code":"provider_unavailable","message":"Uploadcare answered 503.","retryable":true}`,
		`"status":"completed","version":4,"asset":{"url":"http://cdn.example/a"}`,
	}
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			created(w, r, id)
			return
		}
		state := told[min(asked, len(told)-1)]
		asked++
		fmt.Fprintf(w, `{"id":%q,"provider":"uploadcare",%s}`, id, state)
	}))
	t.Cleanup(s.Close)
	folder(t)
	write(t, "a.bin", "content")
	t.Setenv("SLIPWAY_URL", s.URL)
	r := slipway(t.Context(), "put", "--wait", "a.bin")
	if r.err != nil || r.stdout != "http://cdn.example/a\n" || strings.Count(r.stderr, "a.bin: Uploadcare answered 503. It goes on at ") != 1 || !strings.Contains(r.stderr, "delivered") {
		t.Errorf("got %+v", r)
	}
}

func TestInterruptions(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	s.fault(t, "uploadcare", `{"path":"^/base/","action":"stall"}`)
	t.Cleanup(func() { s.fault(t, "uploadcare", "") })
	ctx, cancel := context.WithCancel(t.Context())
	r := overheard(ctx, func(stderr string) {
		if strings.Count(stderr, ".bin: received, ") == 2 {
			cancel()
		}
	}, "put", "--wait", "--provider", "uploadcare", "a.bin", "b.bin")
	if exitCode(r.err) != exitInterrupted || strings.Count(r.stderr, "not waited for any longer; it goes on by itself: `slipway status ") != 2 {
		t.Errorf("while it waits: %+v", r)
	}

	done, cancel := context.WithCancel(t.Context())
	cancel()
	r = slipway(done, "put", "a.bin")
	if exitCode(r.err) != exitInterrupted || !strings.Contains(r.stderr, "a.bin: not sent: interrupted.") {
		t.Errorf("before it sends: %+v", r)
	}
}

func TestAnAnswerThatWasNotWaitedFor(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		interrupt()
		<-r.Context().Done()
	}))
	t.Cleanup(service.Close)
	t.Setenv("SLIPWAY_URL", service.URL)
	folder(t)
	write(t, "a.bin", "content")
	r := slipway(ctx, "put", "a.bin")
	if exitCode(r.err) != exitInterrupted || !strings.Contains(r.stderr, "a.bin: interrupted. It may have come in all the same; `slipway put a.bin` finds out, and goes on.") {
		t.Errorf("%+v", r)
	}
}

func TestWhereTheServiceIs(t *testing.T) {
	answer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"status":401,"code":"unauthorized","detail":"You sent %s."}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(answer.Close)
	nobody := httptest.NewServer(nil)
	nobody.Close()
	tests := map[string]struct {
		url, devEnv string
		want        string
	}{
		"what SLIPWAY_URL says":          {answer.URL, "SLIPWAY_URL='" + nobody.URL + "'", "You sent Bearer t0ken. Set SLIPWAY_TOKEN"},
		"what a stack in the folder is":  {"", "DEV_USER='x'\nSLIPWAY_URL='" + answer.URL + "'", "You sent Bearer t0ken. Set SLIPWAY_TOKEN"},
		"an address that is none":        {"localhost:3000", "", "SLIPWAY_URL: the service's address must be like http://localhost:3000"},
		"a stack's address that is none": {"", "SLIPWAY_URL=x", ".slipway/dev.env: the service's address must be like"},
		"a stack's file that is none":    {"", "SLIPWAY_URL='", ".slipway/dev.env cannot be read; set SLIPWAY_URL"},
		"nobody there":                   {nobody.URL, "", "no answer from " + nobody.URL + ": dial tcp"},
		"what to do then":                {nobody.URL, "", "Is Slipway running? Start it with `make run`, or set SLIPWAY_URL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			folder(t)
			t.Setenv("SLIPWAY_URL", tt.url)
			t.Setenv("SLIPWAY_TOKEN", "t0ken")
			if tt.devEnv != "" {
				write(t, devEnv, tt.devEnv)
			}
			write(t, "a", "x")
			for _, args := range [][]string{{"list"}, {"put", "a"}} {
				if r := slipway(t.Context(), args...); r.err == nil || !strings.Contains(r.stderr+r.err.Error(), tt.want) {
					t.Errorf("%s: %+v, want %q", args[0], r, tt.want)
				}
			}
		})
	}
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	const id = "0193f1c2-0000-7000-8000-000000000001"
	var keys []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			created(w, r, id)
			if len(keys) == 1 {
				panic(http.ErrAbortHandler)
			}
			return
		}
		fmt.Fprintf(w, `{"id":%q,"status":"queued","url":"http://host/v1/files/%s/content"}`, id, id)
	}))
	t.Cleanup(s.Close)
	folder(t)
	write(t, "a", "x")
	t.Setenv("SLIPWAY_URL", s.URL)
	r := slipway(t.Context(), "put", "a")
	if r.err != nil || r.stdout != "http://host/v1/files/"+id+"/content\n" || len(keys) != 2 || keys[0] != keys[1] {
		t.Errorf("got %+v with the keys %q", r, keys)
	}
}

func TestAnAnswerThatNeverCameIsSaidSo(t *testing.T) {
	for name, err := range map[string]error{
		"nobody answers":       &client.UnreachableError{URL: "http://host", Cause: io.EOF, Unknown: true},
		"a proxy answers":      &client.Error{Status: http.StatusBadGateway, Detail: "What answers is not Slipway.", Unknown: true},
		"it is being answered": &client.Error{Status: http.StatusConflict, Code: upload.KeyInFlight, Detail: "Wait.", Retryable: true, Unknown: true},
	} {
		if got := faultOf(err).Detail; !strings.HasSuffix(got, "It may have been accepted all the same: look with `slipway list` before doing it again.") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}
