package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	loopback          = "127.0.0.1"
	duplicateDatabase = "42P04" // PostgreSQL, appendix A
)

// run starts a server in h, whose lock is held.
func run(ctx context.Context, h home, o Options, held *os.File) (*Server, error) {
	bin, err := h.binaries(ctx, o.BinDir)
	if err != nil {
		return nil, err
	}
	if !h.hasData() {
		if err := h.initdb(ctx, bin, o.Ephemeral); err != nil {
			return nil, err
		}
	}
	password, err := h.openPassword()
	if err != nil {
		return nil, err
	}
	socket, err := h.openSocket()
	if err != nil {
		return nil, err
	}
	if err := h.sweep(socket); err != nil {
		return nil, err
	}
	for {
		port, err := h.choosePort(o.Port)
		if err != nil {
			return nil, err
		}
		s := &Server{home: h, socket: socket, port: port, password: password, done: make(chan struct{})}
		err = s.launch(ctx, bin, o.Ephemeral, held)
		if err == nil {
			o.Log.Debug("postgres runs", "version", bin.version, "folder", h.dir, "port", port, "pid", s.process.Pid)
			return s, nil
		}
		if o.Port != 0 || ctx.Err() != nil || isFree(port) {
			return nil, err
		} // else somebody was quicker: take another port
	}
}

// initdb makes the data folder, whole or not at all.
func (h home) initdb(ctx context.Context, bin binaries, ephemeral bool) error {
	unfinished := filepath.Join(h.dir, "initdb")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	uid, gid := h.owner()
	if err := claim(unfinished, 0o700, uid, gid); err != nil {
		return err
	}
	args := []string{"-D", unfinished, "-U", user, "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=" + locale, "--no-instructions"}
	if ephemeral {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, "initdb"), args...)
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.SysProcAttr = attributes(h.as)
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // see launch
	out, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(unfinished, h.data()); err != nil {
		return err
	}
	dir, err := os.Open(h.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// launch starts the server process and waits until it answers.
func (s *Server) launch(ctx context.Context, bin binaries, ephemeral bool, held *os.File) error {
	log, err := os.OpenFile(s.home.log(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()

	cmd := exec.Command(filepath.Join(bin.dir, "postgres"), "-D", s.home.data(), "-k", s.socket, "-p", strconv.Itoa(s.port)) //nolint:noctx // it outlives its start
	for _, setting := range settings(ephemeral) {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held}
	cmd.SysProcAttr = attributes(s.home.as)

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the server is told of the death of this thread: keep it alive
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			s.wait(cmd)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process = cmd.Process
	if err := s.ready(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

// settings keep every promise of durability, unless the data are ephemeral.
func settings(ephemeral bool) []string {
	kept := []string{"listen_addresses=" + loopback, "max_connections=200", "timezone=UTC", "log_timezone=UTC"}
	if !ephemeral {
		return append(kept, "fsync=on", "synchronous_commit=on", "full_page_writes=on")
	}
	return append(kept, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=64MB")
}

// environment keeps our own settings and secrets out of the server's.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// wait records how the server ends.
func (s *Server) wait(cmd *exec.Cmd) {
	err := cmd.Wait()
	if err == nil {
		err = errors.New("somebody has stopped it")
	}
	if !s.stopping.Load() {
		s.err = fmt.Errorf("postgres in %s has ended: %w%s", s.home.dir, err, s.home.lastWords())
	}
	close(s.done)
}

// lastWords are the faults in the server's log.
func (h home) lastWords() string {
	log, err := os.ReadFile(h.log())
	if err != nil {
		return ""
	}
	lines := slices.DeleteFunc(strings.Split(string(log), "\n"), func(line string) bool {
		return !strings.Contains(line, "FATAL:") && !strings.Contains(line, "PANIC:") && !strings.Contains(line, "HINT:")
	})
	if len(lines) == 0 {
		return " (see " + h.log() + ")"
	}
	return ": " + strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// ready waits until the server answers, and sets the password that the port asks for.
func (s *Server) ready(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			defer conn.Close(ctx)
			return s.setPassword(ctx, conn)
		}
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return fmt.Errorf("postgres in %s does not answer: %w", s.home.dir, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
	}
}

func (s *Server) setPassword(ctx context.Context, conn *pgx.Conn) error {
	literal, err := conn.PgConn().EscapeString(s.password)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "ALTER ROLE "+user+" PASSWORD '"+literal+"'"); err != nil {
		return errors.New("the password of the server could not be set") // the cause may quote it
	}
	return nil
}

// Stop ends the server within 20 seconds, at first gently, and cuts its connections. A server that belongs to
// another program stays.
func (s *Server) Stop() error {
	s.stopping.Store(true)
	if s.Attached() {
		s.unwatch()
		<-s.done
		return nil
	}
	for _, step := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{
		{syscall.SIGINT, 10 * time.Second}, // fast shutdown
		{syscall.SIGQUIT, 5 * time.Second}, // immediate shutdown: the next start recovers
		{syscall.SIGKILL, 5 * time.Second},
	} {
		if err := s.process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop postgres, process %d: %w", s.process.Pid, err)
		}
		select {
		case <-s.done:
			return nil
		case <-time.After(step.limit):
		}
	}
	return fmt.Errorf("postgres, process %d, does not stop", s.process.Pid)
}

// choosePort returns the port that is asked for, else that of the last start, else any that is free.
func (h home) choosePort(asked int) (int, error) {
	if asked != 0 {
		if !isFree(asked) {
			return 0, fmt.Errorf("port %d of %s is taken: stop the program that has it, or choose another port", asked, loopback)
		}
		return asked, h.keepPort(asked)
	}
	if text, err := os.ReadFile(h.lastPort()); err == nil {
		if last, err := strconv.Atoi(string(text)); err == nil && isFree(last) {
			return last, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, err
	}
	free := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, err
	}
	return free, h.keepPort(free)
}

func (h home) keepPort(port int) error {
	return os.WriteFile(h.lastPort(), []byte(strconv.Itoa(port)), 0o600)
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}
