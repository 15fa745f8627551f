package providersim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

// Table keeps small records by key: all in memory, and every change in a log on disk, so
// that they outlive a killed process. It is safe for use at once.
type Table[T any] struct {
	mu   sync.Mutex
	rows map[string]T
	log  *os.File
}

// change is one line of the log; without a row the key is gone.
type change[T any] struct {
	Key string `json:"key"`
	Row *T     `json:"row,omitempty"`
}

// OpenTable reads the log at path, where there is one, and rewrites it without what is past.
// A line that a killed process left unfinished is dropped.
func OpenTable[T any](path string) (*Table[T], error) {
	t := &Table[T]{rows: map[string]T{}}
	if err := t.replay(path); err != nil {
		return nil, fmt.Errorf("open table %s: %w", filepath.Base(path), err)
	}
	if err := t.compact(path); err != nil {
		return nil, fmt.Errorf("open table %s: %w", filepath.Base(path), err)
	}
	return t, nil
}

func (t *Table[T]) replay(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var c change[T]
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		if c.Row == nil {
			delete(t.rows, c.Key)
		} else {
			t.rows[c.Key] = *c.Row
		}
	}
}

func (t *Table[T]) compact(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	t.log = file
	out := bufio.NewWriter(file)
	enc := json.NewEncoder(out)
	for key, row := range t.rows {
		if err := enc.Encode(change[T]{key, &row}); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	if err := out.Flush(); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// Get returns the row of a key.
func (t *Table[T]) Get(key string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, ok := t.rows[key]
	return row, ok
}

// Put sets the row of a key.
func (t *Table[T]) Put(key string, row T) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.put(key, row)
}

func (t *Table[T]) put(key string, row T) error {
	if err := t.write(change[T]{key, &row}); err != nil {
		return err
	}
	t.rows[key] = row
	return nil
}

// Update changes the row of a key by f, with no other change in between, and returns the
// new row; ok is whether there is one. An error of f is returned and changes nothing.
func (t *Table[T]) Update(key string, f func(*T) error) (row T, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, ok = t.rows[key]
	if !ok {
		return row, false, nil
	}
	if err := f(&row); err != nil {
		return row, true, err
	}
	return row, true, t.put(key, row)
}

// Delete removes a key; one that is not there is no error.
func (t *Table[T]) Delete(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.rows[key]; !ok {
		return nil
	}
	if err := t.write(change[T]{Key: key}); err != nil {
		return err
	}
	delete(t.rows, key)
	return nil
}

// All yields the rows of this moment, in no order.
func (t *Table[T]) All() iter.Seq2[string, T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.All(maps.Clone(t.rows))
}

// Len is the number of rows.
func (t *Table[T]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

// Close closes the log; the table takes no more changes.
func (t *Table[T]) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Close()
}

func (t *Table[T]) write(c change[T]) error {
	line, err := json.Marshal(c)
	if err == nil {
		_, err = t.log.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}
