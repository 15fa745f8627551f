package pgembed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"slipway/internal/postgres/pgembed"
)

// programDir tells this binary to be a program that runs a server in that folder until its input ends.
const programDir = "PGEMBED_PROGRAM_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(programDir); dir != "" {
		if err := program(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// report is what such a program prints when its server answers.
type report struct {
	URL, Dir string
	Attached bool
}

func program(dir string) error {
	s, err := pgembed.Start(context.Background(), pgembed.Options{Dir: dir, Ephemeral: true})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(report{URL: s.TCPURL("postgres"), Dir: s.Dir(), Attached: s.Attached()}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Stop()
}

// spawn runs executable as a program on dir; its server answers when spawn returns.
func spawn(t *testing.T, executable, dir string, as *syscall.Credential) (*exec.Cmd, io.Closer, report) {
	t.Helper()
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), programDir+"="+dir, "HOME="+filepath.Dir(dir)) // a home for the cache of a plain user
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	input, err := cmd.StdinPipe()
	ok(t, err)
	output, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	var r report
	ok(t, json.NewDecoder(output).Decode(&r))
	return cmd, input, r
}

func TestRowsOutliveTheServer(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: folder(t)}
	s := start(t, o)
	ok(t, s.CreateDatabase(t.Context(), "app"))
	ok(t, s.CreateDatabase(t.Context(), "app"))
	conn := connect(t, s.URL("app"))
	execute(t, conn, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
	execute(t, conn, "BEGIN; INSERT INTO kept VALUES (8)")

	before := time.Now()
	ok(t, s.Stop()) // with a transaction open
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("Stop took %v", took)
	}
	ok(t, s.Stop())
	<-s.Done()
	if err := s.Err(); err != nil {
		t.Errorf("Err() = %v after Stop, want nil", err)
	}

	again := start(t, o)
	if again.Attached() {
		t.Error("attached to a server that had been stopped")
	}
	if again.TCPURL("app") != s.TCPURL("app") || again.URL("app") != s.URL("app") {
		t.Errorf("URLs %s, %s became %s, %s", s.URL("app"), s.TCPURL("app"), again.URL("app"), again.TCPURL("app"))
	}
	if got := query(t, connect(t, again.URL("app")), "SELECT string_agg(n::text, ' ') FROM kept"); got != "7" {
		t.Errorf("rows = %q, want 7", got)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ephemeral bool
		durable   string
	}{
		"data that matter are durable": {false, "on"},
		"ephemeral data are fast":      {true, "off"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, start(t, pgembed.Options{Dir: folder(t), Ephemeral: tt.ephemeral}).URL("postgres"))
			for setting, want := range map[string]string{
				"fsync": tt.durable, "synchronous_commit": tt.durable, "full_page_writes": tt.durable,
				"listen_addresses": "127.0.0.1", "max_connections": "200", "timezone": "UTC", "server_encoding": "UTF8",
			} {
				if got := query(t, conn, "SHOW "+setting); got != want {
					t.Errorf("%s = %s, want %s", setting, got, want)
				}
			}
		})
	}
}

func TestPort(t *testing.T) {
	t.Parallel()
	s := start(t, pgembed.Options{Dir: folder(t), Ephemeral: true})
	if got := query(t, connect(t, s.TCPURL("postgres")), "SELECT current_user"); got != "app" {
		t.Errorf("user = %s, want app", got)
	}
	if psql, err := exec.LookPath("psql"); err == nil { // builds of the server alone come without it
		out, err := exec.Command(psql, s.TCPURL("postgres"), "-Atc", "SELECT 40 + 2").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "42" {
			t.Errorf("psql: %v: %s", err, out)
		}
	}

	u, err := url.Parse(s.TCPURL("postgres"))
	ok(t, err)
	u.User = url.UserPassword("slipway", "guessed")
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password was let in")
	}
	if conn, err := net.Dial("tcp", "127.0.0.2:"+u.Port()); err == nil {
		conn.Close()
		t.Error("the port answers on other addresses than 127.0.0.1")
	}

	port, err := strconv.Atoi(u.Port())
	ok(t, err)
	if _, err := pgembed.Start(t.Context(), pgembed.Options{Dir: folder(t), Ephemeral: true, Port: port}); err == nil || !strings.Contains(err.Error(), u.Port()) {
		t.Errorf("start on a taken port = %v, want an error with the port", err)
	}
}

func TestLastPortIsTaken(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: folder(t), Ephemeral: true}
	s := start(t, o)
	u, err := url.Parse(s.TCPURL("postgres"))
	ok(t, err)
	ok(t, s.Stop())
	l, err := net.Listen("tcp", u.Host)
	ok(t, err)
	defer l.Close()

	again := start(t, o)
	if again.TCPURL("postgres") == s.TCPURL("postgres") {
		t.Error("the taken port was used again")
	}
	connect(t, again.TCPURL("postgres"))
}

func TestOnlyOneOfManyStartersRunsTheServer(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const starters = 4
	servers := make(chan *pgembed.Server, starters)
	for range starters {
		go func() {
			s, err := pgembed.Start(context.Background(), pgembed.Options{Dir: dir, Ephemeral: true})
			if err != nil {
				t.Error(err)
			}
			servers <- s
		}()
	}
	var owner *pgembed.Server
	var guests []*pgembed.Server
	for range starters {
		switch s := <-servers; {
		case s == nil:
		case s.Attached():
			guests = append(guests, s)
		case owner != nil:
			t.Fatal("two started a server")
		default:
			owner = s
		}
	}
	if owner == nil || len(guests) != starters-1 {
		t.Fatalf("owner %v and %d guests, want one owner and %d", owner, len(guests), starters-1)
	}

	ok(t, guests[0].Stop())
	connect(t, guests[1].URL("postgres")) // a guest's Stop leaves the server alone
	connect(t, guests[1].TCPURL("postgres"))
	if err := guests[0].Err(); err != nil {
		t.Errorf("Err() of a guest that has left = %v, want nil", err)
	}
	ok(t, owner.Stop())
	for _, guest := range guests[1:] {
		ended(t, guest)
		if guest.Err() == nil {
			t.Error("a guest does not say that the server has gone")
		}
		ok(t, guest.Stop())
	}
}

func TestServerThatDiesIsReported(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: folder(t), Ephemeral: true}
	s := start(t, o)
	ok(t, syscall.Kill(postmaster(t, s.Dir()), syscall.SIGKILL))
	ended(t, s)
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err() = %v, want that it was killed", err)
	}
	ok(t, s.Stop())
	connect(t, start(t, o).URL("postgres"))
}

func TestServerDiesWithItsProgram(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	self, err := os.Executable()
	ok(t, err)
	cmd, _, r := spawn(t, self, dir, nil)
	execute(t, connect(t, r.URL), "CREATE TABLE kept (n int)")
	pid := postmaster(t, r.Dir)
	ok(t, cmd.Process.Kill())
	var killed *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &killed) {
		t.Fatalf("program ended with %v, want killed", err)
	}

	s := start(t, pgembed.Options{Dir: dir, Ephemeral: true})
	if s.Attached() {
		t.Error("attached to an orphan")
	}
	if now := postmaster(t, s.Dir()); now == pid {
		t.Errorf("process %d still serves", pid)
	}
	query(t, connect(t, s.URL("postgres")), "SELECT 'kept'::regclass::text")
}

func TestProcessIDsThatBelongToOthers(t *testing.T) {
	t.Parallel()
	other := start(t, pgembed.Options{Dir: folder(t), Ephemeral: true})
	tests := map[string]func(t *testing.T, as *syscall.Credential) int{
		"a zombie's": func(t *testing.T, as *syscall.Credential) int {
			cmd := command(as, "true")
			output, err := cmd.StdoutPipe()
			ok(t, err)
			ok(t, cmd.Start())
			if _, err := io.ReadAll(output); err != nil { // ends with the process, which nobody has waited for
				t.Fatal(err)
			}
			t.Cleanup(func() { ok(t, cmd.Wait()) })
			return cmd.Process.Pid
		},
		"another program's": func(t *testing.T, as *syscall.Credential) int {
			cmd := command(as, "sleep", "60")
			ok(t, cmd.Start())
			t.Cleanup(func() {
				ok(t, cmd.Process.Kill())
				_ = cmd.Wait() // which says that it was killed
			})
			return cmd.Process.Pid
		},
		"another server's": func(t *testing.T, _ *syscall.Credential) int { return postmaster(t, other.Dir()) },
		"nobody's": func(t *testing.T, as *syscall.Credential) int {
			cmd := command(as, "true")
			ok(t, cmd.Run())
			return cmd.Process.Pid
		},
	}
	for name, pid := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := pgembed.Options{Dir: folder(t), Ephemeral: true}
			s := start(t, o)
			lockFile := filepath.Join(s.Dir(), "data", "postmaster.pid")
			socketLock, err := filepath.Glob(filepath.Join(s.Dir(), "s", ".s.PGSQL.*.lock"))
			if err != nil || len(socketLock) != 1 {
				t.Fatalf("lock of the socket: %v, %v", socketLock, err)
			}
			left, err := os.ReadFile(lockFile)
			ok(t, err)
			info, err := os.Stat(lockFile)
			ok(t, err)
			ok(t, s.Stop())

			owner := info.Sys().(*syscall.Stat_t)
			var as *syscall.Credential
			if os.Geteuid() == 0 {
				as = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
			}
			_, rest, _ := strings.Cut(string(left), "\n")
			stale := strconv.Itoa(pid(t, as)) + "\n" + rest
			for _, path := range []string{lockFile, socketLock[0]} {
				ok(t, os.WriteFile(path, []byte(stale), 0o600))
				ok(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
			}
			again := start(t, o)
			if again.Attached() {
				t.Error("attached to nothing")
			}
			connect(t, again.URL("postgres"))
		})
	}
}

func TestServerStartedByHandIsJoined(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: folder(t), Ephemeral: true}
	s := start(t, o)
	arguments, err := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.opts"))
	ok(t, err)
	info, err := os.Stat(filepath.Join(s.Dir(), "data"))
	ok(t, err)
	ok(t, s.Stop())

	var as *syscall.Credential
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		as = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	cmd := command(as, "sh", "-c", "exec "+strings.TrimSpace(string(arguments)))
	ok(t, cmd.Start())
	defer func() {
		ok(t, cmd.Process.Signal(syscall.SIGINT))
		ok(t, cmd.Wait())
	}()
	eventually(t, func() error {
		conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err
	})
	if again := start(t, o); !again.Attached() {
		t.Error("a second server was started on the same data")
	}
}

func TestOtherMajorVersionIsRefused(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: folder(t), Ephemeral: true}
	s := start(t, o)
	ours := query(t, connect(t, s.URL("postgres")), "SELECT current_setting('server_version_num')::int / 10000")
	ok(t, s.Stop())
	ok(t, os.WriteFile(filepath.Join(s.Dir(), "data", "PG_VERSION"), []byte("12\n"), 0o600))
	before := listing(t, filepath.Join(s.Dir(), "data"))

	_, err := pgembed.Start(t.Context(), o)
	if err == nil {
		t.Fatal("started")
	}
	for _, want := range []string{"PostgreSQL 12", "PostgreSQL " + ours, "PG_BIN_DIR", s.Dir()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if after := listing(t, filepath.Join(s.Dir(), "data")); after != before {
		t.Errorf("data changed from\n%s\nto\n%s", before, after)
	}
}

func TestFoldersThatTheServersUserMayNotEnter(t *testing.T) {
	t.Parallel()
	parent := folder(t)
	o := pgembed.Options{Dir: filepath.Join(parent, "postgres"), Ephemeral: true}
	ok(t, os.Chmod(parent, 0o700))
	s := start(t, o)
	if os.Geteuid() != 0 {
		if s.Dir() != o.Dir {
			t.Errorf("a plain user's data are in %s, want %s", s.Dir(), o.Dir)
		}
		return
	}
	t.Cleanup(func() { ok(t, os.RemoveAll(s.Dir())) })
	if filepath.Dir(s.Dir()) != "/var/tmp" {
		t.Errorf("data are in %s, want a folder in /var/tmp", s.Dir())
	}
	execute(t, connect(t, s.URL("postgres")), "CREATE TABLE kept (n int)")
	ok(t, s.Stop())

	ok(t, os.Chmod(parent, 0o711))
	again := start(t, o)
	if again.Dir() != s.Dir() {
		t.Errorf("an opened folder moved the data from %s to %s", s.Dir(), again.Dir())
	}
	query(t, connect(t, again.URL("postgres")), "SELECT 'kept'::regclass::text")
}

func TestDataThatCannotBeReachedAnyMoreAreNotReplaced(t *testing.T) {
	t.Parallel()
	parent := folder(t)
	o := pgembed.Options{Dir: filepath.Join(parent, "postgres"), Ephemeral: true}
	ok(t, start(t, o).Stop())
	ok(t, os.Chmod(parent, 0o700))
	s, err := pgembed.Start(t.Context(), o)
	if os.Geteuid() != 0 {
		ok(t, err)
		ok(t, s.Stop())
		return
	}
	if err == nil || !strings.Contains(err.Error(), "chmod o+x "+parent) {
		t.Errorf("error = %v, want the chmod that helps", err)
	}
}

func TestLongPathsMoveTheSocketAlone(t *testing.T) {
	t.Parallel()
	o := pgembed.Options{Dir: filepath.Join(folder(t), strings.Repeat("long", 25), "postgres"), Ephemeral: true}
	s := start(t, o)
	conn := connect(t, s.URL("postgres"))
	socket := conn.Config().Host
	t.Cleanup(func() { ok(t, os.RemoveAll(socket)) })
	if s.Dir() != o.Dir || strings.HasPrefix(socket, o.Dir) {
		t.Errorf("data in %s, socket in %s", s.Dir(), socket)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket's folder: %v, %v, want it private", info.Mode(), err)
	}
	guest := start(t, o)
	if !guest.Attached() || guest.URL("postgres") != s.URL("postgres") {
		t.Errorf("guest's URL = %s, want %s", guest.URL("postgres"), s.URL("postgres"))
	}
}

func TestPlainUser(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	self, err := os.Executable()
	ok(t, err)
	executable := filepath.Join(dir, "program") // where any user can execute it
	program, err := os.ReadFile(self)
	ok(t, err)
	ok(t, os.WriteFile(executable, program, 0o755))
	var as *syscall.Credential
	if os.Geteuid() == 0 {
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
		ok(t, os.Chown(dir, int(as.Uid), int(as.Gid)))
	}
	cmd, input, r := spawn(t, executable, filepath.Join(dir, "postgres"), as)
	if r.Attached || r.Dir != filepath.Join(dir, "postgres") {
		t.Errorf("report = %+v", r)
	}
	query(t, connect(t, r.URL), "SELECT 1::text")
	info, err := os.Stat(filepath.Join(r.Dir, "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password: %v, %v, want mode 0600", info, err)
	}
	ok(t, input.Close())
	ok(t, cmd.Wait())
	if used, err := pgembed.InUse(r.Dir); used || err != nil {
		t.Errorf("InUse = %v, %v after the program's end", used, err)
	}
	if os.Geteuid() == 0 { // root takes over what a user has begun, and leaves it to him
		s := start(t, pgembed.Options{Dir: r.Dir, Ephemeral: true})
		query(t, connect(t, s.URL("postgres")), "SELECT 1::text")
		if used, err := pgembed.InUse(r.Dir); !used || err != nil {
			t.Errorf("InUse = %v, %v while it runs", used, err)
		}
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pgembed.Start(ctx, pgembed.Options{Dir: dir, Ephemeral: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	connect(t, start(t, pgembed.Options{Dir: dir, Ephemeral: true}).URL("postgres"))
}

// folder is a temporary one that every user may enter, unlike t.TempDir.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(pgembed.EphemeralParent(), "pgembed-")
	ok(t, err)
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	ok(t, os.Chmod(dir, 0o755))
	return dir
}

func start(t *testing.T, o pgembed.Options) *pgembed.Server {
	t.Helper()
	s, err := pgembed.Start(t.Context(), o)
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Stop()) })
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	ok(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	ok(t, err)
}

func query(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	rows, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	ok(t, err)
	return string(rows[0].Rows[0][0])
}

// ended waits for the end of a server that is going by itself.
func ended(t *testing.T, s *pgembed.Server) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the server goes unnoticed")
	}
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	ok(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	ok(t, err)
	return pid
}

func command(as *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return cmd
}

// listing names all files below dir with their sizes and times.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	ok(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		return err
	}))
	return b.String()
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
