package fetch_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"slipway/internal/crc32c"
	"slipway/internal/fetch"
	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/push"
	"slipway/internal/quota"
	"slipway/internal/staging/dir"
	"slipway/internal/sweep"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

const (
	mib      = 1 << 20
	patience = 20 * time.Second
)

// yard is everything around a worker: a database, staging, and a web of one server.
type yard struct {
	pool    *pgxpool.Pool
	staging *dir.Store
	ingest  *ingest.Ingest
	quotas  *quota.Quotas
	web     *site
	logged  *lines

	// What the workers that are started from now on are given.
	settings fetch.Settings
	source   source.Options
}

// newYard lets users use as much as limits say.
func newYard(t *testing.T, limits postgres.Limits) *yard {
	t.Helper()
	y := &yard{
		settings: fetch.Settings{
			Owner: "test", AtOnce: 8, LeaseTTL: 10 * time.Second, Beat: 100 * time.Millisecond, Rest: 50 * time.Millisecond, Chunk: mib, Every: 100 * time.Millisecond,
			Backoff: func(int) time.Duration { return 20 * time.Millisecond },
		},
		web: newSite(t), logged: &lines{},
	}
	log := slog.New(slog.NewTextHandler(y.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if y.pool, err = postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(y.pool.Close)
	queue, err := postgres.NewQueue(y.pool, postgres.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	if y.staging, err = dir.New(t.TempDir(), dir.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := y.staging.Claim(t.Context(), "slipway-test"); err != nil {
		t.Fatal(err)
	}
	policy, err := source.NewPolicy([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	y.quotas = quota.New(y.pool, limits, log)
	t.Cleanup(y.quotas.Close)
	y.ingest = &ingest.Ingest{
		Pool: y.pool, Queue: queue, Staging: y.staging, Quotas: y.quotas, Log: log,
		Providers: []string{"uploadcare"}, DefaultProvider: "uploadcare",
		MaxBytes: 1 << 30, MaxAttempts: 3, DeliverWithin: time.Hour, Imports: &ingest.Imports{Policy: policy, Within: time.Hour},
	}
	return y
}

// worker starts a worker; stop hands back what it is doing.
func (y *yard) worker(t *testing.T) (stop func()) {
	t.Helper()
	w := fetch.New(y.ingest, source.NewClient(y.ingest.Imports.Policy, y.source), y.settings)
	service, err := push.Start(context.Background(), y.pool, postgres.DefaultNames, y.staging, nil, push.Settings{
		Installation: "slipway-test", Owner: "test", KeepFailed: time.Hour, Poll: 50 * time.Millisecond, Settle: 200 * time.Millisecond,
		Beside: []push.Lane{
			{Queue: upload.FetchQueue, AtOnce: y.settings.AtOnce, Add: func(kinds *river.Workers) { river.AddWorker(kinds, w) }},
			{Queue: upload.DeleteQueue("uploadcare"), AtOnce: 1, Add: func(*river.Workers) {}},
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := service.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// sweeper looks after the dead.
func (y *yard) sweeper(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := sweep.Sweeper{Pool: y.pool, Queue: y.ingest.Queue, Staging: y.staging, LeaseTTL: y.settings.LeaseTTL, ReapEvery: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// imports asks for the file at a path.
func (y *yard) imports(t *testing.T, path string, r ingest.Request) upload.Upload {
	t.Helper()
	r.User, r.Length = "alice", -1
	u, err := y.ingest.Import(t.Context(), r, y.web.URL+path, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (y *yard) read(t *testing.T, id upload.ID) upload.Upload {
	t.Helper()
	u, err := postgres.UploadOf(t.Context(), y.pool, id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// await returns the upload once it is as it should be.
func (y *yard) await(t *testing.T, id upload.ID, what string, is func(upload.Upload) bool) upload.Upload {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		u := y.read(t, id)
		if is(u) {
			return u
		}
		if time.Now().After(deadline) || u.Status == upload.Failed {
			t.Fatalf("not %s: %+v, error %+v\n%s", what, u, u.Error, y.logged)
		}
		wait(t)
	}
}

func (y *yard) awaitStatus(t *testing.T, id upload.ID, s upload.Status) upload.Upload {
	t.Helper()
	return y.await(t, id, string(s), func(u upload.Upload) bool { return u.Status == s })
}

// wait is a pause between two looks.
func wait(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(5 * time.Millisecond):
	case <-t.Context().Done():
		t.FailNow()
	}
}

// arrived checks that an upload is on its way with these bytes, and that nothing is left of its import.
func (y *yard) arrived(t *testing.T, u upload.Upload, content []byte) {
	t.Helper()
	r, err := y.staging.Open(t.Context(), u.ID, u.Segments...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("staging has %d bytes, %v, want %d, or others", len(got), err, len(content))
	}
	if want := crc32c.Update(0, content); u.Size != int64(len(content)) || u.Received != u.Size || u.CRC32C != want || u.Progress != 0.5 {
		t.Errorf("it has %d of %d bytes, the sum %08x, the progress %v, want %d, %08x", u.Received, u.Size, u.CRC32C, u.Progress, len(content), want)
	}
	if u.Attempt != 0 || u.Error != nil || u.NextAttemptAt != nil || u.ExpiresAt != nil || u.StagedAt == nil || u.DeliverBy == nil {
		t.Errorf("it goes on its way as %+v", u)
	}
	if n := one[int](t, y, `SELECT count(*) FROM slipway.river_job j JOIN slipway.uploads u ON u.job_id = j.id WHERE u.id = $1 AND j.kind = 'push' AND j.state = 'available'`, u.ID); n != 1 {
		t.Errorf("it has %d jobs", n)
	}
	y.forgotten(t, u.ID)
}

// forgotten checks that nothing is left of an import but its upload.
func (y *yard) forgotten(t *testing.T, id upload.ID) {
	t.Helper()
	if n := one[int](t, y, `SELECT (SELECT count(*) FROM slipway.imports WHERE upload_id = $1) + (SELECT count(*) FROM slipway.staging_reservations WHERE upload_id = $1)`, id); n != 0 {
		t.Errorf("%d rows are left of the import", n)
	}
}

// one returns what a query of one column says.
func one[T any](t *testing.T, y *yard, sql string, a ...any) T {
	t.Helper()
	rows, err := y.pool.Query(t.Context(), sql, a...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// random makes bytes that no type is known by.
func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// site is a server on the web, and what was asked of it.
type site struct {
	*httptest.Server

	mu    sync.Mutex
	pages map[string]http.HandlerFunc
	asked []*http.Request
}

func newSite(t *testing.T) *site {
	s := &site{pages: map[string]http.HandlerFunc{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r)
		page := s.pages[r.URL.Path]
		s.mu.Unlock()
		if page == nil {
			page = http.NotFound
		}
		page(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// has gives a page to a path.
func (s *site) has(path string, page http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = page
}

func (s *site) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.asked...)
}

// file gives content with its ranges to who asks, under a tag.
func file(content []byte, tag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// cut breaks off after so many bytes of an answer.
func cut(n int, page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { page(&cutter{ResponseWriter: w, left: n}, r) }
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		_, _ = c.ResponseWriter.Write(p[:len(p)+c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

// stall sends so many bytes of an answer, and then nothing until the client has gone.
func stall(n int, page http.HandlerFunc, gone chan<- time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		page(&staller{ResponseWriter: w, r: r, left: n, gone: gone}, r)
	}
}

type staller struct {
	http.ResponseWriter
	r    *http.Request
	left int
	gone chan<- time.Time
}

func (s *staller) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		_, _ = s.ResponseWriter.Write(p[:max(0, len(p)+s.left)])
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		<-s.r.Context().Done()
		select {
		case s.gone <- time.Now():
		default:
		}
		panic(http.ErrAbortHandler)
	}
	return s.ResponseWriter.Write(p)
}

// rangeFrom is where a request wants to begin, 0 where it does not say.
func rangeFrom(r *http.Request) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// lines are a log's.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
