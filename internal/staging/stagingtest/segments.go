package stagingtest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"slipway/internal/crc32c"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// segments has a run that somebody goes on writing to who was taken over.
func segments(t *testing.T, open Place) {
	id, want := upload.NewID(), random(900<<10)
	sleeper := extend(t, open(), upload.Segment{Of: id}, 0)
	write(t, sleeper, want[:300<<10])
	first := synced(t, sleeper)

	other := extend(t, open(), upload.Segment{Of: id, Number: 7}, first.CRC32C)
	write(t, other, want[300<<10:700<<10])
	write(t, sleeper, []byte("what nobody has written down"))
	second := synced(t, other)
	synced(t, sleeper)

	last := extend(t, open(), upload.Segment{Of: id, Number: 12}, second.CRC32C)
	write(t, last, want[700<<10:])
	third := synced(t, last)
	if third.CRC32C != checksum(want) {
		t.Errorf("the crc32c of all is %08x, want %08x", third.CRC32C, checksum(want))
	}
	wantSegments(t, open(), id, want, upload.Segment{Of: id, Size: first.Size}, upload.Segment{Of: id, Number: 7, Size: second.Size},
		upload.Segment{Of: id, Number: 12, Size: third.Size})
}

func segmentGoesOn(t *testing.T, open Place) {
	for _, number := range []int64{0, 3} {
		id, want := upload.NewID(), random(600<<10)
		seg := upload.Segment{Of: id, Number: number}
		sum := uint32(0)
		for _, piece := range [][2]int{{0, 1}, {1, 300 << 10}, {300 << 10, 600 << 10}} {
			w := extend(t, open(), seg, sum)
			write(t, w, want[piece[0]:piece[1]])
			mark := synced(t, w)
			write(t, w, []byte("what a checksum has refused"))
			seg.Size, sum = mark.Size, mark.CRC32C
		}
		if sum != checksum(want) {
			t.Errorf("the crc32c is %08x, want %08x", sum, checksum(want))
		}
		synced(t, extend(t, open(), seg, sum)) // cuts off what is too much
		wantSegments(t, open(), id, want, seg)
		if number == 0 {
			wantBytes(t, open(), id, want)
		}
		if w, err := open().Extend(t.Context(), upload.Segment{Of: id, Number: number, Size: seg.Size + 1}, 0); err == nil {
			t.Errorf("a segment was extended from beyond its end: %v", w.Close())
		}
	}
}

func marks(t *testing.T, open Place) {
	id, want := upload.NewID(), random(700<<10)
	w := extend(t, open(), upload.Segment{Of: id, Number: 1}, crc32c.Update(0, []byte("before")))
	if mark := synced(t, w); mark.Size != 0 {
		t.Errorf("nothing was written, %d bytes are told", mark.Size)
	}
	half := len(want) / 2
	seen := staging.Mark{}
	cause := errors.New("reset by peer")
	err := w.Copy(t.Context(), io.MultiReader(bytes.NewReader(want[:half]), readerFunc(func([]byte) (int, error) {
		seen = synced(t, w) // beside the copying
		return 0, cause
	})))
	if err != cause { //nolint:errorlint // as it is
		t.Errorf("copy = %v, want the reader's error", err)
	}
	if seen.Size > int64(half) || seen.CRC32C != crc32c.Update(0, append([]byte("before"), want[:seen.Size]...)) {
		t.Errorf("in the middle %+v is told", seen)
	}
	if mark := synced(t, w); mark.Size != int64(half) {
		t.Errorf("%d bytes are told after an error, want %d", mark.Size, half)
	}
	write(t, w, want[half:])
	if mark := synced(t, w); mark.Size != int64(len(want)) || mark.CRC32C != crc32c.Update(0, append([]byte("before"), want...)) {
		t.Errorf("at the end %+v is told", mark)
	}
}

func joined(t *testing.T, open Place) {
	a, b, final, want := upload.NewID(), upload.NewID(), upload.NewID(), random(500<<10)
	write(t, extend(t, open(), upload.Segment{Of: a}, 0), want[:100<<10])
	write(t, extend(t, open(), upload.Segment{Of: b}, 0), want[100<<10:300<<10])
	write(t, extend(t, open(), upload.Segment{Of: b, Number: 2}, 0), want[300<<10:])
	wantSegments(t, open(), final, want, upload.Segment{Of: a, Size: 100 << 10}, upload.Segment{Of: b, Size: 200 << 10}, upload.Segment{Of: b, Number: 2, Size: 200 << 10})
}

func segmentMissing(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	write(t, extend(t, s, upload.Segment{Of: id}, 0), []byte("first"))
	if _, err := s.Open(t.Context(), id, upload.Segment{Of: id, Size: 5}, upload.Segment{Of: id, Number: 4, Size: 1}); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("open = %v, want ErrMissing", err)
	}
	if w, err := s.Extend(t.Context(), upload.Segment{Of: id, Number: 4, Size: 1}, 0); w != nil || !errors.Is(err, staging.ErrMissing) {
		t.Errorf("extend = %v, %v, want nothing and ErrMissing", w, err)
	}
}

func segmentTooShort(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	write(t, extend(t, s, upload.Segment{Of: id}, 0), []byte("first"))
	if r, err := s.Open(t.Context(), id, upload.Segment{Of: id, Size: 6}); err == nil || errors.Is(err, staging.ErrMissing) {
		t.Errorf("open six of five bytes = %v, %v, want another error than ErrMissing", r, err)
	}
}

func segmentsRemoved(t *testing.T, open Place) {
	s, id, seg := open(), upload.NewID(), upload.Segment{}
	for _, seg.Number = range []int64{0, 1, 2} {
		seg.Of = id
		write(t, extend(t, s, seg, 0), []byte("x"))
	}
	for range 2 {
		if err := s.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := everything(t, s, staging.InUse); len(got) != 0 {
		t.Errorf("%v is still there", got)
	}
	write(t, extend(t, s, upload.Segment{Of: id, Number: 3}, 0), []byte("of a sleeper"))
	if got := everything(t, s, staging.InUse); len(got) != 1 || !got[0].Others || got[0].ID != id || got[0].Size != 12 {
		t.Errorf("listed is %+v, want the one segment", got)
	}
}

func segmentsTrashed(t *testing.T, open Place) {
	s, id, want := open(), upload.NewID(), []byte("firstsecond")
	segs := []upload.Segment{{Of: id, Size: 5}, {Of: id, Number: 1, Size: 6}}
	write(t, extend(t, s, upload.Segment{Of: id}, 0), want[:5])
	write(t, extend(t, s, upload.Segment{Of: id, Number: 1}, 0), want[5:])
	for range 2 {
		for _, e := range everything(t, s, staging.InUse) {
			if ok, err := s.Trash(t.Context(), e); !ok || err != nil {
				t.Fatalf("trash %+v = %t, %v", e, ok, err)
			}
			if ok, err := s.Trash(t.Context(), e); ok || err != nil {
				t.Errorf("trash %+v again = %t, %v", e, ok, err)
			}
		}
		if got := everything(t, s, staging.InTrash); len(got) != 2 {
			t.Errorf("in the trash is %+v", got)
		}
		if _, err := s.Open(t.Context(), id, segs...); !errors.Is(err, staging.ErrMissing) {
			t.Errorf("open what is in the trash = %v, want ErrMissing", err)
		}
		restore(t, open(), id, true)
		wantSegments(t, s, id, want, segs...)
	}
	for _, e := range everything(t, s, staging.InUse) {
		if e.Others {
			write(t, extend(t, s, upload.Segment{Of: id, Number: 2}, 0), []byte("changed since"))
		}
		if ok, err := s.Trash(t.Context(), e); ok == e.Others || err != nil {
			t.Errorf("trash %+v = %t, %v", e, ok, err)
		}
	}
	for _, e := range everything(t, s, staging.InTrash) {
		if err := s.Purge(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	restore(t, s, id, false)
}

func everything(t *testing.T, s staging.Store, in staging.Shelf) (all []staging.Entry) {
	t.Helper()
	err := s.List(t.Context(), in, func(page []staging.Entry) error {
		all = append(all, page...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func extend(t *testing.T, s staging.Store, seg upload.Segment, sum uint32) staging.Writer {
	t.Helper()
	w, err := s.Extend(t.Context(), seg, sum)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func write(t *testing.T, w staging.Writer, b []byte) {
	t.Helper()
	if err := w.Copy(t.Context(), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

func synced(t *testing.T, w staging.Writer) staging.Mark {
	t.Helper()
	mark, err := w.Sync()
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

func wantSegments(t *testing.T, s staging.Store, id upload.ID, want []byte, segs ...upload.Segment) {
	t.Helper()
	r, err := s.Open(t.Context(), id, segs...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, r.Size())
	if n, err := r.ReadAt(got, 0); n != len(want) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes are read, %v, or other ones than were written", n, len(want), err)
	}
	for _, at := range []int{0, 1, len(want) / 3, len(want) - 1} {
		piece := make([]byte, len(want)/2)
		n, err := r.ReadAt(piece, int64(at))
		if rest := min(len(piece), len(want)-at); n != rest || !bytes.Equal(piece[:n], want[at:at+n]) || (n < len(piece)) != (err != nil) {
			t.Errorf("read %d bytes from %d = %d, %v", len(piece), at, n, err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 1), r.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end = %d, %v", n, err)
	}
}
