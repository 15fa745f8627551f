package pgembed

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// release is a build of PostgreSQL that is published as one npm package per system.
type release struct {
	scope   string
	version string
	sha512  map[string]string // system in npm's words -> base64 of the packed file's hash
}

var published = release{
	scope:   "@embedded-postgres",
	version: "17.10.0-beta.17",
	sha512: map[string]string{
		"darwin-arm64": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
		"darwin-x64":   "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
		"linux-arm64":  "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
		"linux-x64":    "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
	},
}

func (r release) major() int { return number(r.version) }

// system is this machine in npm's words.
func system() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// binaries are those in the folder that cache makes, downloaded where they are missing.
func (r release) binaries(ctx context.Context, as *syscall.Credential, cache func() (string, error)) (binaries, error) {
	dir, err := r.fetched(ctx, cache)
	if err == nil {
		var b binaries
		if b, err = inspect(ctx, dir, as); err == nil {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("no PostgreSQL to run: install one (apt-get install postgresql, or brew install postgresql@17), "+
		"or set PG_BIN_DIR to the folder that has initdb and postgres, or install npm, which can fetch one: %w", err)
}

// fetched returns the folder with initdb and postgres.
func (r release) fetched(ctx context.Context, cache func() (string, error)) (string, error) {
	if r.sha512[system()] == "" {
		return "", fmt.Errorf("no PostgreSQL is published for %s", system())
	}
	parent, err := cache()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "postgres-"+r.version)
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "bin"), nil
	}
	held, err := await(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer held.Close()
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "bin"), nil
	}
	unfinished := dir + ".part"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return "", err
	}
	if err := r.fetch(ctx, unfinished); err != nil {
		return "", errors.Join(err, os.RemoveAll(unfinished))
	}
	if err := os.Rename(filepath.Join(unfinished, "native"), dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, "bin"), os.RemoveAll(unfinished)
}

// cacheDir makes the folder for downloads. Root's lies where the server's user can go.
func cacheDir() (string, error) {
	parent := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if parent, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(parent, "slipway")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// await takes a lock as soon as nobody else has it.
func await(ctx context.Context, path string) (*os.File, error) {
	for {
		held, err := lock(path)
		if held != nil || err != nil {
			return held, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", path, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// fetch downloads the package with npm, so that the user's own settings of npm hold, and unpacks it in dir.
func (r release) fetch(ctx context.Context, dir string) error {
	spec := fmt.Sprintf("%s/%s@%s", r.scope, system(), r.version)
	cmd := exec.CommandContext(ctx, "npm", "pack", "--loglevel=error", "--pack-destination", dir, spec)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm pack %s: %w: %s", spec, err, strings.TrimSpace(stderr.String()))
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("npm pack %s: left %d files: %w", spec, len(packed), err)
	}
	if err := verify(packed[0], r.sha512[system()]); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(packed[0], root); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(packed[0]), err)
	}
	return link(root)
}

func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has sha512 %s, not %s: it is not what was published", filepath.Base(file), got, want)
	}
	return nil
}

// unpack writes package/native of the archive into native of root, readable for all.
func unpack(file string, root *os.Root) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	archive := tar.NewReader(zipped)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ours := strings.CutPrefix(entry.Name, "package/")
		if !ours || !strings.HasPrefix(name, "native/") || entry.Typeflag != tar.TypeReg {
			continue
		}
		if err := makeDir(root, path.Dir(name)); err != nil {
			return err
		}
		if err := write(root, name, fs.FileMode(entry.Mode)&0o111|0o644, archive); err != nil {
			return err
		}
	}
}

// makeDir makes a folder and its parents, open to all whatever the umask.
func makeDir(root *os.Root, dir string) error {
	switch err := root.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDir(root, path.Dir(dir)); err != nil {
			return err
		}
		return makeDir(root, dir)
	case err != nil:
		return err
	}
	return root.Chmod(dir, 0o755)
}

func write(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// link makes the symbolic links, which npm's packages cannot hold and which this one lists in a file.
func link(root *os.Root) error {
	list, err := root.ReadFile("native/pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string } // the target is a link to the source
	if err := json.Unmarshal(list, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		to, err := filepath.Rel(path.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := makeDir(root, path.Dir(l.Target)); err != nil {
			return err
		}
		if err := root.Symlink(to, l.Target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
