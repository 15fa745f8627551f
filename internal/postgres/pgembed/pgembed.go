// Package pgembed runs a private PostgreSQL server from the machine's own binaries.
//
// The server is a child of the program that starts it. It listens on a unix socket in a folder of its own and on
// a port of 127.0.0.1, never beyond the machine. A second program that starts on the same folder gets the server
// that is already there. A data folder is never deleted and never handed to another major version.
package pgembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// user owns the cluster and everything in it. It is no name of a schema: what a role names without a schema is
// looked for in the schema of its own name first, and made there.
const user = "app"

const (
	startLimit   = 5 * time.Minute // a first start may have to download the binaries
	connectLimit = 5 * time.Second
	pause        = 10 * time.Millisecond // between two looks at a server that is not ready yet
)

// Options say where a server lives and how careful it is.
type Options struct {
	Dir       string       // keeps data, password, port and log; made where it is missing
	Ephemeral bool         // for tests: much faster, and a crash of the machine may destroy the data
	Port      int          // on 127.0.0.1; 0 means the one of the last start, or any that is free
	BinDir    string       // holds initdb and postgres; "" means PG_BIN_DIR, else the best on this machine; "download" ignores the machine's
	Log       *slog.Logger // nil means slog.Default()
}

// Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	home     home
	socket   string // folder of the unix socket
	port     int    // of the socket's name and on 127.0.0.1
	password string

	process  *os.Process        // nil when attached
	unwatch  context.CancelFunc // nil unless attached
	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

// Start returns when the server answers: one that it has started in o.Dir, or the one that another program runs
// there. The context bounds the start alone; the server runs until Stop, or until this program dies (on Linux;
// elsewhere it outlives a killed program and the next start finds it).
//
// As root the server runs as the owner of its data, at first as user postgres, else nobody. Where that user may
// not enter o.Dir, new data lives in a folder under /var/tmp that belongs to o.Dir, and the log says so.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("embedded postgres: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if o.Log == nil {
		o.Log = slog.Default()
	}
	h, err := locate(o.Dir, o.Log)
	if err != nil {
		return nil, err
	}
	for {
		held, err := lock(h.lock())
		if err != nil {
			return nil, err
		}
		if held != nil {
			defer held.Close()
			if pid := h.stranger(); pid != 0 {
				s, err := attach(ctx, h)
				if err != nil {
					return nil, fmt.Errorf("process %d was started by hand on %s (if not, delete postmaster.pid there): %w", pid, h.data(), err)
				}
				return s, nil
			}
			return run(ctx, h, o, held)
		}
		s, err := attach(ctx, h)
		if err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the server that another program runs in %s: %w", h.dir, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
	}
}

// Dir is the folder where everything of this server is.
func (s *Server) Dir() string { return s.home.dir }

// URL leads through the unix socket to a database, as the cluster's owner. It needs no password: only the server's
// own user may enter the socket's folder.
func (s *Server) URL(db string) string {
	q := url.Values{"host": {s.socket}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + db, RawQuery: q.Encode()}
	return u.String()
}

// TCPURL leads through the port on 127.0.0.1 to a database, as the cluster's owner. It holds the password.
func (s *Server) TCPURL(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, s.password),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes sure that a database exists.
func (s *Server) CreateDatabase(ctx context.Context, db string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", db, err)
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{db}.Sanitize())
	if err != nil && !hasCode(err, duplicateDatabase) {
		return fmt.Errorf("create database %s: %w", db, err)
	}
	return nil
}

// Attached says that another program runs this server, and that it goes when that program does.
func (s *Server) Attached() bool { return s.process == nil }

// Done is closed when the server has ended, asked by Stop or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server has ended by itself. It is nil while the server runs and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// attach joins the server that another program runs in h.
func attach(ctx context.Context, h home) (*Server, error) {
	p, err := h.postmaster()
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(h.password())
	if err != nil {
		return nil, err
	}
	s := &Server{home: h, socket: p.socket, port: p.port, password: string(password), done: make(chan struct{})}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.unwatch = cancel
	go s.watch(watching, conn)
	return s, nil
}

// watch lets an idle connection find out that the server has gone.
func (s *Server) watch(ctx context.Context, conn *pgx.Conn) {
	defer close(s.done)
	for {
		_, _ = conn.WaitForNotification(ctx) // nobody notifies: it ends with the connection
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectLimit)
		conn.Close(closing)
		cancel()
		if ctx.Err() != nil {
			return
		}
		var err error
		if conn, err = s.connect(ctx); err != nil {
			if ctx.Err() == nil {
				s.err = fmt.Errorf("postgres of another program in %s has gone: %w", s.home.dir, err)
			}
			return
		}
	}
}

// connect takes the way with the password, because that opens last at a first start.
func (s *Server) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	return pgx.Connect(ctx, s.TCPURL("postgres"))
}

// EphemeralParent is the best place for folders of ephemeral servers: in memory where there is plenty of room, else
// the temporary folder.
func EphemeralParent() string {
	const memory, plenty = "/dev/shm", 1 << 30 // a server begins with 40 MiB, each database adds 7
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < plenty {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(memory, "slipway-")
	if err != nil || os.Remove(probe) != nil {
		return os.TempDir()
	}
	return memory
}

// InUse says whether a server runs, or is being started, in a folder that was given to Start.
func InUse(dir string) (bool, error) {
	held, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		return false, err
	}
	if held == nil {
		return true, nil
	}
	return false, held.Close()
}
