package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/upload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id    = upload.ID("0193f1c2-0000-7000-8000-000000000001")
	token = "s3cret-token"
)

// asked is a client of a server that answers with handler. It does not really wait, and remembers for how long it would have.
type asked struct {
	*Client
	url   string
	waits []time.Duration
}

func serve(t *testing.T, handler http.HandlerFunc) *asked {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return ask(t, s.URL)
}

func ask(t *testing.T, url string) *asked {
	t.Helper()
	a := &asked{url: url}
	var err error
	a.Client, err = New(Options{URL: url, Token: token, Waiting: func(_ error, d time.Duration) { a.waits = append(a.waits, d) }})
	if err != nil {
		t.Fatal(err)
	}
	a.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(a.Close)
	return a
}

// answers gives one answer after the other, and the last one for ever.
func answers(calls *atomic.Int32, handlers ...http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1)) - 1
		handlers[min(n, len(handlers)-1)](w, r)
	}
}

func reply(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func problem(status int, code upload.Code, more string, headers ...string) http.HandlerFunc {
	text := fmt.Sprintf(`{"type":"/problems/%s","status":%d,"detail":"Sorry.","code":%q%s}`, code, status, code, more)
	return reply(status, text, append(headers, "Content-Type", "application/problem+json")...)
}

func uploadJSON(status upload.Status, version int) string {
	return fmt.Sprintf(`{"id":%q,"status":%q,"file_name":"a.bin","version":%d,"new_field":[1, 2]}`, id, status, version)
}

// cut ends the connection after n bytes of the body, without an answer.
func cut(n int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, url := range []string{"localhost:3000", "ftp://host", "http://", "http://host?x=1", "://", "http://h#f"} {
		if _, err := New(Options{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
	if _, err := New(Options{Token: "two\r\nlines"}); err == nil || strings.Contains(err.Error(), "two") {
		t.Errorf("a token of two lines: %v", err)
	}
	if c, err := New(Options{}); err != nil || c.base != DefaultURL {
		t.Errorf("the default is %v, %v", c, err)
	}
}

func TestReadsOutlastTheWeather(t *testing.T) {
	tests := map[string]struct {
		first http.HandlerFunc
		calls int32
		wait  time.Duration // 0: some
	}{
		"a restart with a wait":      {problem(503, upload.Draining, `,"retryable":true`, "Retry-After", "2"), 2, 2 * time.Second},
		"a proxy that finds nobody":  {reply(502, "<html>"), 2, 0},
		"a proxy that waits in vain": {reply(504, ""), 2, 0},
		"too many questions":         {problem(429, upload.TooManyWaits, "", "Retry-After", "7"), 2, 7 * time.Second},
		"a connection that breaks":   {cut(0), 2, 0},
		"an answer that breaks": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = io.WriteString(w, "{")
		}, 2, 0},
		"not what is not there":        {problem(404, upload.NotFound, ""), 1, 0},
		"not who may not ask":          {problem(401, upload.Unauthorized, ""), 1, 0},
		"not an error of the program":  {problem(500, upload.Internal, ""), 1, 0},
		"not longer than its patience": {problem(503, upload.Unavailable, `,"retryable":true`, "Retry-After", "600"), 1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			c := serve(t, answers(&calls, tt.first, reply(200, uploadJSON(upload.Queued, 1))))
			u, err := c.Get(t.Context(), id)
			if got := calls.Load(); got != tt.calls {
				t.Errorf("it asked %d times, want %d (%v)", got, tt.calls, err)
			}
			if tt.calls == 1 && err == nil || tt.calls == 2 && (err != nil || u.ID != id) {
				t.Errorf("got %v, %v", u, err)
			}
			if tt.wait > 0 && !slices.Equal(c.waits, []time.Duration{tt.wait}) {
				t.Errorf("it waited %v, want %v", c.waits, tt.wait)
			}
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, answers(&calls, reply(502, "")))
	if _, err := c.Get(t.Context(), id); err == nil {
		t.Fatal("a service that never answers was reached")
	}
	var sum time.Duration
	for _, d := range c.waits {
		sum += d
	}
	if sum < time.Minute || sum > 2*time.Minute {
		t.Errorf("it waited %s in all, %d times, want at most 2 minutes and nearly that", sum, len(c.waits))
	}
}

func TestAWrongAddressIsNoWeather(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	c := ask(t, "http://"+ln.Addr().String())
	_, err = c.Get(t.Context(), id)
	var silent *UnreachableError
	if !errors.As(err, &silent) || silent.Unknown || len(c.waits) > 0 {
		t.Errorf("nobody there: %v after waits %v", err, c.waits)
	}

	s := httptest.NewServer(reply(200, uploadJSON(upload.Queued, 1)))
	c = ask(t, s.URL)
	if _, err := c.Get(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.Close()
	if _, err := c.Get(t.Context(), id); err == nil || len(c.waits) == 0 {
		t.Errorf("a service that was there and is away: %v after waits %v", err, c.waits)
	}
}

func TestOnlyWhatWouldChangeSomethingIsInDoubt(t *testing.T) {
	broken := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "99")
		_, _ = io.WriteString(w, "{")
	}
	for name, handler := range map[string]http.HandlerFunc{"no answer": cut(0), "an answer that breaks": broken} {
		c := serve(t, handler)
		for call, ask := range map[string]func() error{
			"get":   func() error { _, err := c.Get(t.Context(), id); return err },
			"retry": func() error { _, err := c.Retry(t.Context(), id, ""); return err },
		} {
			var silent *UnreachableError
			if err := ask(); !errors.As(err, &silent) || silent.Unknown != (call == "retry") {
				t.Errorf("%s to %s: %v, in doubt %t", name, call, err, silent != nil && silent.Unknown)
			}
		}
	}
}

func TestAnAnswerThatBreaksIsAskedForAgainOverAnyProtocol(t *testing.T) {
	calls := 0
	c, err := New(Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		calls++
		body := io.Reader(strings.NewReader(uploadJSON(upload.Queued, 1)))
		if calls == 1 { // as net/http's HTTP/2 says it, by an error that has no type of its own
			body = iotest.ErrReader(errors.New("http2: server sent GOAWAY and closed the connection"))
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body), Request: r}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	if u, err := c.Get(t.Context(), id); err != nil || u.ID != id || calls != 2 {
		t.Errorf("got %v, %v after %d calls", u.ID, err, calls)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnswersOfStrangers(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a page":                   {reply(200, "<html>hello</html>", "Content-Type", "text/html; charset=utf-8"), "is not Slipway"},
		"other JSON":               {reply(200, `{"ok":true}`), "is not Slipway"},
		"a page that is not there": {reply(404, "<html>", "Content-Type", "text/html"), "is not Slipway"},
		"another problem":          {reply(404, `{"status":404,"title":"x"}`), "is not Slipway"},
		"a way elsewhere":          {reply(301, "", "Location", "https://other.example/v1/uploads?x=y"), "leads elsewhere, to https://other.example;"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := serve(t, tt.handler)
			for call, ask := range map[string]func() error{
				"get":   func() error { _, err := c.Get(t.Context(), id); return err },
				"retry": func() error { _, err := c.Retry(t.Context(), id, ""); return err },
			} {
				var refused *Error
				if err := ask(); !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), token) {
					t.Errorf("%s: %v, want %q", call, err, tt.want)
				}
			}
		})
	}
}

func TestRetryIsAskedOnce(t *testing.T) {
	tests := map[string]struct {
		first http.HandlerFunc
		calls int32
	}{
		"when the answer is lost":          {cut(0), 1},
		"when a proxy does not know":       {reply(502, ""), 1},
		"again when nothing was recorded":  {problem(503, upload.Unavailable, `,"retryable":true`), 2},
		"when the upload has not failed":   {problem(409, upload.NotFailed, `,"upload_id":"`+string(id)+`"`), 1},
		"when the database was lost in it": {problem(503, upload.Unavailable, `,"retryable":true,"upload_id":"`+string(id)+`"`), 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			c := serve(t, answers(&calls, tt.first, reply(202, uploadJSON(upload.Queued, 5))))
			u, err := c.Retry(t.Context(), id, "")
			if calls.Load() != tt.calls || tt.calls == 2 && (err != nil || u.Status != upload.Queued) || tt.calls == 1 && err == nil {
				t.Errorf("asked %d times, want %d: %v, %v", calls.Load(), tt.calls, u, err)
			}
		})
	}
}

func TestAwait(t *testing.T) {
	var calls atomic.Int32
	versions := []string{uploadJSON(upload.Queued, 1), uploadJSON(upload.Pushing, 2), "", "", uploadJSON(upload.Pushing, 3), uploadJSON(upload.Completed, 4)}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1)) - 1
		if asked := r.Header.Get("Prefer") != "" && r.Header.Get("If-None-Match") != ""; asked != (n > 0) {
			t.Errorf("question %d has the headers %v", n, r.Header)
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
		if n == 2 {
			reply(503, "")(w, r)
			return
		}
		if versions[n] == "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		reply(200, versions[n])(w, r)
	})
	var seen []int64
	u, err := c.Await(t.Context(), id, func(u Upload) { seen = append(seen, u.Version) })
	if err != nil || u.Status != upload.Completed || !slices.Equal(seen, []int64{1, 2, 3, 4}) {
		t.Errorf("it saw %v and ended with %v, %v", seen, u.Status, err)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("ETag", `"1"`)
		reply(200, uploadJSON(upload.Queued, 1))(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Await(ctx, id, func(Upload) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
}

func TestListGoesFromPageToPage(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		next := `"https://evil.example/v1/uploads?cursor=b&limit=2"` // only its query counts
		if r.URL.Query().Get("cursor") == "b" {
			next = "null"
		}
		reply(200, fmt.Sprintf(`{"uploads":[%s,%s],"next":%s}`, uploadJSON(upload.Failed, 1), uploadJSON(upload.Failed, 2), next))(w, r)
	})
	all := func(most int) (n int) {
		asked = nil
		for _, err := range c.List(t.Context(), Filter{Statuses: []upload.Status{upload.Failed, upload.Canceled}, Provider: "cloudinary", PageSize: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == most {
				break
			}
		}
		return n
	}
	if n := all(0); n != 4 || !slices.Equal(asked, []string{"limit=2&provider=cloudinary&status=failed%2Ccanceled", "cursor=b&limit=2"}) {
		t.Errorf("%d uploads by %q", n, asked)
	}
	if n := all(2); n != 2 || len(asked) != 1 {
		t.Errorf("%d uploads by %q, want that the second page is not asked for", n, asked)
	}
}

func TestListEndsWithAnError(t *testing.T) {
	c := serve(t, problem(422, upload.InvalidParameter, ""))
	n := 0
	for _, err := range c.List(t.Context(), Filter{}) {
		if n++; err == nil || err.Error() != "Sorry." {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d results, want one error", n)
	}
}

func TestAnUploadIsPrintedAsTheServiceSaidIt(t *testing.T) {
	c := serve(t, reply(200, uploadJSON(upload.Queued, 3)))
	u, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(u)
	if want := strings.ReplaceAll(uploadJSON(upload.Queued, 3), "1, 2", "1,2"); err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
	if text, err := json.Marshal(Upload{ID: id}); err != nil || !strings.Contains(string(text), string(id)) {
		t.Errorf("of its own making: %s, %v", text, err)
	}
}
