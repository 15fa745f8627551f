package process_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/process/api"
	"slipway/internal/process/worker"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

// system is an API and a worker that send files to the simulators.
type system struct {
	url, worker string // where each answers
	sim         *devstack.Simulators
}

// begin runs a system on a database that these settings lead to, until the test ends.
func begin(t *testing.T, database map[string]string) system {
	t.Helper()
	sim, err := devstack.StartSimulators(devstack.SimulatorOptions{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	env := []string{"HOST=127.0.0.1", "DEV_USER=user_123", "STAGING_DIR=" + t.TempDir(), "STAGING_RESERVE=0", "UPLOAD_WAIT=0s", "DRAIN_TIMEOUT=5s"}
	env = append(env, "WORKER_PORT="+strconv.Itoa(free(t)))
	for _, settings := range []map[string]string{sim.Env(), database} {
		for name, value := range settings {
			env = append(env, name+"="+value)
		}
	}
	c, err := config.Load(config.Options{Environ: env, Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, stop := context.WithCancel(context.Background())
	var parts errgroup.Group
	ready := make(chan struct{})
	parts.Go(func() error {
		return api.Run(ctx, api.Options{Config: c, Log: log.With("part", "api"), Listener: listener, Ready: func() { close(ready) }})
	})
	parts.Go(func() error {
		return worker.Run(ctx, worker.Options{Config: c, Log: log.With("part", "worker"), Health: true})
	})
	t.Cleanup(func() {
		stop()
		if err := parts.Wait(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		t.Fatal("the API is not ready after 30 s")
	}
	return system{url: "http://" + listener.Addr().String(), worker: fmt.Sprintf("http://127.0.0.1:%d", c.WorkerPort), sim: sim}
}

func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// get returns what a URL answers, and "" while nobody does.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s in vain for %s", what)
		}
		<-tick.C
	}
}

// send uploads a file of random bytes and returns its id.
func (s system) send(t *testing.T, provider string, size int) string {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.Read(body) // never fails
	resp, err := http.Post(s.url+"/v1/uploads?provider="+provider+"&file_name=a.bin", "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var u struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&u); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("uploading was answered %s, %v", resp.Status, err)
	}
	return u.ID
}

// upload is what the API says of an upload; an empty one while it cannot say anything.
func (s system) upload(t *testing.T, id string) (u struct {
	Status      string
	PushedBytes int64 `json:"pushed_bytes"`
},
) {
	t.Helper()
	switch status, body := get(t, s.url+"/v1/uploads/"+id); status {
	case http.StatusOK:
		if err := json.Unmarshal([]byte(body), &u); err != nil {
			t.Fatal(err)
		}
	case 0, http.StatusServiceUnavailable:
	default:
		t.Fatalf("the upload's status is answered %d %s", status, body)
	}
	return u
}

func (s system) completed(t *testing.T, id string) {
	t.Helper()
	until(t, "upload "+id+" to be completed", func() bool {
		u := s.upload(t, id)
		if u.Status == "failed" {
			t.Fatal("the upload has failed")
		}
		return u.Status == "completed"
	})
}

// plain is a migrated database of an owner who bypasses nothing.
func plain(t *testing.T) string {
	t.Helper()
	direct, err := url.Parse(postgrestest.Server(t).TCPURL(strings.TrimPrefix(must(url.Parse(postgrestest.Empty(t))).Path, "/")))
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(direct.Path, "/")
	conn, err := pgx.Connect(t.Context(), direct.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		`CREATE ROLE owner_of_` + database + ` LOGIN CREATEROLE PASSWORD 's3cret'`,
		`ALTER DATABASE ` + database + ` OWNER TO owner_of_` + database,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	direct.User = url.UserPassword("owner_of_"+database, "s3cret")
	if err := postgres.Migrate(t.Context(), postgres.Options{URL: direct.String()}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return direct.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTheWholeSystemThroughAPooler(t *testing.T) {
	tests := map[string]struct {
		pooler         []string // what is set otherwise than at Neon
		settings       func(p *postgrestest.Pooler, direct string) map[string]string
		events, worker string // what readiness says
	}{
		"with a direct address beside": {
			nil, func(p *postgrestest.Pooler, direct string) map[string]string {
				return map[string]string{"DATABASE_URL": p.URL(t, direct), "DATABASE_URL_UNPOOLED": direct}
			}, "listening", "jobs: listening",
		},
		"without one that answers": {
			nil, func(p *postgrestest.Pooler, direct string) map[string]string {
				return map[string]string{"DATABASE_URL": p.Named(t, direct)}
			}, "polling", "jobs: polling, because DATABASE_URL without -pooler does not answer, DATABASE_URL does",
		},
		"of the old kind, which nothing tells from a database": {
			[]string{"max_prepared_statements = 0"}, func(p *postgrestest.Pooler, direct string) map[string]string {
				return map[string]string{"DATABASE_URL": p.URL(t, direct)}
			}, "polling", "jobs: polling, because LISTEN does not work by DATABASE_URL",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := plain(t)
			p := postgrestest.NewPooler(t, 10, tt.pooler...)
			s := begin(t, tt.settings(p, direct))

			var ids []string // so many that every connection of the pooler's is used, by one and the other
			for n := range 8 {
				ids = append(ids, s.send(t, []string{"uploadcare", "cloudinary"}[n%2], 100_000))
			}
			for _, id := range ids {
				s.completed(t, id)
			}
			until(t, "readiness to say "+tt.events, func() bool {
				_, body := get(t, s.url+"/readyz?verbose")
				return strings.Contains(body, `"events":"`+tt.events+`"`)
			})
			if _, body := get(t, s.worker+"/readyz?verbose"); !strings.Contains(body, tt.worker+"\n") {
				t.Errorf("the worker says %q, want %q", body, tt.worker)
			}

			// The pooler comes back while a file is on its way.
			s.line(t, 20<<20)
			id := s.send(t, "uploadcare", 30<<20)
			until(t, "the push to get on", func() bool { return s.upload(t, id).PushedBytes > 0 })
			p.Restart(t)
			s.line(t, 0)
			s.completed(t, id)
			s.completed(t, s.send(t, "cloudinary", 100_000))

			stranger, err := pgx.ParseConfig(p.URL(t, direct))
			if err != nil {
				t.Fatal(err)
			}
			stranger.DefaultQueryExecMode = pgx.QueryExecModeExec
			conn, err := pgx.ConnectConfig(t.Context(), stranger)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			var role, claims, locks string
			err = conn.QueryRow(t.Context(), `SELECT current_user, coalesce(current_setting('request.jwt.claims', true), ''), current_setting('lock_timeout')`).Scan(&role, &claims, &locks)
			if err != nil || !strings.HasPrefix(role, "owner_of_") || claims != "" || locks != "0" {
				t.Errorf("strangers who share the pooler find role %s, claims %q, lock_timeout %s, %v", role, claims, locks, err)
			}
		})
	}
}

// line limits what a connection to Uploadcare carries in a second; 0 is no limit.
func (s system) line(t *testing.T, bytesPerSecond int) {
	t.Helper()
	resp, err := http.Post(s.sim.URL+"/_sim/uploadcare/line", "application/json", strings.NewReader(fmt.Sprintf(`{"bytes_per_second":%d}`, bytesPerSecond)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the simulator answers %s", resp.Status)
	}
}
