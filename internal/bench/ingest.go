package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
)

// measureIngest sends large files to the API, one at a time, beside a plain server that does the same work
// but for the database's: the same disk, buffer, checksum and syncs.
func measureIngest(ctx context.Context, s *stack, o options, r *report) error {
	api, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	plain, url, err := s.startReceiver(ctx)
	if err != nil {
		return err
	}
	who, err := token(user(1))
	if err != nil {
		return err
	}
	client := newClient(1)
	for _, kind := range []string{"raw", "multipart"} {
		to := func(p *child, url, keeps string) func() (sample, error) {
			return func() (sample, error) {
				took, cpu, err := p.cpu(func() error { return sendLarge(ctx, client, url, who, kind, "uploadcare", s.large) })
				if err != nil {
					return sample{}, err
				}
				return perGiB(o.size, took, cpu), forget(keeps)
			}
		}
		ours, yardstick, err := byTurns(o.rounds, to(api, s.url+"/v1/uploads", s.env["STAGING_DIR"]), to(plain, url+"/"+kind, s.received()))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("ingest %d MiB %s", o.size/mib, kind)
		r.addRatio(what, "MiB/s", ours.rate, yardstick.rate, 0.95)
		r.addRatio("", "CPU-s/GiB of the server", ours.cpu, yardstick.cpu, none)
	}
	r.note("ingest: the yardstick is a net/http handler in a process of its own: %d KiB buffer, crc32c, fsync of file and directory, no database.", bufferSize>>10)
	return nil
}

// newClient returns a client that keeps n connections.
func newClient(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n, WriteBufferSize: 128 << 10}}
}

// sendLarge sends the file at path as a body or as a form.
func sendLarge(ctx context.Context, client *http.Client, url, token, kind, provider, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, f)
	if err != nil {
		return err
	}
	q := req.URL.Query()
	q.Set("provider", provider)
	req.URL.RawQuery = q.Encode()
	describe(req, token, filepath.Base(path))
	req.ContentLength = info.Size()
	if kind == "multipart" {
		around, err := newForm(filepath.Base(path))
		if err != nil {
			return err
		}
		req.Body = io.NopCloser(io.MultiReader(bytes.NewReader(around.before), f, bytes.NewReader(around.after)))
		req.ContentLength += int64(len(around.before) + len(around.after))
		req.Header.Set("Content-Type", around.contentType)
	}
	return accepted(client.Do(req))
}

func describe(req *http.Request, token, name string) {
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
}

// form is what stands around a file in a multipart body.
type form struct {
	contentType   string
	before, after []byte
}

func newForm(name string) (form, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if _, err := w.CreateFormFile("file", name); err != nil {
		return form{}, err
	}
	n := b.Len()
	if err := w.Close(); err != nil {
		return form{}, err
	}
	return form{contentType: w.FormDataContentType(), before: b.Bytes()[:n], after: b.Bytes()[n:]}, nil
}
