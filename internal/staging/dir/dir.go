// Package dir is staging in a directory.
package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sync/singleflight"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

const (
	bufferSize = 256 << 10 // one write; a multipart part alone would give writes of 4 KiB

	// writebackSize is how many bytes are written before the kernel is told to start on them, so
	// that the sync at the end of a large file finds most of them on the disk.
	writebackSize = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options are what a Store is told besides its directory.
type Options struct {
	Reserve int64 // bytes of the file system that Free leaves out
}

// Store keeps an upload's bytes in the file <path>/<id>, all in one directory, so that files that come at
// the same time share its syncs. What nobody needs is moved to <path>/trash. Directories and files are for
// their owner's eyes only.
type Store struct {
	path     string
	reserve  int64
	openFile func(path string, flag int) (file, error)
	syncDir  func(path string) error
	buffers  sync.Pool

	entries singleflight.Group // those who wait for the next sync of the directory
	syncing sync.Mutex         // held by the one that runs

	mu    sync.Mutex
	owner owner
	claim fs.FileInfo // the owner file as it was claimed; nil before
}

var _ staging.Store = (*Store)(nil)

// file is what Append does with an open file.
type file interface {
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Datasync() error                 // makes bytes and size durable
	Writeback(offset, n int64) error // starts on it, without waiting for the disk
}

// New returns the store in the directory at path, which is made if it is not there.
func New(path string, o Options) (*Store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("staging directory: %w", err)
	}
	return &Store{
		path:     path,
		reserve:  o.Reserve,
		openFile: openDisk,
		syncDir:  syncDir,
		buffers:  sync.Pool{New: func() any { return new([bufferSize]byte) }},
	}, nil
}

// Append implements [staging.Store]. It ends early, with the bytes so far durable, when ctx does;
// a read that blocks is r's own to end.
func (s *Store) Append(ctx context.Context, id upload.ID, offset int64, r io.Reader) (n int64, sum uint32, err error) {
	f, err := s.openAt(id, offset)
	if err != nil {
		return 0, 0, noRoom(err)
	}
	defer func() { _ = f.Close() }() // its bytes are durable by then, or err says that they are not

	n, sum, err = s.copy(ctx, f, offset, r)
	if n == 0 && err != nil {
		return 0, 0, err
	}
	if serr := s.makeDurable(f, offset); serr != nil {
		return 0, 0, noRoom(serr)
	}
	return n, sum, err
}

// openAt opens id's file for writing, cut to offset bytes.
func (s *Store) openAt(id upload.ID, offset int64) (file, error) {
	path, err := s.locate(id)
	if err != nil {
		return nil, err
	}
	flag := os.O_WRONLY
	if offset == 0 {
		flag |= os.O_CREATE
		if err := s.reachable(); err != nil {
			return nil, err
		}
	}
	f, err := s.openFile(path, flag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.missing(err)
	}
	if err != nil {
		return nil, err
	}
	if err := cut(f, offset); err != nil {
		return nil, errors.Join(fmt.Errorf("stage %s from byte %d: %w", id, offset, err), f.Close())
	}
	return f, nil
}

// cut takes away what f has beyond offset.
func cut(f file, offset int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch size := info.Size(); {
	case offset < 0 || offset > size:
		return fmt.Errorf("%d bytes are there", size)
	case offset < size:
		return f.Truncate(offset)
	}
	return nil
}

// copy writes r into f from offset on. The n bytes that it wrote have the crc32c sum.
func (s *Store) copy(ctx context.Context, f file, offset int64, r io.Reader) (n int64, sum uint32, err error) {
	buf := s.buffers.Get().(*[bufferSize]byte)
	defer s.buffers.Put(buf)

	var started int64 // bytes whose writeback has begun
	for {
		if ctx.Err() != nil {
			return n, sum, context.Cause(ctx)
		}
		filled, rerr := fill(r, buf[:])
		written, err := f.WriteAt(buf[:filled], offset+n)
		sum = crc32.Update(sum, castagnoli, buf[:written])
		n += int64(written)
		switch {
		case err != nil:
			return n, sum, noRoom(err)
		case errors.Is(rerr, io.EOF):
			return n, sum, nil
		case rerr != nil:
			return n, sum, rerr
		}
		if n-started >= writebackSize {
			if err := f.Writeback(offset+started, n-started); err != nil {
				return n, sum, noRoom(err)
			}
			started = n
		}
	}
}

// fill reads until buf is full or r gives an error. Unlike [io.ReadFull] it leaves r's error as it
// is: a body that was cut off says io.ErrUnexpectedEOF, and must not look like a short one.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// makeDurable is the end of each Append. An entry is as new as its bytes: while none are
// acknowledged, a process that died may have made it and not lived to sync its directory.
func (s *Store) makeDurable(f file, offset int64) error {
	if err := f.Datasync(); err != nil || offset > 0 {
		return err
	}
	return s.syncEntries()
}

// syncEntries makes the entries durable that were made before it was called. One sync is for all who
// have come to wait while the one before it ran.
func (s *Store) syncEntries() error {
	_, err, _ := s.entries.Do("", func() (any, error) {
		s.syncing.Lock()
		defer s.syncing.Unlock()
		s.entries.Forget("") // whose entry comes from here on waits for the next
		return nil, s.syncDir(s.path)
	})
	return err
}

// Open implements [staging.Store]. The size is that of the moment of opening.
func (s *Store) Open(_ context.Context, id upload.ID) (staging.Reader, error) {
	path, err := s.locate(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.missing(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open staged %s: %w", id, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open staged %s: %w", id, errors.Join(err, f.Close()))
	}
	return reader{f, info.Size()}, nil
}

type reader struct {
	*os.File
	size int64
}

func (r reader) Size() int64 { return r.size }

// Remove implements [staging.Store].
func (s *Store) Remove(_ context.Context, id upload.ID) error {
	path, err := s.locate(id)
	if err != nil {
		return err
	}
	for _, path := range []string{path, s.inTrash(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove staged %s: %w", id, err)
		}
	}
	return nil
}

// locate names id's file. Only an id names a file: a path part never gets this far, and if it does
// it ends here.
func (s *Store) locate(id upload.ID) (path string, err error) {
	if _, err := upload.ParseID(string(id)); err != nil {
		return "", fmt.Errorf("staging: %q: %w", string(id), err)
	}
	return filepath.Join(s.path, string(id)), nil
}

// missing tells a store without the bytes from a store that is not there.
func (s *Store) missing(cause error) error {
	if err := s.reachable(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", staging.ErrMissing, cause)
}

// noRoom marks the errors of a full disk.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", staging.ErrNoRoom, err)
	}
	return err
}
