package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/devstack"
	"slipway/internal/postgres"
	"slipway/internal/postgres/pgembed"
)

// lab is a whole system on this machine: a database, both providers, and the processes between them.
type lab struct {
	options
	out     io.Writer
	began   time.Time
	dir     string
	env     map[string]string
	staging string
	small   bool // whether staging is a disk of its own
	unmount func() error

	sims  *devstack.Simulators
	meter *meter
	db    atomic.Pointer[pgembed.Server]
	pgDir string
	port  int // of the database, the same after each start
	pool  *pgxpool.Pool
	posts map[string]*post
	http  *http.Client
	web   *httptest.Server // where files are that the service fetches

	deaths deaths
	mishap mishaps
}

// mishaps are what went wrong in the lab or with what it watched, a line each.
type mishaps struct {
	mu  sync.Mutex
	all []string
}

func (m *mishaps) add(format string, a ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, fmt.Sprintf(format, a...))
}

// stagingSize is how large the small disk is: some of the largest files fit in at once.
const stagingSize = 1 << 30

func newLab(ctx context.Context, o options, out io.Writer) (_ *lab, err error) {
	dir, err := os.MkdirTemp(o.parent, "slipway-crash-")
	if err != nil {
		return nil, err
	}
	l := &lab{
		options: o, out: out, dir: dir, posts: map[string]*post{}, meter: &meter{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.clients}},
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as a user of its own where we are root
		return nil, err
	}
	bin := filepath.Join(dir, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin+"/", "slipway/cmd/api", "slipway/cmd/worker")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the programs: %w\n%s", err, text)
	}
	l.sims, err = devstack.StartSimulators(devstack.SimulatorOptions{
		Dir: filepath.Join(dir, "providers"), Address: "127.0.0.1:0", Around: l.meter.around,
	})
	if err != nil {
		return nil, err
	}
	// In memory a commit is as durable as on a disk, for the machine stays up.
	if l.pgDir, err = os.MkdirTemp(pgembed.EphemeralParent(), "slipway-crash-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(l.pgDir, 0o755); err != nil { // as above
		return nil, err
	}
	l.web = httptest.NewServer(http.HandlerFunc(l.serveFiles))
	if err := l.startDatabase(ctx); err != nil {
		return nil, err
	}
	if err := l.db.Load().CreateDatabase(ctx, "slipway"); err != nil {
		return nil, err
	}
	url := l.db.Load().TCPURL("slipway")
	if err := postgres.Migrate(ctx, postgres.Options{URL: url}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if l.pool, err = pgxpool.New(ctx, url); err != nil {
		return nil, err
	}
	if err := l.makeStaging(); err != nil {
		return nil, err
	}
	l.env = map[string]string{
		"DATABASE_URL": url, "STAGING_DIR": l.staging, "STAGING_RESERVE": "16MiB", "DEV_USER": "user_123",
		"HOST": "127.0.0.1", "UPLOAD_WAIT": "2s", "DRAIN_TIMEOUT": "10s", "VERIFY_READBACK": "on", "IMPORT_PRIVATE_NETWORKS": "on",
	}
	maps.Copy(l.env, l.sims.Env())
	ports, err := freePorts(o.apis + o.workers)
	if err != nil {
		return nil, err
	}
	for n, port := range ports {
		name, program := api(n), "api"
		if n >= o.apis {
			name, program = worker(n-o.apis), "worker"
		}
		env := maps.Clone(l.env)
		env["PORT"], env["WORKER_PORT"] = port, port
		if l.posts[name], err = newPost(name, filepath.Join(bin, program), filepath.Join(dir, "processes"), port, env); err != nil {
			return nil, err
		}
		if err := l.posts[name].start(nil); err != nil {
			return nil, err
		}
	}
	return l, l.awaitReady(ctx)
}

// makeStaging makes the folder for what is received, a small disk of its own where that is possible.
func (l *lab) makeStaging() error {
	l.staging = filepath.Join(l.dir, "staging")
	if err := os.Mkdir(l.staging, 0o700); err != nil {
		return err
	}
	unmount, err := smallDisk(l.staging, stagingSize)
	if err == nil {
		l.small, l.unmount = true, unmount
	}
	return nil
}

// startDatabase starts the server as it is where files matter: what it has confirmed survives its death.
func (l *lab) startDatabase(ctx context.Context) error {
	s, err := pgembed.Start(ctx, pgembed.Options{Dir: l.pgDir, Port: l.port, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(s.TCPURL("postgres"))
	if err != nil {
		return err
	}
	l.port = int(config.Port)
	l.db.Store(s)
	return nil
}

func (l *lab) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, p := range l.posts {
		for !l.ready(ctx, p.url) {
			if !pause(ctx, 20*time.Millisecond) {
				text, _ := os.ReadFile(p.log()) // without it the name has to do
				return fmt.Errorf("%s is not ready: %w\n%s", p.name, ctx.Err(), text[max(0, len(text)-2000):])
			}
		}
	}
	return nil
}

func (l *lab) ready(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// close ends everything that the lab has started.
func (l *lab) close() {
	for _, p := range l.posts {
		p.kill()
	}
	l.http.CloseIdleConnections()
	if l.web != nil {
		l.web.Close()
	}
	if l.pool != nil {
		l.pool.Close()
	}
	var err error
	if s := l.db.Load(); s != nil {
		err = s.Stop()
	}
	if l.sims != nil {
		err = errors.Join(err, l.sims.Close())
	}
	if l.unmount != nil {
		err = errors.Join(err, l.unmount())
	}
	if l.pgDir != "" {
		err = errors.Join(err, os.RemoveAll(l.pgDir))
	}
	if l.keep {
		fmt.Fprintln(l.out, "what the processes have logged is in", filepath.Join(l.dir, "processes"))
	} else {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	if err != nil {
		fmt.Fprintln(l.out, "clear up:", err)
	}
}

// meter counts what carries files to the providers.
type meter struct{ pushed, direct atomic.Int64 }

// fromBrowser marks what the lab sends to a provider itself.
const fromBrowser = "Crash-Lab"

func (m *meter) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		carries := r.Method == http.MethodPut || r.URL.Path == "/base/" || strings.HasSuffix(r.URL.Path, "/upload")
		if carries && !strings.HasPrefix(r.URL.Path, "/_sim/") {
			n := &m.pushed
			if r.Header.Get(fromBrowser) != "" {
				n = &m.direct
			}
			other := *r
			other.Body = &metered{r.Body, n}
			r = &other
		}
		next.ServeHTTP(w, r)
	})
}

type metered struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// bytes is a number of bytes as a person reads it.
func bytes(n int64) string {
	switch {
	case n < 10*kib:
		return strconv.FormatInt(n, 10) + " B"
	case n < 10*mib:
		return strconv.FormatInt(n/kib, 10) + " KiB"
	}
	return strconv.FormatInt(n/mib, 10) + " MiB"
}
