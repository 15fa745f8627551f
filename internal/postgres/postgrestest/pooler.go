package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pooler is a PgBouncer before this test binary's server, configured as Neon's pooler is. It ends with its test.
type Pooler struct {
	program string
	dir     string
	as      *syscall.Credential // whom it runs as; nil when as ourselves
	port    int
	ended   chan struct{} // closed when the running one has ended
	process *os.Process
}

// poolerConfig is Neon's, as its documentation ("Connection pooling", read November 2026) and its compute image's
// pgbouncer.ini have it, but for the addresses. Whoever may log in to the server may log in here.
const poolerConfig = `
[databases]
* = host=127.0.0.1 port=%[1]d auth_user=%[2]s application_name=pgbouncer
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[3]d
unix_socket_dir = %[6]s
auth_type = scram-sha-256
auth_file = %[4]s
auth_user = %[2]s
auth_dbname = postgres
pool_mode = transaction
max_client_conn = 10000
default_pool_size = %[5]d
max_prepared_statements = 1000
query_wait_timeout = 120
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
`

// NewPooler starts a pooler that gives every user of a database so many connections to the server. Settings are
// lines of pgbouncer.ini that say otherwise than Neon's.
func NewPooler(t testing.TB, connections int, settings ...string) *Pooler {
	t.Helper()
	program, err := pgbouncer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := Server(t)
	dir, err := os.MkdirTemp(server.Dir(), "pgbouncer") // where the server's user may go
	if err != nil {
		t.Fatal(err)
	}
	p := &Pooler{program: program, dir: dir}
	if os.Geteuid() == 0 { // as whom PgBouncer does not run
		data, err := os.Stat(filepath.Join(server.Dir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		owner := data.Sys().(*syscall.Stat_t)
		p.as = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	if p.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	at, err := pgx.ParseConfig(server.TCPURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.path(socketName), 0o755); err != nil {
		t.Fatal(err)
	}
	p.write(t, "userlist.txt", fmt.Sprintf("%q %q\n", at.User, at.Password))
	p.write(t, "pgbouncer.ini", fmt.Sprintf(poolerConfig, at.Port, at.User, p.port, p.path("userlist.txt"), connections, p.path(socketName))+strings.Join(settings, "\n"))
	p.Start(t)
	t.Cleanup(func() { p.Stop(t) })
	return p
}

func (p *Pooler) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Pooler) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.as == nil {
		return
	}
	for _, path := range []string{p.dir, p.path(socketName), p.path(name)} {
		if err := os.Chown(path, int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// Address is the host and the port that the pooler listens on, always the same.
func (p *Pooler) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is the way of a direct URL through the pooler. A user other than the server's owner logs in with the password
// that the URL has.
func (p *Pooler) URL(t testing.TB, direct string) string {
	t.Helper()
	at, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	through, err := url.Parse(Server(t).TCPURL(at.Database))
	if err != nil {
		t.Fatal(err)
	}
	if at.User != through.User.Username() {
		through.User = url.UserPassword(at.User, at.Password)
	}
	through.Host = p.Address()
	return through.String()
}

// socketName is a host's as Neon names its poolers. There is none beside it without -pooler.
const socketName = "ep-test-pooler.neon"

// Named is the way of a direct URL through the pooler under a name that tells what it is, as key=value pairs.
func (p *Pooler) Named(t testing.TB, direct string) string {
	t.Helper()
	at, err := pgx.ParseConfig(p.URL(t, direct))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=%s", p.path(socketName), at.Port, at.Database, at.User, at.Password)
}

// Start returns when the pooler answers.
func (p *Pooler) Start(t testing.TB) {
	t.Helper()
	out, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(p.program, p.path("pgbouncer.ini"))
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = untilDeath(p.as)
	p.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the pooler dies with this thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	p.process = cmd.Process
	p.awaitAnswer(t)
}

func (p *Pooler) awaitAnswer(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.URL(t, Server(t).URL("postgres")))
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(p.path("log"))
		t.Fatalf("the pooler does not answer: %v\n%s", err, log)
	}
}

// Stop ends the pooler and cuts its connections.
func (p *Pooler) Stop(t testing.TB) {
	t.Helper()
	if err := p.process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) { // pgbouncer(1): immediate shutdown
		t.Error(err)
	}
	<-p.ended
}

// Restart cuts every connection and comes back at the same address.
func (p *Pooler) Restart(t testing.TB) {
	t.Helper()
	p.Stop(t)
	p.Start(t)
}

var poolerVersion = regexp.MustCompile(`^PgBouncer (\d+)\.(\d+)`)

// pgbouncer finds a PgBouncer that carries prepared statements, where scripts/fetch-pgbouncer.sh looks and puts one.
func pgbouncer(ctx context.Context) (string, error) {
	cache := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	for _, program := range []string{"pgbouncer", "/usr/sbin/pgbouncer", filepath.Join(cache, "slipway", "pgbouncer", "pgbouncer")} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			continue
		}
		v := poolerVersion.FindStringSubmatch(string(out))
		if v == nil {
			continue
		}
		major, errMajor := strconv.Atoi(v[1])
		minor, errMinor := strconv.Atoi(v[2])
		if errors.Join(errMajor, errMinor) == nil && (major > 1 || minor >= 21) {
			return program, nil
		}
	}
	return "", errors.New("there is no PgBouncer 1.21 or newer: run scripts/test-tools.sh, or install one so that it is found in PATH")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
