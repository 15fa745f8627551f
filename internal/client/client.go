// Package client asks a Slipway service over HTTP.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultURL is where `make run` answers.
const DefaultURL = "http://localhost:3000"

const (
	defaultPatience = 2 * time.Minute
	defaultStall    = 2 * time.Minute
	defaultQueueing = time.Hour
	defaultOutage   = 15 * time.Minute

	longestTurn = 10 * time.Minute // what is to be waited for longer, nobody waits for

	callTimeout = 30 * time.Second // for an answer that nobody holds back

	maxAnswer  = 16 << 20 // bytes of JSON
	maxProblem = 64 << 10

	firstWait, longestWait = 200 * time.Millisecond, 5 * time.Second
)

// Options say which service is asked, and how. Zero values of all but Token stand for the defaults named here.
type Options struct {
	URL   string // where the service is; DefaultURL
	Token string // for the header Authorization; "" sends none

	Patience  time.Duration     // that one call may spend on waiting to be repeated; 2 minutes
	Queueing  time.Duration     // that it may spend beside that on waiting for its turn, where the service says how long that is; 1 hour
	Outage    time.Duration     // that Put may spend on waiting while its file does not get on; 15 minutes
	Stall     time.Duration     // after which a connection is given up on which a file does not move; 2 minutes
	Transport http.RoundTripper // http.DefaultTransport, with buffers for files

	// Waiting is told when a call could not be answered and is going to be repeated.
	Waiting func(cause error, wait time.Duration)
}

// Client is safe for concurrent use.
type Client struct {
	opts Options
	base string // without a trailing slash
	http *http.Client
	met  atomic.Bool // the service has been there, so that silence is the weather and not a wrong address

	sleep func(ctx context.Context, d time.Duration) error
}

// New returns a client, or an error when o.URL is no address. It asks nobody.
func New(o Options) (*Client, error) {
	o.URL = strings.TrimRight(cmp.Or(o.URL, DefaultURL), "/")
	o.Patience = cmp.Or(o.Patience, defaultPatience)
	o.Stall = cmp.Or(o.Stall, defaultStall)
	o.Queueing = cmp.Or(o.Queueing, defaultQueueing)
	o.Outage = cmp.Or(o.Outage, defaultOutage)
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the service's address must be like %s", DefaultURL)
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token holds characters that no token has")
	}
	if o.Waiting == nil {
		o.Waiting = func(error, time.Duration) {}
	}
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.WriteBufferSize = 256 << 10
		o.Transport = t
	}
	return &Client{
		opts: o,
		base: o.URL,
		http: &http.Client{
			Transport: o.Transport,
			// A redirected POST would become a GET, and its token would go elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		sleep: sleep,
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call, which may take several tries.
type request struct {
	method, path string // the path is escaped
	query        url.Values
	header       http.Header
	piece        *span         // of a file; nil: there is none
	body         any           // JSON; nil: there is none
	twice        bool          // it changes something, and does no harm when it is done twice
	timeout      time.Duration // for the answer; 0 leaves it to piece
}

// asks tells whether r changes nothing.
func (r request) asks() bool { return r.method == http.MethodGet || r.method == http.MethodHead }

// call sends r until it is answered, as often as that does no harm and patience lasts, and decodes a
// JSON answer into v. The header of the answer is returned, with v untouched for a 304.
func (c *Client) call(ctx context.Context, r request, v any) (http.Header, error) {
	p := pause{Client: c, patience: c.opts.Patience, queueing: c.opts.Queueing}
	for {
		header, err := c.try(ctx, r, v)
		if err == nil || ctx.Err() != nil || !c.repeatable(r, err) || !p.wait(ctx, err) {
			return header, err
		}
	}
}

// pause is what there is still to spend on waiting.
type pause struct {
	*Client
	patience, queueing time.Duration
	tries              int
}

// wait waits until what ended in err may be tried again, and tells whether it may.
func (p *pause) wait(ctx context.Context, err error) bool {
	wait := min(firstWait<<min(p.tries, 10), longestWait)
	wait += rand.N(wait / 4)
	p.tries++
	left := &p.patience
	var refused *Error
	if errors.As(err, &refused) && refused.RetryAfter > 0 {
		wait = refused.RetryAfter
		if refused.queued() {
			left = &p.queueing
		}
	}
	if *left -= wait; *left < 0 {
		return false
	}
	p.opts.Waiting(err, wait)
	return p.sleep(ctx, wait) == nil
}

// repeatable tells whether r, which ended in err, may be sent again. What only asks may, and what does no harm;
// what else changes something only if it cannot have been carried out.
func (c *Client) repeatable(r request, err error) bool {
	harmless := r.asks() || r.twice
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			if harmless {
				return true
			}
		}
		return refused.Retryable && refused.UploadID == ""
	}
	var silent *UnreachableError
	return errors.As(err, &silent) && silent.weather && (harmless || !silent.Unknown)
}

// try sends r once.
func (c *Client) try(ctx context.Context, r request, v any) (http.Header, error) {
	call, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.timeout > 0 {
		timer := time.AfterFunc(r.timeout, func() { cancel(errNoAnswer) })
		defer timer.Stop()
	}
	var body io.Reader
	if r.piece != nil {
		sending := r.piece.begin(c.opts.Stall, func() { cancel(errStalled) })
		defer sending.stop()
		body = sending
	}
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	connected := false
	call = httptrace.WithClientTrace(call, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req, err := http.NewRequestWithContext(call, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = r.query.Encode()
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	if r.piece != nil {
		req.ContentLength = r.piece.to - r.piece.from
	}

	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil && r.piece == nil {
			return nil, context.Cause(ctx)
		}
		return nil, c.silence(call, r, connected, err) // whoever sends a file learns also then whether all of it was sent
	}
	defer resp.Body.Close()
	err = c.read(resp, v)
	var refused *Error
	if err != nil && !errors.As(err, &refused) && (ctx.Err() == nil || r.piece != nil) { // the answer broke off
		err = c.silence(call, r, true, err)
	}
	return resp.Header, err
}

var (
	errNoAnswer = errors.New("no answer came in time")
	errStalled  = errors.New("the connection does not take the file any more")
)

// silence says what it means that no answer came.
func (c *Client) silence(call context.Context, r request, connected bool, cause error) error {
	whole := connected
	if r.piece != nil {
		sent, broken := r.piece.outcome()
		if broken != nil {
			return broken
		}
		whole = whole && sent
		if whole {
			c.met.Store(true) // who takes all of it is no wrong address
		}
	}
	if reason := context.Cause(call); reason != nil {
		cause = reason
	}
	var failed *url.Error // its text has the query, with all that was said of a file
	if errors.As(cause, &failed) {
		cause = failed.Err
	}
	return &UnreachableError{URL: c.shown(), Cause: cause, Unknown: whole && !r.asks(), weather: connected || c.met.Load()}
}

// shown is the service's address without a password.
func (c *Client) shown() string {
	u, err := url.Parse(c.base)
	if err != nil {
		return DefaultURL
	}
	return u.Redacted()
}

// read decodes an answer, or returns it as an *Error. Without v it is tus's, and says all in its header.
func (c *Client) read(resp *http.Response, v any) error {
	switch {
	case resp.StatusCode == http.StatusNotModified:
		c.met.Store(true)
		return nil
	case resp.StatusCode >= 300:
		return c.refusal(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if v == nil && !ofTus(resp.Header) || v != nil && json.Unmarshal(text, v) != nil {
		return c.stranger(resp)
	}
	c.met.Store(true)
	return nil
}

// refusal is an answer that is no success.
func (c *Client) refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return err
	}
	e := &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if json.Unmarshal(text, e) == nil && e.Code != "" && e.Detail != "" {
		c.met.Store(true)
		return e
	}
	if resp.Request.Method == http.MethodHead && ofTus(resp.Header) {
		c.met.Store(true)
		return tusRefusal(e)
	}
	if to, err := resp.Location(); err == nil && resp.StatusCode < 400 {
		return &Error{Status: resp.StatusCode, Detail: fmt.Sprintf("%s leads elsewhere, to %s://%s; ask there.", c.shown(), to.Scheme, to.Host)}
	}
	return c.stranger(resp)
}

// stranger is an answer that is not Slipway's: a proxy's, or another program's at the same address.
func (c *Client) stranger(resp *http.Response) error {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header),
		Detail: fmt.Sprintf("What answers at %s is not Slipway, or something between: status %d, %s.", c.shown(), resp.StatusCode, cmp.Or(kind, "no content type"))}
}

// retryAfter is the wait that an answer asks for, 0 when it asks for none (RFC 9110 §10.2.3).
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 24); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
