package providersim

import (
	"net/http"
	"sync"
	"time"
)

// Clock is the time a simulator lives in: the true time plus an offset that only grows, so
// that what expires in a day can be seen expired at once.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
}

// NewClock returns a clock that shows the true time.
func NewClock() *Clock { return &Clock{} }

// Now is the simulator's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset).UTC()
}

// Advance moves the clock forward by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// ServeHTTP shows the time on GET and moves it on POST {"advance":"25h"}.
func (c *Clock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var ask struct {
			Advance string `json:"advance"`
		}
		if !ReadControl(w, r, &ask) {
			return
		}
		d, err := time.ParseDuration(ask.Advance)
		if err != nil || d < 0 {
			http.Error(w, `advance is a duration forward, such as "25h"`, http.StatusBadRequest)
			return
		}
		c.Advance(d)
	default:
		methodNotAllowed(w, "GET, POST")
		return
	}
	WriteControl(w, map[string]string{"now": c.Now().Format(time.RFC3339Nano)})
}
