package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	partSize = 5 * mib // of Uploadcare
	// late is how long after a lease has run out another worker may begin, by the database's clock: the second
	// in which the dead are looked for, and much more for a machine that is busy with other tests.
	late = 8 * time.Second
)

// worker runs a worker with these settings, name and value in turn, besides the stack's.
func (s *stack) worker(t *testing.T, settings ...string) *process {
	t.Helper()
	env := maps.Clone(s.env)
	for n := 0; n+1 < len(settings); n += 2 {
		env[settings[n]] = settings[n+1]
	}
	return start(t, env, "worker")
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%s to %s: %v", sig, p.name, err)
	}
}

// suspend stops the process until it is told to continue, which it is at the latest when the test ends. Its threads
// stop one by one; it returns when all have.
func (p *process) suspend(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) })
	await(t, 30*time.Second, p.name+" to stop", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
		for _, thread := range threads {
			var status []byte
			if status, err = os.ReadFile(thread); err != nil || !strings.Contains(string(status), "\nState:\tT") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// database is a stack's.
type database struct{ *pgxpool.Pool }

func (s *stack) database(t *testing.T) database {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), s.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return database{pool}
}

// row scans the only row that a query returns.
func (d database) row(t *testing.T, sql string, a []any, into ...any) {
	t.Helper()
	if err := d.QueryRow(t.Context(), sql, a...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (d database) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), sql, a...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// awaitRow waits until a query says true.
func (d database) awaitRow(t *testing.T, limit time.Duration, what, sql string, a ...any) {
	t.Helper()
	await(t, limit, what, func() (ok bool) {
		d.row(t, sql, a, &ok)
		return ok
	})
}

// acked are the numbers of the parts that the ledger has, by the id of the session at the provider.
func (d database) acked(t *testing.T, id string) map[string][]int {
	t.Helper()
	rows, err := d.Query(t.Context(), `
		SELECT s.remote_id, p.number
		FROM slipway.push_sessions s
		JOIN slipway.push_parts p ON p.session_id = s.id
		WHERE s.upload_id = $1`, id)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]int{}
	var session string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&session, &n}, func() error {
		parts[session] = append(parts[session], n)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return parts
}

// wantOwners checks how often an upload has gone to a worker, and how many were lost over it.
func (d database) wantOwners(t *testing.T, id string, begun, takeovers int) {
	t.Helper()
	var times, lost int
	d.row(t, `
		SELECT (SELECT count(*) FROM slipway.upload_events WHERE upload_id = $1 AND status = 'pushing' AND type = 'status'),
		       (SELECT count(*) FROM slipway.upload_events WHERE upload_id = $1 AND type = 'takeover')`, []any{id}, &times, &lost)
	if times != begun || lost != takeovers {
		t.Errorf("the upload was begun %d times and lost %d workers, want %d and %d", times, lost, begun, takeovers)
	}
}

// death is when what a dead worker had of an upload runs out.
func (d database) death(t *testing.T, id string) (at time.Time) {
	t.Helper()
	d.row(t, `
		SELECT greatest(coalesce(u.lease_until, '-infinity'), j.attempted_at + interval '15 seconds')
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id AND j.state = 'running'
		WHERE u.id = $1`, []any{id}, &at)
	return at
}

// wantTakeover waits until another worker has begun with an upload whose dead one's lease ran out at that time.
func (d database) wantTakeover(t *testing.T, id string, death time.Time) {
	t.Helper()
	const begun = `
		SELECT %s
		FROM slipway.upload_events e
		WHERE upload_id = $1 AND type = 'status' AND status = 'pushing'
		  AND seq > (SELECT max(seq) FROM slipway.upload_events WHERE upload_id = $1 AND type = 'takeover')`
	d.awaitRow(t, 60*time.Second, "the takeover of "+id, fmt.Sprintf(begun, "count(*) > 0"), id)
	var at time.Time
	d.row(t, fmt.Sprintf(begun, "min(at)"), []any{id}, &at)
	if took := at.Sub(death); took < 0 || took > late {
		t.Errorf("another worker began %s after the lease had run out, want at most 2 s, or %s on a busy machine", took, late)
	} else {
		t.Logf("another worker began %s after the lease had run out", took.Round(time.Millisecond))
	}
}

// accept sends a file of random bytes.
func (s *stack) accept(t *testing.T, provider, name string, size int64) (id, sum string) {
	t.Helper()
	path, sum := file(t, name, size)
	var u uploadView
	curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
	return u.ID, sum
}

// requested are the requests that a simulated provider was asked, whose targets hold all of these.
func (s *stack) requested(t *testing.T, provider, method string, target ...string) (found []request) {
	t.Helper()
	var log struct{ Requests []request }
	getJSON(t, s.sim+"/_sim/"+provider+"/requests", &log)
next:
	for _, r := range log.Requests {
		if r.Method != method {
			continue
		}
		for _, want := range target {
			if !strings.Contains(r.Target, want) {
				continue next
			}
		}
		found = append(found, r)
	}
	return found
}

// wantOnce checks that parts which the ledger has were not sent again.
func (s *stack) wantOnce(t *testing.T, acked map[string][]int) {
	t.Helper()
	for session, parts := range acked {
		for _, n := range parts {
			if sent := s.requested(t, "uploadcare", "PUT", session, fmt.Sprintf("partNumber=%d&", n+1)); len(sent) != 1 {
				t.Errorf("part %d was sent %d times", n, len(sent))
			}
		}
	}
}

// wantDelivered waits for an upload to be completed, with the right bytes.
func (s *stack) wantDelivered(t *testing.T, id, sum string) {
	t.Helper()
	s.awaitStatus(t, time.Minute, id, "completed")
	if got := sumAt(t, s.url+"/v1/files/"+id+"/content"); got != sum {
		t.Errorf("the content link of %s leads to other bytes than were sent", id)
	}
}

func (s *stack) wantStored(t *testing.T, provider string, want int) {
	t.Helper()
	if n := stored(t, s.sim+"/_sim/"+provider); n != want {
		t.Errorf("%s keeps %d assets of %d files", provider, n, want)
	}
}

// line is how many bytes a connection to a provider carries in a second; 0 is no limit.
func (s *stack) line(t *testing.T, provider string, bytesPerSecond int) {
	t.Helper()
	post(t, s.sim+"/_sim/"+provider+"/line", map[string]any{"bytes_per_second": bytesPerSecond})
}

// slow makes the next request like this take its time before anything is done.
func (s *stack) slow(t *testing.T, provider, method, path string, skip int, d time.Duration) {
	t.Helper()
	post(t, s.sim+"/_sim/"+provider+"/faults", map[string]any{
		"method": method, "path": path, "skip": skip, "times": 1, "action": "delay", "delay": d.Milliseconds(),
	})
}

// What becomes of pushes whose workers die, sleep or stop, and whose database does. All wait most of the time, so
// they run at once, however few tests do.
func TestDeliverySurvives(t *testing.T) {
	t.Parallel()
	var running sync.WaitGroup
	for name, f := range map[string]func(*testing.T){
		"a worker is killed in every phase of a push": killedInEveryPhase,
		"a takeover waits for no slot":                takeoverWithFullSlots,
		"a sleeper changes nothing":                   sleeperChangesNothing,
		"a slow completion is not taken over":         slowCompletion,
		"a stopped worker hands back at once":         handedBack,
		"the database is restarted":                   restartedDatabase,
	} {
		running.Go(func() { t.Run(name, f) })
	}
	running.Wait()
}

// killedInEveryPhase kills a worker that has uploads in every phase of a push; another goes on with each.
func killedInEveryPhase(t *testing.T) {
	s := dev(t, "--without", "worker")
	d := s.database(t)
	// An upload that cannot get its lease: the worker has fetched the job and no more.
	d.exec(t, `
		CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_sleep(600);
			RETURN NEW;
		END
		$$`)
	d.exec(t, `
		CREATE TRIGGER hang BEFORE UPDATE ON slipway.uploads
		FOR EACH ROW WHEN (NEW.file_name = 'fetched.bin' AND NEW.status = 'pushing') EXECUTE FUNCTION hang()`)

	first := s.worker(t)
	ids, sums := map[string]string{}, map[string]string{}
	accept := func(phase, provider string, size int64) {
		t.Helper()
		ids[phase], sums[phase] = s.accept(t, provider, phase+".bin", size)
	}
	const complete, store, chunk = "/multipart/complete/", "/storage/", "/upload"
	s.slow(t, "uploadcare", "POST", complete, 0, time.Hour)
	accept("complete", "uploadcare", 12*mib)
	await(t, 30*time.Second, "a push to be completed", func() bool { return len(s.requested(t, "uploadcare", "POST", complete)) == 1 })
	s.slow(t, "uploadcare", "PUT", store, 0, time.Hour)
	accept("store", "uploadcare", 12*mib)
	await(t, 30*time.Second, "a push to be stored", func() bool { return len(s.requested(t, "uploadcare", "PUT", store)) == 1 })
	s.slow(t, "cloudinary", "POST", chunk, 2, time.Hour)
	accept("last chunk", "cloudinary", 45_000_000)
	await(t, 30*time.Second, "the last chunk", func() bool { return len(s.requested(t, "cloudinary", "POST", chunk)) == 3 })
	accept("fetched", "uploadcare", 1000)
	d.awaitRow(t, 30*time.Second, "a job to be fetched", `
		SELECT j.state = 'running'
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id
		WHERE u.id = $1`, ids["fetched"])
	s.line(t, "uploadcare", 4*mib)
	accept("middle", "uploadcare", 60*mib)
	await(t, 30*time.Second, "a push to get on", func() bool { return s.upload(t, ids["middle"]).PushedBytes >= partSize })
	d.awaitRow(t, 30*time.Second, "the worker to hang", `SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)

	first.kill()
	d.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
	d.exec(t, `DROP TRIGGER hang ON slipway.uploads`)
	deaths, acked := map[string]time.Time{}, map[string]map[string][]int{}
	for phase, id := range ids {
		deaths[phase] = d.death(t, id)
		acked[phase] = d.acked(t, id)
	}
	s.line(t, "uploadcare", 0)
	s.worker(t)
	for phase, id := range ids {
		t.Run(phase, func(t *testing.T) {
			d.wantTakeover(t, id, deaths[phase])
			s.wantDelivered(t, id, sums[phase])
			begun := 2
			if phase == "fetched" {
				begun = 1
			}
			d.wantOwners(t, id, begun, 1)
			if phase != "last chunk" {
				s.wantOnce(t, acked[phase])
			}
		})
	}
	s.wantStored(t, "uploadcare", 4)
	s.wantStored(t, "cloudinary", 1)
	if sent := s.requested(t, "cloudinary", "POST", chunk); len(sent) != 4 {
		t.Errorf("%d chunks were sent for three and a death in the last: %+v", len(sent), sent)
	}
	if asked := s.requested(t, "uploadcare", "POST", complete); len(asked) != 4 {
		t.Errorf("%d uploads were completed for three and a death in one: %+v", len(asked), asked)
	}
}

func takeoverWithFullSlots(t *testing.T) {
	s := dev(t, "--without", "worker")
	d := s.database(t)
	s.line(t, "uploadcare", mib)
	one := []string{"PUSH_CONCURRENCY", "1", "PUSH_PARTS", "2"}
	first := s.worker(t, one...)
	lost, sum := s.accept(t, "uploadcare", "lost.bin", 60*mib)
	s.awaitStatus(t, 30*time.Second, lost, "pushing")
	s.worker(t, one...)
	busy, _ := s.accept(t, "uploadcare", "busy.bin", 200*mib)
	s.awaitStatus(t, 30*time.Second, busy, "pushing")
	const waiting = 50
	for range waiting {
		resp, err := http.Post(s.url+"/v1/uploads?provider=uploadcare&file_name=waits.bin", "application/octet-stream", io.LimitReader(zeros{}, 8*mib))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("accepting answers %s", resp.Status)
		}
	}
	await(t, 30*time.Second, "the push to get on", func() bool { return s.upload(t, lost).PushedBytes >= partSize })
	first.kill()
	death, acked := d.death(t, lost), d.acked(t, lost)
	d.wantTakeover(t, lost, death)
	var queued int
	d.row(t, `SELECT count(*) FROM slipway.uploads WHERE status = 'queued'`, nil, &queued)
	if now := s.upload(t, busy).Status; now != "pushing" || queued != waiting {
		t.Fatalf("the other push is %s and %d wait, so there was a slot", now, queued)
	}
	s.line(t, "uploadcare", 0)
	s.wantDelivered(t, lost, sum)
	s.wantOnce(t, acked)
}

// sleeperChangesNothing stops a worker while its transaction holds its upload's row and the user's place among events.
func sleeperChangesNothing(t *testing.T) {
	s := dev(t, "--without", "worker")
	d := s.database(t)
	s.line(t, "uploadcare", 4*mib)
	one := []string{"PUSH_CONCURRENCY", "1", "PUSH_PARTS", "1"}
	sleeper := s.worker(t, one...)
	lost, sum := s.accept(t, "uploadcare", "lost.bin", 60*mib)
	s.awaitStatus(t, 30*time.Second, lost, "pushing")
	s.worker(t, one...)
	kept, keptSum := s.accept(t, "uploadcare", "kept.bin", 100*mib)
	s.awaitStatus(t, 30*time.Second, kept, "pushing")
	await(t, 30*time.Second, "the push to get on", func() bool { return s.upload(t, lost).PushedBytes >= partSize })
	d.sleepInside(t, sleeper, lost)
	death, acked := d.death(t, lost), d.acked(t, lost)
	s.line(t, "uploadcare", mib) // the other worker has something to do for as long as it takes

	d.wantTakeover(t, lost, death)
	d.wantOwners(t, kept, 1, 0)
	s.line(t, "uploadcare", 0)
	s.wantDelivered(t, lost, sum)
	s.wantDelivered(t, kept, keptSum)
	d.wantOwners(t, kept, 1, 0)
	s.wantOnce(t, acked)

	before := d.dump(t)
	completing := len(s.requested(t, "uploadcare", "POST", "/multipart/"))
	sleeper.signal(t, syscall.SIGCONT)
	await(t, 30*time.Second, "the sleeper to see what has happened", func() bool { return strings.Contains(sleeper.said.String(), "not this worker's any more") })
	sleeper.stop(t, 30*time.Second)
	if after := d.dump(t); after != before {
		t.Errorf("the sleeper changed\n%s to\n%s", before, after)
	}
	s.wantStored(t, "uploadcare", 2)
	if sent := s.requested(t, "uploadcare", "POST", "/multipart/"); len(sent) != completing {
		t.Errorf("the sleeper asked for more than %d of %+v", completing, sent)
	}
}

// sleepInside stops a worker in a transaction that writes the progress of its push.
func (d database) sleepInside(t *testing.T, p *process, id string) {
	t.Helper()
	tx, err := d.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM slipway.uploads WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	var me, backend int
	if err := tx.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&me); err != nil {
		t.Fatal(err)
	}
	await(t, 30*time.Second, "the worker to wait for the row in a transaction", func() bool {
		err := d.QueryRow(t.Context(), `
			SELECT coalesce(max(pid), 0)
			FROM pg_stat_activity
			WHERE $1 = ANY(pg_blocking_pids(pid)) AND xact_start < query_start`, me).Scan(&backend)
		return err == nil && backend != 0
	})
	p.suspend(t)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.awaitRow(t, 4*time.Second, "the stopped worker's transaction to be left open", `SELECT state = 'idle in transaction' FROM pg_stat_activity WHERE pid = $1`, backend)
}

// dump is everything that the database says of uploads.
func (d database) dump(t *testing.T) (all string) {
	t.Helper()
	d.row(t, `
		SELECT jsonb_pretty(jsonb_build_object(
		    'uploads', (SELECT jsonb_agg(u ORDER BY id) FROM slipway.uploads u),
		    'events', (SELECT jsonb_agg(e ORDER BY seq) FROM slipway.upload_events e),
		    'sessions', (SELECT jsonb_agg(s ORDER BY id) FROM slipway.push_sessions s),
		    'parts', (SELECT jsonb_agg(p ORDER BY session_id, number) FROM slipway.push_parts p),
		    'jobs', (SELECT jsonb_agg(jsonb_build_array(id, state, attempt) ORDER BY id) FROM slipway.river_job WHERE kind = 'push'),
		    'files', (SELECT jsonb_agg(f ORDER BY id) FROM public.uploadcare_files f)))`, nil, &all)
	return all
}

func slowCompletion(t *testing.T) {
	s := dev(t, "--without", "worker")
	d := s.database(t)
	s.slow(t, "uploadcare", "POST", "/multipart/complete/", 0, 20*time.Second)
	s.slow(t, "cloudinary", "POST", "/upload", 2, 20*time.Second)
	ids, sums := map[string]string{}, map[string]string{}
	ids["uploadcare"], sums["uploadcare"] = s.accept(t, "uploadcare", "slow.bin", 12*mib)
	ids["cloudinary"], sums["cloudinary"] = s.accept(t, "cloudinary", "slow.bin", 45_000_000)
	s.worker(t)
	s.worker(t)
	for provider, id := range ids {
		s.wantDelivered(t, id, sums[provider])
		d.wantOwners(t, id, 1, 0)
		s.wantStored(t, provider, 1)
	}
	if asked := s.requested(t, "uploadcare", "POST", "/multipart/complete/"); len(asked) != 1 {
		t.Errorf("it was asked for %d times", len(asked))
	}
	if sent := s.requested(t, "cloudinary", "POST", "/upload"); len(sent) != 3 {
		t.Errorf("%d chunks were sent, want 3", len(sent))
	}
}

func handedBack(t *testing.T) {
	s := dev(t, "--without", "worker")
	d := s.database(t)
	s.line(t, "uploadcare", 4*mib)
	first := s.worker(t)
	id, sum := s.accept(t, "uploadcare", "film.mp4", 60*mib)
	await(t, 30*time.Second, "the push to get on", func() bool { return s.upload(t, id).PushedBytes >= partSize })
	s.worker(t)
	first.stop(t, 10*time.Second)
	acked := d.acked(t, id)
	s.line(t, "uploadcare", 0)
	s.wantDelivered(t, id, sum)
	s.wantOnce(t, acked)
	d.wantOwners(t, id, 2, 0)
	var took time.Duration
	var attempt int
	d.row(t, `
		SELECT (SELECT max(at) FROM slipway.upload_events WHERE upload_id = $1 AND status = 'pushing' AND type = 'status')
		       - (SELECT max(at) FROM slipway.upload_events WHERE upload_id = $1 AND data ->> 'reason' = 'worker stopped'), u.attempt
		FROM slipway.uploads u
		WHERE id = $1`, []any{id}, &took, &attempt)
	t.Logf("another worker began %s after it was handed back", took.Round(time.Millisecond))
	if took > 4*time.Second || attempt > 1 { // who had to look for it would find it within 5 s
		t.Errorf("another worker began %s after it was handed back, at attempt %d; want at once, and attempt 1", took, attempt)
	}
}

// restartedDatabase crashes Postgres while a push is on its way.
func restartedDatabase(t *testing.T) {
	server, settings := startPostgres(t)
	s := dev(t, "--env-file", settings, "--without", "worker")
	d := s.database(t)
	s.line(t, "uploadcare", 4*mib)
	s.worker(t)
	s.worker(t)
	id, sum := s.accept(t, "uploadcare", "film.mp4", 60*mib)
	await(t, 30*time.Second, "the push to get on", func() bool { return s.upload(t, id).PushedBytes >= partSize })
	server.crash(t)
	server.run(t)
	s.line(t, "uploadcare", 0)
	await(t, time.Minute, "the upload to be completed", func() bool {
		var status string
		err := d.QueryRow(t.Context(), `SELECT status FROM slipway.uploads WHERE id = $1`, id).Scan(&status)
		return err == nil && status == "completed"
	})
	d.wantOwners(t, id, 1, 0)
	s.wantDelivered(t, id, sum)
	s.wantOnce(t, d.acked(t, id))
	s.wantStored(t, "uploadcare", 1)
}
