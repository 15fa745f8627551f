package providersim

import (
	"io"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// keptRequests is how many requests are remembered; older ones are forgotten.
const keptRequests = 10_000

// Request is what a simulator saw of one request.
type Request struct {
	At       time.Time `json:"at"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Target   string    `json:"target"`   // path and query as sent
	Received int64     `json:"received"` // bytes of the body, so far while it runs
	Status   int       `json:"status"`   // of the answer; 0 while there is none
	Ended    bool      `json:"ended"`    // false while it runs
}

// Requests remembers the last requests, running ones included.
type Requests struct {
	mu   sync.Mutex
	ring []*request // oldest first from next on, once full
	next int
	seen int64 // since the last Clear
}

type request struct {
	shown    Request
	received atomic.Int64
	status   atomic.Int64
	ended    atomic.Bool
}

// NewRequests returns an empty log.
func NewRequests() *Requests { return &Requests{} }

// Wrap logs what passes to next.
func (l *Requests) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &request{shown: Request{At: time.Now().UTC(), Method: r.Method, Host: r.Host, Target: r.URL.RequestURI()}}
		l.add(q)
		defer q.ended.Store(true)
		next.ServeHTTP(&statusWriter{w, &q.status}, withBody(r, &countedBody{r.Body, &q.received}))
		q.status.CompareAndSwap(0, http.StatusOK)
	})
}

func (l *Requests) add(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen++
	if len(l.ring) < keptRequests {
		l.ring = append(l.ring, q)
		return
	}
	l.ring[l.next] = q
	l.next = (l.next + 1) % keptRequests
}

// Find returns the remembered requests with that method ("" for any) whose target matches
// (nil for any), oldest first.
func (l *Requests) Find(method string, target *regexp.Regexp) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []Request{}
	for i := range l.ring {
		q := l.ring[(l.next+i)%len(l.ring)]
		if method != "" && q.shown.Method != method || target != nil && !target.MatchString(q.shown.Target) {
			continue
		}
		shown := q.shown
		shown.Ended = q.ended.Load()
		shown.Status = int(q.status.Load())
		shown.Received = q.received.Load()
		found = append(found, shown)
	}
	return found
}

// Clear forgets all requests.
func (l *Requests) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring, l.next, l.seen = nil, 0, 0
}

// RequestLog is the answer of GET /_sim/requests.
type RequestLog struct {
	Seen     int64     `json:"seen"`     // since the last DELETE, forgotten ones included
	Count    int       `json:"count"`    // of those shown
	Received int64     `json:"received"` // bytes of bodies of those shown
	Requests []Request `json:"requests"`
}

// ServeHTTP shows the requests on GET, narrowed by ?method= and ?target= (a regular expression
// on path and query), and forgets them on DELETE.
func (l *Requests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		var target *regexp.Regexp
		if expr := r.FormValue("target"); expr != "" {
			var err error
			if target, err = regexp.Compile(expr); err != nil {
				http.Error(w, "target: "+err.Error(), http.StatusBadRequest)
				return
			}
		}
		answer := RequestLog{Requests: l.Find(r.FormValue("method"), target)}
		answer.Count = len(answer.Requests)
		for _, q := range answer.Requests {
			answer.Received += q.Received
		}
		l.mu.Lock()
		answer.Seen = l.seen
		l.mu.Unlock()
		WriteControl(w, answer)
	case http.MethodDelete:
		l.Clear()
		w.WriteHeader(http.StatusNoContent)
	default:
		methodNotAllowed(w, "GET, DELETE")
	}
}

// withBody is r with another body. The request that net/http knows stays as it is: by its
// body it decides how much of an unread one to wait for before it sends an early answer.
func withBody(r *http.Request, body io.ReadCloser) *http.Request {
	other := *r
	other.Body = body
	return &other
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

type statusWriter struct {
	http.ResponseWriter
	status *atomic.Int64
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.status.CompareAndSwap(0, int64(status))
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	w.status.CompareAndSwap(0, http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the connection's own way of copying.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	w.status.CompareAndSwap(0, http.StatusOK)
	return io.Copy(w.ResponseWriter, r)
}
