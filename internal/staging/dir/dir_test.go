package dir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/staging"
	"slipway/internal/staging/stagingtest"
	"slipway/internal/upload"
)

func TestConformance(t *testing.T) {
	stagingtest.Run(t, func(t *testing.T) stagingtest.Place {
		path := filepath.Join(t.TempDir(), "staging")
		return func() staging.Store { return newStore(t, path) }
	})
}

func TestWhereBytesRest(t *testing.T) {
	path := t.TempDir()
	s := newStore(t, path)
	id := upload.ID("0193f1c2-5e4b-7a3c-9d2e-1f0a5b6c7d8e")
	mustAppend(t, s, id, 0, "bytes")

	file := filepath.Join(path, string(id))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", info.Mode().Perm())
	}
}

func TestOnlyAnIDNamesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "staging")
	s := newStore(t, path)
	outside := filepath.Join(filepath.Dir(path), "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []upload.ID{"", "..", "../outside", "xx/../../outside", "8e", ownerFile, "0193F1C2-5E4B-7A3C-9D2E-1F0A5B6C7D8E", "0193f1c2-5e4b-7a3c-9d2e-1f0a5b6c7d8e/"} {
		if _, _, err := s.Append(t.Context(), id, 0, strings.NewReader("x")); err == nil {
			t.Errorf("append to %q was accepted", id)
		}
		if _, err := s.Open(t.Context(), id); err == nil || errors.Is(err, staging.ErrMissing) {
			t.Errorf("open %q = %v, want a refusal", id, err)
		}
		if err := s.Remove(t.Context(), id); err == nil {
			t.Errorf("remove %q was accepted", id)
		}
	}
	if b, err := os.ReadFile(outside); string(b) != "untouched" || err != nil {
		t.Errorf("outside = %q, %v", b, err)
	}
	if entries, err := os.ReadDir(path); len(entries) != 0 || err != nil {
		t.Errorf("the store has %v, %v, want nothing", entries, err)
	}
}

// A power cut leaves what was synced. The order is told by the disk below a Store.
func TestBytesAreDurableBeforeTheyAreReported(t *testing.T) {
	const id = upload.ID("0193f1c2-5e4b-7a3c-9d2e-1f0a5b6c7d8e")
	tests := map[string]struct {
		before string // bytes that are there
		offset int64
		body   io.Reader
		want   string
	}{
		"a new file and entry":                       {body: strings.NewReader("x"), want: "write 0+1, datasync, sync dir ."},
		"the entry is old where bytes are":           {before: "abc", offset: 3, body: strings.NewReader("x"), want: "write 3+1, datasync"},
		"an entry without acknowledged bytes is new": {before: "abc", body: strings.NewReader("x"), want: "truncate 0, write 0+1, datasync, sync dir ."},
		"a cut tail":                       {before: "abc", offset: 1, body: strings.NewReader(""), want: "truncate 1, datasync"},
		"a small body is one write":        {body: iotest.OneByteReader(zeros(bufferSize - 1)), want: "write 0+262143, datasync, sync dir ."},
		"what came before the body failed": {body: io.MultiReader(zeros(bufferSize+1), iotest.ErrReader(errors.New("reset"))), want: "write 0+262144, write 262144+1, datasync, sync dir ."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			if tt.before != "" {
				mustAppend(t, newStore(t, path), id, 0, tt.before)
			}
			s := newStore(t, path)
			log := spy(s, nil)
			_, _, _ = s.Append(t.Context(), id, tt.offset, tt.body)
			if got := strings.Join(*log, ", "); got != tt.want {
				t.Errorf("the disk saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFilesThatComeTogetherShareTheSyncsOfTheDirectory(t *testing.T) {
	const files = 20
	s := newStore(t, t.TempDir())
	first, goOn := make(chan struct{}), make(chan struct{})
	var datasyncs, begun, ended atomic.Int64
	s.openFile = func(path string, flag int) (file, error) {
		d, err := openDisk(path, flag)
		return counted{d, &datasyncs}, err
	}
	s.syncDir = func(path string) error {
		if begun.Add(1) == 1 {
			close(first)
			<-goOn
		}
		err := syncDir(path)
		ended.Add(1)
		return err
	}
	var done sync.WaitGroup
	stage := func() {
		done.Go(func() {
			if n, _, err := s.Append(t.Context(), upload.NewID(), 0, strings.NewReader("x")); n != 1 || err != nil {
				t.Errorf("append = %d, %v", n, err)
			}
			if ended.Load() == 0 {
				t.Error("a file was reported before its entry was durable")
			}
		})
	}
	stage()
	<-first
	for range files - 1 {
		stage()
	}
	for deadline := time.Now().Add(10 * time.Second); datasyncs.Load() < files && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := begun.Load(); n != 1 {
		t.Errorf("%d syncs ran at once, want one after the other", n)
	}
	close(goOn)
	done.Wait()
	if n := ended.Load(); n < 2 || n >= files {
		t.Errorf("%d files took %d syncs of the directory, want fewer, and one more than the one that had begun", files, n)
	}
}

// counted counts the syncs of files.
type counted struct {
	file
	datasyncs *atomic.Int64
}

func (c counted) Datasync() error {
	defer c.datasyncs.Add(1)
	return c.file.Datasync()
}

func TestLargeFilesGoToTheDiskEarly(t *testing.T) {
	s := newStore(t, t.TempDir())
	log := spy(s, nil)
	if _, _, err := s.Append(t.Context(), upload.NewID(), 0, zeros(2*writebackSize+1)); err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(*log, func(s string) bool { return !strings.HasPrefix(s, "writeback") })
	if want := []string{"writeback 0+8388608", "writeback 8388608+8388608"}; !slices.Equal(got, want) {
		t.Errorf("the disk saw %q, want %q", got, want)
	}
}

func TestFullDisk(t *testing.T) {
	for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		s, id := newStore(t, t.TempDir()), upload.NewID()
		const room = bufferSize + 1000
		spy(s, func(op string, offset int64, b []byte) (int, error) {
			if op == "write" && offset+int64(len(b)) > room {
				return int(room - offset), cause
			}
			return len(b), nil
		})
		n, sum, err := s.Append(t.Context(), id, 0, zeros(2*bufferSize))
		if n != room || !errors.Is(err, staging.ErrNoRoom) || !errors.Is(err, cause) {
			t.Errorf("append = %d, %v, want the %d bytes that fit and ErrNoRoom", n, err, room)
		}
		if want := crc32c.Update(0, make([]byte, room)); sum != want {
			t.Errorf("crc32c = %08x, want that of the bytes that fit, %08x", sum, want)
		}

		spy(s, func(op string, _ int64, b []byte) (int, error) {
			if op == "sync dir" {
				return 0, cause
			}
			return len(b), nil
		})
		if n, _, err := s.Append(t.Context(), upload.NewID(), 0, strings.NewReader("x")); n != 0 || !errors.Is(err, staging.ErrNoRoom) {
			t.Errorf("append without room for the entry = %d, %v, want 0, ErrNoRoom", n, err)
		}
	}
}

func TestBytesThatCannotBeSyncedDoNotCount(t *testing.T) {
	for _, op := range []string{"datasync", "sync dir"} {
		s := newStore(t, t.TempDir())
		spy(s, func(o string, _ int64, b []byte) (int, error) {
			if o == op {
				return 0, syscall.EIO
			}
			return len(b), nil
		})
		if n, _, err := s.Append(t.Context(), upload.NewID(), 0, strings.NewReader("bytes")); n != 0 || !errors.Is(err, syscall.EIO) {
			t.Errorf("append with a failing %s = %d, %v, want 0 and the error", op, n, err)
		}
	}
}

func TestAnotherDirectoryAtTheSamePath(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"is gone": func(t *testing.T, path string) { rename(t, path, path+".away") },
		"is an empty mount point": func(t *testing.T, path string) {
			rename(t, path, path+".away")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"is another one of the same installation": func(t *testing.T, path string) {
			rename(t, path, path+".away")
			if err := newStore(t, path).Claim(t.Context(), "mine"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, replace := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "staging")
			s, id := newStore(t, path), upload.NewID()
			if err := s.Claim(t.Context(), "mine"); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, id, 0, "bytes")
			replace(t, path)

			if _, err := s.Open(t.Context(), id); err == nil || errors.Is(err, staging.ErrMissing) {
				t.Errorf("open = %v, want an error that does not say that the bytes are missing", err)
			}
			if _, _, err := s.Append(t.Context(), upload.NewID(), 0, strings.NewReader("x")); err == nil {
				t.Error("append was accepted")
			}
			if _, _, err := s.Append(t.Context(), id, 5, strings.NewReader("x")); err == nil || errors.Is(err, staging.ErrMissing) {
				t.Errorf("append to what is elsewhere = %v, want an error that does not say that the bytes are missing", err)
			}
			if _, err := s.Free(t.Context()); err == nil {
				t.Error("free was answered")
			}
		})
	}
}

func TestID(t *testing.T) {
	path := t.TempDir()
	s := newStore(t, path)
	if got := s.ID(); got != "" {
		t.Errorf("id = %q before the claim, want none", got)
	}
	if err := s.Claim(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	again := newStore(t, path)
	if err := again.Claim(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	if s.ID() == "" || again.ID() != s.ID() {
		t.Errorf("ids are %q and %q, want one that stays", s.ID(), again.ID())
	}
	if files, err := filepath.Glob(filepath.Join(path, ownerFile+".*")); len(files) > 0 || err != nil {
		t.Errorf("the claim left %v behind", files)
	}
}

func TestAClaimThatComesLateChangesNothing(t *testing.T) {
	path := t.TempDir()
	first, late := newStore(t, path), newStore(t, path)
	if err := first.Claim(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	// late has looked before there was an owner file.
	o, err := late.writeOwner(filepath.Join(path, ownerFile), owner{Installation: "late"})
	if err != nil || o.Installation != "first" {
		t.Errorf("owner = %+v, %v, want the first", o, err)
	}
}

func TestDamagedOwnerFile(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, ownerFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newStore(t, path).Claim(t.Context(), "mine"); err == nil || errors.Is(err, staging.ErrForeign) {
		t.Errorf("claim = %v, want an error that names the file", err)
	}
}

func TestReserve(t *testing.T) {
	path := t.TempDir()
	all, err := newStore(t, path).Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(path, Options{Reserve: all * 2})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Free(t.Context()); got != 0 || err != nil {
		t.Errorf("free = %d, %v, want nothing beyond the reserve", got, err)
	}
}

func TestANewStoreNeedsADirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(path, Options{}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func newStore(t *testing.T, path string) *Store {
	t.Helper()
	s, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustAppend(t *testing.T, s *Store, id upload.ID, offset int64, body string) {
	t.Helper()
	if n, _, err := s.Append(t.Context(), id, offset, strings.NewReader(body)); n != int64(len(body)) || err != nil {
		t.Fatalf("append = %d, %v", n, err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func zeros(n int64) io.Reader { return io.LimitReader(bytes.NewReader(make([]byte, n)), n) }

// fault says how many of the bytes of a write come to rest, and what goes wrong.
type fault func(op string, offset int64, b []byte) (int, error)

// spy writes down what s asks of the disk, and lets it go wrong.
func spy(s *Store, f fault) *[]string {
	if f == nil {
		f = func(_ string, _ int64, b []byte) (int, error) { return len(b), nil }
	}
	log := new([]string)
	s.openFile = func(path string, flag int) (file, error) {
		d, err := openDisk(path, flag)
		return spied{d, log, f}, err
	}
	s.syncDir = func(path string) error {
		rel, err := filepath.Rel(s.path, path)
		*log = append(*log, "sync dir "+rel)
		_, ferr := f("sync dir", 0, nil)
		return errors.Join(err, ferr, syncDir(path))
	}
	return log
}

type spied struct {
	file
	log   *[]string
	fault fault
}

func (s spied) WriteAt(b []byte, offset int64) (int, error) {
	if len(b) > 0 {
		*s.log = append(*s.log, fmt.Sprintf("write %d+%d", offset, len(b)))
	}
	n, ferr := s.fault("write", offset, b)
	if n, err := s.file.WriteAt(b[:n], offset); err != nil {
		return n, err
	}
	if ferr != nil {
		ferr = &fs.PathError{Op: "write", Path: "staged", Err: ferr}
	}
	return n, ferr
}

func (s spied) Truncate(size int64) error {
	*s.log = append(*s.log, fmt.Sprintf("truncate %d", size))
	return s.file.Truncate(size)
}

func (s spied) Datasync() error {
	*s.log = append(*s.log, "datasync")
	_, ferr := s.fault("datasync", 0, nil)
	return errors.Join(ferr, s.file.Datasync())
}

func (s spied) Writeback(offset, n int64) error {
	*s.log = append(*s.log, fmt.Sprintf("writeback %d+%d", offset, n))
	return s.file.Writeback(offset, n)
}
