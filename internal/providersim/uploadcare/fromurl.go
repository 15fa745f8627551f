package uploadcare

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"slipway/internal/providersim"
)

// fetchTime bounds a download by /from_url/.
const fetchTime = 10 * time.Minute

// fetch is one download in the background. Its token is forgotten with the process.
type fetch struct {
	mu     sync.Mutex
	done   int64  // bytes
	asset  string // uuid, when it succeeded
	failed *refusal
}

// fetches are the downloads of a simulator.
type fetches struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	tokens sync.Map // token to *fetch
}

func newFetches() *fetches {
	f := &fetches{}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func (f *fetches) end() {
	f.cancel()
	f.wg.Wait()
}

// fromURL begins to download a file. Unlike the service it also takes private addresses.
func (s *Sim) fromURL(r *http.Request) (any, error) {
	f, err := s.readForm(r)
	if err := s.discard(f); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	one, err := s.admit(f, "pub_key", "store")
	if err != nil {
		return nil, err
	}
	source := f.Get("source_url")
	if source == "" {
		return nil, required("source_url")
	}
	u, err := url.Parse(source)
	switch {
	case err != nil:
		return nil, refuse(400, "UploadViewsError", "Failed to parse URL.")
	case u.Scheme == "":
		return nil, refuse(400, "UploadViewsError", "No URL scheme supplied.")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, refuse(400, "UploadViewsError", "Invalid URL scheme.")
	case u.Host == "":
		return nil, refuse(400, "UploadViewsError", "No URL host supplied.")
	}
	if one.Name = shortName(f.Get("filename")); one.Name == "" {
		one.Name = strings.Trim(path.Base(u.Path), "./")
	}
	token, job := newUUID(), &fetch{}
	s.fetching.tokens.Store(token, job)
	s.fetching.wg.Go(func() {
		id, err := s.download(job, u.String(), one)
		job.mu.Lock()
		defer job.mu.Unlock()
		job.asset = id
		if err != nil && !errors.As(err, &job.failed) {
			job.failed = errInternal
		}
	})
	return map[string]string{"type": "token", "token": token}, nil
}

// download brings a file in and returns its uuid.
func (s *Sim) download(job *fetch, source string, one file) (string, error) {
	ctx, cancel := context.WithTimeout(s.fetching.ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", refuse(400, "DownloadFileConnectionError", "Connection error.")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", refuse(400, "DownloadFileHTTPClientError", "HTTP client error: %d.", resp.StatusCode)
	}
	blob, err := s.files.Save(&fetchReader{resp, job})
	if err != nil {
		return "", err
	}
	if one.MimeType = resp.Header.Get("Content-Type"); one.MimeType == "" {
		one.MimeType = "application/octet-stream"
	}
	a, err := s.newAsset(newUUID(), one, []providersim.Blob{blob})
	if err != nil {
		return "", err
	}
	return a.UUID, s.appear(a)
}

// fetchReader counts what has come in.
type fetchReader struct {
	resp *http.Response
	job  *fetch
}

func (f *fetchReader) Read(p []byte) (int, error) {
	n, err := f.resp.Body.Read(p)
	f.job.mu.Lock()
	defer f.job.mu.Unlock()
	f.job.done += int64(n)
	return n, err
}

// fromURLStatus tells how far a download is.
func (s *Sim) fromURLStatus(r *http.Request) (any, error) {
	token := r.URL.Query().Get("token")
	if token == "" {
		return nil, required("token")
	}
	known, ok := s.fetching.tokens.Load(token)
	if !ok {
		return map[string]string{"status": "unknown"}, nil
	}
	job := known.(*fetch)
	job.mu.Lock()
	defer job.mu.Unlock()
	switch {
	case job.failed != nil:
		return map[string]string{"status": "error", "error": job.failed.Text, "error_code": job.failed.Code}, nil
	case job.asset == "":
		return map[string]any{"status": "progress", "done": job.done, "total": nil}, nil
	}
	a, ok := s.asset(job.asset)
	if !ok {
		return nil, errFileNotFound
	}
	return struct {
		Status string `json:"status"`
		uploadView
	}{"success", s.uploadView(a)}, nil
}
