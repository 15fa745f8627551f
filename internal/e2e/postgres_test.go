package e2e

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/postgres/pgembed"
)

// ownPostgres is a server that a test may crash. It keeps its port.
type ownPostgres struct {
	server *pgembed.Server
	dir    string
}

// startPostgres runs a server with an empty database, and returns the name of a file with the settings that lead there.
func startPostgres(t *testing.T) (p *ownPostgres, settings string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgres") // as in dev
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p = &ownPostgres{dir: dir}
	p.run(t)
	t.Cleanup(func() { _ = p.server.Stop() })
	if err := p.server.CreateDatabase(t.Context(), "slipway"); err != nil {
		t.Fatal(err)
	}
	settings = filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(settings, []byte("DATABASE_URL="+p.server.TCPURL("slipway")), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, settings
}

func (p *ownPostgres) run(t *testing.T) {
	t.Helper()
	server, err := pgembed.Start(t.Context(), pgembed.Options{Dir: p.dir, Ephemeral: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.server = server
}

// crash stops the server at once, as a crash does.
func (p *ownPostgres) crash(t *testing.T) {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(p.server.Dir(), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(pid), "\n")
	postmaster, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster, syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
		t.Fatal(err)
	}
	<-p.server.Done()
}
