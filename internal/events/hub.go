// Package events carries the news that the database announces to whoever waits for it.
package events

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Hub listens on one connection for a whole process. While it cannot listen, because the connection
// is lost or leads through a transaction pooler, it wakes everybody who waits once a second instead.
type Hub struct {
	listen func(ctx context.Context, ready func(), news func(payload string)) error
	log    *slog.Logger

	mu      sync.Mutex
	waiting map[upload.ID]map[chan struct{}]bool
	deaf    bool
	heard   []func(user string) // called with mu held; of "" anybody may have news
	wanted  []func(id upload.ID, epoch int64)
}

// pollEvery is how often those who wait look for themselves while the hub is deaf.
const pollEvery = time.Second

// NewHub returns a hub that listens at a direct URL once it runs.
func NewHub(url string, names postgres.Names, log *slog.Logger) *Hub {
	return &Hub{
		listen: func(ctx context.Context, ready func(), news func(string)) error {
			return postgres.Listen(ctx, url, names, ready, news)
		},
		log:     log,
		waiting: map[upload.ID]map[chan struct{}]bool{},
		deaf:    true,
	}
}

// Watch returns a channel that receives when something has happened to the upload since the last
// receive. Whoever watches reads the row after Watch has returned, and again after each receive;
// then nothing is missed. stop ends the watch.
func (h *Hub) Watch(id upload.ID) (news <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[id] == nil {
		h.waiting[id] = map[chan struct{}]bool{}
	}
	h.waiting[id][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiting[id], c)
		if len(h.waiting[id]) == 0 {
			delete(h.waiting, id)
		}
	}
}

// Watchers is how many watch.
func (h *Hub) Watchers() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, watchers := range h.waiting {
		n += len(watchers)
	}
	return n
}

// Wanted has f be told up to which epoch the receivers of an upload are to let go of it. f returns at once, and does not
// call the hub.
func (h *Hub) Wanted(f func(id upload.ID, epoch int64)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = append(h.wanted, f)
}

// follow has f be told of whom there is news.
func (h *Hub) follow(f func(user string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, f)
}

// Listening tells whether news arrive by themselves.
func (h *Hub) Listening() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.deaf
}

// Run listens until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	var polls sync.WaitGroup
	defer polls.Wait()
	polls.Go(func() { h.poll(ctx) })
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := h.listen(ctx,
			func() {
				wait = 100 * time.Millisecond
				h.setDeaf(false)
			},
			h.announce)
		h.setDeaf(true)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, postgres.ErrUnheard) {
			wait = time.Minute // it is the way that this connection leads, not the weather
		}
		h.log.Warn("cannot listen for events; asking each second instead", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (h *Hub) setDeaf(deaf bool) {
	h.mu.Lock()
	h.deaf = deaf
	h.mu.Unlock()
	h.wakeAll() // what was announced in between was not heard
}

// announce takes a payload "<upload id> <sequence number> <user>", or "<upload id> want <epoch>". A number of 0 is no
// event; a release before this one does not name the user.
func (h *Hub) announce(payload string) {
	id, rest, _ := strings.Cut(payload, " ")
	seq, user, _ := strings.Cut(rest, " ")
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq == "want" {
		epoch, err := strconv.ParseInt(user, 10, 64)
		for _, f := range h.wanted {
			if err == nil {
				f(upload.ID(id), epoch)
			}
		}
		return
	}
	wake(h.waiting[upload.ID(id)])
	if seq != "0" {
		h.tell(user)
	}
}

func (h *Hub) tell(user string) {
	for _, f := range h.heard {
		f(user)
	}
}

func (h *Hub) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !h.Listening() {
				h.wakeAll()
			}
		}
	}
}

func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, watchers := range h.waiting {
		wake(watchers)
	}
	h.tell("")
}

func wake(watchers map[chan struct{}]bool) {
	for c := range watchers {
		select {
		case c <- struct{}{}:
		default: // it has not looked since the last one
		}
	}
}
