package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/joho/godotenv"

	"slipway/internal/postgres"
)

// ground is what all sections stand on: the built programs and the files to send.
type ground struct {
	dir   string
	bin   string
	large string // path of a file of options.size random bytes
}

func newGround(ctx context.Context, o options) (*ground, error) {
	dir, err := os.MkdirTemp(o.parent, "slipway-bench-")
	if err != nil {
		return nil, err
	}
	g := &ground{dir: dir, bin: filepath.Join(dir, "bin"), large: filepath.Join(dir, "large")}
	if err := g.fill(ctx, o.size); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *ground) fill(ctx context.Context, size int64) error {
	if err := os.Chmod(g.dir, 0o755); err != nil { // Postgres runs as a user of its own where we are root
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", g.bin+"/", "slipway/cmd/api", "slipway/cmd/worker", "slipway/cmd/slipway")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	f, err := os.Create(g.large)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(rand.NewChaCha8([32]byte{}), size))
	return errors.Join(err, f.Sync(), f.Close())
}

func (g *ground) close() { _ = os.RemoveAll(g.dir) }

// stack is a database and simulators, and room for what a section starts on them.
type stack struct {
	*ground
	dir     string
	env     map[string]string
	address string // of the API
	url     string // of the API
	began   []*child
}

// jwtSecret signs the tokens of this run's users.
const jwtSecret = "a secret for the users of one benchmark run"

// withStack lets f measure on a stack that is stopped afterwards. Its small files stay to the end of the run:
// some file systems make new files slowly for minutes after many were removed.
func (g *ground) withStack(ctx context.Context, name string, f func(*stack) error) (err error) {
	s := &stack{ground: g, dir: filepath.Join(g.dir, name)}
	defer func() { err = errors.Join(err, forget(s.dir)) }()
	defer func() {
		for i := range s.began {
			s.began[len(s.began)-1-i].stop()
		}
	}()
	dev, err := s.start(ctx, "slipway", "dev", "--data", s.dir, "--port", "0", "--sim-port", "0", "--without", "api,worker")
	if err != nil {
		return err
	}
	err = dev.await(ctx, func() bool {
		s.env, err = godotenv.Read(filepath.Join(s.dir, "dev.env"))
		return err == nil
	})
	if err != nil {
		return err
	}
	maps.Copy(s.env, map[string]string{"AUTH_JWT_SECRET": jwtSecret, "VERIFY_READBACK": "off"})
	for _, name := range []string{"PORT", "WORKER_PORT"} {
		if s.env[name], err = freePort(); err != nil {
			return err
		}
	}
	s.address = "127.0.0.1:" + s.env["PORT"]
	s.url = "http://" + s.address
	return f(s)
}

// start runs one of the built programs until the section ends.
func (s *stack) start(ctx context.Context, name string, args ...string) (*child, error) {
	return s.run(ctx, filepath.Join(s.bin, name), args...)
}

func (s *stack) run(ctx context.Context, path string, args ...string) (*child, error) {
	p, err := start(ctx, filepath.Join(s.dir, "processes"), s.env, path, args...)
	if err != nil {
		return nil, err
	}
	s.began = append(s.began, p)
	return p, nil
}

func (s *stack) startAPI(ctx context.Context) (*child, error) {
	return s.startReady(ctx, "api", s.url)
}

func (s *stack) startWorker(ctx context.Context) (*child, error) {
	return s.startReady(ctx, "worker", "http://127.0.0.1:"+s.env["WORKER_PORT"])
}

func (s *stack) startReady(ctx context.Context, name, url string) (*child, error) {
	p, err := s.start(ctx, name)
	if err != nil {
		return nil, err
	}
	return p, p.await(ctx, func() bool { return ready(ctx, url) })
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// database is a pool of connections that are not the service's.
func (s *stack) database(ctx context.Context) (*pgxpool.Pool, error) {
	return postgres.Open(ctx, postgres.Options{URL: s.env["DATABASE_URL"], AppName: "slipway-bench"})
}

// startReceiver runs the yardstick for receiving, on the disk of this stack, and returns its URL.
func (s *stack) startReceiver(ctx context.Context) (p *child, url string, err error) {
	p, address, err := s.startYardstick(ctx, "receive", "-dir", s.received())
	return p, "http://" + address, err
}

// startYardstick runs a server that this program has for comparison, and returns its address.
func (s *stack) startYardstick(ctx context.Context, role string, args ...string) (p *child, address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	address = "127.0.0.1:" + port
	p, err = s.startSaying(ctx, self, append([]string{role, "-address", address}, args...)...)
	return p, address, err
}

// startSaying runs a program that says when it is ready.
func (s *stack) startSaying(ctx context.Context, path string, args ...string) (*child, error) {
	p, err := s.run(ctx, path, args...)
	if err != nil {
		return nil, err
	}
	return p, p.await(ctx, func() bool {
		b, err := os.ReadFile(p.log)
		return err == nil && len(b) > 0
	})
}

func (s *stack) received() string { return filepath.Join(s.dir, "received") }

// token is what a user shows.
func token(user string) (string, error) {
	claims := jwt.RegisteredClaims{Subject: user, ExpiresAt: jwt.NewNumericDate(time.Now().Add(24 * time.Hour))}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
}

// forget removes the files below a folder that are larger than a small one, and keeps the folders.
func forget(dir string) error { return eachLarge(dir, os.Remove) }

// shrink gives the disk back what the simulators have stored. They go on with the first bytes, by which
// they tell a file's type, and with the sums that they took on the way.
func (s *stack) shrink() error {
	return eachLarge(filepath.Join(s.dir, "providers"), func(path string) error {
		if strings.Contains(path, "/partial/") { // still being written
			return nil
		}
		return os.Truncate(path, smallSize)
	})
}

func eachLarge(dir string, f func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > mib && info.Mode().IsRegular() {
			err = f(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}
