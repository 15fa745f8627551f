// Package postgrestest gives every test a database of its own.
//
// A test binary has one throw-away server, started by the first test that asks, in memory where there is room:
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }
//
//	func TestX(t *testing.T) { pool, err := pgxpool.New(t.Context(), postgrestest.New(t)) ... }
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"slipway/internal/postgres"
	"slipway/internal/postgres/pgembed"
)

const (
	prefix     = "slipway-test-" // of the server's folder
	template   = "migrated"
	startLimit = 5 * time.Minute // the machine's first start may download PostgreSQL
	limit      = 30 * time.Second
)

// harness is the server of one test binary.
type harness struct {
	migrate func(ctx context.Context, url string) error

	mu        sync.Mutex
	dir       string
	server    *pgembed.Server
	err       error // of the start, told to every test
	migrated  bool
	databases int
}

var current *harness

// Main runs the tests, then stops the server and removes it. It returns the exit code. migrate makes the schema of
// the databases that New gives; nil makes none. It has to close its connections.
func Main(m *testing.M, migrate func(ctx context.Context, url string) error) int {
	current = &harness{migrate: migrate}
	code := m.Run()
	if err := current.remove(); err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		return max(code, 1)
	}
	return code
}

// Migrated is Main with this program's schema. Where the tests have left goroutines behind, it says so and fails.
func Migrated(m *testing.M) int {
	code := Main(m, func(ctx context.Context, url string) error {
		return postgres.Migrate(ctx, postgres.Options{URL: url}, slog.New(slog.DiscardHandler))
	})
	http.DefaultClient.CloseIdleConnections()
	err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // one per process, for ever
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within 10 s of its server
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// New returns the owner's URL of a fresh database with the schema.
func New(t testing.TB) string {
	t.Helper()
	return database(t, template)
}

// Original is New with a database that is an installation of its own, where others are taken for copies of the one
// that they are made from.
func Original(t testing.TB) string {
	t.Helper()
	url := New(t)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Rehome(t.Context(), pool, url, true); err != nil {
		t.Fatal(err)
	}
	return url
}

// Empty returns the owner's URL of a database with nothing in it.
func Empty(t testing.TB) string {
	t.Helper()
	return database(t, "template0")
}

// Server returns the server of this test binary.
func Server(t testing.TB) *pgembed.Server {
	t.Helper()
	h := running(t)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.server
}

// Outage calls during while the server is down and returns when it is up again, with the same URLs and rows. It hits
// every test of the binary: not for parallel ones.
func Outage(t testing.TB, during func()) {
	t.Helper()
	h := running(t)
	if err := Server(t).Stop(); err != nil {
		t.Fatal(err)
	}
	defer func() { // also after a t.Fatal in during, for the tests that follow
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.err = h.start(); h.err != nil {
			t.Error(h.err)
		}
	}()
	during()
}

// IgnoreServer is for goleak in tests: the goroutine that waits for the server's end is none of theirs.
func IgnoreServer() goleak.Option {
	return goleak.IgnoreAnyFunction("slipway/internal/postgres/pgembed.(*Server).wait")
}

func database(t testing.TB, from string) string {
	t.Helper()
	h := running(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	url, err := h.copy(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// running returns the harness with its server up.
func running(t testing.TB) *harness {
	t.Helper()
	if current == nil {
		t.Fatal("call postgrestest.Main in TestMain")
	}
	current.mu.Lock()
	defer current.mu.Unlock()
	if current.server == nil && current.err == nil {
		current.err = current.begin()
	}
	if current.err != nil {
		t.Fatal(current.err)
	}
	return current
}

// begin makes the folder and starts the server.
func (h *harness) begin() error {
	parent := pgembed.EphemeralParent()
	if err := sweep(parent); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return err
	}
	h.dir = dir
	return h.start()
}

func (h *harness) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	server, err := pgembed.Start(ctx, pgembed.Options{Dir: h.dir, Ephemeral: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	h.server = server
	return nil
}

// copy makes the next database from another one. It is never dropped: the server goes before that would pay.
func (h *harness) copy(ctx context.Context, from string) (url string, err error) {
	server, name, err := h.next(ctx, from)
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY file_copy", name, from))
	return server.URL(name), err
}

// next names the next database and makes sure that from is there.
func (h *harness) next(ctx context.Context, from string) (*pgembed.Server, string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if from == template && !h.migrated {
		if err := h.makeTemplate(ctx); err != nil {
			return nil, "", err
		}
		h.migrated = true
	}
	h.databases++
	return h.server, fmt.Sprintf("test_%d", h.databases), nil
}

// makeTemplate migrates the database that the others are copied from.
func (h *harness) makeTemplate(ctx context.Context) error {
	if err := h.server.CreateDatabase(ctx, template); err != nil {
		return err
	}
	if h.migrate == nil {
		return nil
	}
	if err := h.migrate(ctx, h.server.URL(template)); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	return nil
}

func (h *harness) remove() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		if err := h.server.Stop(); err != nil {
			return err
		}
	}
	if h.dir == "" {
		return nil
	}
	return os.RemoveAll(h.dir)
}

// sweep removes the folders of test binaries that were killed. Their servers have died with them.
func sweep(parent string) error {
	const starting = time.Minute // so young a folder may only not be in use yet
	dirs, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < starting {
			continue
		}
		used, err := pgembed.InUse(dir)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			continue // another user's, or just removed by another binary
		}
		if err != nil {
			return err
		}
		if !used {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}
