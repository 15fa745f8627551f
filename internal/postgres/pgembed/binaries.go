package pgembed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// oldest is the first major version with all that Slipway uses (CREATE DATABASE ... STRATEGY).
const oldest = 15

// download, as the folder of the binaries, passes over those of the machine.
const download = "download"

// binaries are a PostgreSQL that the server's user can execute.
type binaries struct {
	dir     string // holds initdb and postgres
	version string // such as "15.18" or "18beta1"
	major   int
}

// binaries finds a PostgreSQL for the data in h, the newest when there are none yet.
func (h home) binaries(ctx context.Context, dir string) (binaries, error) {
	want, err := h.major()
	if err != nil {
		return binaries{}, err
	}
	if dir == "" {
		dir = os.Getenv("PG_BIN_DIR")
	}
	var candidates []string
	switch dir {
	case "":
		candidates = onMachine()
	case download:
	default:
		candidates = []string{dir}
	}
	var misfits []error
	for _, candidate := range candidates {
		b, err := inspect(ctx, candidate, h.as)
		if err == nil && (want == 0 || want == b.major) {
			return b, nil
		}
		if err == nil {
			err = fmt.Errorf("%s has PostgreSQL %s", b.dir, b.version)
		}
		misfits = append(misfits, err)
	}
	if ctx.Err() != nil {
		return binaries{}, ctx.Err()
	}
	if dir != "" && dir != download {
		return binaries{}, h.misfit(want, misfits)
	}
	if want != 0 && want != published.major() {
		return binaries{}, h.misfit(want, append(misfits, fmt.Errorf("the download is PostgreSQL %s", published.version)))
	}
	b, err := published.binaries(ctx, h.as, cacheDir)
	if err != nil {
		return binaries{}, errors.Join(append(misfits, err)...)
	}
	return b, nil
}

// misfit explains why none of the binaries will do.
func (h home) misfit(want int, misfits []error) error {
	if want == 0 {
		return fmt.Errorf("PG_BIN_DIR: %w", errors.Join(misfits...))
	}
	return fmt.Errorf("%s was made by PostgreSQL %d, which no other version can run: install PostgreSQL %d "+
		"or set PG_BIN_DIR to the folder that has its initdb and postgres; "+
		"or start on another folder and move the rows with pg_dump: %w", h.data(), want, want, errors.Join(misfits...))
}

// onMachine lists the folders that may hold PostgreSQL, newest versions first.
func onMachine() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                      // Debian
		"/usr/pgsql-*/bin",                               // PGDG on Red Hat
		"/opt/homebrew/opt/postgresql*/bin",              // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",                 // and on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin", // and on Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			panic(err) // a malformed pattern
		}
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return number(b) - number(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// number is the first in a text, 0 when there is none.
func number(text string) int {
	n, err := strconv.Atoi(digits.FindString(text))
	if err != nil {
		return 0
	}
	return n
}

var versionOutput = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect asks the binaries in dir for their version, as the user that is to run them.
func inspect(ctx context.Context, dir string, as *syscall.Credential) (binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "-V")
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return binaries{}, fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	m := versionOutput.FindSubmatch(out)
	if m == nil {
		return binaries{}, fmt.Errorf("%s: unknown answer %q", cmd, out)
	}
	b := binaries{dir: dir, version: string(m[1]), major: number(string(m[2]))}
	if b.major < oldest {
		return binaries{}, fmt.Errorf("%s has PostgreSQL %s, %d is the oldest that will do", dir, b.version, oldest)
	}
	return b, nil
}
