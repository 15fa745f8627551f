package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"slipway/internal/crc32c"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// othersSuffix names the directory of an upload's segments beside the first.
const othersSuffix = ".segments"

// Extend implements [staging.Store].
func (s *Store) Extend(_ context.Context, seg upload.Segment, sum uint32) (staging.Writer, error) {
	w, err := s.extend(seg, sum)
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", seg.Of, err)
	}
	return w, nil
}

func (s *Store) extend(seg upload.Segment, sum uint32) (*writer, error) {
	path, err := s.locateSegment(seg)
	if err != nil {
		return nil, err
	}
	f, err := s.openAt(path, seg)
	if err != nil {
		return nil, noRoom(err)
	}
	return &writer{store: s, file: f, seg: seg, mark: staging.Mark{Size: seg.Size, CRC32C: sum}, started: seg.Size}, nil
}

// locateSegment names a segment's file.
func (s *Store) locateSegment(seg upload.Segment) (string, error) {
	path, err := s.locate(seg.Of)
	if err != nil || seg.Number == 0 {
		return path, err
	}
	return filepath.Join(path+othersSuffix, strconv.FormatInt(seg.Number, 10)), nil
}

// openAt opens a segment's file for writing, cut to its size.
func (s *Store) openAt(path string, seg upload.Segment) (file, error) {
	flag := os.O_WRONLY
	if seg.Size == 0 {
		flag |= os.O_CREATE
		if err := s.reachable(); err != nil {
			return nil, err
		}
		if seg.Number != 0 {
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
	}
	f, err := s.openFile(path, flag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.missing(err)
	}
	if err != nil {
		return nil, err
	}
	if err := cut(f, seg.Size); err != nil {
		return nil, errors.Join(fmt.Errorf("from byte %d: %w", seg.Size, err), f.Close())
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

// writer implements [staging.Writer].
type writer struct {
	store   *Store
	file    file
	seg     upload.Segment // as it was opened
	started int64          // up to here the kernel has been told to write

	mu    sync.Mutex
	mark  staging.Mark // what has been written
	entry bool         // and its entry is durable
}

// Copy implements [staging.Writer]. It ends early when ctx does; a read that blocks is r's own to end.
func (w *writer) Copy(ctx context.Context, r io.Reader) error {
	buf := buffer{larger: w.store.buffers}
	defer buf.release()

	for offset := w.mark.Size; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		filled, rerr := buf.fill(r)
		written, err := w.writeAt(filled, offset)
		offset += int64(written)
		w.wrote(filled[:written])
		switch {
		case err != nil:
			return noRoom(err)
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return rerr
		}
		if offset-w.started >= writebackSize {
			if err := w.file.Writeback(w.started, offset-w.started); err != nil {
				return noRoom(err)
			}
			w.started = offset
		}
	}
}

// writeAt writes a buffer, in pieces while others write large ones, too.
func (w *writer) writeAt(b []byte, offset int64) (n int, err error) {
	piece := len(b)
	if len(w.store.buffers[1].used) >= manyLarge {
		piece = pieceSize
	}
	for n < len(b) && err == nil {
		var m int
		m, err = w.file.WriteAt(b[n:min(len(b), n+piece)], offset+int64(n))
		n += m
	}
	return n, err
}

func (w *writer) wrote(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark.Size += int64(len(b))
	w.mark.CRC32C = crc32c.Update(w.mark.CRC32C, b)
}

// Sync implements [staging.Writer]. An entry is as new as its bytes: while none are acknowledged, a process that
// died may have made it and not lived to sync its directory.
func (w *writer) Sync() (staging.Mark, error) {
	w.mu.Lock()
	mark, old := w.mark, w.entry || w.seg.Size > 0
	w.mu.Unlock()
	if err := w.file.Datasync(); err != nil {
		return staging.Mark{}, noRoom(err)
	}
	if old {
		return mark, nil
	}
	if w.seg.Number != 0 {
		if err := w.store.syncDir(filepath.Join(w.store.path, string(w.seg.Of)+othersSuffix)); err != nil {
			return staging.Mark{}, noRoom(err)
		}
	}
	if err := w.store.syncEntries(); err != nil {
		return staging.Mark{}, noRoom(err)
	}
	w.mu.Lock()
	w.entry = true
	w.mu.Unlock()
	return mark, nil
}

func (w *writer) Close() error { return w.file.Close() }

// Open implements [staging.Store]. The size of what is in one run is that of the moment of opening.
func (s *Store) Open(_ context.Context, id upload.ID, segments ...upload.Segment) (_ staging.Reader, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open staged %s: %w", id, err)
		}
	}()
	if len(segments) == 0 {
		f, size, err := s.openRun(upload.Segment{Of: id})
		if err != nil {
			return nil, err
		}
		return run{f, size}, nil
	}
	r := &runs{}
	for _, seg := range segments {
		f, size, err := s.openRun(seg)
		if err == nil && size < seg.Size {
			err = errors.Join(fmt.Errorf("%d bytes are there, %d were written down", size, seg.Size), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("segment %d of %s: %w", seg.Number, seg.Of, err), r.Close())
		}
		r.runs = append(r.runs, run{f, seg.Size})
		r.size += seg.Size
	}
	return r, nil
}

func (s *Store) openRun(seg upload.Segment) (*os.File, int64, error) {
	path, err := s.locateSegment(seg)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.missing(err)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

type run struct {
	*os.File
	size int64
}

func (r run) Size() int64 { return r.size }

// runs reads several as one.
type runs struct {
	runs []run
	size int64
}

func (r *runs) Size() int64 { return r.size }

func (r *runs) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("read staged bytes: offset %d", offset)
	}
	for _, run := range r.runs {
		if offset >= run.size {
			offset -= run.size
			continue
		}
		want := p[n:min(int64(len(p)), int64(n)+run.size-offset)]
		m, err := run.File.ReadAt(want, offset)
		n += m
		if m < len(want) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // it was long enough when it was opened
			}
			return n, err
		}
		if offset = 0; n == len(p) {
			return n, nil
		}
	}
	return n, io.EOF
}

func (r *runs) Close() error {
	var errs []error
	for _, run := range r.runs {
		errs = append(errs, run.Close())
	}
	return errors.Join(errs...)
}
