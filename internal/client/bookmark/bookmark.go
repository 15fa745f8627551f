// Package bookmark keeps, on the user's machine, where the sending of a file goes on that was broken off.
package bookmark

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"slipway/internal/client"
)

const (
	// keptFor is after how long nobody is expected to go on: longer than any service keeps what it has.
	keptFor = 30 * 24 * time.Hour

	// lookAgain is how often it is tried to take a place that another process has.
	lookAgain = 50 * time.Millisecond
)

// Shelf is a folder of bookmarks.
type Shelf struct{ dir string }

// Open opens the shelf in the user's cache folder, and clears it of what is too old.
func Open() (*Shelf, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return open(filepath.Join(cache, "slipway", "put"), time.Now())
}

func open(dir string, now time.Time) (*Shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Shelf{dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())))
		if changed := lastChange(path, e); now.Sub(changed) > keptFor {
			clear(path)
		}
	}
	return s, nil
}

// lastChange is when a bookmark was last written, one of whose files is e.
func lastChange(path string, e fs.DirEntry) (last time.Time) {
	for _, look := range []func() (fs.FileInfo, error){e.Info, func() (fs.FileInfo, error) { return os.Stat(path + ending) }} {
		if info, err := look(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// clear removes a bookmark, unless somebody has it.
func clear(path string) {
	b := &Bookmark{path: path, lock: flock.New(path + lockEnding)}
	if locked, err := b.lock.TryLock(); err == nil && locked {
		b.Remove()
		b.Close()
	}
}

// Entry is what a bookmark says.
type Entry struct {
	client.Mark
	File    File   `json:"file"`
	Options string `json:"options"` // a digest of what was said of the file beside its content
}

// File is the state in which a file was.
type File struct {
	Size    int64 `json:"size"`
	Changed int64 `json:"changed"` // nanoseconds of Unix time
}

// FileOf is the state in which a file is.
func FileOf(info fs.FileInfo) File { return File{info.Size(), info.ModTime().UnixNano()} }

const (
	ending     = ".json"
	newEnding  = ".new"
	lockEnding = ".lock"
)

// Bookmark is the place of one file on the shelf. One process has it at a time, and nobody else sends the file as
// the same user to the same service meanwhile.
type Bookmark struct {
	path  string // without its ending
	lock  *flock.Flock
	entry *Entry
}

// Take takes the place of a file, by its absolute path, among those that identity has sent. While another
// process has it, Take waits, after it has called waiting. What that process was sending is in the bookmark then, also when
// it is done: whoever goes on with it finds the upload that it made.
func (s *Shelf) Take(ctx context.Context, identity, path string, waiting func()) (*Bookmark, error) {
	name := sha256.Sum256([]byte(identity + "\n" + path))
	b := &Bookmark{path: filepath.Join(s.dir, hex.EncodeToString(name[:]))}
	b.lock = flock.New(b.path + lockEnding)
	var seen *Entry
	for first := true; ; first = false {
		locked, err := b.lock.TryLock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("lock a bookmark: %w", err)
		case locked && b.there():
			if b.entry = b.read(); b.entry == nil {
				b.entry = seen
			}
			return b, nil
		case locked: // it was removed before
			b.Close()
			continue
		}
		if now := b.read(); now != nil {
			seen = now
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}

// there tells whether the lock is still that of the place: who removes a bookmark removes it too.
func (b *Bookmark) there() bool {
	held, err := b.lock.Stat()
	now, gone := os.Stat(b.lock.Path())
	return err == nil && gone == nil && os.SameFile(held, now)
}

// read is what is written in the bookmark; nil: nothing, or nothing of use.
func (b *Bookmark) read() *Entry {
	text, err := os.ReadFile(b.path + ending)
	if err != nil {
		return nil
	}
	var e Entry
	if json.Unmarshal(text, &e) != nil || e.Key == "" {
		return nil
	}
	return &e
}

// Entry is what was written last, by whomever; false: nothing.
func (b *Bookmark) Entry() (Entry, bool) {
	if b.entry == nil {
		return Entry{}, false
	}
	return *b.entry, true
}

// Keep writes an entry in place of the last.
func (b *Bookmark) Keep(e Entry) error {
	b.entry = &e
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path+newEnding, text, 0o600); err != nil {
		return err
	}
	return os.Rename(b.path+newEnding, b.path+ending)
}

// Remove ends the bookmark: there is nothing to go on with.
func (b *Bookmark) Remove() {
	for _, ending := range []string{newEnding, ending, lockEnding} {
		_ = os.Remove(b.path + ending) // what stays is of no harm, and goes when it is old
	}
}

// Close lets others have the place.
func (b *Bookmark) Close() { _ = b.lock.Close() }
