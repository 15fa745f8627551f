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
// is lost or leads through a transaction pooler, it looks once a second instead, by one query for all who wait.
type Hub struct {
	DB postgres.Querier // reads whoever the uploads belong to; nil: who waits is woken, and looks

	listen func(ctx context.Context, ready func(), news func(payload string)) error
	log    *slog.Logger
	due    chan struct{} // holds one word: look now

	mu      sync.Mutex
	waiting map[upload.ID]map[*Watch]bool
	deaf    bool
	heard   []func(user string) // called with mu held; of "" anybody may have news
	wanted  []func(id upload.ID, epoch int64)
}

const (
	// lookEvery is how often the hub looks while it is deaf.
	lookEvery = time.Second
	// lookLimit is for one query.
	lookLimit = 10 * time.Second
)

// NewHub returns a hub that listens at a direct URL once it runs.
func NewHub(url string, names postgres.Names, log *slog.Logger) *Hub {
	return &Hub{
		listen: func(ctx context.Context, ready func(), news func(string)) error {
			return postgres.Listen(ctx, url, names, ready, news)
		},
		log:     log,
		due:     make(chan struct{}, 1),
		waiting: map[upload.ID]map[*Watch]bool{},
		deaf:    true,
	}
}

// Watch waits for news of one upload.
type Watch struct {
	hub  *Hub
	id   upload.ID
	wake chan struct{}

	seen int64 // guarded by hub.mu: the version that the watcher has read; 0: it has not said so
}

// Watch returns a channel that receives when something has happened to the upload since the last
// receive, and once a second while the hub is deaf. Whoever watches reads the row after Watch has returned, and again after
// each receive; then nothing is missed. stop ends the watch.
func (h *Hub) Watch(id upload.ID) (news <-chan struct{}, stop func()) {
	w := h.Follow(id)
	return w.wake, w.Stop
}

// Follow is Watch for who waits for another version of an upload, and says which one it has: it is not woken for less.
func (h *Hub) Follow(id upload.ID) *Watch {
	w := &Watch{hub: h, id: id, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[id] == nil {
		h.waiting[id] = map[*Watch]bool{}
	}
	h.waiting[id][w] = true
	return w
}

// News receives when the row is to be read again.
func (w *Watch) News() <-chan struct{} { return w.wake }

// Saw tells which version of the upload was read since the latest news.
func (w *Watch) Saw(version int64) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.seen = version
}

// Stop ends the watch.
func (w *Watch) Stop() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting[w.id], w)
	if len(h.waiting[w.id]) == 0 {
		delete(h.waiting, w.id)
	}
}

func (w *Watch) ring() {
	select {
	case w.wake <- struct{}{}:
	default: // it has not looked since the last one
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
	var looks sync.WaitGroup
	defer looks.Wait()
	looks.Go(func() { h.look(ctx) })
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
	select {
	case h.due <- struct{}{}: // what was announced in between was not heard
	default:
	}
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
	for w := range h.waiting[upload.ID(id)] {
		w.ring()
	}
	if seq != "0" {
		h.tell(user)
	}
}

func (h *Hub) tell(user string) {
	for _, f := range h.heard {
		f(user)
	}
}

// look looks for news while none are announced, and once after each change of that, until ctx ends.
func (h *Hub) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for owed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-h.due:
		case <-tick.C:
			if !owed && h.Listening() {
				continue
			}
		}
		err := h.lookNow(ctx)
		if owed = err != nil; owed && ctx.Err() == nil {
			h.log.Warn("look for what has changed, for those who wait", "error", err)
		}
	}
}

// lookNow wakes whoever has not seen the upload as it is now.
func (h *Hub) lookNow(ctx context.Context) error {
	ids := h.watched()
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	versions, err := postgres.Versions(ctx, h.DB, ids)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		for w := range h.waiting[id] {
			if w.seen != 0 && w.seen != versions[id] {
				w.ring()
			}
		}
	}
	return nil
}

// watched wakes whoever looks for itself, and returns the uploads of the rest.
func (h *Hub) watched() (ids []upload.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell("")
	for id, watches := range h.waiting {
		asks := false
		for w := range watches {
			if h.DB != nil && w.seen != 0 {
				asks = true
			} else {
				w.ring()
			}
		}
		if asks {
			ids = append(ids, id)
		}
	}
	return ids
}
