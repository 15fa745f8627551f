package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/upload"
)

// File is what Put sends.
type File struct {
	Name    string // without a path
	Size    int64  // bytes
	Content io.ReaderAt

	ContentType  string              // "": by the name, and left to the service where that says nothing
	Provider     string              // "": the service's default
	ResourceType upload.ResourceType // "": by the content
	Metadata     map[string]string
	Tags         []string

	// Progress is told how many bytes have been handed to the network. It is called often, not any
	// more when Put has returned, and begins anew when the file has to be sent again.
	Progress func(sent int64)
}

var (
	// ErrShrunk means that the file has fewer bytes than it had.
	ErrShrunk = errors.New("the file became shorter while it was being sent")
	// ErrGarbled means that the service holds other bytes than were sent. The upload exists.
	ErrGarbled = errors.New("the service received other bytes than were sent")
)

// Put uploads f, once: when an answer was lost that could be about an upload, it is asked for again by the same
// key. When nobody has given it in the end, the error says so: an UnreachableError or an Error that is Unknown.
func (c *Client) Put(ctx context.Context, f File) (Upload, error) {
	query := url.Values{}
	if f.Provider != "" {
		query.Set("provider", f.Provider)
	}
	if f.ResourceType != "" {
		query.Set("resource_type", string(f.ResourceType))
	}
	for key, value := range f.Metadata {
		query.Set("metadata["+key+"]", value)
	}
	if len(f.Tags) > 0 {
		query["tags"] = f.Tags
	}
	body := &content{File: f.Content, size: f.Size, progress: f.Progress}
	var u Upload
	_, err := c.call(ctx, request{
		method: http.MethodPost, path: "/v1/uploads", query: query, content: body, once: true,
		header: http.Header{
			"Content-Type":        {cmp.Or(f.ContentType, typeByName(f.Name))},
			"Content-Disposition": {mime.FormatMediaType("attachment", map[string]string{"filename": f.Name})},
		},
	}, &u)
	if err != nil {
		return Upload{}, err
	}
	if sum, whole := body.sum(); whole && u.CRC32C != "" && u.CRC32C != crc32c.Base64(sum) {
		return u, fmt.Errorf("%w: crc32c %s, not %s", ErrGarbled, u.CRC32C, crc32c.Base64(sum))
	}
	return u, nil
}

// typeByName is the content type that belongs to the name's extension; of a name that says nothing
// the service looks at the content.
func typeByName(name string) string {
	const unknown = "application/octet-stream"
	if t := mime.TypeByExtension(filepath.Ext(name)); !strings.HasPrefix(t, "multipart/") { // which would be read as a form
		return cmp.Or(t, unknown)
	}
	return unknown
}

// content is a file on its way out, each time from its beginning.
type content struct {
	File     io.ReaderAt
	size     int64
	progress func(sent int64)

	mu    sync.Mutex
	last  *sending
	whole *sending // the last that was read to its end
}

// begin starts over. stalled is called when nobody has read for so long as stall.
func (f *content) begin(stall time.Duration, stalled func()) *sending {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &sending{file: f, r: io.NewSectionReader(f.File, 0, f.size), stall: stall, timer: time.AfterFunc(stall, stalled)}
	f.last = s
	return s
}

// outcome is how many bytes of the last try were read, and the error of the file itself.
func (f *content) outcome() (sent int64, broken error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.sent, f.last.err
}

// sum is the crc32c of the file as it was sent the last time that all of it was: who asks again for an answer
// that was lost may get it before.
func (f *content) sum() (crc uint32, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.whole == nil {
		return 0, false
	}
	return f.whole.crc, true
}

// sending is one try. The transport may still read it when its request has been answered.
type sending struct {
	file  *content
	r     *io.SectionReader
	stall time.Duration
	timer *time.Timer

	sent int64
	crc  uint32
	err  error
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if errors.Is(err, io.EOF) && s.sent+int64(n) < s.file.size {
		err = ErrShrunk
	}
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	s.sent += int64(n)
	s.crc = crc32c.Update(s.crc, p[:n])
	if s.sent == s.file.size {
		s.file.whole = s
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	if s.timer.Stop() {
		s.timer.Reset(s.stall)
		if n > 0 && s.file.progress != nil {
			s.file.progress(s.sent)
		}
	}
	return n, err
}

// stop ends the watch and the news about progress.
func (s *sending) stop() {
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	s.timer.Stop()
}
