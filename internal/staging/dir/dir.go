// Package dir is staging in a directory.
package dir

import (
	"context"
	"errors"
	"fmt"
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
	// writebackSize is how many bytes are written before the kernel is told to start on them, so
	// that the sync at the end of a large file finds most of them on the disk.
	writebackSize = 8 << 20
)

// Options are what a Store is told besides its directory.
type Options struct {
	Reserve int64 // bytes of the file system that Free leaves out
}

// Store keeps an upload's bytes in the file <path>/<id>, all in one directory, so that files that come at
// the same time share its syncs; segments beside the first are in the directory <path>/<id>.segments. What
// nobody needs is moved to <path>/trash. Directories and files are for their owner's eyes only.
type Store struct {
	path     string
	reserve  int64
	openFile func(path string, flag int) (file, error)
	syncDir  func(path string) error
	buffers  [2]*buffers

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
		buffers:  largerBuffers(),
	}, nil
}

// Append implements [staging.Store]. It ends early, with the bytes so far durable, when ctx does;
// a read that blocks is r's own to end.
func (s *Store) Append(ctx context.Context, id upload.ID, offset int64, r io.Reader) (n int64, sum uint32, err error) {
	w, err := s.extend(upload.Segment{Of: id, Size: offset}, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = w.Close() }() // its bytes are durable by then, or err says that they are not

	err = w.Copy(ctx, r)
	if w.mark.Size == offset && err != nil {
		return 0, 0, err
	}
	mark, serr := w.Sync()
	if serr != nil {
		return 0, 0, serr
	}
	return mark.Size - offset, mark.CRC32C, err
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
		if err := os.RemoveAll(path + othersSuffix); err != nil {
			return fmt.Errorf("remove segments of staged %s: %w", id, err)
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
