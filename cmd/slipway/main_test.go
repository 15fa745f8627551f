package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/process/api"
	"slipway/internal/process/worker"
)

func TestMain(m *testing.M) {
	if os.Getenv(asSlipway) != "" {
		main()
	}
	os.Exit(postgrestest.Main(m, func(ctx context.Context, url string) error {
		return postgres.Migrate(ctx, postgres.Options{URL: url}, slog.New(slog.DiscardHandler))
	}))
}

// longest is how long anything is waited for, on a machine that has other work too.
const longest = time.Minute

// outcomeOf is what a person sees of one command.
type outcomeOf struct {
	stdout, stderr string
	err            error
}

// slipway runs a command as a shell would, but for the message about err.
func slipway(ctx context.Context, args ...string) outcomeOf {
	return overheard(ctx, func(string) {}, args...)
}

// overheard runs the command, and hear with all that it has said on stderr whenever it says more.
func overheard(ctx context.Context, hear func(stderr string), args ...string) outcomeOf {
	return run(ctx, strings.NewReader(""), hear, args...)
}

// run is overheard with something on stdin.
func run(ctx context.Context, stdin io.Reader, hear func(stderr string), args ...string) outcomeOf {
	var out bytes.Buffer
	errs := ear{hear: hear}
	c := command()
	c.SetArgs(args)
	c.SetIn(stdin)
	c.SetOut(&out)
	c.SetErr(&errs)
	err := c.ExecuteContext(ctx)
	return outcomeOf{out.String(), errs.String(), err}
}

type ear struct {
	bytes.Buffer
	hear func(string)
}

func (e *ear) Write(p []byte) (int, error) {
	n, err := e.Buffer.Write(p)
	e.hear(e.String())
	return n, err
}

// system is a whole service for one test: API, worker, simulated providers.
type system struct {
	url string
	sim string // of the simulators' controls
	env map[string]string
}

// start runs a service, to which SLIPWAY_URL leads until the test ends.
func start(t *testing.T) *system {
	t.Helper()
	sims, err := devstack.StartSimulators(devstack.SimulatorOptions{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sims.Close() })
	s := &system{sim: sims.URL, env: map[string]string{
		"DATABASE_URL": postgrestest.Original(t), "STAGING_DIR": t.TempDir(), "STAGING_RESERVE": "0", "MAX_UPLOAD_BYTES": "64MiB",
		"DEV_USER": "user_123", "AUTH_JWT_SECRET": rand.Text() + rand.Text(), "HOST": "127.0.0.1", "DRAIN_TIMEOUT": "5s",
	}}
	maps.Copy(s.env, sims.Env())
	c, err := config.Load(config.Options{Environ: pairsOf(s.env), Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 2)
	go func() {
		ended <- api.Run(ctx, api.Options{Config: c, Log: log, Listener: ln, Dev: true, Ready: func() { close(ready) }})
	}()
	go func() { ended <- worker.Run(ctx, worker.Options{Config: c, Log: log}) }()
	t.Cleanup(func() {
		stop()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String()
	t.Setenv("SLIPWAY_URL", s.url)
	t.Setenv("SLIPWAY_TOKEN", "")
	return s
}

func pairsOf(env map[string]string) (list []string) {
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// fault programs a simulator, or clears what was programmed when rule is "".
func (s *system) fault(t *testing.T, provider, rule string) {
	t.Helper()
	method := http.MethodPost
	if rule == "" {
		method = http.MethodDelete
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, s.sim+"/_sim/"+provider+"/faults", strings.NewReader(rule))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("the fault was answered with %s", resp.Status)
	}
}

// folder is an empty current folder, of a user of whom nothing is kept.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
