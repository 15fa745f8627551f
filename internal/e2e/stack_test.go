// Package e2e runs the built programs as their users do: real processes, real HTTP, real signals.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/joho/godotenv"
)

// bin holds the programs, built once.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slipway-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	if out, err := exec.Command("go", "build", "-o", dir, "slipway/cmd/api", "slipway/cmd/worker", "slipway/cmd/slipway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is a running program.
type process struct {
	name string
	cmd  *exec.Cmd
	said *lines
	done chan struct{}
	err  error
}

// start runs one of the programs.
func start(t *testing.T, env map[string]string, name string, args ...string) *process {
	t.Helper()
	return launch(t, env, t.TempDir(), filepath.Join(bin, name), args...)
}

// launch runs a program in a folder, with nothing from this environment but what it needs to run at all.
func launch(t *testing.T, env map[string]string, dir, path string, args ...string) *process {
	t.Helper()
	name := filepath.Base(path)
	p := &process{name: name, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	for _, keep := range []string{"PATH", "HOME", "TMPDIR", "PG_BIN_DIR"} {
		if v, ok := os.LookupEnv(keep); ok {
			p.cmd.Env = append(p.cmd.Env, keep+"="+v)
		}
	}
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.said = &lines{t: t, name: name}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t, 30*time.Second) })
	return p
}

// lines writes a program's output into the test's, and keeps it.
type lines struct {
	t    *testing.T
	name string

	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		fmt.Fprintf(l.t.Output(), "%s| %s\n", l.name, s.Text())
	}
	return len(b), nil
}

// stop asks the program to end, as a supervisor does.
func (p *process) stop(t *testing.T, limit time.Duration) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		t.Errorf("%s did not end within %s of SIGTERM", p.name, limit)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stack is a `slipway dev` of its own.
type stack struct {
	env map[string]string
	url string
	sim string
	dir string
}

// dev starts a stack on free ports.
func dev(t *testing.T, args ...string) *stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "stack") // not t.TempDir: Postgres runs as another user and must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := start(t, nil, "slipway", append([]string{"dev", "-v", "--data", dir, "--port", "0", "--sim-port", "0", "--admin-port", "0"}, args...)...)
	s := &stack{dir: dir}
	await(t, time.Minute, "the stack to be ready", func() bool {
		select {
		case <-p.done:
			t.Fatalf("slipway dev ended: %v", p.err)
		default:
		}
		if s.env, err = godotenv.Read(filepath.Join(dir, "dev.env")); err != nil {
			return false
		}
		s.url, s.sim = s.env["SLIPWAY_URL"], s.env["UPLOADCARE_REST_BASE"]
		if strings.Contains(strings.Join(args, " "), "api") {
			return true
		}
		resp, err := http.Get(s.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return s
}

// await waits for a condition.
func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s", limit, what)
		}
		<-tick.C
	}
}

// uploadView is what the tests read of an upload.
type uploadView struct {
	ID          string  `json:"id"`
	Status      string  `json:"status"`
	Provider    string  `json:"provider"`
	FileName    string  `json:"file_name"`
	Size        int64   `json:"size"`
	PushedBytes int64   `json:"pushed_bytes"`
	Progress    float64 `json:"progress"`
	URL         string  `json:"url"`
	Error       *struct{ Code, Message string }
	Asset       *struct{ ID, URL string }
}

func (s *stack) upload(t *testing.T, id string) uploadView {
	t.Helper()
	var u uploadView
	getJSON(t, s.url+"/v1/uploads/"+id, &u)
	return u
}

func (s *stack) awaitStatus(t *testing.T, limit time.Duration, id, want string) uploadView {
	t.Helper()
	var u uploadView
	await(t, limit, "upload "+id+" to be "+want, func() bool {
		u = s.upload(t, id)
		if u.Status != want && (u.Status == "failed" || u.Status == "completed") {
			t.Fatalf("upload is %s: %+v", u.Status, u.Error)
		}
		return u.Status == want
	})
	return u
}

func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", url, resp.Status, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("GET %s: %v: %s", url, err, body)
	}
}

// post sends v as JSON to a simulator's control route.
func post(t *testing.T, url string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("POST %s: %s: %s", url, resp.Status, body)
	}
}

// file makes a file of random bytes and returns its path and SHA-256.
func file(t *testing.T, name string, size int64) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(rand.NewChaCha8(seed), size))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path, hex.EncodeToString(h.Sum(nil))
}

// sumAt is the SHA-256 of what a URL leads to.
func sumAt(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, resp.Status)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// curl runs the command that the documentation shows, and decodes its output.
func curl(t *testing.T, v any, args ...string) {
	t.Helper()
	out, err := exec.Command("curl", append([]string{"-sS"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v: %s (install it with: apt-get install curl)", strings.Join(args, " "), err, out)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("curl %s answered %s", strings.Join(args, " "), out)
	}
}
