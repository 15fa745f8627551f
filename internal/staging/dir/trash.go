package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

const (
	trashDir = "trash"
	pageSize = 1000 // entries in one batch of List
)

func (s *Store) inTrash(id upload.ID) string { return filepath.Join(s.path, trashDir, string(id)) }

// placesOf are where an entry's file or directory is while it is in use, and in the trash.
func (s *Store) placesOf(e staging.Entry) (used, trashed string, err error) {
	used, err = s.locate(e.ID)
	trashed = s.inTrash(e.ID)
	if e.Others {
		used, trashed = used+othersSuffix, trashed+othersSuffix
	}
	return used, trashed, err
}

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
		entries, err := entriesOf(path, found, now, in)
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

func entriesOf(path string, found []fs.DirEntry, now time.Time, in staging.Shelf) ([]staging.Entry, error) {
	var entries []staging.Entry
	for _, f := range found {
		name, others := strings.CutSuffix(f.Name(), othersSuffix)
		id, err := upload.ParseID(name)
		if err != nil || f.IsDir() != others || !others && !f.Type().IsRegular() {
			continue
		}
		e, err := entryOf(filepath.Join(path, f.Name()), staging.Entry{ID: id, Others: others}, in)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e.Idle = now.Sub(e.Changed)
		entries = append(entries, e)
	}
	return entries, nil
}

// entryOf describes e, whose file or directory is at path. What is in use has changed with the latest of its
// bytes; what is in the trash, when it came there.
func entryOf(path string, e staging.Entry, in staging.Shelf) (staging.Entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return e, err
	}
	e.Changed = info.ModTime()
	if !e.Others {
		e.Size = info.Size()
		return e, nil
	}
	files, err := os.ReadDir(path)
	if err != nil {
		return e, err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return e, err
		}
		e.Size += info.Size()
		if in == staging.InUse && info.ModTime().After(e.Changed) {
			e.Changed = info.ModTime()
		}
	}
	return e, nil
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

// Trash implements [staging.Store]. What is moved is given the time first: whoever dies before the move leaves
// something that looks as if it had just been written.
func (s *Store) Trash(_ context.Context, e staging.Entry) (bool, error) {
	used, trashed, err := s.placesOf(e)
	if err != nil {
		return false, err
	}
	if err := s.reachable(); err != nil {
		return false, err
	}
	moved, err := s.trash(used, trashed, e)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // another was quicker
	}
	if err != nil {
		return false, fmt.Errorf("move staged %s to the trash: %w", e.ID, err)
	}
	return moved, nil
}

func (s *Store) trash(used, trashed string, e staging.Entry) (bool, error) {
	is, err := entryOf(used, staging.Entry{ID: e.ID, Others: e.Others}, staging.InUse)
	if err != nil || is.Size != e.Size || !is.Changed.Equal(e.Changed) {
		return false, err
	}
	if err := os.Mkdir(filepath.Join(s.path, trashDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	now, err := s.clock()
	if err != nil {
		return false, err
	}
	if err := os.Chtimes(used, now, now); err != nil {
		return false, err
	}
	if e.Others { // a directory takes no other's place by itself
		if err := s.forget(trashed); err != nil {
			return false, err
		}
	}
	return true, os.Rename(used, trashed)
}

// Restore implements [staging.Store]: a file by a link, which fails where there is one already; a directory by
// its name, which fails where there is one that is not empty.
func (s *Store) Restore(_ context.Context, id upload.ID) (bool, error) {
	path, err := s.locate(id)
	if err != nil {
		return false, err
	}
	if err := s.reachable(); err != nil {
		return false, err
	}
	restored := false
	err = os.Rename(s.inTrash(id)+othersSuffix, path+othersSuffix)
	switch {
	case err == nil:
		restored = true
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist): // the latter also says that one is not empty
	default:
		return false, fmt.Errorf("bring segments of staged %s back from the trash: %w", id, err)
	}
	err = os.Link(s.inTrash(id), path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return restored, nil
	case errors.Is(err, fs.ErrExist):
		return restored, s.settle(id, path)
	case err != nil:
		return restored, fmt.Errorf("bring staged %s back from the trash: %w", id, err)
	}
	return true, s.forget(s.inTrash(id))
}

// settle ends a restoring that somebody has not lived to end: the file has both names. Of two files both stay.
func (s *Store) settle(id upload.ID, path string) error {
	used, err := os.Lstat(path)
	if err == nil {
		var trashed fs.FileInfo
		if trashed, err = os.Lstat(s.inTrash(id)); err == nil && os.SameFile(used, trashed) {
			return s.forget(s.inTrash(id))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bring staged %s back from the trash: %w", id, err)
	}
	return nil
}

func (s *Store) forget(trashed string) error {
	if err := os.RemoveAll(trashed); err != nil {
		return fmt.Errorf("remove %s from the trash: %w", filepath.Base(trashed), err)
	}
	return nil
}

// Purge implements [staging.Store].
func (s *Store) Purge(_ context.Context, e staging.Entry) error {
	_, trashed, err := s.placesOf(e)
	if err != nil {
		return err
	}
	return s.forget(trashed)
}
