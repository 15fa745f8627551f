package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"slipway/internal/upload"
)

// key says of each try to send a file that it is the same, if the plan wants that.
func (l *lab) key(p parcel) []string {
	if !p.keyed {
		return nil
	}
	return []string{"Idempotency-Key", fmt.Sprintf(`"%d-%d"`, l.seed, p.n)}
}

// resumer sends a file by tus, and goes on where it was.
type resumer struct {
	*lab
	location string // "" until there is one
	told     int64  // bytes that are there, by the last answer
}

func (r *resumer) send(ctx context.Context, base string, p parcel) (upload.ID, error) {
	if r.location == "" {
		p.keyed = true // else an answer that is lost leaves an upload that nobody goes on with
		about := ""
		for name, value := range map[string]string{"filename": p.name(), "provider": p.provider} {
			about += "," + name + " " + base64.StdEncoding.EncodeToString([]byte(value))
		}
		header, err := r.tus(ctx, http.MethodPost, base+"/v1/tus/", nil, 0, http.StatusCreated,
			append(r.key(p), "Upload-Length", strconv.FormatInt(p.size, 10), "Upload-Metadata", about[1:])...)
		if err != nil {
			return "", err
		}
		r.location = header.Get("Location")
	}
	header, err := r.tus(ctx, http.MethodHead, base+r.location, nil, 0, http.StatusOK)
	if err != nil {
		return "", err
	}
	offset, err := strconv.ParseInt(header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		return "", err
	}
	if offset < r.told {
		r.mishap.add("%s had %d bytes, as was answered, and has %d", r.location, r.told, offset)
	}
	r.told = offset
	for offset < p.size {
		content := p.content(r.seed)
		if _, err := io.CopyN(io.Discard, content, offset); err != nil {
			return "", err
		}
		n := p.size - offset
		if p.async {
			n = min(n, 4*mib)
		}
		if _, err := r.tus(ctx, http.MethodPatch, base+r.location, io.LimitReader(content, n), n, http.StatusNoContent,
			"Upload-Offset", strconv.FormatInt(offset, 10), "Content-Type", "application/offset+octet-stream"); err != nil {
			return "", err
		}
		offset += n
		r.told = offset
	}
	return upload.ParseID(r.location[strings.LastIndexByte(r.location, '/')+1:])
}

// tus sends a request of that protocol.
func (l *lab) tus(ctx context.Context, method, to string, body io.Reader, size int64, want int, header ...string) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Tus-Resumable", "1.0.0")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, kib))
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s is answered %s %s", method, resp.Status, text)
	}
	return resp.Header, err
}

// sendURL says where the file is.
func (l *lab) sendURL(ctx context.Context, base string, p parcel) (upload.ID, error) {
	text, err := json.Marshal(map[string]string{"url": fmt.Sprintf("%s/%d/%d", l.web.URL, p.n, p.size), "provider": p.provider, "file_name": p.name()})
	if err != nil {
		return "", err
	}
	return accepted(l.ask(ctx, http.MethodPost, base+"/v1/uploads", "application/json", strings.NewReader(string(text)), int64(len(text)), l.key(p)...))
}

// serveFiles is the web site that files are fetched from: /<number>/<size>.
func (l *lab) serveFiles(w http.ResponseWriter, r *http.Request) {
	var p parcel
	if _, err := fmt.Sscanf(r.URL.Path, "/%d/%d", &p.n, &p.size); err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, p.n))
	http.ServeContent(w, r, p.name(), time.Time{}, &seekable{parcel: p, seed: l.seed, rest: p.content(l.seed)})
}

// seekable is the content of a file from any byte on.
type seekable struct {
	parcel
	seed uint64
	at   int64
	rest io.Reader
}

func (s *seekable) Read(p []byte) (int, error) {
	n, err := s.rest.Read(p)
	s.at += int64(n)
	return n, err
}

func (s *seekable) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 || offset > s.size {
		return 0, errors.New("outside of the file")
	}
	if offset == s.size { // where its size is asked for
		s.at, s.rest = offset, strings.NewReader("")
		return offset, nil
	}
	s.at, s.rest = offset, s.content(s.seed)
	_, err := io.CopyN(io.Discard, s.rest, offset)
	return offset, err
}
