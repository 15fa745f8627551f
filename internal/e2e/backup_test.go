package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// traffic is a client that sends one file after the other.
type traffic struct {
	mu   sync.Mutex
	sums map[string]string // of what was acknowledged, by the upload
	err  error
	end  chan struct{}
	sent sync.WaitGroup
}

// sends sends files of 1 MiB to both providers until the traffic is stopped.
func (s *stack) sends(t *testing.T) *traffic {
	t.Helper()
	tr := &traffic{sums: map[string]string{}, end: make(chan struct{})}
	tr.sent.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-tr.end:
				return
			default:
			}
			id, sum, err := s.send([]string{"uploadcare", "cloudinary"}[n%2])
			tr.mu.Lock()
			if tr.err = err; err == nil {
				tr.sums[id] = sum
			}
			tr.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { tr.stop(t) })
	return tr
}

func (s *stack) send(provider string) (id, sum string, err error) {
	body := make([]byte, mib)
	_, _ = rand.Read(body) // never fails
	of := sha256.Sum256(body)
	client := http.Client{Timeout: time.Minute} // or else the traffic could not be stopped
	resp, err := client.Post(s.url+"/v1/uploads?file_name=film.mp4&provider="+provider, "video/mp4", bytes.NewReader(body))
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var u uploadView
	if err := json.NewDecoder(resp.Body).Decode(&u); err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusAccepted {
		return "", "", fmt.Errorf("POST /v1/uploads: %s", resp.Status)
	}
	return u.ID, hex.EncodeToString(of[:]), nil
}

// acknowledged is what has been so far.
func (tr *traffic) acknowledged() map[string]string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return maps.Clone(tr.sums)
}

// awaitMore waits until so many more are acknowledged.
func (tr *traffic) awaitMore(t *testing.T, n int) {
	t.Helper()
	had := len(tr.acknowledged())
	await(t, time.Minute, "more uploads to be acknowledged", func() bool { return len(tr.acknowledged()) >= had+n })
}

// stop ends the traffic, all of which has to have been acknowledged.
func (tr *traffic) stop(t *testing.T) {
	t.Helper()
	select {
	case <-tr.end:
		return
	default:
	}
	close(tr.end)
	tr.sent.Wait()
	if tr.err != nil {
		t.Error(tr.err)
	}
}

// dies ends all that runs at once, and takes the folder of the staged files with it.
func (m *machine) dies(t *testing.T) {
	t.Helper()
	for unit, p := range m.running {
		p.kill()
		delete(m.running, unit)
	}
	m.loseStaging(t)
}

func (m *machine) loseStaging(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(m.path("/var/lib/slipway/staging")); err != nil {
		t.Fatal(err)
	}
}

// begin sends the first bytes of a file, which are acknowledged.
func (a *apiProcess) begin(t *testing.T, path, file string, bytes int64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if resp := a.tus(t, "PATCH", path, io.LimitReader(f, bytes), "Upload-Offset: 0"); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("the beginning is answered %s", resp.Status)
	}
}

// compare runs the page's comparison, with what is young, too, and returns what it says.
func (m *machine) compare(t *testing.T, command string) string {
	t.Helper()
	said, err := m.attempt(t, strings.Replace(command, "--reconcile", "--reconcile --grace 0s", 1))
	if err == nil {
		t.Errorf("there is no difference: %s", said)
	}
	return said
}

// TestBackupAndRestore follows docs/backup.md: a backup while files come and go, the end of the machine and of its
// database, and a restore on a new server. What was acknowledged before the backup is delivered, wherever it was.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	databaseURL, server := ownDatabase(t)
	m.install(t, databaseURL)
	m.ready(t)
	client := &apiProcess{url: m.url}
	const size, begun = 8 * mib, 3 * mib
	path, sum := file(t, "film.mp4", size)
	half := client.create(t, "film.mp4", size)
	client.begin(t, half, path, begun)

	m.line(t, "uploadcare", 8*mib)
	m.line(t, "cloudinary", 8*mib)
	traffic := m.sends(t)
	traffic.awaitMore(t, 6)
	before := traffic.acknowledged()
	backup := blocksIn(section(t, "backup.md", "Backing up"), "bash")
	m.run(t, backup...)
	traffic.awaitMore(t, 6)
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		m.line(t, provider, 0)
	}
	traffic.stop(t)
	since := traffic.acknowledged()
	for id, sum := range since { // and so left staging after it was copied
		m.wantDelivered(t, id, sum)
	}

	m.dies(t)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	databaseURL, _ = ownDatabase(t)
	m.configure(t, databaseURL)
	restore := blocksIn(section(t, "backup.md", "Restoring"), "bash")
	m.run(t, restore[:2]...)
	m.ready(t)
	for id, sum := range before {
		delete(since, id)
		m.wantDelivered(t, id, sum)
	}
	later := 0
	for id, sum := range since { // while the backup was made, or after it
		switch code, _ := status(t, m.url+"/v1/uploads/"+id); code {
		case http.StatusOK:
			m.wantDelivered(t, id, sum)
		case http.StatusNotFound:
			later++
		default:
			t.Errorf("GET of an upload answers %d", code)
		}
	}
	t.Logf("%d were acknowledged before the backup, %d after it", len(before), later)
	if offset := client.offset(t, half); offset != begun {
		t.Errorf("of a file that was coming in %d bytes are there, want %d", offset, begun)
	}
	client.wantRest(t, half, path, begun)
	m.wantDelivered(t, uploadOf(half), sum)

	said := m.compare(t, restore[2])
	if got := strings.Count(said, "asset_unnamed"); got < later {
		t.Errorf("%d assets are found to be in no row, want those of %d uploads at least", got, later)
	}
	for _, other := range []string{"staged_missing", "staged_in_trash", "asset_gone", "guide_row"} {
		if strings.Contains(said, other) {
			t.Errorf("the comparison finds %s:\n%s", other, said)
		}
	}
	m.withoutTheFolder(t, "DATABASE_URL="+databaseURL+"\n"+restore[3], restore[2], uploadOf(half), sum)
}

// withoutTheFolder has the database alone, in which one upload was delivered.
func (m *machine) withoutTheFolder(t *testing.T, forget, comparison, delivered, sum string) {
	t.Helper()
	m.stopUnit(t, "slipway-worker")
	lost, _ := m.accept(t, "uploadcare", "film.mp4", mib)
	m.dies(t)
	p := launch(t, m.env, m.path("/etc/slipway"), m.path("/opt/slipway/current/worker"))
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatal("a worker runs with another folder")
	}
	if said := p.said.String(); p.err == nil || !strings.Contains(said, "set STAGING_DIR to that one") {
		t.Errorf("a worker with another folder ends with %v and says %s", p.err, said)
	}
	m.loseStaging(t)

	m.run(t, forget, "systemctl start slipway-api slipway-worker")
	m.ready(t)
	m.wantDelivered(t, delivered, sum)
	await(t, time.Minute, "the upload to have lost its bytes", func() bool {
		u := m.upload(t, lost)
		return u.Error != nil && u.Error.Code == "staging_unreachable"
	})
	if said := m.compare(t, comparison); !strings.Contains(said, "staged_missing") || !strings.Contains(said, lost) {
		t.Errorf("the comparison does not name %s: %s", lost, said)
	}
	if u := m.ends(t, http.MethodPost, "/v1/uploads/"+lost+"/cancel"); u.Status != "canceled" {
		t.Errorf("the upload is %s, want canceled", u.Status)
	}
}
