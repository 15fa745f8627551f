package stagingtest

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

func listed(t *testing.T, open Place) {
	const many = 1100 // more than one batch
	s := open()
	want := map[upload.ID]int64{}
	for range many {
		want[upload.NewID()] = int64(len(want) % 7)
	}
	var wg sync.WaitGroup
	for id, size := range want {
		wg.Go(func() {
			body := random(int(size))
			n, sum, err := s.Append(t.Context(), id, 0, bytes.NewReader(body))
			wantAppended(t, n, sum, err, body, nil)
		})
	}
	wg.Wait()
	got := entries(t, open(), staging.InUse)
	for id, size := range want {
		e, ok := got[id]
		if !ok || e.Size != size || e.Idle < 0 || e.Idle > time.Minute {
			t.Fatalf("%s is listed as %+v (%t), want %d bytes, a moment old", id, e, ok, size)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if got := entries(t, open(), staging.InTrash); len(got) != 0 {
		t.Errorf("there are %d entries in the trash of a store that has none", len(got))
	}
	stop := errors.New("enough")
	if err := s.List(t.Context(), staging.InUse, func([]staging.Entry) error { return stop }); err != stop { //nolint:errorlint // as it is
		t.Errorf("list = %v, want the error of page", err)
	}
}

func trashed(t *testing.T, open Place) {
	s, id, want := open(), upload.NewID(), random(300<<10)
	mustAppend(t, s, id, 0, want)
	trash(t, s, id, true)
	if _, err := open().Open(t.Context(), id); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("open what is in the trash = %v, want ErrMissing", err)
	}
	if got := entries(t, open(), staging.InUse); len(got) != 0 {
		t.Errorf("%v is listed as in use", got)
	}
	e := entries(t, open(), staging.InTrash)[id]
	if e.Size != int64(len(want)) || e.Idle < 0 || e.Idle > time.Minute {
		t.Errorf("in the trash is %+v, want %d bytes for a moment", e, len(want))
	}
	restore(t, open(), id, true)
	wantBytes(t, s, id, want)
	restore(t, s, id, false)
	if got := entries(t, s, staging.InTrash); len(got) != 0 {
		t.Errorf("%v is still in the trash", got)
	}
}

func changed(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("first"))
	e := entries(t, s, staging.InUse)[id]
	mustAppend(t, s, id, 5, []byte(", then more"))
	if ok, err := s.Trash(t.Context(), e); ok || err != nil {
		t.Errorf("trash what was appended to = %t, %v", ok, err)
	}
	wantBytes(t, s, id, []byte("first, then more"))

	gone := staging.Entry{ID: upload.NewID()}
	if ok, err := s.Trash(t.Context(), gone); ok || err != nil {
		t.Errorf("trash what is not there = %t, %v", ok, err)
	}
	if err := s.Purge(t.Context(), gone); err != nil {
		t.Errorf("purge what is not there = %v", err)
	}
	restore(t, s, gone.ID, false)
}

func occupied(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("old"))
	trash(t, s, id, true)
	mustAppend(t, s, id, 0, []byte("new"))
	restore(t, s, id, false)
	wantBytes(t, s, id, []byte("new"))
	if e, ok := entries(t, s, staging.InTrash)[id]; !ok || e.Size != 3 {
		t.Errorf("the trash has %+v (%t), want the old bytes", e, ok)
	}
}

func purged(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("gone"))
	trash(t, s, id, true)
	for range 2 {
		if err := s.Purge(t.Context(), staging.Entry{ID: id, Size: 4}); err != nil {
			t.Fatal(err)
		}
	}
	restore(t, s, id, false)
	if _, err := s.Open(t.Context(), id); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("open = %v, want ErrMissing", err)
	}
}

func removedFromTrash(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("gone"))
	trash(t, s, id, true)
	if err := s.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	restore(t, s, id, false)
}

func together(t *testing.T, open Place) {
	s, id, want := open(), upload.NewID(), random(1000)
	mustAppend(t, s, id, 0, want)
	e := entries(t, s, staging.InUse)[id]
	var wg sync.WaitGroup
	var moved, back atomic.Int64
	for range 8 {
		wg.Go(func() {
			if ok, err := open().Trash(t.Context(), e); err != nil {
				t.Error(err)
			} else if ok {
				moved.Add(1)
			}
		})
	}
	wg.Wait()
	for range 8 {
		wg.Go(func() {
			if ok, err := open().Restore(t.Context(), id); err != nil {
				t.Error(err)
			} else if ok {
				back.Add(1)
			}
		})
	}
	wg.Wait()
	if moved.Load() != 1 || back.Load() != 1 {
		t.Errorf("%d have moved it to the trash and %d back, want one each", moved.Load(), back.Load())
	}
	wantBytes(t, s, id, want)
}

func entries(t *testing.T, s staging.Store, in staging.Shelf) map[upload.ID]staging.Entry {
	t.Helper()
	found := map[upload.ID]staging.Entry{}
	err := s.List(t.Context(), in, func(page []staging.Entry) error {
		for _, e := range page {
			found[e.ID] = e
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func trash(t *testing.T, s staging.Store, id upload.ID, want bool) {
	t.Helper()
	if ok, err := s.Trash(t.Context(), entries(t, s, staging.InUse)[id]); ok != want || err != nil {
		t.Fatalf("trash = %t, %v, want %t", ok, err, want)
	}
}

func restore(t *testing.T, s staging.Store, id upload.ID, want bool) {
	t.Helper()
	if ok, err := s.Restore(t.Context(), id); ok != want || err != nil {
		t.Fatalf("restore = %t, %v, want %t", ok, err, want)
	}
}
