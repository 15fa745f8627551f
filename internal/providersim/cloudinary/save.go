package cloudinary

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// headSize is how many bytes are kept in memory to tell the content by.
const headSize = 3072

// fetchTime bounds the fetching of a remote file.
const fetchTime = time.Minute

// newBuffered reads r in large steps; multipart's own are 4 KiB, each a system call.
func newBuffered(r io.Reader) io.Reader { return bufio.NewReaderSize(r, bodyBuffer) }

// filled fills each buffer it is given, so that small reads do not become small writes.
type filled struct{ io.Reader }

func (f filled) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = f.Reader.Read(p[n:])
		n += m
	}
	return n, err
}

// capped refuses more than left bytes.
type capped struct {
	io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return n, errTooLarge
	}
	return n, err
}

// save streams a file to disk. A chunk that follows what has arrived goes on with the
// running MD5, so that the whole is never read again for its etag.
func (s *Sim) save(f *form, r io.Reader, name string, limit int64) error {
	r = filled{&capped{r, limit}}
	head := make([]byte, headSize)
	n, err := r.Read(head)
	if err != nil && err != io.EOF {
		return err
	}
	f.file = &file{head: head[:n], name: name}
	r = filled{io.MultiReader(bytes.NewReader(head[:n]), r)}

	var running hash.Hash
	if f.chunk != nil {
		f.file.before = s.partials.sumBefore(f.uploadID, f.chunk.start, s.deadline())
		if running, err = resumeMD5(f.file.before); err != nil {
			return err
		}
	}
	if running != nil {
		r = io.TeeReader(r, running)
	}
	blob, err := s.files.Save(r)
	if err != nil {
		f.file = nil
		return err
	}
	f.file.blob = blob
	if running != nil {
		f.file.after, err = stateMD5(running)
	}
	return err
}

// deadline is the time before which a partial must have begun to be forgotten by now.
func (s *Sim) deadline() time.Time {
	return s.controls.Clock.Now().Add(-time.Duration(s.Settings().PartialTTL))
}

// resumeMD5 goes on from a saved state; without one there is nothing to go on from.
func resumeMD5(state []byte) (hash.Hash, error) {
	if state == nil {
		return nil, nil
	}
	h := md5.New()
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

func stateMD5(h hash.Hash) ([]byte, error) { return h.(encoding.BinaryMarshaler).MarshalBinary() }

// saveSource saves what a file given as text stands for: a data URI, or an address to fetch.
func (s *Sim) saveSource(ctx context.Context, f *form, r io.Reader, limit int64) error {
	text := bufio.NewReader(r)
	start, err := text.Peek(len("data:"))
	if err != nil && err != io.EOF {
		return err
	}
	if string(start) == "data:" {
		return s.saveData(f, text, limit)
	}
	address, err := io.ReadAll(io.LimitReader(text, maxFields))
	if err != nil || len(address) == 0 {
		return err
	}
	return s.fetch(ctx, f, string(address), limit)
}

func (s *Sim) saveData(f *form, text *bufio.Reader, limit int64) error {
	header, err := text.ReadString(',')
	if err != nil || !strings.HasSuffix(header, ";base64,") {
		return fail(http.StatusBadRequest, "Invalid data URI")
	}
	counted := &capped{text, maxDataURI}
	err = s.save(f, base64.NewDecoder(base64.StdEncoding, counted), "file", limit)
	var corrupt base64.CorruptInputError
	switch {
	case counted.left < 0:
		return fail(http.StatusBadRequest, "Invalid URI. URI byte size should not be > 62910000.")
	case errors.As(err, &corrupt), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(http.StatusBadRequest, "Invalid data URI")
	}
	return err
}

func (s *Sim) fetch(ctx context.Context, f *form, address string, limit int64) error {
	source, err := url.Parse(address)
	if err != nil || source.Scheme != "http" && source.Scheme != "https" {
		return fail(http.StatusBadRequest, "Unsupported source URL: "+address)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail(http.StatusBadRequest, "Unsupported source URL: "+address)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fail(http.StatusBadRequest, fmt.Sprintf("Error in loading %s - %v", address, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(http.StatusBadRequest, fmt.Sprintf("Error in loading %s - %s", address, resp.Status))
	}
	return s.save(f, resp.Body, path.Base(source.Path), limit)
}
