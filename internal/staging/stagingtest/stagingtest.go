// Package stagingtest holds every staging.Store to its promises.
package stagingtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Place opens a store on the same bytes each time it is called, as each process does.
type Place func() staging.Store

// Run tests the stores that newPlace makes; each place is empty at first.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	tests := map[string]func(t *testing.T, open Place){
		"what was appended can be read":                        appended,
		"an append goes on at its offset":                      goesOn,
		"what was beyond the offset is cut off":                cut,
		"an append may come from another process":              otherProcess,
		"an offset beyond the bytes is refused":                beyond,
		"a body may end in many ways":                          endings,
		"an error of the body comes back as it is":             bodyFails,
		"an append ends with its context":                      canceled,
		"bytes that are not there are missing":                 missing,
		"removed bytes are missing, and may be removed twice":  removed,
		"uploads do not disturb each other":                    apart,
		"a reader serves several goroutines":                   readers,
		"a store without an owner is taken":                    claimed,
		"of several claims at once one wins":                   claimedAtOnce,
		"there is room in an empty store":                      free,
		"what is in the store is listed":                       listed,
		"trashed bytes are out of use until they are restored": trashed,
		"bytes that have changed since are not trashed":        changed,
		"a restored upload does not take another's place":      occupied,
		"purged bytes do not come back":                        purged,
		"removed bytes are removed from the trash, too":        removedFromTrash,
		"several who clear up at once do no harm":              together,
		"segments are read as one, each to its size":           segments,
		"a segment goes on where it was written down":          segmentGoesOn,
		"what a sync tells is what was written before":         marks,
		"segments of others are read with one's own":           joined,
		"a segment that is not there is missing":               segmentMissing,
		"a segment that is too short is not read":              segmentTooShort,
		"segments go with their upload":                        segmentsRemoved,
		"segments are trashed and restored":                    segmentsTrashed,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, newPlace(t)) })
	}
}

func appended(t *testing.T, open Place) {
	for _, size := range []int{0, 1, 4 << 10, 256<<10 - 1, 256 << 10, 256<<10 + 1, 20<<20 + 7} {
		s, id, want := open(), upload.NewID(), random(size)
		mustAppend(t, s, id, 0, want)
		wantBytes(t, s, id, want)
	}
}

func goesOn(t *testing.T, open Place) {
	s, id, want := open(), upload.NewID(), random(1<<20)
	for _, cut := range [][2]int{{0, 1}, {1, 300 << 10}, {300 << 10, 300 << 10}, {300 << 10, 1 << 20}} {
		mustAppend(t, s, id, int64(cut[0]), want[cut[0]:cut[1]])
	}
	wantBytes(t, s, id, want)
}

func cut(t *testing.T, open Place) {
	s, id, old := open(), upload.NewID(), random(1<<20)
	mustAppend(t, s, id, 0, old)

	mustAppend(t, s, id, 700<<10, []byte("new"))
	want := append(bytes.Clone(old[:700<<10]), "new"...)
	wantBytes(t, s, id, want)

	mustAppend(t, s, id, 500, nil)
	wantBytes(t, s, id, want[:500])

	mustAppend(t, s, id, 0, []byte("again"))
	wantBytes(t, s, id, []byte("again"))
}

func otherProcess(t *testing.T, open Place) {
	id, want := upload.NewID(), random(600<<10)
	mustAppend(t, open(), id, 0, want[:400<<10])
	mustAppend(t, open(), id, 400<<10, want[400<<10:])
	wantBytes(t, open(), id, want)
}

func beyond(t *testing.T, open Place) {
	s, id := open(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("ten bytes."))
	for _, offset := range []int64{11, 1 << 40, -1} {
		if n, _, err := s.Append(t.Context(), id, offset, bytes.NewReader([]byte("x"))); err == nil || n != 0 {
			t.Errorf("append at %d to ten bytes = %d, %v, want an error", offset, n, err)
		}
	}
	wantBytes(t, s, id, []byte("ten bytes."))

	if _, _, err := s.Append(t.Context(), upload.NewID(), 1, bytes.NewReader([]byte("x"))); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("append at 1 to nothing = %v, want ErrMissing", err)
	}
}

func endings(t *testing.T, open Place) {
	want := random(600<<10 + 3)
	bodies := map[string]func(io.Reader) io.Reader{
		"one byte at a time":           func(r io.Reader) io.Reader { return iotest.OneByteReader(r) },
		"short reads":                  func(r io.Reader) io.Reader { return iotest.HalfReader(r) },
		"its end with the last bytes":  func(r io.Reader) io.Reader { return iotest.DataErrReader(r) },
		"reads that give nothing yet":  func(r io.Reader) io.Reader { return &hesitant{Reader: r} },
		"more than one source in turn": func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, 256<<10), r) },
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			s, id := open(), upload.NewID()
			n, sum, err := s.Append(t.Context(), id, 0, body(bytes.NewReader(want)))
			wantAppended(t, n, sum, err, want, nil)
			wantBytes(t, s, id, want)
		})
	}
}

func bodyFails(t *testing.T, open Place) {
	// io.ErrUnexpectedEOF is what a multipart body that was cut off says; an end is io.EOF itself.
	for _, cause := range []error{errors.New("reset by peer"), io.ErrUnexpectedEOF, fmt.Errorf("cut off: %w", io.EOF)} {
		for _, size := range []int{0, 1, 256 << 10, 600 << 10} {
			s, id, want := open(), upload.NewID(), random(size)
			n, sum, err := s.Append(t.Context(), id, 0, io.MultiReader(bytes.NewReader(want), iotest.ErrReader(cause)))
			wantAppended(t, n, sum, err, want, cause)
			if size == 0 {
				continue // whether nothing has an entry is not promised
			}
			wantBytes(t, s, id, want)

			mustAppend(t, s, id, n, []byte("the rest"))
			wantBytes(t, open(), id, append(want, "the rest"...))
		}
	}
}

func canceled(t *testing.T, open Place) {
	s, id, want := open(), upload.NewID(), random(512<<10)
	ctx, cancel := context.WithCancel(t.Context())
	endless := io.MultiReader(bytes.NewReader(want), readerFunc(func(b []byte) (int, error) {
		cancel()
		return len(b), nil
	}))
	n, sum, err := s.Append(ctx, id, 0, endless)
	if !errors.Is(err, context.Canceled) || n < int64(len(want)) {
		t.Fatalf("append = %d, %v, want at least %d bytes and context.Canceled", n, err, len(want))
	}
	got := read(t, s, id)
	if int64(len(got)) != n || checksum(got) != sum || !bytes.HasPrefix(got, want) {
		t.Errorf("%d bytes with crc32c %08x are there, want the %d that were reported with %08x", len(got), checksum(got), n, sum)
	}
}

func missing(t *testing.T, open Place) {
	if r, err := open().Open(t.Context(), upload.NewID()); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("open = %v, %v, want ErrMissing", r, err)
	}
}

func removed(t *testing.T, open Place) {
	s, id, other := open(), upload.NewID(), upload.NewID()
	mustAppend(t, s, id, 0, []byte("gone"))
	mustAppend(t, s, other, 0, []byte("kept"))
	for range 2 {
		if err := s.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), id); !errors.Is(err, staging.ErrMissing) {
			t.Errorf("open after remove = %v, want ErrMissing", err)
		}
	}
	wantBytes(t, s, other, []byte("kept"))

	mustAppend(t, s, id, 0, []byte("back"))
	wantBytes(t, s, id, []byte("back"))
}

func apart(t *testing.T, open Place) {
	s := open()
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			id, want := upload.NewID(), random(300<<10)
			for _, half := range [][2]int{{0, 150 << 10}, {150 << 10, 300 << 10}} {
				n, sum, err := s.Append(t.Context(), id, int64(half[0]), bytes.NewReader(want[half[0]:half[1]]))
				wantAppended(t, n, sum, err, want[half[0]:half[1]], nil)
			}
			r, err := s.Open(t.Context(), id)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has other bytes than were appended (%d, %v)", id, len(got), err)
			}
		})
	}
	wg.Wait()
}

func readers(t *testing.T, open Place) {
	const parts, size = 8, 128 << 10
	s, id, want := open(), upload.NewID(), random(parts*size)
	mustAppend(t, s, id, 0, want)
	r, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			got := make([]byte, size)
			if n, err := r.ReadAt(got, int64(i*size)); n != size || err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("part %d = %d, %v", i, n, err)
			}
			if !bytes.Equal(got, want[i*size:(i+1)*size]) {
				t.Errorf("part %d has other bytes", i)
			}
		})
	}
	wg.Wait()

	tail := make([]byte, 10)
	if n, err := r.ReadAt(tail, int64(len(want)-4)); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("a read over the end = %d, %v, want 4, EOF", n, err)
	}
}

func claimed(t *testing.T, open Place) {
	claims := []struct {
		installation string
		want         error
	}{{"mine", nil}, {"mine", nil}, {"another", staging.ErrForeign}, {"mine", nil}}
	for _, claim := range claims {
		if err := open().Claim(t.Context(), claim.installation); !errors.Is(err, claim.want) {
			t.Errorf("claim for %s = %v, want %v", claim.installation, err, claim.want)
		}
	}

	s, id := open(), upload.NewID()
	if err := s.Claim(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, id, 0, []byte("bytes"))
	wantBytes(t, s, id, []byte("bytes"))
}

func claimedAtOnce(t *testing.T, open Place) {
	const claimants = 16
	start, results := make(chan struct{}), make(chan error)
	for i := range claimants {
		s := open()
		go func() {
			<-start
			results <- s.Claim(t.Context(), string(rune('a'+i)))
		}()
	}
	close(start)
	won := 0
	for range claimants {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, staging.ErrForeign):
			t.Errorf("claim = %v, want nil or ErrForeign", err)
		}
	}
	if won != 1 {
		t.Errorf("%d claims won, want 1", won)
	}
}

func free(t *testing.T, open Place) {
	if n, err := open().Free(t.Context()); n <= 0 || err != nil {
		t.Errorf("free = %d, %v", n, err)
	}
}

func mustAppend(t *testing.T, s staging.Store, id upload.ID, offset int64, body []byte) {
	t.Helper()
	n, sum, err := s.Append(t.Context(), id, offset, bytes.NewReader(body))
	wantAppended(t, n, sum, err, body, nil)
	if t.Failed() {
		t.FailNow()
	}
}

func wantAppended(t *testing.T, n int64, sum uint32, err error, want []byte, wantErr error) {
	t.Helper()
	if n != int64(len(want)) || sum != checksum(want) || err != wantErr { //nolint:errorlint // as it is, not wrapped
		t.Errorf("append = %d bytes, crc32c %08x, %v, want %d, %08x, %v", n, sum, err, len(want), checksum(want), wantErr)
	}
}

func wantBytes(t *testing.T, s staging.Store, id upload.ID, want []byte) {
	t.Helper()
	if got := read(t, s, id); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes are there, or other ones than the %d that were appended", len(got), len(want))
	}
}

func read(t *testing.T, s staging.Store, id upload.ID) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func random(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// hesitant gives nothing in every other read.
type hesitant struct {
	io.Reader
	last bool
}

func (h *hesitant) Read(b []byte) (int, error) {
	if h.last = !h.last; h.last {
		return 0, nil
	}
	return h.Reader.Read(b)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
