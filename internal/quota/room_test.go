package quota_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

const mib = 1 << 20

// disk has so many bytes.
type disk struct{ free atomic.Int64 }

func diskOf(n int64) *disk {
	d := new(disk)
	d.free.Store(n)
	return d
}

func (d *disk) Free(context.Context) (int64, error) { return d.free.Load(), nil }

// within is one of the processes that share a budget of so many bytes; 0 is what the disk has.
func within(t *testing.T, url string, budget int64, d *disk) (*quota.Quotas, *pgxpool.Pool) {
	t.Helper()
	q, pool := process(t, url, postgres.Limits{})
	q.Disk, q.Budget, q.Patience = d, budget, 200*time.Millisecond
	return q, pool
}

func hold(t *testing.T, q *quota.Quotas, length int64) *quota.Hold {
	t.Helper()
	h, err := q.Hold(t.Context(), "alice", upload.NewID(), length)
	if err != nil {
		t.Fatalf("no room for %d bytes: %v", length, err)
	}
	return h
}

// wantNoRoom returns how long the wait is that is told.
func wantNoRoom(t *testing.T, q *quota.Quotas, length int64) time.Duration {
	t.Helper()
	h, err := q.Hold(t.Context(), "alice", upload.NewID(), length)
	var full *quota.Full
	if codeOf(err) != upload.NoRoom || !errors.As(err, &full) {
		h.Release()
		t.Fatalf("for %d bytes: error = %v, want %s", length, err, upload.NoRoom)
	}
	return full.After
}

func left(t *testing.T, q *quota.Quotas) int64 {
	t.Helper()
	_, left, err := q.Room(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// record makes an upload of what was held.
func record(t *testing.T, q *quota.Quotas, pool *pgxpool.Pool, h *quota.Hold, size int64) upload.ID {
	t.Helper()
	u := upload.Upload{ID: h.ID(), UserID: "alice", Provider: "uploadcare", FileName: "a", ContentType: "x/x", Size: size, MaxAttempts: 1, CreatedAt: time.Now()}
	err := postgres.AsUser(t.Context(), pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) error {
		return q.Insert(t.Context(), tx, u, time.Hour, h)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.End()
	return u.ID
}

func exec(t *testing.T, pool *pgxpool.Pool, statement string, a ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), statement, a...); err != nil {
		t.Fatal(err)
	}
}

func TestNoMoreComesInAtTheSameTimeThanThereIsRoomFor(t *testing.T) {
	const budget, clients, turns = 100 * mib, 40, 5
	url := postgrestest.New(t)
	d := diskOf(1 << 40)
	var processes []*quota.Quotas
	for range 2 {
		q, _ := within(t, url, budget, d)
		processes = append(processes, q)
	}
	var used, admitted, refused atomic.Int64
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for range turns {
				size := []int64{100 << 10, mib, 3 * mib, 20 * mib}[rand.N(4)]
				h, err := processes[i%2].Hold(t.Context(), fmt.Sprint(i), upload.NewID(), size)
				switch {
				case codeOf(err) == upload.NoRoom:
					refused.Add(1)
					continue
				case err != nil:
					t.Error(err)
					return
				}
				if now := used.Add(size); now > budget {
					t.Errorf("%d bytes come in at the same time, want at most %d", now, int64(budget))
				}
				admitted.Add(1)
				used.Add(-size)
				h.Release()
			}
		})
	}
	all.Wait()
	if admitted.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d were let in, and %d refused", admitted.Load(), refused.Load())
	}
	for _, q := range processes {
		q.Close()
	}
	if n := left(t, processes[0]); n != budget {
		t.Errorf("%d bytes are left in the end, want all %d", n, budget)
	}
}

func TestAsManyFilesAreLetInAsFit(t *testing.T) {
	const rounds, clients, fit = 10, 20, 10
	url := postgrestest.New(t)
	d := diskOf(1 << 40)
	a, pool := within(t, url, fit*10e6, d)
	b, _ := within(t, url, fit*10e6, d)
	for range rounds {
		var admitted, refused atomic.Int64
		begin := make(chan struct{})
		var all, released sync.WaitGroup
		release := make(chan struct{})
		for i := range clients {
			all.Add(1)
			released.Go(func() {
				<-begin
				h, err := []*quota.Quotas{a, b}[i%2].Hold(t.Context(), "alice", upload.NewID(), 10e6)
				switch {
				case err == nil:
					admitted.Add(1)
				case codeOf(err) == upload.NoRoom:
					refused.Add(1)
				default:
					t.Error(err)
				}
				all.Done()
				<-release
				h.Release()
			})
		}
		close(begin)
		all.Wait()
		close(release)
		released.Wait()
		if admitted.Load() != fit || refused.Load() != clients-fit {
			t.Fatalf("%d were let in and %d refused, want %d and %d", admitted.Load(), refused.Load(), fit, clients-fit)
		}
		exec(t, pool, `DELETE FROM slipway.staging_waits`) // those who have waited go first
	}
}

func TestWhatIsStagedTakesRoomUntilItHasLeft(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	large := hold(t, q, 6*mib)
	wantNoRoom(t, q, 5*mib)
	id := record(t, q, pool, large, 6*mib)
	small := record(t, q, pool, hold(t, q, 100), 100)
	if err := postgres.AddUpUsage(t.Context(), pool, ""); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"queued", "failed", "completed"} {
		exec(t, pool, `UPDATE slipway.uploads SET status = $1`, status)
		wantNoRoom(t, q, 5*mib)
	}
	exec(t, pool, `UPDATE slipway.uploads SET unstaged_at = now() WHERE id = $1`, id)
	hold(t, q, 5*mib).Release()
	exec(t, pool, `UPDATE slipway.uploads SET unstaged_at = now() WHERE id = $1`, small)
	q.Close()
	if n := left(t, q); n != 10*mib {
		t.Errorf("%d bytes are left in the end, want all %d", n, 10*mib)
	}
}

func TestSmallFilesAskTheDatabaseSeldom(t *testing.T) {
	url := postgrestest.New(t)
	q, pool := within(t, url, 1<<30, diskOf(1<<40))
	for range 5 {
		hold(t, q, 100<<10).Release()
	}
	asked := func() (n int64) {
		if err := pool.QueryRow(t.Context(), `SELECT xmin::text::bigint FROM slipway.staging_reservations`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := asked()
	for range 20 {
		hold(t, q, 20<<10).Release()
	}
	if asked() != before {
		t.Error("it was asked again for files that the room had been taken for")
	}
}

func TestRoomOfADeadProcessIsFreeAfterItsLease(t *testing.T) {
	url := postgrestest.New(t)
	d := diskOf(1 << 40)
	dead, _ := within(t, url, 10*mib, d)
	dead.Lease = 500 * time.Millisecond
	q, _ := within(t, url, 10*mib, d)
	begun := time.Now()
	hold(t, dead, 6*mib)
	hold(t, dead, 100)
	wantNoRoom(t, q, 6*mib)
	for {
		h, err := q.Hold(t.Context(), "alice", upload.NewID(), 10*mib)
		if err == nil {
			h.Release()
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("still refused: %v", err)
		}
	}
	if after := time.Since(begun); after < dead.Lease {
		t.Errorf("the room was free after %s, before the lease of %s", after, dead.Lease)
	}
}

func TestAFileOfUnknownLengthGrowsAsFarAsThereIsRoom(t *testing.T) {
	q, _ := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	for _, tt := range []struct {
		size, came int64
		want       upload.Code
	}{{5, 5, ""}, {3 * mib, 3 * mib, ""}, {10 * mib, 10 * mib, ""}, {10*mib + 1, 10 * mib, upload.NoRoom}} {
		h := hold(t, q, -1)
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, h.Within(strings.NewReader(strings.Repeat("x", int(tt.size)))))
		if codeOf(err) != tt.want || tt.want == "" && n != tt.came || n > tt.came || n < tt.came-mib {
			t.Errorf("of %d bytes came %d, and error %v; want %d and %q", tt.size, n, err, tt.came, tt.want)
		}
		h.Release()
		q.Close() // what was taken for small ones
	}
}

func TestAFileInItsMiddleWaitsForRoom(t *testing.T) {
	q, _ := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	q.Patience = patience
	other := hold(t, q, 8*mib)
	h := hold(t, q, -1)
	body, sender := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{io.Discard}, h.Within(body))
		done <- err
	}()
	block := make([]byte, 64<<10)
	for range 5 * mib / len(block) {
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = sender.Write(block)
		}()
		select {
		case <-written:
		case <-time.After(300 * time.Millisecond): // nothing is read while it waits for room
			other.Release()
			<-written
		}
	}
	sender.Close()
	if err := <-done; err != nil {
		t.Errorf("it was not read to its end: %v", err)
	}
}

func TestTheDisksRoomCountsWhatHasNotComeYet(t *testing.T) {
	d := diskOf(10 * mib)
	q, _ := within(t, postgrestest.New(t), 0, d)
	h := hold(t, q, 6*mib)
	wantNoRoom(t, q, 5*mib)
	if _, err := io.CopyN(io.Discard, h.Within(endless{}), 4*mib); err != nil {
		t.Fatal(err)
	}
	d.free.Store(6 * mib) // as they are written
	wantNoRoom(t, q, 5*mib)
	hold(t, q, 4*mib).Release()
	if n := left(t, q); n != 4*mib {
		t.Errorf("%d bytes are left, want %d", n, 4*mib)
	}
	h.Release()
	d.free.Store(10 * mib)
	hold(t, q, 10*mib)
}

func TestWhatComesByManyRequestsIsHeldInBetween(t *testing.T) {
	url := postgrestest.New(t)
	d := diskOf(1 << 40)
	first, _ := within(t, url, 10*mib, d)
	first.Lease = time.Millisecond
	q, pool := within(t, url, 10*mib, d)
	declared, deferred := upload.NewID(), upload.NewID()
	if _, err := first.HoldLasting(t.Context(), "alice", declared, 500<<10, time.Hour); err != nil {
		t.Fatal(err)
	}
	h, err := first.HoldLasting(t.Context(), "alice", deferred, -1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, h.Within(endless{}), 4*mib); err != nil {
		t.Fatal(err)
	}
	wantNoRoom(t, q, 6*mib)
	if h, err = q.Resume(t.Context(), "alice", deferred, -1, 4*mib, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, h.Within(endless{}), 5*mib); err != nil {
		t.Errorf("it did not grow from where it had come to: %v", err)
	}
	h.Pause(9 * mib)
	if h, err = q.Resume(t.Context(), "alice", deferred, 9*mib+1000, 9*mib, time.Hour); err != nil {
		t.Errorf("its length is known now: %v", err)
	}
	h.Release()
	exec(t, pool, `DELETE FROM slipway.staging_reservations`) // as after a crash of the database
	if _, err := q.Resume(t.Context(), "alice", declared, 500<<10, 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := left(t, q); n != 10*mib-500<<10 {
		t.Errorf("%d bytes are left beside what was lost and held again, want %d", n, 10*mib-500<<10)
	}
}

// emptied writes down that so many files of so many bytes left staging lately, one every period.
func emptied(t *testing.T, pool *pgxpool.Pool, files int, size int64, period time.Duration) {
	t.Helper()
	exec(t, pool, `
		INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts, staged_at, unstaged_at)
		SELECT gen_random_uuid(), 'bob', 'completed', 'uploadcare', 'a', 'x/x', $2, 1, now() - (n + 2) * $3::interval, now() - n * $3::interval
		FROM generate_series(0, $1 - 1) n`, files, size, period)
}

func TestTheWaitThatIsToldIsAsLongAsItTakes(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 100*mib, diskOf(1<<40))
	emptied(t, pool, 60, 4*mib, time.Second) // 4 MiB a second
	held := hold(t, q, 100*mib)
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second} { // whoever waits in front counts
		got := wantNoRoom(t, q, 40*mib)
		if got < want || got > want*5/4+3*time.Second {
			t.Errorf("the %d. was told to wait %s, want a bit more than %s", i+1, got, want)
		}
	}
	held.Release()
	hold(t, q, 40*mib)
}

func TestWhoHasWaitedAsToldGoesFirst(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 100*mib, diskOf(1<<40))
	held := hold(t, q, 60*mib)
	wantNoRoom(t, q, 80*mib)
	exec(t, pool, `UPDATE slipway.staging_waits SET due_at = now()`)
	hold(t, q, 30*mib).Release() // it may never come again
	wantNoRoom(t, q, 80*mib)
	exec(t, pool, `UPDATE slipway.staging_waits SET due_at = now()`)
	wantNoRoom(t, q, 30*mib)
	hold(t, q, 1000).Release() // what is small does not wait behind it
	held.Release()
	wantNoRoom(t, q, 30*mib)
	hold(t, q, 80*mib).Release()
	hold(t, q, 30*mib).Release()
}

func TestWhoComesAgainAsItselfHasOnePlaceHoweverOftenItLooks(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 100*mib, diskOf(1<<40))
	emptied(t, pool, 60, 4*mib, time.Second) // 4 MiB a second
	held := hold(t, q, 100*mib)
	id := upload.NewID()
	look := func() (*quota.Hold, error) { return q.HoldLasting(t.Context(), "alice", id, 40*mib, time.Hour) }
	for range 5 {
		_, err := look()
		var full *quota.Full
		if !errors.As(err, &full) || full.After < 10*time.Second || full.After > 16*time.Second {
			t.Errorf("error = %v, told %+v, want to wait a bit more than 10 s", err, full)
		}
	}
	if got := wantNoRoom(t, q, 40*mib); got < 20*time.Second || got > 28*time.Second {
		t.Errorf("who comes next was told to wait %s, want a bit more than 20 s", got)
	}
	held.Release()
	h, err := look()
	if err != nil {
		t.Fatal(err)
	}
	h.Release()
	var places int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM slipway.staging_waits`).Scan(&places); err != nil || places != 1 {
		t.Errorf("%d places are kept, %v, want that of who came next", places, err)
	}
}

func TestWithoutAMeasureTheWaitGrows(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	hold(t, q, 10*mib)
	var last time.Duration
	for i := range 8 {
		after := wantNoRoom(t, q, 2*mib)
		if after < last || after < time.Second || after > 2*time.Minute {
			t.Errorf("the %d. time it was told to wait %s, after %s", i+1, after, last)
		}
		last = after * 2 / 3
		exec(t, pool, `UPDATE slipway.staging_waits SET due_at = now()`)
	}
	if last < 20*time.Second {
		t.Errorf("in the end it was told to wait %s", last)
	}
}

func TestRoomInStagingDoesNotCountWhereUsersAreNotLimited(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	hold(t, q, 5*mib)
	if u, err := postgres.ReadUsage(t.Context(), pool, "alice", "", postgres.Limits{}); err != nil || u.Receiving != (postgres.Amount{}) {
		t.Errorf("alice uses %+v, %v", u.Receiving, err)
	}
}

func TestAUsersOwnQuotaIsToldBeforeTheRoomOfAll(t *testing.T) {
	q, _ := process(t, postgrestest.New(t), postgres.Limits{StagedBytes: most(4 * mib)})
	q.Disk, q.Budget = diskOf(1<<40), 10*mib
	h := hold(t, q, 3*mib)
	if _, err := q.Hold(t.Context(), "alice", upload.NewID(), 2*mib); codeOf(err) != upload.StagedQuota {
		t.Errorf("error = %v, want %s", err, upload.StagedQuota)
	}
	for range 2 {
		if _, err := q.Hold(t.Context(), "bob", upload.NewID(), 4*mib); err != nil && codeOf(err) != upload.StagedQuota {
			t.Fatal(err)
		}
	}
	if _, err := q.Hold(t.Context(), "carol", upload.NewID(), 4*mib); codeOf(err) != upload.NoRoom {
		t.Errorf("error = %v, want %s", err, upload.NoRoom)
	}
	h.Release()
	if _, err := q.Hold(t.Context(), "carol", upload.NewID(), 4*mib); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

func TestAForeignRoomIsNobodysToSee(t *testing.T) {
	q, pool := within(t, postgrestest.New(t), 10*mib, diskOf(1<<40))
	hold(t, q, 5*mib)
	err := postgres.AsUser(t.Context(), pool, postgres.Claims{Subject: "bob"}, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM slipway.staging_reservations`).Scan(&n); err != nil || n != 0 {
			t.Errorf("bob sees %d, %v", n, err)
		}
		_, err := tx.Exec(t.Context(), `SELECT FROM slipway.staging_waits`)
		return err
	})
	var denied interface{ SQLState() string }
	if !errors.As(err, &denied) || denied.SQLState() != "42501" {
		t.Errorf("reading who waits: %v, want it refused", err)
	}
}
