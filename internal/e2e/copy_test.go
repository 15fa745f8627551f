package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// copied makes a copy of a stack's database at this moment, as a branch or a restored backup is one, and returns
// the settings that lead to it.
func (s *stack) copied(t *testing.T) map[string]string {
	t.Helper()
	u, err := url.Parse(s.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	source := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{ // a template must have no sessions; those of the stack come back
		`ALTER DATABASE %[1]s ALLOW_CONNECTIONS false`,
		`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '%[1]s'`,
		`CREATE DATABASE %[1]s_copy TEMPLATE %[1]s`,
		`ALTER DATABASE %[1]s ALLOW_CONNECTIONS true`,
	} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(sql, source)); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	env := maps.Clone(s.env)
	u.Path = "/" + source + "_copy"
	env["DATABASE_URL"] = u.String()
	return env
}

// asked are all requests that the simulated providers have had since they were forgotten.
func (s *stack) asked(t *testing.T) (all []request) {
	t.Helper()
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		var log struct{ Requests []request }
		getJSON(t, s.sim+"/_sim/"+provider+"/requests", &log)
		all = append(all, log.Requests...)
	}
	return all
}

func (s *stack) forget(t *testing.T) {
	t.Helper()
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.sim+"/_sim/"+provider+"/requests", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// A worker on a copy of a live stack asks nothing of a provider, whatever was on its way. Made an installation of
// its own, the copy still leaves that to the original, which delivers it.
func TestACopyLeavesEverythingToTheOriginal(t *testing.T) {
	t.Parallel()
	s := dev(t, "--without", "worker")
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		s.line(t, provider, 2*mib)
	}
	worker := s.worker(t)
	sums, ids := map[string]string{}, map[string]string{}
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		ids[provider], sums[provider] = s.accept(t, provider, "film.mp4", 50*mib)
	}
	waiting, waitingSum := s.accept(t, "uploadcare", "waits.mp4", 50*mib)
	await(t, 30*time.Second, "the pushes to get on", func() bool {
		return s.upload(t, ids["uploadcare"]).PushedBytes > 0 && s.upload(t, ids["cloudinary"]).Status == "pushing"
	})
	worker.kill()
	env := s.copied(t)
	s.forget(t)

	onCopy := start(t, env, "worker")
	select {
	case <-onCopy.done:
	case <-time.After(30 * time.Second):
		t.Fatal("a worker runs on a copy")
	}
	if onCopy.err == nil || !strings.Contains(onCopy.said.String(), "migrate --copy") {
		t.Errorf("the worker on the copy ended with %v and said %s", onCopy.err, onCopy.said)
	}
	if asked := s.asked(t); len(asked) > 0 {
		t.Errorf("a provider was asked from the copy: %+v", asked)
	}

	run := func(args ...string) {
		t.Helper()
		p := start(t, env, "slipway", args...)
		<-p.done
		if p.err != nil {
			t.Fatalf("slipway %v: %v", args, p.err)
		}
	}
	env["STAGING_DIR"] = t.TempDir()
	run("migrate", "--copy")
	settled := start(t, env, "worker", "-until-idle")
	select {
	case <-settled.done:
		if settled.err != nil {
			t.Errorf("the worker on the settled copy ended with %v", settled.err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the copy has something to do")
	}
	for _, r := range s.asked(t) {
		if r.Method != http.MethodGet { // accounts are asked for their plan
			t.Errorf("from the copy came %s %s", r.Method, r.Target)
		}
	}
	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var n int
	err = conn.QueryRow(t.Context(), `SELECT count(*) FROM slipway.uploads WHERE status = 'failed' AND error_code = 'other_installation'`).Scan(&n)
	if err != nil || n != 3 {
		t.Errorf("%d uploads have ended in the copy, %v; want 3", n, err)
	}

	for _, provider := range []string{"uploadcare", "cloudinary"} {
		s.line(t, provider, 0)
	}
	s.worker(t)
	for provider, id := range ids {
		s.wantDelivered(t, id, sums[provider])
	}
	s.wantDelivered(t, waiting, waitingSum)
	s.wantStored(t, "uploadcare", 2)
	s.wantStored(t, "cloudinary", 1)

	// Neither finds anything of the other's.
	for name, env := range map[string]map[string]string{"the original": s.env, "the copy": env} {
		plan := reconcile(t, env, 0)
		if len(plan.Differences) > 0 {
			t.Errorf("%s differs: %+v", name, plan.Differences)
		}
	}
}

type plan struct {
	Applied     bool
	Compared    struct{ Stored int }
	Differences []struct {
		Kind     string
		UploadID string `json:"upload_id"`
		Done     bool
	}
}

// reconcile runs slipway doctor --reconcile --json, which is to end with this code.
func reconcile(t *testing.T, env map[string]string, code int, args ...string) (p plan) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "slipway"), append([]string{"doctor", "--reconcile", "--json", "--grace", "0s"}, args...)...)
	cmd.Dir = t.TempDir()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, "HOME="+os.Getenv("HOME"))
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("slipway doctor --reconcile %v: %v, want code %d: %s", args, err, code, out)
	}
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

func TestReconcileOnTheCommandLine(t *testing.T) {
	t.Parallel()
	s := dev(t)
	id, sum := s.accept(t, "cloudinary", "a.bin", 1000)
	s.wantDelivered(t, id, sum)
	if p := reconcile(t, s.env, 0); p.Compared.Stored != 1 || len(p.Differences) > 0 || p.Applied {
		t.Errorf("all is well, and the plan is %+v", p)
	}
	left := "01a20029-d1dd-7373-8adf-ad3072f5dd2a"
	if err := os.WriteFile(filepath.Join(s.env["STAGING_DIR"], left), []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"--apply"}} {
		code := map[bool]int{true: 0, false: 1}[len(args) > 0]
		if p := reconcile(t, s.env, code, args...); len(p.Differences) != 1 || p.Differences[0].UploadID != left || p.Differences[0].Done != (code == 0) {
			t.Errorf("with %v the plan is %+v", args, p)
		}
	}
	if _, err := os.Stat(filepath.Join(s.env["STAGING_DIR"], "trash", left)); err != nil {
		t.Errorf("in the trash: %v", err)
	}
}
