package forget_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/forget"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/process"
	"slipway/internal/provider"
	"slipway/internal/provider/providertest"
	"slipway/internal/push"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

// ann is forgotten, bob is not. No other text in a row looks like their ids.
const ann, bob = "ann-7c2f91", "bob-41d0aa"

// place is an installation, whose worker may be stopped and started.
type place struct {
	base      *process.Base
	sims      *devstack.Simulators
	ingest    *ingest.Ingest
	providers []provider.Provider
	path      string // of staging
}

func newPlace(t *testing.T) *place {
	t.Helper()
	sims, err := devstack.StartSimulators(devstack.SimulatorOptions{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sims.Close() })
	p := &place{sims: sims, path: t.TempDir()}
	env := map[string]string{"DATABASE_URL": postgrestest.Original(t), "STAGING_DIR": p.path, "STAGING_RESERVE": "0"}
	maps.Copy(env, sims.Env())
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Options{Environ: environ, Need: config.NeedDatabase | config.NeedWorker})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if p.base, err = process.OpenDirect(t.Context(), c, "test", quiet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.base.Pool.Close)
	p.ingest = &ingest.Ingest{
		Pool: p.base.Pool, Queue: p.base.Queue, Staging: p.base.Staging, Log: quiet,
		Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "uploadcare", MaxBytes: 1 << 20, MaxAttempts: 3, DeliverWithin: time.Hour,
	}
	if p.providers, err = process.Providers(c); err != nil {
		t.Fatal(err)
	}
	return p
}

// work runs a worker until stop is called, or the test ends.
func (p *place) work(t *testing.T) (stop func()) {
	t.Helper()
	service, err := push.Start(t.Context(), p.base.Pool, p.base.Names, p.base.Staging, p.providers, push.Settings{
		Installation: p.base.Installation.ID, Owner: "test", FilesInFlight: 2, PartsInFlight: 2, KeepFailed: time.Hour,
		Backoff: func(int) time.Duration { return 20 * time.Millisecond }, Poll: 20 * time.Millisecond, Settle: 50 * time.Millisecond,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := service.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (p *place) eraser() forget.Eraser {
	return forget.Eraser{Pool: p.base.Pool, Queue: p.base.Queue, Staging: p.base.Staging, Every: 5 * time.Millisecond}
}

// accept takes in a file of 200 bytes, of which one user's can be told from all others'.
func (p *place) accept(ctx context.Context, user, providerName string) (upload.Upload, error) {
	content := make([]byte, 200)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	s, err := p.ingest.Receive(ctx, ingest.Request{User: user, Length: -1}, bytes.NewReader(content))
	if err != nil {
		return upload.Upload{}, err
	}
	return p.ingest.Accept(ctx, ingest.Request{User: user, Provider: providerName, FileName: "a film of " + user}, s)
}

func (p *place) accepted(t *testing.T, user, providerName string) upload.Upload {
	t.Helper()
	u, err := p.accept(t.Context(), user, providerName)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (p *place) delivered(t *testing.T, user, providerName string) upload.Upload {
	t.Helper()
	u := p.accepted(t, user, providerName)
	until(t, "delivered", func() bool {
		var err error
		if u, err = postgres.UploadOf(t.Context(), p.base.Pool, u.ID); err != nil {
			t.Fatal(err)
		}
		return u.Status == upload.Completed
	})
	return u
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within 30 s", what)
		}
		<-tick.C
	}
}

func (p *place) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := p.base.Pool.Exec(t.Context(), sql, a...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// settle leaves something of a user in every table that knows users, in staging and at both providers. The worker has
// stopped, and what waits for one is there to be taken up.
func (p *place) settle(t *testing.T, user string) {
	t.Helper()
	stop := p.work(t)
	first := p.delivered(t, user, "uploadcare")
	p.delivered(t, user, "cloudinary")
	old, older := p.store(t, "uploadcare"), p.store(t, "cloudinary")
	stop()
	p.exec(t, `INSERT INTO public.uploadcare_files (file_id, file_url, user_id) VALUES ($1, $2, $3)`, old.ID, old.URL, user)
	p.exec(t, `INSERT INTO public.cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ($1, $2, 'raw', $3)`, older.ID, older.URL, user)
	if err := pgx.BeginFunc(t.Context(), p.base.Pool, func(tx pgx.Tx) error {
		var row int64
		if err := tx.QueryRow(t.Context(), `SELECT id FROM public.uploadcare_files WHERE file_id = $1`, old.ID).Scan(&row); err != nil {
			return err
		}
		return postgres.DeleteFileRow(t.Context(), tx, p.base.Queue, user, "uploadcare", row) // asked for before
	}); err != nil {
		t.Fatal(err)
	}

	p.accepted(t, user, "cloudinary") // waits
	failed := p.accepted(t, user, "uploadcare")
	p.exec(t, `UPDATE slipway.uploads SET status = 'failed', job_id = NULL, staged_until = now() + interval '1 hour' WHERE id = $1`, failed.ID)
	coming, piece, whole := p.accepted(t, user, "uploadcare"), p.accepted(t, user, "uploadcare"), p.accepted(t, user, "uploadcare")
	p.exec(t, `UPDATE slipway.uploads SET status = 'receiving', job_id = NULL, staged_at = NULL, size = 400, expires_at = now() + interval '1 hour' WHERE id = $1`, coming.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'joined', partial = true, job_id = NULL, staged_at = NULL, joined_to = $2 WHERE id = $1`, piece.ID, whole.ID)
	p.extend(t, coming.ID)
	p.extend(t, piece.ID)
	p.inTrash(t, failed.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'canceled', job_id = NULL, staged_until = NULL, unstaged_at = now() WHERE id = $1`, p.accepted(t, user, "cloudinary").ID)
	fetching := p.accepted(t, user, "uploadcare")
	p.exec(t, `UPDATE slipway.uploads SET status = 'fetching', staged_at = NULL WHERE id = $1`, fetching.ID)

	p.exec(t, `INSERT INTO slipway.imports (upload_id, user_id, url, max_bytes, fetch_by) VALUES ($1, $2, 'https://files.test/a', 1, now() + interval '1 hour')`, fetching.ID, user)
	p.exec(t, `INSERT INTO slipway.tus_uploads (upload_id, user_id, metadata) VALUES ($1, $2, 'filename YQ==')`, coming.ID, user)
	p.exec(t, `INSERT INTO slipway.direct_uploads (upload_id, user_id, provider, asset_id) VALUES ($1, $2, 'uploadcare', $3)`, first.ID, user, first.Asset.ID)
	p.exec(t, `INSERT INTO slipway.direct_handouts (user_id, provider, minute) VALUES ($1, 'uploadcare', date_trunc('minute', now()))`, user)
	p.exec(t, `INSERT INTO slipway.idempotency_keys (user_id, key, fingerprint, upload_id, made) VALUES ($1, 'k', '', $2, $2), ($1, 'l', '', gen_random_uuid(), NULL)`, user, first.ID)
	p.exec(t, `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) VALUES ($1, $2, 400, now() + interval '1 hour'), (gen_random_uuid(), $2, 1, now() + interval '1 hour')`, coming.ID, user)
	p.exec(t, `INSERT INTO slipway.staging_waits (user_id, bytes, due_at, expires_at) VALUES ($1, 1, now(), now() + interval '1 hour')`, user)
	p.exec(t, `INSERT INTO slipway.request_rates (user_id, arrival, expires_at) VALUES ($1, 1, now() + interval '1 hour')`, user)
	p.exec(t, `INSERT INTO slipway.user_limits (user_id, uploads_per_day) VALUES ($1, 100)`, user)
	p.exec(t, `INSERT INTO slipway.providers (name, troubled) VALUES ('uploadcare', ARRAY [$1::uuid]) ON CONFLICT (name) DO UPDATE SET troubled = providers.troubled || excluded.troubled`, failed.ID)
	if err := postgres.AddUpUsage(t.Context(), p.base.Pool, user); err != nil {
		t.Fatal(err)
	}
	p.exec(t, `UPDATE slipway.uploads SET size = size + 1 WHERE id = $1`, failed.ID) // and is not added up
}

// store has a provider keep a file of which no upload knows.
func (p *place) store(t *testing.T, name string) upload.Asset {
	t.Helper()
	at := p.providers[slices.IndexFunc(p.providers, func(p provider.Provider) bool { return p.Name() == name })]
	return providertest.Store(t, at, "before", upload.NewID())
}

// extend adds a segment to an upload's bytes.
func (p *place) extend(t *testing.T, id upload.ID) {
	t.Helper()
	w, err := p.base.Staging.Extend(t.Context(), upload.Segment{Of: id, Number: 4}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Copy(t.Context(), strings.NewReader("more")), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// inTrash takes an upload's bytes out of use.
func (p *place) inTrash(t *testing.T, id upload.ID) {
	t.Helper()
	err := p.base.Staging.List(t.Context(), staging.InUse, func(page []staging.Entry) error {
		for _, e := range page {
			if e.ID == id {
				_, err := p.base.Staging.Trash(t.Context(), e)
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tables are all that there are in the database, and whether they name users.
func (p *place) tables(t *testing.T) map[string]bool {
	t.Helper()
	rows, err := p.base.Pool.Query(t.Context(), `
		SELECT format('%I.%I', t.table_schema, t.table_name), EXISTS (
		           SELECT FROM information_schema.columns c
		           WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.column_name = 'user_id')
		FROM information_schema.tables t
		WHERE t.table_type = 'BASE TABLE' AND t.table_schema NOT IN ('pg_catalog', 'information_schema')`)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]bool{}
	var name string
	var users bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &users}, func() error { tables[name] = users; return nil }); err != nil {
		t.Fatal(err)
	}
	return tables
}

// mentions are the rows of all tables in which one of the marks stands, whatever the column.
func (p *place) mentions(t *testing.T, marks []string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for table := range p.tables(t) {
		rows, err := p.base.Pool.Query(t.Context(), `
			SELECT t::text FROM `+table+` t WHERE EXISTS (SELECT FROM unnest($1::text[]) mark WHERE position(mark IN t::text) > 0) ORDER BY 1`, marks)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if len(texts) > 0 {
			found[table] = texts
		}
	}
	return found
}

// marksOf are a user's id, and those of their uploads.
func (p *place) marksOf(t *testing.T, user string) []string {
	t.Helper()
	rows, err := p.base.Pool.Query(t.Context(), `SELECT id::text FROM slipway.uploads WHERE user_id = $1`, user)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return append(ids, user)
}

// kept are the names in staging, those in its trash too.
func (p *place) kept(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(p.path, func(path string, d fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, p.path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// assets are the names of what both providers keep.
func (p *place) assets(t *testing.T) (ids []string) {
	t.Helper()
	files, err := p.sims.Uploadcare.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Stored && !f.Removed {
			ids = append(ids, f.UUID)
		}
	}
	for _, f := range p.sims.Cloudinary.Inventory().Files {
		ids = append(ids, f.PublicID)
	}
	slices.Sort(ids)
	return ids
}

// wantForgotten checks that there is nothing of ann, and everything of bob as it was.
func (p *place) wantForgotten(t *testing.T, marks []string, assetsOfBob []string, rowsOfBob map[string][]string, marksOfBob []string) {
	t.Helper()
	for table, rows := range p.mentions(t, marks) {
		t.Errorf("%s has still %d rows of ann's, the first is %s", table, len(rows), rows[0])
	}
	for _, name := range p.kept(t) {
		if slices.ContainsFunc(marks, func(m string) bool { return strings.Contains(name, m) }) {
			t.Errorf("staging has still %s", name)
		}
	}
	if got := p.assets(t); !slices.Equal(got, assetsOfBob) {
		t.Errorf("the providers keep %v, want bob's %v", got, assetsOfBob)
	}
	for table, rows := range p.mentions(t, marksOfBob) {
		if !slices.Equal(rows, rowsOfBob[table]) {
			t.Errorf("bob's rows in %s have changed from %q to %q", table, rowsOfBob[table], rows)
		}
		delete(rowsOfBob, table)
	}
	for table := range rowsOfBob {
		t.Errorf("bob's rows in %s are gone", table)
	}
}

func TestNothingIsLeftOfAForgottenUser(t *testing.T) {
	p := newPlace(t)
	p.settle(t, bob)
	p.exec(t, `UPDATE slipway.uploads SET status = 'failed', job_id = NULL, staged_until = now() + interval '1 hour' WHERE status = 'queued'`) // so that a worker lets them be
	p.exec(t, `DELETE FROM slipway.river_job WHERE kind <> 'delete_asset'`)
	p.exec(t, `UPDATE slipway.river_job SET state = 'completed', finalized_at = now()`)
	assetsOfBob, marksOfBob := p.assets(t), p.marksOf(t, bob)
	p.settle(t, ann)
	p.exec(t, `UPDATE slipway.river_job SET state = 'completed', finalized_at = now() WHERE metadata ->> 'user_id' = $1`, bob)
	rowsOfBob := p.mentions(t, marksOfBob)
	marks := p.marksOf(t, ann)
	before := p.mentions(t, marks)
	for table, users := range p.tables(t) {
		if users && len(before[table]) == 0 {
			t.Errorf("%s knows users, and nothing of ann is in it: have settle put something there, so that it is seen to go", table)
		}
	}
	held, err := postgres.HoldingOf(t.Context(), p.base.Pool, ann)
	if err != nil || held.Files.Files != 4 || held.Staged.Files < 4 {
		t.Errorf("there is %+v, %v", held, err)
	}

	e := p.eraser()
	var work sync.Once
	e.Tell = func([]postgres.Leaving) { work.Do(func() { p.work(t) }) } // by then nothing waits to be delivered
	r, err := e.Erase(t.Context(), ann)
	if err != nil || !r.Done || r.Files != 4 || r.FileBytes != 400 || len(r.Left) > 0 {
		t.Errorf("the report is %+v, %v", r, err)
	}
	if r.Uploads != int64(len(marks)-1) || r.Events < r.Uploads || r.Rows["slipway.river_job"] == 0 || r.Rows["slipway.user_limits"] != 1 {
		t.Errorf("the report is %+v", r)
	}
	p.wantForgotten(t, marks, assetsOfBob, rowsOfBob, marksOfBob)
	if _, err := e.Erase(t.Context(), ann); !errors.Is(err, forget.ErrUnknown) {
		t.Errorf("forgotten again: %v", err)
	}
}

// deaths ends a run at its nth statement.
type deaths struct {
	left atomic.Int64
	die  context.CancelFunc
}

func (d *deaths) count() {
	if d.left.Add(-1) == 0 {
		d.die()
	}
}

func (d *deaths) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	d.count()
	return ctx
}
func (*deaths) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (d *deaths) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	d.count()
	return ctx
}
func (*deaths) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*deaths) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// Each run dies at a later statement than the one before, and the next goes on.
func TestForgettingGoesOnAfterADeathAtAnyStatement(t *testing.T) {
	p := newPlace(t)
	p.settle(t, ann)
	marks := p.marksOf(t, ann)
	p.work(t)
	d := &deaths{}
	cfg := p.base.Pool.Config()
	cfg.ConnConfig.Tracer = d
	for n := int64(1); ; n++ {
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, die := context.WithCancel(t.Context())
		d.die = die
		d.left.Store(n)
		e := p.eraser()
		e.Pool = pool
		r, err := e.Erase(ctx, ann)
		die()
		pool.Close()
		if err == nil || errors.Is(err, forget.ErrUnknown) {
			t.Logf("done after %d deaths: %+v", n-1, r)
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	p.wantForgotten(t, marks, nil, map[string][]string{}, []string{bob})
}

func TestWhatComesWhileAUserIsForgottenGoesOrIsANewBeginning(t *testing.T) {
	p := newPlace(t)
	p.settle(t, ann)
	before := p.marksOf(t, ann)
	p.work(t)
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := p.accept(ctx, ann, "uploadcare"); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		sent <- n
	}()
	e := p.eraser()
	began := time.Now()
	e.Tell = func([]postgres.Leaving) {
		if time.Since(began) > time.Second { // or else there is always something new
			stop()
		}
	}
	r, err := e.Erase(t.Context(), ann)
	stop()
	if n := <-sent; n == 0 || err != nil || !r.Done {
		t.Errorf("%d files came meanwhile: %+v, %v", n, r, err)
	}
	for table, rows := range p.mentions(t, slices.DeleteFunc(before, func(m string) bool { return m == ann })) {
		t.Errorf("%s has still %q", table, rows)
	}
	rows, err := p.base.Pool.Query(t.Context(), `SELECT id FROM slipway.uploads WHERE user_id = $1`, ann)
	if err != nil {
		t.Fatal(err)
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[upload.ID])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range left {
		until(t, "delivered, which came last", func() bool {
			u, err := postgres.UploadOf(t.Context(), p.base.Pool, id)
			return err == nil && u.Status == upload.Completed
		})
	}
	if _, err := e.Erase(t.Context(), ann); err != nil && !errors.Is(err, forget.ErrUnknown) {
		t.Error(err)
	}
}

// The last transaction waits in its middle, and a file comes.
func TestWhatComesFromOneStatementToTheNextKeepsItsRows(t *testing.T) {
	p := newPlace(t)
	p.exec(t, `INSERT INTO slipway.user_limits (user_id, uploads_per_day) VALUES ($1, 100)`, ann)
	holder, err := p.base.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM slipway.user_limits WHERE user_id = $1 FOR UPDATE`, ann); err != nil {
		t.Fatal(err)
	}
	erased := make(chan error, 1)
	go func() {
		erased <- pgx.BeginFunc(t.Context(), p.base.Pool, func(tx pgx.Tx) error {
			_, err := postgres.EraseUser(t.Context(), tx, ann, map[string]int64{})
			return err
		})
	}()
	until(t, "waiting for the row", func() (waits bool) {
		err := p.base.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() <> pid AND cardinality(pg_blocking_pids(pid)) > 0 AND datname = current_database())`).Scan(&waits)
		return err == nil && waits
	})
	u := p.accepted(t, ann, "uploadcare")
	before := p.mentions(t, []string{ann})
	delete(before, "slipway.user_limits")
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-erased; err != nil {
		t.Fatal(err)
	}
	after := p.mentions(t, []string{ann})
	delete(after, "slipway.user_limits")
	if !maps.EqualFunc(before, after, slices.Equal) || len(before["slipway.river_job"]) == 0 {
		t.Errorf("of upload %s there is %q, and was %q", u.ID, after, before)
	}
}

func TestWhatCannotBeForgottenIsSaid(t *testing.T) {
	p := newPlace(t)
	p.exec(t, `INSERT INTO public.cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ('x', 'https://cdn.test/x', 'document', $1)`, ann)
	p.work(t)
	u := p.delivered(t, ann, "cloudinary")
	e := p.eraser()
	r, err := e.Erase(t.Context(), ann)
	if err != nil || r.Done || len(r.Left) != 1 || r.Left[0].Code != upload.UnknownResourceType || r.Uploads != 1 || r.Files != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := postgres.UploadOf(t.Context(), p.base.Pool, u.ID); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("what can be forgotten is not: %v", err)
	}
	p.exec(t, `UPDATE public.cloudinary_files SET resource_type = 'raw'`)
	if r, err = e.Erase(t.Context(), ann); err != nil || !r.Done {
		t.Errorf("once it is mended: %+v, %v", r, err)
	}
	if got := p.mentions(t, []string{ann}); len(got) > 0 {
		t.Errorf("there is still %v", got)
	}
}

// The assets are the original's to delete; what the copy knows goes.
func TestACopyForgetsWhatItKnowsAndLeavesTheOriginalsAssets(t *testing.T) {
	p := newPlace(t)
	stop := p.work(t)
	p.delivered(t, ann, "uploadcare")
	p.delivered(t, ann, "cloudinary")
	stop()
	before := p.assets(t)
	p.exec(t, `UPDATE slipway.installation SET copied_at = now()`)
	p.exec(t, `INSERT INTO public.uploadcare_files (file_id, file_url, user_id, upload_timestamp) VALUES ('x', 'https://cdn.test/x', $1, now() - interval '1 day')`, ann)
	p.work(t)
	e := p.eraser()
	r, err := e.Erase(t.Context(), ann)
	if err != nil || !r.Done || r.Files != 0 || r.Uploads != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if got := p.mentions(t, []string{ann}); len(got) > 0 {
		t.Errorf("there is still %v", got)
	}
	if got := p.assets(t); !slices.Equal(got, before) {
		t.Errorf("the providers keep %v, want %v", got, before)
	}
}
