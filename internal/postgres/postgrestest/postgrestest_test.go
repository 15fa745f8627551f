package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"slipway/internal/postgres/pgembed"
	"slipway/internal/postgres/postgrestest"
)

// migrations counts how often the template was made.
var migrations int

func TestMain(m *testing.M) {
	os.Exit(postgrestest.Main(m, func(ctx context.Context, url string) error {
		migrations++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE migrated (n int)")
		return err
	}))
}

func TestNewIsAFreshMigratedDatabase(t *testing.T) {
	seen := make(chan string, 20)
	t.Run("each", func(t *testing.T) {
		for n := range cap(seen) {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, postgrestest.New(t))
				seen <- one(t, conn, "SELECT current_database()")
				if rows := one(t, conn, "SELECT count(*)::text FROM migrated"); rows != "0" {
					t.Errorf("%s rows in a fresh database", rows)
				}
				execute(t, conn, "INSERT INTO migrated VALUES (1)")
			})
		}
	})
	close(seen)
	names := map[string]bool{}
	for name := range seen {
		names[name] = true
	}
	if len(names) != cap(seen) || migrations != 1 {
		t.Errorf("%d databases, %d migrations, want %d and 1", len(names), migrations, cap(seen))
	}
}

func TestEmptyHasNoTables(t *testing.T) {
	conn := connect(t, postgrestest.Empty(t))
	if tables := one(t, conn, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'"); tables != "0" {
		t.Errorf("%s tables", tables)
	}
}

func TestOutageKeepsAddressAndRows(t *testing.T) {
	url := postgrestest.New(t)
	execute(t, connect(t, url), "INSERT INTO migrated VALUES (7)")
	postgrestest.Outage(t, func() {
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			conn.Close(t.Context())
			t.Error("connected during the outage")
		}
	})
	if n := one(t, connect(t, url), "SELECT n::text FROM migrated"); n != "7" {
		t.Errorf("n = %s after the outage, want 7", n)
	}
}

func TestServerIsNoLeak(t *testing.T) {
	postgrestest.Empty(t)
	goleak.VerifyNone(t, postgrestest.IgnoreServer())
}

// ending tells a copy of this binary how to end once its server runs.
const ending = "POSTGRESTEST_ENDING"

func TestNothingIsLeftBehind(t *testing.T) {
	switch os.Getenv(ending) {
	case "failed":
		fmt.Println("server in", postgrestest.Server(t).Dir())
		t.FailNow()
	case "killed":
		fmt.Println("server in", postgrestest.Server(t).Dir())
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	binary := func(how string) (dir string) {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), ending+"="+how)
		out, err := cmd.Output()
		if err == nil {
			t.Fatalf("a binary that is to be %s succeeded: %s", how, out)
		}
		_, rest, _ := strings.Cut(string(out), "server in ")
		dir, _, _ = strings.Cut(rest, "\n")
		if dir == "" {
			t.Fatalf("no server: %s", out)
		}
		return dir
	}

	killed := binary("killed")
	deadline := time.After(10 * time.Second)
	for {
		used, err := pgembed.InUse(killed)
		if err != nil {
			t.Fatal(err)
		}
		if !used {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the server of a killed binary lives on")
		case <-time.After(10 * time.Millisecond):
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(killed, long, long); err != nil {
		t.Fatal(err)
	}
	failed := binary("failed")
	for how, dir := range map[string]string{"killed": killed, "failed": failed} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("folder %s of a %s binary: %v, want none", dir, how, err)
		}
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func one(t *testing.T, conn *pgx.Conn, sql string, args ...any) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
