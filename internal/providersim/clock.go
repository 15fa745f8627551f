package providersim

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Clock is the time a simulator lives in: the true time plus an offset that only grows, so
// that what expires in a day can be seen expired at once.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
	moved  chan struct{} // closed by the next Advance
}

// NewClock returns a clock that shows the true time.
func NewClock() *Clock { return &Clock{moved: make(chan struct{})} }

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
	close(c.moved)
	c.moved = make(chan struct{})
}

// Wait returns when this clock shows due or later, or ctx's error when that ends first.
func (c *Clock) Wait(ctx context.Context, due time.Time) error {
	for {
		c.mu.Lock()
		moved, left := c.moved, due.Sub(time.Now().Add(c.offset))
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		passed := time.NewTimer(left)
		select {
		case <-ctx.Done():
		case <-moved:
		case <-passed.C:
		}
		passed.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
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
