package providersim

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// copyBuffer is how much of a body is in memory at a time, in bytes.
const copyBuffer = 256 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// Blob is a run of bytes on disk. An asset is one blob or several in a row, so that parts
// become a whole without being copied.
type Blob struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	MD5  string `json:"md5"` // lower hex
}

// Files keeps blobs in a folder. It is safe for use at once, and blobs outlive the process.
type Files struct {
	dir string
}

// OpenFiles opens the folder, makes it where it is missing, and drops what a killed process
// had not finished.
func OpenFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o700); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	partial, err := filepath.Glob(filepath.Join(dir, "partial", "*"))
	if err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	for _, name := range partial {
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("open files: %w", err)
		}
	}
	return &Files{dir: dir}, nil
}

// Save streams r to disk and takes its MD5 on the way. When r fails nothing is kept and r's
// error is returned; what was read before is counted in the blob's Size.
func (f *Files) Save(r io.Reader) (Blob, error) {
	name := rand.Text()
	partial := filepath.Join(f.dir, "partial", name)
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Blob{}, fmt.Errorf("save blob: %w", err)
	}
	sum := md5.New()
	buf := copyBuffers.Get().(*[]byte)
	n, err := io.CopyBuffer(io.MultiWriter(file, sum), r, *buf)
	copyBuffers.Put(buf)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(partial, filepath.Join(f.dir, name))
	}
	if err != nil {
		return Blob{Size: n}, fmt.Errorf("save blob: %w", errors.Join(err, os.Remove(partial)))
	}
	return Blob{Name: name, Size: n, MD5: hex.EncodeToString(sum.Sum(nil))}, nil
}

// Remove frees the blobs; one that is gone already is no error.
func (f *Files) Remove(blobs ...Blob) error {
	for _, b := range blobs {
		if err := os.Remove(filepath.Join(f.dir, b.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove blob: %w", err)
		}
	}
	return nil
}

// RemoveUnless frees the blobs whose names are not among those: what a killed process had
// saved and not yet recorded.
func (f *Files) RemoveUnless(named map[string]bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look through files: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || named[e.Name()] {
			continue
		}
		if err := f.Remove(Blob{Name: e.Name()}); err != nil {
			return err
		}
	}
	return nil
}

// MD5 is the lower-hex MD5 of the blobs in a row. Several blobs are read for it.
func (f *Files) MD5(blobs ...Blob) (string, error) {
	if len(blobs) == 1 {
		return blobs[0].MD5, nil
	}
	content := f.Open(blobs...)
	defer content.Close()
	sum := md5.New()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	if _, err := io.CopyBuffer(sum, content, *buf); err != nil {
		return "", fmt.Errorf("md5 of %d blobs: %w", len(blobs), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Open returns the blobs in a row as one content. A missing blob is an error of Read.
func (f *Files) Open(blobs ...Blob) *Content {
	c := &Content{dir: f.dir, blobs: blobs}
	for _, b := range blobs {
		c.size += b.Size
	}
	return c
}

// Content reads blobs in a row; at most one of them is open at a time.
type Content struct {
	dir   string
	blobs []Blob
	size  int64
	pos   int64

	open  *os.File
	first int64 // position of the open blob's first byte
	limit int64 // position after its last
}

// Size is the length of the whole content in bytes.
func (c *Content) Size() int64 { return c.size }

func (c *Content) Read(p []byte) (int, error) {
	if c.pos >= c.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.open == nil || c.pos < c.first || c.pos >= c.limit {
		if err := c.turn(); err != nil {
			return 0, err
		}
	}
	n, err := c.open.ReadAt(p[:min(int64(len(p)), c.limit-c.pos)], c.pos-c.first)
	c.pos += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the blob is shorter than its record says
	}
	return n, err
}

// turn opens the blob that holds the position.
func (c *Content) turn() error {
	if err := c.Close(); err != nil {
		return err
	}
	c.first = 0
	for _, b := range c.blobs {
		if c.limit = c.first + b.Size; c.pos < c.limit {
			file, err := os.Open(filepath.Join(c.dir, b.Name))
			if err != nil {
				return fmt.Errorf("open blob: %w", err)
			}
			c.open = file
			return nil
		}
		c.first = c.limit
	}
	return io.ErrUnexpectedEOF
}

// Seek moves to a position; only a later Read touches the disk.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("seek: position before the start")
	}
	c.pos = offset
	return offset, nil
}

// Close lets go of the open blob. The content may be read again.
func (c *Content) Close() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}
