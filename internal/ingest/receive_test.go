package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/crc32c"
	"slipway/internal/events"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/quota"
	"slipway/internal/staging"
	"slipway/internal/staging/dir"
	"slipway/internal/upload"
)

// quay is where files come in by several requests.
type quay struct {
	*ingest.Resumable
	hub    *events.Hub
	url    string
	folder string
	store  *dir.Store
}

func newQuay(t *testing.T) *quay {
	t.Helper()
	q := &quay{url: postgrestest.New(t), folder: t.TempDir()}
	return q.twin(t)
}

// twin is another process at the same database and staging.
func (q *quay) twin(t *testing.T) *quay {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	pool := must[*pgxpool.Pool](t)(postgres.Open(t.Context(), postgres.Options{URL: q.url}))
	t.Cleanup(pool.Close)
	store := must[*dir.Store](t)(dir.New(q.folder, dir.Options{}))
	hub := events.NewHub(q.url, postgres.DefaultNames, log)
	listening, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(listening) })
	t.Cleanup(func() { stop(); running.Wait() })
	for !hub.Listening() {
		<-time.After(time.Millisecond)
	}
	in := &ingest.Ingest{
		Pool: pool, Queue: must[*postgres.Queue](t)(postgres.NewQueue(pool, postgres.DefaultNames)), Staging: store, Log: log,
		Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "uploadcare", MaxBytes: 100 << 20, MaxAttempts: 3, DeliverWithin: time.Hour,
		Quotas: quota.New(pool, postgres.Limits{StagedBytes: new(int64(1 << 30))}, log),
	}
	return &quay{hub: hub, url: q.url, folder: q.folder, store: store, Resumable: ingest.NewResumable(in, hub, time.Hour)}
}

// deafen has q hear of nothing.
func (q *quay) deafen() { q.Resumable = ingest.NewResumable(q.Ingest, deaf{}, time.Hour) }

// deaf hears of nothing.
type deaf struct{}

func (deaf) Watch(upload.ID) (<-chan struct{}, func()) { return nil, func() {} }
func (deaf) Wanted(func(upload.ID, int64))             {}

func (q *quay) begin(t *testing.T, length int, change ...func(*ingest.Request)) upload.ID {
	t.Helper()
	r := ingest.Request{User: "ann", Length: int64(length)}
	for _, f := range change {
		f(&r)
	}
	return must[upload.Upload](t)(q.Begin(t.Context(), r, false, postgres.TusSaid{})).ID
}

// chunk is what a request adds whose body is b; whoever stops it has it end with that.
func chunk(offset int, body io.Reader) ingest.Chunk {
	b := &stoppable{Reader: body, stopped: make(chan struct{})}
	return ingest.Chunk{Offset: int64(offset), Length: -1, Most: 100 << 20, Open: func(int64) (io.Reader, func(error), error) { return b, b.stop, nil }}
}

// stoppable is a body as HTTP has it: to stop it ends a read that waits, too.
type stoppable struct {
	io.Reader
	once    sync.Once
	stopped chan struct{}
	err     error
}

func (b *stoppable) stop(err error) {
	b.once.Do(func() {
		b.err = err
		close(b.stopped)
	})
}

func (b *stoppable) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	select {
	case <-b.stopped:
		return 0, b.err
	default:
	}
	buf, done := make([]byte, len(p)), make(chan result, 1)
	go func() {
		n, err := b.Reader.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, buf[:r.n]), r.err
	case <-b.stopped:
		return 0, b.err
	}
}

func (q *quay) add(t *testing.T, id upload.ID, offset int, body string) (*postgres.Reception, error) {
	t.Helper()
	return q.Append(t.Context(), "ann", id, chunk(offset, strings.NewReader(body)))
}

func (q *quay) wantOffset(t *testing.T, id upload.ID, want int) {
	t.Helper()
	r, err := q.Look(t.Context(), "ann", id)
	if err != nil || r.Received != int64(want) {
		t.Errorf("the upload has %d bytes, %v, want %d", r.Received, err, want)
	}
}

// wantFile checks that an upload is on its way once, with this content.
func (q *quay) wantFile(t *testing.T, id upload.ID, content []byte) upload.Upload {
	t.Helper()
	u := must[upload.Upload](t)(postgres.UploadOf(t.Context(), q.Pool, id))
	if u.Status != upload.Queued || u.Size != int64(len(content)) || u.Received != u.Size || u.CRC32C != crc32c.Update(0, content) || u.StagedAt == nil || u.ExpiresAt != nil {
		t.Errorf("the upload is %+v, want it queued with %d bytes", u, len(content))
	}
	file := must[staging.Reader](t)(q.store.Open(t.Context(), id, u.Segments...))
	defer file.Close()
	got := make([]byte, file.Size())
	if n, err := file.ReadAt(got, 0); n != len(content) || err != nil && err != io.EOF || !bytes.Equal(got, content) {
		t.Errorf("%d bytes are staged, %v, or other ones than the %d that were sent", n, err, len(content))
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.river_job WHERE kind = 'push' AND args ->> 'upload_id' = $1::text`, string(id)); n != 1 {
		t.Errorf("it has %d jobs", n)
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.uploads u JOIN slipway.river_job j ON j.id = u.job_id WHERE u.id = $1`, id); n != 1 {
		t.Error("none of them is its own")
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.staging_reservations WHERE upload_id = $1`, id); n != 0 {
		t.Error("room is still held for it")
	}
	return u
}

func (q *quay) ask(t *testing.T, sql string, a ...any) (n int) {
	t.Helper()
	if err := q.Pool.QueryRow(t.Context(), sql, a...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (q *quay) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := q.Pool.Exec(t.Context(), sql, a...); err != nil {
		t.Fatal(err)
	}
}

func codeOf(err error) upload.Code {
	var e *upload.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// sender sends a file by a pipe, in the background, by one request.
type sender struct {
	*io.PipeWriter
	end <-chan error
}

func (q *quay) sending(t *testing.T, id upload.ID, offset int) sender {
	t.Helper()
	r, w := io.Pipe()
	end := make(chan error, 1)
	go func() {
		_, err := q.Append(context.WithoutCancel(t.Context()), "ann", id, chunk(offset, r))
		_ = r.Close()
		end <- err
	}()
	return sender{w, end}
}

func (s sender) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
}

// Whoever is sending is interrupted, in whatever process, and nothing that came is lost.
func TestANewerRequestTakesOver(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	for name, newer := range map[string]*quay{"in the same process": q, "in another process": q.twin(t)} {
		t.Run(name, func(t *testing.T) {
			want := content(900 << 10)
			id := q.begin(t, len(want))
			for at := 0; at < 800<<10; at += 200 << 10 {
				old := q.sending(t, id, at)
				old.send(t, want[at:at+200<<10])
				began := time.Now()
				newer.wantOffset(t, id, at+200<<10)
				t.Logf("took over in %s", time.Since(began))
				if err := <-old.end; codeOf(err) != upload.Interrupted {
					t.Errorf("the older request ends with %v", err)
				}
			}
			old := q.sending(t, id, 800<<10)
			old.send(t, want[800<<10:850<<10])
			if _, err := newer.add(t, id, 850<<10, string(want[850<<10:])); err != nil {
				t.Error(err)
			}
			if err := <-old.end; codeOf(err) != upload.Interrupted {
				t.Errorf("the older request ends with %v", err)
			}
			if u := q.wantFile(t, id, want); len(u.Segments) != 1 {
				t.Errorf("it is in %d segments, although everybody has let go in time", len(u.Segments))
			}
		})
	}
}

// Between the right to receive and the first byte somebody else may already want it.
func TestWhoIsAboutToReceiveLetsGoToo(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	id := q.begin(t, 10)
	silent, end := io.Pipe()
	defer end.Close()
	c := chunk(0, silent)
	open, newer := c.Open, make(chan postgres.Reception, 1)
	c.Open = func(most int64) (io.Reader, func(error), error) {
		go func() {
			r, err := q.Look(context.WithoutCancel(t.Context()), "ann", id)
			if err != nil {
				t.Error(err)
			}
			newer <- r
		}()
		for q.ask(t, `SELECT count(*) FROM slipway.uploads WHERE id = $1 AND receive_wanted = receive_epoch`, id) == 0 {
			<-time.After(time.Millisecond)
		}
		q.heard(t)
		return open(most)
	}
	if r, err := q.Append(t.Context(), "ann", id, c); codeOf(err) != upload.Interrupted {
		t.Errorf("the older request ends with %v at %+v", err, r)
	}
	if r := <-newer; r.ReceiveEpoch != 1 {
		t.Errorf("the newer one was not let in, and broke in: %+v", r)
	}
}

// heard waits until the process has heard of all that has been announced.
func (q *quay) heard(t *testing.T) {
	t.Helper()
	last := upload.NewID()
	news, stop := q.hub.Watch(last)
	defer stop()
	q.exec(t, `SELECT pg_notify('slipway_events', $1 || ' 0')`, last)
	<-news
}

// A process that was stopped, and wakes when others have gone on, goes on writing where nobody reads.
func TestASleeperThatWakesChangesNothing(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	for name, goOn := range map[string]func(id upload.ID, offset int, rest []byte){
		"while another is receiving": func(id upload.ID, offset int, rest []byte) {},
		"when the file is all there": func(id upload.ID, offset int, rest []byte) {
			if _, err := q.add(t, id, offset, string(rest)); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := content(700 << 10)
			id := q.begin(t, len(want))
			if _, err := q.add(t, id, 0, string(want[:100<<10])); err != nil {
				t.Fatal(err)
			}
			sleeps, r := q.asleep(t, id, 100<<10)
			began := time.Now()
			q.wantOffset(t, id, 100<<10)
			if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
				t.Errorf("a sleeper was waited for during %s, want a second", took)
			}
			goOn(id, 100<<10, want[100<<10:])
			sleeps.send(t, content(300<<10))
			_ = sleeps.CloseWithError(errors.New("cut"))
			if err := <-sleeps.end; err == nil {
				t.Error("the sleeper is told that its bytes are kept")
			}
			_ = r.Close()
			if now := must[postgres.Reception](t)(q.Look(t.Context(), "ann", id)); now.Status == upload.Receiving {
				q.wantOffset(t, id, 100<<10)
				if _, err := q.add(t, id, 100<<10, string(want[100<<10:])); err != nil {
					t.Error(err)
				}
			}
			q.wantFile(t, id, want)
		})
	}
}

// What it has received may not come in; what others have instead may.
func TestASleeperThatWakesRemovesNothing(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	q.Rules.Types = []string{"image/*"}
	want := append([]byte("\x89PNG\r\n\x1a\n"), content(9000)...)
	id := q.begin(t, len(want))
	sleeps, r := q.asleep(t, id, 0)
	q.wantOffset(t, id, 0)
	if _, err := q.add(t, id, 0, string(want[:8000])); err != nil {
		t.Fatal(err)
	}
	sleeps.send(t, bytes.Repeat([]byte("text"), 2000))
	_ = sleeps.CloseWithError(errors.New("cut"))
	if err := <-sleeps.end; err == nil {
		t.Error("the sleeper is told that its bytes are kept")
	}
	_ = r.Close()
	if _, err := q.add(t, id, 8000, string(want[8000:])); err != nil {
		t.Error(err)
	}
	q.wantFile(t, id, want)
}

// asleep is a sender whose process hears nothing and stops for nobody.
func (q *quay) asleep(t *testing.T, id upload.ID, offset int) (sender, io.Closer) {
	t.Helper()
	sleeper := ingest.NewResumable(q.Ingest, deaf{}, time.Hour)
	r, w := io.Pipe()
	end, opened := make(chan error, 1), make(chan struct{})
	go func() {
		_, err := sleeper.Append(context.WithoutCancel(t.Context()), "ann", id, ingest.Chunk{Offset: int64(offset), Length: -1,
			Open: func(int64) (io.Reader, func(error), error) {
				close(opened)
				return r, func(error) {}, nil
			}})
		end <- err
	}()
	<-opened
	return sender{w, end}, r
}

// One that cannot hear has come to its next checkpoint by then.
func TestWithoutNewsATakeoverCostsACheckpoint(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	q.deafen()
	want := content(500 << 10)
	id := q.begin(t, len(want))
	old := q.sending(t, id, 0)
	old.send(t, want[:300<<10])
	began := time.Now()
	r := must[postgres.Reception](t)(q.Look(t.Context(), "ann", id))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := <-old.end; codeOf(err) != upload.Interrupted {
		t.Errorf("the older request ends with %v", err)
	}
	if _, err := q.add(t, id, int(r.Received), string(want[r.Received:])); err != nil {
		t.Error(err)
	}
	q.wantFile(t, id, want)
}

// What a death costs is what has come since the last checkpoint.
func TestWhatComesIsWrittenDownOnTheWay(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	want := content(40 << 20)
	for name, tt := range map[string]struct{ sent, least int }{"after 32 MiB": {33 << 20, 31 << 20}, "after two seconds": {100 << 10, 100 << 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, sent := q.begin(t, len(want)), tt.sent
			q.exec(t, `UPDATE slipway.uploads SET expires_at = now() + interval '1 minute' WHERE id = $1`, id)
			q.exec(t, `UPDATE slipway.staging_reservations SET expires_at = now() + interval '1 minute' WHERE upload_id = $1`, id)
			s := q.sending(t, id, 0)
			s.send(t, want[:sent])
			deadline := time.Now().Add(patience)
			for q.ask(t, `SELECT received_bytes FROM slipway.uploads WHERE id = $1`, id) < tt.least {
				if time.Now().After(deadline) {
					t.Fatal("nothing is written down")
				}
				<-time.After(50 * time.Millisecond)
				s.send(t, want[sent:sent+1]) // slowly
				sent++
			}
			if q.ask(t, `
				SELECT count(*)
				FROM slipway.uploads u
				JOIN slipway.staging_reservations r ON r.upload_id = u.id
				WHERE u.id = $1 AND u.expires_at > now() + interval '50 minutes' AND r.expires_at > now() + interval '50 minutes'
				  AND u.status = 'receiving' AND u.progress > 0 AND u.version > 1`, id) != 1 {
				t.Error("neither its life nor its room was prolonged")
			}
			_ = s.CloseWithError(errors.New("reset"))
			if err := <-s.end; err == nil {
				t.Error("the end is no error")
			}
			q.wantOffset(t, id, sent)
		})
	}
}

func TestWhatCountsOfARequestThatEnds(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	good, cut := strings.Repeat("good", 50_000), errors.New("reset by peer")
	sum := sha256.Sum256([]byte(good))
	tests := map[string]struct {
		body  io.Reader
		whole bool
		want  int
		code  upload.Code
	}{
		"all of it":                            {body: strings.NewReader(good), want: len(good)},
		"all that came before a cut":           {body: io.MultiReader(strings.NewReader(good), &failing{cut}), want: len(good)},
		"nothing where nothing came":           {body: &failing{cut}, want: 0},
		"all of it with its checksum":          {body: ingest.Declared(strings.NewReader(good), ingest.Digest{SHA256: sum[:]}), whole: true, want: len(good)},
		"nothing of another checksum":          {body: ingest.Declared(strings.NewReader(good[1:]), ingest.Digest{SHA256: sum[:]}), whole: true, code: upload.DigestMismatch},
		"nothing before a cut with a checksum": {body: ingest.Declared(io.MultiReader(strings.NewReader(good), &failing{cut}), ingest.Digest{SHA256: sum[:]}), whole: true},
		"nothing of what is too much":          {body: io.MultiReader(strings.NewReader(good), &failing{&upload.Error{Code: upload.TooLarge}}), code: upload.TooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := q.begin(t, 3*len(good))
			before := content(len(good))
			if _, err := q.add(t, id, 0, string(before)); err != nil {
				t.Fatal(err)
			}
			c := chunk(len(before), tt.body)
			c.Whole = tt.whole
			r, err := q.Append(t.Context(), "ann", id, c)
			if tt.code != "" && codeOf(err) != tt.code || r.Received != int64(len(before)+tt.want) {
				t.Errorf("append = %d, %v, want %d, %s", r.Received, err, len(before)+tt.want, tt.code)
			}
			q.wantOffset(t, id, len(before)+tt.want)
			rest := content(3*len(good) - len(before) - tt.want)
			if _, err := q.add(t, id, len(before)+tt.want, string(rest)); err != nil {
				t.Error(err)
			}
			q.wantFile(t, id, append(append(before, good[:tt.want]...), rest...))
		})
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A file that is all there and not on its way is never told to be complete.
func TestACommitThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	want := content(10_000)
	id := q.begin(t, len(want))
	q.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no jobs today'; END $$`)
	q.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON slipway.river_job FOR EACH ROW EXECUTE FUNCTION refuse()`)
	if _, err := q.add(t, id, 0, string(want)); codeOf(err) != upload.Locked {
		t.Errorf("the last bytes are answered %v", err)
	}
	for range 2 {
		if r, err := q.Look(t.Context(), "ann", id); codeOf(err) != upload.Locked {
			t.Errorf("asked how far it has come, it is %d, %v", r.Received, err)
		}
		if _, err := q.add(t, id, len(want), ""); codeOf(err) != upload.Locked {
			t.Errorf("a request without bytes is answered %v", err)
		}
	}
	if n := q.ask(t, `SELECT received_bytes FROM slipway.uploads WHERE id = $1 AND status = 'receiving'`, id); n != len(want) {
		t.Errorf("%d bytes are written down", n)
	}
	q.exec(t, `DROP TRIGGER refuse ON slipway.river_job`)
	q.wantOffset(t, id, len(want))
	q.wantFile(t, id, want)
	q.wantOffset(t, id, len(want))
	if r, err := q.add(t, id, 0, "again"); codeOf(err) != upload.OffsetConflict {
		t.Errorf("bytes for a complete upload are answered %+v, %v", r, err)
	}
}

func TestTheFirstBytesDecide(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	q.Rules.Types = []string{"image/*", "text/*"}
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"), content(6000)...)
	for name, pieces := range map[string][]int{"at once": {6033}, "byte by byte": {1, 2, 3, 4, 5, 7, 6033}, "with the last bytes": {3000, 6033}} {
		id, at := q.begin(t, len(png)), 0
		for _, to := range pieces {
			to = min(to, len(png))
			if _, err := q.add(t, id, at, string(png[at:to])); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			at = to
		}
		if u := q.wantFile(t, id, png); u.ContentType != "image/png" || u.ResourceType != upload.Image || u.FileName != "file.png" {
			t.Errorf("%s it is %s %s %s", name, u.ContentType, u.ResourceType, u.FileName)
		}
	}
	said := q.begin(t, 5, func(r *ingest.Request) { r.FileName, r.ContentType, r.ResourceType = "a.csv", "text/csv", "raw" })
	if _, err := q.add(t, said, 0, "a,b,c"); err != nil {
		t.Fatal(err)
	}
	if u := q.wantFile(t, said, []byte("a,b,c")); u.ContentType != "text/csv" || u.ResourceType != upload.Raw || u.FileName != "a.csv" {
		t.Errorf("what its sender says of it is %s %s %s", u.ContentType, u.ResourceType, u.FileName)
	}

	zip := append([]byte("PK\x03\x04"), content(6000)...)
	for name, length := range map[string]int{"before it is all there": len(zip), "when it is all there": 100} {
		id := q.begin(t, length)
		at := 0
		var err error
		for _, to := range []int{10, 100, 4000, len(zip)} {
			if to = min(to, length); at < to && err == nil {
				_, err = q.add(t, id, at, string(zip[at:to]))
				at = to
			}
		}
		u := must[upload.Upload](t)(postgres.UploadOf(t.Context(), q.Pool, id))
		if codeOf(err) != upload.TypeNotAllowed || u.Status != upload.Failed || u.Error == nil || u.Error.Code != upload.TypeNotAllowed || u.Unstaged == nil {
			t.Errorf("refused %s it is %v, and the upload %+v", name, err, u)
		}
		if _, err := os.Lstat(filepath.Join(q.folder, string(id))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its bytes are kept: %v", err)
		}
		if _, err := q.Look(t.Context(), "ann", id); codeOf(err) != upload.Gone {
			t.Errorf("asked how far it has come: %v", err)
		}
		if _, err := q.Retry(t.Context(), "ann", id, ""); codeOf(err) != upload.BytesGone {
			t.Errorf("retried: %v", err)
		}
	}
}

func TestTheLengthMayComeLater(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	id := q.begin(t, -1)
	if _, err := q.add(t, id, 0, "hello"); err != nil {
		t.Fatal(err)
	}
	c := chunk(5, strings.NewReader(" world"))
	for length, code := range map[int64]upload.Code{4: upload.InvalidRequest, 200 << 20: upload.TooLarge} {
		c.Length = length
		if _, err := q.Append(t.Context(), "ann", id, c); codeOf(err) != code {
			t.Errorf("a length of %d is answered %v", length, err)
		}
	}
	q.wantOffset(t, id, 5)
	c.Length = 11
	if _, err := q.Append(t.Context(), "ann", id, c); err != nil {
		t.Error(err)
	}
	q.wantFile(t, id, []byte("hello world"))
}

func TestAnUploadThatHasEndedTakesNothing(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	for name, end := range map[string]func(id upload.ID) error{
		"canceled": func(id upload.ID) error {
			return postgres.AsUser(t.Context(), q.Pool, postgres.Claims{Subject: "ann"}, func(tx pgx.Tx) error {
				_, err := postgres.CancelUpload(t.Context(), tx, q.Queue, "ann", id)
				return err
			})
		},
		"expired": func(id upload.ID) error {
			q.exec(t, `UPDATE slipway.uploads SET expires_at = now() - interval '1 second' WHERE id = $1`, id)
			n, err := postgres.ExpireUnfinished(t.Context(), q.Pool, 10)
			if n != 1 {
				t.Errorf("%d uploads have expired", n)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := q.begin(t, 1000)
			s := q.sending(t, id, 0)
			s.send(t, content(100))
			if err := end(id); err != nil {
				t.Fatal(err)
			}
			if err := <-s.end; codeOf(err) != upload.Interrupted {
				t.Errorf("who is sending is told %v", err)
			}
			if _, err := q.Look(t.Context(), "ann", id); codeOf(err) != upload.Gone {
				t.Errorf("who asks is told %v", err)
			}
			if _, err := q.add(t, id, 0, "more"); codeOf(err) != upload.Gone {
				t.Errorf("who goes on is told %v", err)
			}
			if n := q.ask(t, `SELECT count(*) FROM slipway.staging_reservations WHERE upload_id = $1`, id); n != 0 {
				t.Error("room is still held for it")
			}
		})
	}
}
