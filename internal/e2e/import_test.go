package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// web is a server that files are imported from. The first answer about a file stops in its middle, and waits there
// until nobody listens any more.
type web struct {
	*httptest.Server
	content []byte

	mu   sync.Mutex
	from map[string][]int64 // where the answers about a file began
}

func newWeb(t *testing.T) *web {
	w := &web{content: bytes.Repeat([]byte("0123456789abcdef"), 2*mib), from: map[string][]int64{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		from, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"), 10, 64)
		if err != nil {
			from = 0
		}
		w.mu.Lock()
		w.from[r.URL.Path] = append(w.from[r.URL.Path], from)
		first := len(w.from[r.URL.Path]) == 1
		w.mu.Unlock()
		out.Header().Set("ETag", `"1"`)
		if first {
			out.Header().Set("Content-Length", strconv.Itoa(len(w.content)))
			_, _ = out.Write(w.content[:len(w.content)/2])
			_ = http.NewResponseController(out).Flush()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(w.content))
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *web) answers(path string) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64(nil), w.from[path]...)
}

// imported asks for a file and waits until half of it has come.
func (s *stack) imported(t *testing.T, w *web, path string) (id string) {
	t.Helper()
	var u uploadView
	curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-H", "Content-Type: application/json", "-d", `{"url":"`+w.URL+path+`?token=hush"}`)
	await(t, 30*time.Second, "half of "+path, func() bool {
		var v struct {
			Received int64 `json:"received_bytes"`
		}
		getJSON(t, s.url+"/v1/uploads/"+u.ID, &v)
		return v.Received == int64(len(w.content)/2)
	})
	return u.ID
}

// What becomes of imports whose workers die, sleep or stop.
func TestImportsSurvive(t *testing.T) {
	t.Parallel()
	settings := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(settings, []byte("IMPORT_PRIVATE_NETWORKS=127.0.0.0/8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := dev(t, "--without", "worker", "--env-file", settings)
	d, w := s.database(t), newWeb(t)
	digest := sha256.Sum256(w.content)
	sum := hex.EncodeToString(digest[:])
	half := int64(len(w.content) / 2)
	wantGoneOn := func(path, id string) {
		t.Helper()
		s.wantDelivered(t, id, sum)
		if from := w.answers(path); len(from) != 2 || from[1] != half {
			t.Errorf("%s was fetched from the bytes %v, want 0 and %d", path, from, half)
		}
	}

	stopped := s.worker(t)
	id := s.imported(t, w, "/stopped")
	begun := time.Now()
	stopped.signal(t, syscall.SIGTERM)
	slept := s.worker(t)
	await(t, 10*time.Second, "another worker to go on", func() bool { return len(w.answers("/stopped")) == 2 })
	t.Logf("another worker went on %s after a stop", time.Since(begun).Round(time.Millisecond))
	wantGoneOn("/stopped", id)

	sleeping := s.imported(t, w, "/slept")
	slept.suspend(t)
	killed := s.worker(t)
	id = s.imported(t, w, "/killed")
	killed.kill()
	death := d.death(t, id)
	last := s.worker(t)
	await(t, 60*time.Second, "another worker to go on", func() bool { return len(w.answers("/killed")) == 2 })
	if took := time.Since(death); took > late {
		t.Errorf("another worker began %s after the lease had run out, want at most 2 s, or %s on a busy machine", took, late)
	} else {
		t.Logf("another worker began %s after the lease had run out", took.Round(time.Millisecond))
	}
	wantGoneOn("/killed", id)
	wantGoneOn("/slept", sleeping)

	var before, after string
	const row = `SELECT u::text FROM slipway.uploads u WHERE id = $1`
	d.row(t, row, []any{sleeping}, &before)
	slept.signal(t, syscall.SIGCONT)
	slept.stop(t, 30*time.Second)
	d.row(t, row, []any{sleeping}, &after)
	if before != after {
		t.Errorf("the sleeper has changed\n%s\nto\n%s", before, after)
	}
	s.wantStored(t, "uploadcare", 3)
	for _, p := range []*process{stopped, slept, killed, last} {
		if strings.Contains(p.said.String(), "hush") {
			t.Errorf("the log of a %s has what may be a token", p.name)
		}
	}
}
