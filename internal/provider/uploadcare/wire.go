package uploadcare

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
)

const (
	maxAnswer  = 16 << 20 // bytes; the longest lists 10,000 part addresses of some 510 bytes
	maxRefusal = 8 << 10
)

// wire is the one way to Uploadcare. It sends the two API hosts to their configured bases, asks the
// Upload API for errors with codes, and returns a *provider.Error for every answer that is not a
// success. When it returns, nobody reads the request's body any more, and but for a file from the
// CDN the answer is whole.
type wire struct {
	next  http.RoundTripper
	bases map[string]*url.URL
	keys  []string // to be kept out of errors
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	from := answering(req)
	out, sent := w.outgoing(req, from)
	resp, err := w.next.RoundTrip(out)
	if err != nil {
		sent.Wait()
		return nil, err
	}
	resp.Request = req
	if from == cdn && resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	limit := int64(maxAnswer)
	if resp.StatusCode/100 != 2 {
		limit = maxRefusal
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	sent.Wait()
	switch {
	case resp.StatusCode/100 != 2 || from == uploadAPI && holdsError(body):
		return nil, refusal(from, resp, body, w.keys)
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func answering(req *http.Request) side {
	switch {
	case req.URL.Host == uploadHost:
		return uploadAPI
	case req.URL.Host == restHost:
		return restAPI
	case req.Method == http.MethodPut:
		return storage
	}
	return cdn
}

// outgoing is the request as it goes over the wire. The group is done when every body that was
// opened for it has been closed.
func (w *wire) outgoing(req *http.Request, to side) (*http.Request, *sync.WaitGroup) {
	out := req.Clone(req.Context())
	if base, ok := w.bases[req.URL.Host]; ok {
		out.Host = req.URL.Host
		out.URL.Scheme, out.URL.Host = base.Scheme, base.Host
	}
	if to == uploadAPI {
		q := out.URL.Query()
		q.Set("jsonerrors", "1")
		out.URL.RawQuery = q.Encode()
	}
	var sent sync.WaitGroup
	if req.Body == nil || req.Body == http.NoBody {
		return out, &sent
	}
	open := func(r io.ReadCloser) io.ReadCloser {
		sent.Add(1)
		return &sentBody{ReadCloser: r, closed: sync.OnceFunc(sent.Done)}
	}
	out.Body = open(req.Body)
	if req.GetBody != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			r, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			return open(r), nil
		}
	}
	return out, &sent
}

// sentBody tells when the transport is through with it.
type sentBody struct {
	io.ReadCloser
	closed func()
}

func (b *sentBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}
