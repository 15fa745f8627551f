package source

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"slipway/internal/upload"
)

// Options are what a Client is told besides its policy; what is not said is as it is for the web.
type Options struct {
	Resolver *net.Resolver
	Roots    *x509.CertPool
	Open     time.Duration // for the answer to begin, redirects included; 0: 1 min
	Window   time.Duration // in which at least Bytes of the file come; 0: 20 s
	Bytes    int64         // 0: 20 KiB
}

// Client fetches. It sends no header that a caller chose, keeps no cookie and heeds no proxy.
type Client struct {
	Options
	policy *Policy
	http   *http.Client
}

const (
	maxRedirects = 5
	maxHeaders   = 64 << 10 // bytes in an answer's headers
	dialLimit    = 10 * time.Second
	tlsLimit     = 10 * time.Second
)

// NewClient returns a client that reaches what p lets it.
func NewClient(p *Policy, o Options) *Client {
	o.Open = cmp.Or(o.Open, time.Minute)
	o.Window = cmp.Or(o.Window, 20*time.Second)
	o.Bytes = cmp.Or(o.Bytes, 20<<10)
	c := &Client{Options: o, policy: p}
	c.http = &http.Client{
		CheckRedirect: c.follow,
		Transport: &http.Transport{
			DialContext:            c.dial,
			TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    tlsLimit,
			MaxResponseHeaderBytes: maxHeaders,
			DisableCompression:     true, // the file's own bytes
			DisableKeepAlives:      true, // each fetch resolves for itself
		},
	}
	return c
}

// dial connects to an address of the policy's, whichever of a name's it is.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var allowed atomic.Bool
	d := net.Dialer{Timeout: dialLimit, Resolver: c.Resolver, ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
		err := c.policy.control(network, address)
		if err == nil {
			allowed.Store(true)
		}
		return err
	}}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil && errors.Is(err, errForbidden) && allowed.Load() { // another of its addresses did not answer
		err = &net.OpError{Op: "dial", Net: network, Err: errors.New("no address that may be fetched from answers")}
	}
	return conn, err
}

// follow looks at every place that an answer leads on to.
func (c *Client) follow(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return refuse(upload.SourceRefused, nil, "The address leads on to others more than %d times.", maxRedirects)
	}
	if fault := c.policy.fault(req.URL); fault != nil {
		return refuse(upload.SourceRefused, errForbidden, "The address leads on to one that nothing is imported from.")
	}
	req.Header.Del("Referer") // which may hold a token
	return nil
}

// Mark is how far a file has been read, and what is needed to go on there.
type Mark struct {
	Offset    int64
	Validator string // of the file that the bytes are of; "" where the source gives none to go on by
	Length    int64  // of the whole file; -1 when it is not known
}

// File is a file that is being fetched, to be read by one goroutine and to be closed.
type File struct {
	Mark               // where it begins: where the last reader has come to, or 0
	Name        string // as its source calls it; "" when it does not
	ContentType string // as declared

	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	most   int64

	mu     sync.Mutex
	asked  time.Time     // when the read began that is waited for; zero when none is
	waited time.Duration // for the source, in this window
	came   int64         // bytes in this window
}

// Open asks for the file at a URL that has passed Check, from where m says if the source still has that file, and
// of at most so many bytes. Its errors, and those of reading, are *Error, or the cause of ctx's end.
func (c *Client) Open(ctx context.Context, raw string, m Mark, most int64) (*File, error) {
	at, fault := c.policy.Check(raw)
	if fault != nil { // the operator has closed what was open
		return nil, &Error{Verdict: Refuse, Says: *fault}
	}
	if m.Validator == "" {
		m = Mark{Length: -1}
	}
	f, err := c.open(ctx, at, m, most)
	if errors.Is(err, errOtherFile) {
		f, err = c.open(ctx, at, Mark{Length: -1}, most)
	}
	return f, err
}

// errOtherFile means that the source cannot go on with the file that was begun.
var errOtherFile = errors.New("the source has another file now")

func (c *Client) open(ctx context.Context, at *url.URL, m Mark, most int64) (f *File, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	limit := time.AfterFunc(c.Options.Open, func() { cancel(errOpen) })
	defer limit.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, refuse(upload.InvalidURL, nil, "The url cannot be read as one.")
	}
	req.Header = http.Header{"User-Agent": {"Slipway"}, "Accept": {"*/*"}, "Accept-Encoding": {"identity"}}
	if m.Offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(m.Offset, 10)+"-")
		req.Header.Set("If-Range", m.Validator)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failed(ctx, err)
	}
	f = &File{ctx: ctx, cancel: cancel, body: resp.Body, most: most}
	if err := f.read(resp, m); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	f.Name = cmp.Or(nameOf(resp.Header.Get("Content-Disposition")), NameInPath(at), NameInPath(resp.Request.URL))
	go f.keepPace(c.Window, c.Bytes)
	return f, nil
}

// read takes from an answer what it says of the file.
func (f *File) read(resp *http.Response, m Mark) error {
	switch {
	case resp.StatusCode == http.StatusOK:
		f.Mark = Mark{Length: resp.ContentLength, Validator: validatorOf(resp.Header)}
	case resp.StatusCode == http.StatusPartialContent && m.Offset > 0:
		first, length, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != m.Offset || m.Length >= 0 && length >= 0 && length != m.Length || !sameFile(resp.Header, m.Validator) {
			return errOtherFile
		}
		f.Mark = Mark{Offset: first, Length: max(length, m.Length), Validator: m.Validator}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && m.Offset > 0:
		return errOtherFile
	default:
		return answered(resp, time.Now())
	}
	f.ContentType = resp.Header.Get("Content-Type")
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return refuse(upload.SourceRefused, nil, "The address gives the file only in another encoding than its own (Content-Encoding).")
	case f.Length == 0:
		return empty()
	case f.Length > f.most:
		return tooLarge(f.most)
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0: // ends with its connection, however that ends (RFC 9112 §6.3)
		return refuse(upload.SourceRefused, nil, "The address does not tell where the file ends, so that nobody could tell whether all of it has come.")
	}
	return nil
}

// Read reads on. Its io.EOF is the file's end.
func (f *File) Read(p []byte) (int, error) {
	if left := f.most - f.Offset; int64(len(p)) > left {
		p = p[:left+1] // one byte more tells a file that ends here from one that goes on
	}
	f.begin()
	n, err := f.body.Read(p)
	f.end(n)
	f.Offset += int64(n)
	switch {
	case f.Offset > f.most:
		return n, tooLarge(f.most)
	case err == io.EOF && f.Length >= 0 && f.Offset != f.Length:
		return n, failed(f.ctx, io.ErrUnexpectedEOF)
	case err == io.EOF && f.Offset == 0:
		return n, empty()
	case err == nil || err == io.EOF:
		return n, err
	}
	return n, failed(f.ctx, err)
}

func (f *File) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = time.Now()
}

func (f *File) end(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waited += time.Since(f.asked)
	f.came += int64(n)
	f.asked = time.Time{}
}

// keepPace ends a file that comes too slowly, silence being the slowest pace, until the fetch ends. Only time spent
// waiting for the source counts, never our own work.
func (f *File) keepPace(window time.Duration, least int64) {
	tick := time.NewTicker(window / 4)
	defer tick.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case now := <-tick.C:
			if f.slow(now, window, least) {
				f.cancel(errSlow)
				return
			}
		}
	}
}

// slow looks at the window, if it is over.
func (f *File) slow(now time.Time, window time.Duration, least int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	waited := f.waited
	if !f.asked.IsZero() {
		waited += now.Sub(f.asked)
	}
	if waited < window {
		return false
	}
	came := f.came
	f.came, f.waited = 0, 0
	if !f.asked.IsZero() {
		f.asked = now
	}
	return came < least
}

// Close ends the fetch.
func (f *File) Close() error {
	f.cancel(nil)
	return f.body.Close()
}

func empty() *Error {
	return refuse(upload.EmptyFile, nil, "The file at the address is empty; there is nothing to deliver.")
}

func tooLarge(most int64) *Error {
	return refuse(upload.TooLarge, nil, "The file at the address is larger than %d bytes, the most that is accepted.", most)
}

// validatorOf is what an If-Range may name: a strong entity tag, else a date of change that is old enough to be
// one (RFC 9110 §8.8.2.2, §13.1.5); "" where there is none, or the source takes no ranges.
func validatorOf(h http.Header) string {
	if strings.EqualFold(h.Get("Accept-Ranges"), "none") {
		return ""
	}
	if tag := h.Get("ETag"); tag != "" {
		if len(tag) > 2 && len(tag) <= 1024 && strings.HasPrefix(tag, `"`) && strings.HasSuffix(tag, `"`) {
			return tag
		}
		return ""
	}
	changed, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return ""
	}
	if sent, err := http.ParseTime(h.Get("Date")); err != nil || sent.Sub(changed) < time.Second {
		return ""
	}
	return h.Get("Last-Modified")
}

// sameFile tells whether an answer is of the file with that validator, as far as it says so itself.
func sameFile(h http.Header, validator string) bool {
	named := h.Get("ETag")
	if !strings.HasPrefix(validator, `"`) {
		named = h.Get("Last-Modified")
	}
	return named == "" || named == validator
}

// contentRange is a Content-Range header (RFC 9110 §14.4) of a range that goes to the file's end. The length is
// -1 where it is not told.
func contentRange(header string) (first, length int64, ok bool) {
	var last int64
	bounds, whole, found := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	from, to, dashed := strings.Cut(bounds, "-")
	if !found || !dashed || !strings.HasPrefix(header, "bytes ") {
		return 0, 0, false
	}
	var err error
	if first, err = natural(from); err != nil {
		return 0, 0, false
	}
	if last, err = natural(to); err != nil || last < first {
		return 0, 0, false
	}
	if whole == "*" {
		return first, -1, true
	}
	length, err = natural(whole)
	return first, length, err == nil && last == length-1
}

func natural(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("number: %w", err)
	}
	return int64(n), nil
}
