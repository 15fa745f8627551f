package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

const (
	trashDir = "trash"
	pageSize = 1000 // entries in one batch of List
)

func (s *Store) inTrash(id upload.ID) string { return filepath.Join(s.path, trashDir, string(id)) }

// List implements [staging.Store]. Whatever does not have an upload's name is somebody else's and left out.
func (s *Store) List(ctx context.Context, in staging.Shelf, page func([]staging.Entry) error) error {
	if err := s.reachable(); err != nil {
		return err
	}
	now, err := s.clock()
	if err != nil {
		return fmt.Errorf("list staging: %w", err)
	}
	path := s.path
	if in == staging.InTrash {
		path = filepath.Join(s.path, trashDir)
	}
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && in == staging.InTrash {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list staging: %w", err)
	}
	defer d.Close()
	for ctx.Err() == nil {
		found, rerr := d.ReadDir(pageSize)
		entries, err := entriesOf(found, now)
		if err != nil {
			return fmt.Errorf("list staging: %w", err)
		}
		if len(entries) > 0 {
			if err := page(entries); err != nil {
				return err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return fmt.Errorf("list staging: %w", rerr)
		}
	}
	return ctx.Err()
}

func entriesOf(found []fs.DirEntry, now time.Time) ([]staging.Entry, error) {
	var entries []staging.Entry
	for _, f := range found {
		id, err := upload.ParseID(f.Name())
		if err != nil || !f.Type().IsRegular() {
			continue
		}
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, staging.Entry{ID: id, Size: info.Size(), Changed: info.ModTime(), Idle: now.Sub(info.ModTime())})
	}
	return entries, nil
}

// clock is the time that a file would get which is written now: that of the file system, which may be
// another machine's.
func (s *Store) clock() (time.Time, error) {
	f, err := os.CreateTemp(s.path, ".clock-*")
	if err != nil {
		return time.Time{}, err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// Trash implements [staging.Store]. The file is given the time first: whoever dies before the move leaves one
// that looks as if it had just been written.
func (s *Store) Trash(_ context.Context, e staging.Entry) (bool, error) {
	path, err := s.locate(e.ID)
	if err != nil {
		return false, err
	}
	if err := s.reachable(); err != nil {
		return false, err
	}
	moved, err := s.trash(path, e)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // another was quicker
	}
	if err != nil {
		return false, fmt.Errorf("move staged %s to the trash: %w", e.ID, err)
	}
	return moved, nil
}

func (s *Store) trash(path string, e staging.Entry) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Size() != e.Size || !info.ModTime().Equal(e.Changed) {
		return false, err
	}
	if err := os.Mkdir(filepath.Join(s.path, trashDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	now, err := s.clock()
	if err != nil {
		return false, err
	}
	if err := os.Chtimes(path, now, now); err != nil {
		return false, err
	}
	return true, os.Rename(path, s.inTrash(e.ID))
}

// Restore implements [staging.Store]: by a link, which fails where there is a file already.
func (s *Store) Restore(_ context.Context, id upload.ID) (bool, error) {
	path, err := s.locate(id)
	if err != nil {
		return false, err
	}
	if err := s.reachable(); err != nil {
		return false, err
	}
	err = os.Link(s.inTrash(id), path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fs.ErrExist):
		return false, s.settle(id, path)
	case err != nil:
		return false, fmt.Errorf("bring staged %s back from the trash: %w", id, err)
	}
	return true, s.forget(id)
}

// settle ends a restoring that somebody has not lived to end: the file has both names. Of two files both stay.
func (s *Store) settle(id upload.ID, path string) error {
	used, err := os.Lstat(path)
	if err == nil {
		var trashed fs.FileInfo
		if trashed, err = os.Lstat(s.inTrash(id)); err == nil && os.SameFile(used, trashed) {
			return s.forget(id)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bring staged %s back from the trash: %w", id, err)
	}
	return nil
}

func (s *Store) forget(id upload.ID) error {
	if err := os.Remove(s.inTrash(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s from the trash: %w", id, err)
	}
	return nil
}

// Purge implements [staging.Store].
func (s *Store) Purge(_ context.Context, e staging.Entry) error {
	if _, err := s.locate(e.ID); err != nil {
		return err
	}
	return s.forget(e.ID)
}
