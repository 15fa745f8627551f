package sweep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"slipway/internal/ingest"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// leave puts a file into staging that was last written to so long ago.
func (p *place) leave(t *testing.T, id upload.ID, idle time.Duration) {
	t.Helper()
	if _, _, err := p.staging.Append(t.Context(), id, 0, bytes.NewReader([]byte("bytes"))); err != nil {
		t.Fatal(err)
	}
	p.age(t, string(id), idle)
}

// age makes a file in staging look as if nobody had touched it for so long.
func (p *place) age(t *testing.T, name string, idle time.Duration) {
	t.Helper()
	at := time.Now().Add(-idle)
	if err := os.Chtimes(filepath.Join(p.path, name), at, at); err != nil {
		t.Fatal(err)
	}
}

// where tells on which shelf an upload's bytes are: "in use", "in the trash", "gone".
func (p *place) where(t *testing.T, id upload.ID) string {
	t.Helper()
	for name, path := range map[string]string{"in use": string(id), "in the trash": filepath.Join("trash", string(id))} {
		if _, err := os.Lstat(filepath.Join(p.path, path)); err == nil {
			return name
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return "gone"
}

func (p *place) awaitWhere(t *testing.T, id upload.ID, want string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for got := ""; got != want; got = p.where(t, id) {
		if time.Now().After(deadline) {
			t.Fatalf("the bytes are %s, want %s", got, want)
		}
		<-tick.C
	}
}

// Each case is a file that nobody has touched for two hours, unless it says so.
func TestWhatNobodyNeedsOfStagingComesToTheTrash(t *testing.T) {
	row := func(set string) func(*testing.T, *place) upload.ID {
		return func(t *testing.T, p *place) upload.ID {
			u := p.accept(t)
			p.exec(t, `UPDATE slipway.uploads SET `+set+` WHERE id = $1`, u.ID)
			p.age(t, string(u.ID), 2*time.Hour)
			return u.ID
		}
	}
	tests := map[string]struct {
		left func(*testing.T, *place) upload.ID
		want string
	}{
		"an API that died in mid-body": {func(t *testing.T, p *place) upload.ID { id := upload.NewID(); p.leave(t, id, 2*time.Hour); return id }, "in the trash"},
		"a body that may be coming in": {func(t *testing.T, p *place) upload.ID {
			id := upload.NewID()
			p.leave(t, id, 30*time.Minute)
			return id
		}, "in use"},
		"a worker that died before the unlink":   {row(`status = 'completed', unstaged_at = now()`), "in the trash"},
		"an upload that was deleted":             {row(`status = 'deleted', unstaged_at = now()`), "in the trash"},
		"one that waits":                         {row(`status = 'queued'`), "in use"},
		"one that waits for its next attempt":    {row(`status = 'retrying', next_attempt_at = now() + interval '7 days'`), "in use"},
		"one that is being pushed":               {row(`status = 'pushing', lease_until = now() + interval '1 hour'`), "in use"},
		"one that has failed and may be retried": {row(`status = 'failed', staged_until = now() + interval '1 hour'`), "in use"},
		"one that somebody may go on with":       {row(`status = 'receiving', expires_at = now() + interval '1 hour'`), "in use"},
		"one for which room is held": {func(t *testing.T, p *place) upload.ID {
			id := upload.NewID()
			p.exec(t, `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) VALUES ($1, 'ann', 5, now() + interval '1 hour')`, id)
			p.leave(t, id, 2*time.Hour)
			return id
		}, "in use"},
		"one for which room was held by a process that died": {func(t *testing.T, p *place) upload.ID {
			id := upload.NewID()
			p.exec(t, `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, expires_at) VALUES ($1, 'ann', 5, now() - interval '1 hour')`, id)
			p.leave(t, id, 2*time.Hour)
			return id
		}, "in the trash"},
	}
	p := newPlace(t, time.Hour)
	p.stop()
	left := map[string]upload.ID{}
	for name, tt := range tests {
		left[name] = tt.left(t, p)
	}
	foreign := filepath.Join(p.path, "notes.txt")
	if err := os.WriteFile(foreign, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.age(t, "notes.txt", 24*time.Hour)
	p.run(t)
	last := upload.NewID() // of this pass or a later one
	p.leave(t, last, 2*time.Hour)
	p.awaitWhere(t, last, "in the trash")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p.awaitWhere(t, left[name], tt.want)
		})
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file that is no upload's: %v", err)
	}
}

func TestWhatIsInTheTrashLeavesItAfterAWhile(t *testing.T) {
	p := newPlace(t, time.Hour)
	old, young := upload.NewID(), upload.NewID()
	for _, id := range []upload.ID{old, young} {
		p.leave(t, id, 2*time.Hour)
		p.awaitWhere(t, id, "in the trash")
	}
	p.age(t, filepath.Join("trash", string(old)), 2*time.Hour) // longer than KeepTrash
	p.awaitWhere(t, old, "gone")
	if got := p.where(t, young); got != "in the trash" {
		t.Errorf("what came to the trash a moment ago is %s", got)
	}
}

func TestATrashThatLeavesNoRoomIsEmptied(t *testing.T) {
	p := newPlace(t, time.Hour)
	p.stop()
	id := upload.NewID()
	p.leave(t, id, 2*time.Hour)
	p.sweeper.Staging = full{p.staging}
	p.run(t)
	p.awaitWhere(t, id, "gone")
}

// full is a store whose disk is.
type full struct{ staging.Store }

func (full) Free(context.Context) (int64, error) { return 0, nil }

// The answer of a commit was lost, and the row is there all the same: what was taken for left behind is not.
func TestWhatSomebodyNeedsAfterAllComesBackFromTheTrash(t *testing.T) {
	p := newPlace(t, time.Hour)
	s, err := p.ingest.Receive(t.Context(), ingest.Request{User: "ann", Length: -1}, bytes.NewReader([]byte("bytes")))
	if err != nil {
		t.Fatal(err)
	}
	p.age(t, string(s.ID), 2*time.Hour)
	p.awaitWhere(t, s.ID, "in the trash")
	if _, err := p.ingest.Accept(t.Context(), ingest.Request{User: "ann"}, s); err != nil {
		t.Fatal(err)
	}
	p.awaitWhere(t, s.ID, "in use")
}

// Files come, are delivered and go, while several sweepers without any grace clear up around them: whatever is
// taken that somebody needs has come back in the end, and no upload is without its bytes.
func TestSeveralSweepersDoNoHarmUnderTraffic(t *testing.T) {
	p := newPlace(t, time.Hour)
	p.stop()
	p.sweeper.Grace, p.sweeper.ClearEvery = time.Nanosecond, time.Millisecond
	for range 3 {
		p.run(t)
	}
	const senders, files = 4, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[upload.ID]bool{}
	for n := range senders {
		wg.Go(func() {
			for i := range files {
				s, err := p.ingest.Receive(t.Context(), ingest.Request{User: "ann", Length: -1}, &slow{r: bytes.NewReader(fmt.Appendf(nil, "file %d of %d", i, n))})
				if err != nil {
					t.Error(err)
					return
				}
				u, err := p.ingest.Accept(t.Context(), ingest.Request{User: "ann"}, s)
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					if _, err := p.pool.Exec(t.Context(), `UPDATE slipway.uploads SET status = 'completed', unstaged_at = now() WHERE id = $1`, u.ID); err != nil {
						t.Error(err)
					}
					if err := p.staging.Remove(t.Context(), u.ID); err != nil {
						t.Error(err)
					}
				}
				mu.Lock()
				kept[u.ID] = i%2 != 0
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, keep := range kept {
		if keep {
			p.awaitWhere(t, id, "in use")
		} else if got := p.where(t, id); got == "in use" {
			t.Errorf("%s was let go and is %s", id, got)
		}
	}
	p.wantInvariant(t)
}

// slow gives one byte at a time, so that sweepers come by meanwhile.
type slow struct{ r io.Reader }

func (s *slow) Read(b []byte) (int, error) { return s.r.Read(b[:min(len(b), 1)]) }
