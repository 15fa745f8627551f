package pgembed

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// longestSocket is the longest path that every system takes for a unix socket: macOS has room for 104 bytes with
// the closing zero, Linux for 108.
const longestSocket = 103

// home is the folder of one server: its data, and beside them what the programs that use it must know.
type home struct {
	dir string
	as  *syscall.Credential // whom the server runs as; nil when as ourselves
}

func (h home) data() string     { return filepath.Join(h.dir, "data") }
func (h home) lock() string     { return filepath.Join(h.dir, lockName) }
func (h home) password() string { return filepath.Join(h.dir, "password") }
func (h home) lastPort() string { return filepath.Join(h.dir, "port") }
func (h home) log() string      { return filepath.Join(h.dir, "postgres.log") }

// locate chooses the folder that serves dir and makes it. Data stay where they once are.
func locate(dir string, log *slog.Logger) (home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return home{}, err
	}
	here := home{dir: dir}
	if os.Geteuid() != 0 {
		return here, os.MkdirAll(dir, 0o700)
	}
	there := home{dir: nickname("/var/tmp", dir)}
	if here.as, err = servant(here.data()); err != nil {
		return home{}, err
	}
	if there.as, err = servant(there.data()); err != nil {
		return home{}, err
	}
	barrier := closedTo(here.as, filepath.Dir(dir))
	if barrier != "" && here.hasData() {
		return home{}, fmt.Errorf("user %d, who runs the server, may not enter %s on the way to %s: chmod o+x %s",
			here.as.Uid, barrier, here.data(), barrier)
	}
	if barrier == "" && (here.hasData() || !there.hasData()) {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return home{}, err
		}
		info, err := os.Stat(dir)
		if err != nil {
			return home{}, err
		}
		return here, os.Chmod(dir, info.Mode().Perm()|0o011)
	}
	log.Warn("postgres keeps its data elsewhere, because its user may not enter the folder that was asked for",
		"folder", there.dir, "asked", dir, "uid", there.as.Uid, "closed", barrier)
	return there, claim(there.dir, 0o711, 0, 0)
}

// nickname is the path in parent that stands for a folder elsewhere, always the same for the same folder.
func nickname(parent, dir string) string {
	return filepath.Join(parent, fmt.Sprintf("slipway-postgres-%.6x", sha256.Sum256([]byte(dir))))
}

// servant is the user that root lends to the server, which refuses to run as root: the owner of the data.
func servant(data string) (*syscall.Credential, error) {
	if info, err := os.Stat(data); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user postgres nor nobody: add one (useradd --system postgres)")
}

// closedTo returns the first folder on the way down to dir that c may not enter, by the mode bits.
func closedTo(c *syscall.Credential, dir string) string {
	if parent := filepath.Dir(dir); parent != dir {
		if closed := closedTo(c, parent); closed != "" {
			return closed
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "" // made later, open to all
	}
	bit := fs.FileMode(0o001)
	switch owner := info.Sys().(*syscall.Stat_t); {
	case owner.Uid == c.Uid:
		bit = 0o100
	case owner.Gid == c.Gid:
		bit = 0o010
	}
	if info.Mode()&bit == 0 {
		return dir
	}
	return ""
}

// claim makes a folder in a place where everybody may make one, and gives it to uid. A folder that is there already
// is taken only from ourselves or from uid.
func claim(dir string, mode fs.FileMode, uid, gid int) error {
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if !info.IsDir() || owner != os.Geteuid() && owner != uid {
		return fmt.Errorf("%s belongs to user %d: remove it", dir, owner)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// owner is whom the server's files belong to.
func (h home) owner() (uid, gid int) {
	if h.as == nil {
		return os.Geteuid(), os.Getegid()
	}
	return int(h.as.Uid), int(h.as.Gid)
}

func (h home) hasData() bool {
	_, err := os.Stat(filepath.Join(h.data(), "PG_VERSION"))
	return err == nil
}

// major is the version of PostgreSQL that made the data, 0 when there are none.
func (h home) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// openSocket makes the folder of the unix socket, which only the server's user may enter.
func (h home) openSocket() (string, error) {
	dir := filepath.Join(h.dir, "s")
	if len(dir)+len("/.s.PGSQL.65535") > longestSocket {
		dir = nickname("/tmp", h.dir)
	}
	uid, gid := h.owner()
	return dir, claim(dir, 0o700, uid, gid)
}

// openPassword returns the owner's password, made at the first start.
func (h home) openPassword() (string, error) {
	kept, err := os.ReadFile(h.password())
	if err == nil && len(kept) > 0 {
		return string(kept), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	password := rand.Text()
	return password, os.WriteFile(h.password(), []byte(password), 0o600)
}

// postmaster is what a running server says about itself in postmaster.pid (PostgreSQL, src/include/utils/pidfile.h).
type postmaster struct {
	pid    int
	port   int
	socket string
}

func (h home) postmaster() (postmaster, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "postmaster.pid"))
	if err != nil {
		return postmaster{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return postmaster{}, fmt.Errorf("postmaster.pid: %w", err)
	}
	if len(lines) < 5 {
		return postmaster{pid: pid}, nil // the server has only begun to write it
	}
	port, err := strconv.Atoi(lines[3])
	if err != nil {
		return postmaster{}, fmt.Errorf("postmaster.pid: %w", err)
	}
	return postmaster{pid: pid, port: port, socket: lines[4]}, nil
}

// stranger is the process that serves the data without having been started by us, or 0. Ask with the lock held.
func (h home) stranger() int {
	if p, err := h.postmaster(); err == nil && serves(p.pid, h.data()) {
		return p.pid
	}
	return 0
}

// sweep removes what keeps a server from starting although nobody serves the data: a lock file whose process id
// belongs by now to a zombie or to another program. One whose process is gone the server clears away itself, after
// checks of its own. Call with the lock held and without a stranger.
func (h home) sweep(socket string) error {
	stale, err := filepath.Glob(filepath.Join(socket, ".s.PGSQL.*"))
	if err != nil {
		return err
	}
	if p, err := h.postmaster(); err == nil && !errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		stale = append(stale, filepath.Join(h.data(), "postmaster.pid"))
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
