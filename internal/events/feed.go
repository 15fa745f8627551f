package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Feed hands what is written to the log to those who follow it, in its order. Whatever their number, one query reads for all
// users of whom there is news, and each event is put into words once.
type Feed struct {
	db   postgres.Querier
	log  *slog.Logger
	news chan struct{} // holds one word: a user has news

	mu     sync.Mutex
	topics map[string]*topic
}

// topic is the log of one user from the time on when the first came to follow it.
type topic struct {
	read      int64 // up to this sequence number its followers have been given it; -1: nobody has said where to begin
	fresh     bool  // there may be more
	followers map[*Follower]bool
}

// Entry is an event as a follower gets it.
type Entry struct {
	Seq      int64
	UploadID upload.ID
	Status   upload.Status
	Text     []byte // of a server-sent event; shared by all, not to be changed
}

const (
	// feedBatch is how many events of a user are read at once.
	feedBatch = 100
	// heldBack is how many entries wait for a follower. With more it is behind, and reads for itself.
	heldBack = 256
	// feedLimit is for one query.
	feedLimit = 10 * time.Second
)

// NewFeed returns a feed of what the hub hears. db reads whoever the events belong to.
func NewFeed(hub *Hub, db postgres.Querier, log *slog.Logger) *Feed {
	f := &Feed{db: db, log: log, news: make(chan struct{}, 1), topics: map[string]*topic{}}
	hub.follow(f.heard)
	return f
}

// Follower gets a user's events, or one upload's. It belongs to one goroutine.
type Follower struct {
	feed *Feed
	user string
	only upload.ID // "": all of the user's
	wake chan struct{}

	// Guarded by feed.mu.
	begun   bool
	behind  bool
	entries []Entry
}

// Follow returns a follower of a user's events, or of one upload's, which has to be closed. It gets nothing before Begin.
func (f *Feed) Follow(user string, only upload.ID) *Follower {
	fo := &Follower{feed: f, user: user, only: only, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[user]
	if t == nil {
		t = &topic{read: -1, followers: map[*Follower]bool{}}
		f.topics[user] = t
	}
	t.followers[fo] = true
	return fo
}

// Begin has the follower be given whatever comes after the sequence number that it returns; what is up to that
// is in the log. end is the last one that was in the log at some time since Follow.
func (fo *Follower) Begin(end int64) (from int64) {
	f := fo.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[fo.user]
	if t.read < 0 {
		t.read = end
		if t.fresh {
			f.ring()
		}
	}
	fo.begun, fo.behind, fo.entries = true, false, nil
	return t.read
}

// News receives when there is something to take.
func (fo *Follower) News() <-chan struct{} { return fo.wake }

// Take returns what has come since the last time. Where behind is true more came than was kept, and nothing comes
// any more until the follower has read the log and begun again.
func (fo *Follower) Take() (entries []Entry, behind bool) {
	fo.feed.mu.Lock()
	defer fo.feed.mu.Unlock()
	entries, fo.entries = fo.entries, nil
	return entries, fo.behind
}

// Close ends the following.
func (fo *Follower) Close() {
	f := fo.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[fo.user]
	delete(t.followers, fo)
	if len(t.followers) == 0 {
		delete(f.topics, fo.user)
	}
}

// Followers is how many follow.
func (f *Feed) Followers() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.topics {
		n += len(t.followers)
	}
	return n
}

// Run feeds until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		}
		for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			err := f.read(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			f.log.Warn("read what has happened, for those who follow it", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// heard takes the news that a user has some, or, of "", that anybody may.
func (f *Feed) heard(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if user != "" {
		t := f.topics[user]
		if t == nil {
			return
		}
		t.fresh = true
	} else {
		for _, t := range f.topics {
			t.fresh = true
		}
	}
	f.ring()
}

func (f *Feed) ring() {
	select {
	case f.news <- struct{}{}:
	default: // it rings already
	}
}

// read hands on what there is of every user who has news, by one query.
func (f *Feed) read(ctx context.Context) error {
	after := map[string]int64{}
	read := map[string]*topic{}
	f.mu.Lock()
	for user, t := range f.topics {
		if t.fresh && t.read >= 0 {
			t.fresh = false
			after[user], read[user] = t.read, t
		}
	}
	f.mu.Unlock()
	if len(after) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, feedLimit)
	defer cancel()
	found, err := postgres.EventsOf(ctx, f.db, after, feedBatch)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		for _, t := range read {
			t.fresh = true
		}
		return err
	}
	count := map[string]int{}
	for _, e := range found {
		t := read[e.UserID]
		t.read = e.Seq
		t.give(Entry{Seq: e.Seq, UploadID: e.UploadID, Status: e.Status, Text: Text(e)})
		if count[e.UserID]++; count[e.UserID] == feedBatch {
			t.fresh = true
			f.ring()
		}
	}
	return nil
}

func (t *topic) give(e Entry) {
	for fo := range t.followers {
		switch {
		case !fo.begun, fo.behind, fo.only != "" && fo.only != e.UploadID:
			continue
		case len(fo.entries) == heldBack:
			fo.behind, fo.entries = true, nil
		default:
			fo.entries = append(fo.entries, e)
		}
		select {
		case fo.wake <- struct{}{}:
		default: // it has not taken the last ones yet
		}
	}
}

// View is an event as JSON.
type View struct {
	Seq      int64            `json:"seq"`
	UploadID upload.ID        `json:"upload_id"`
	Type     upload.EventType `json:"type"`
	Status   upload.Status    `json:"status"`
	Attempt  int              `json:"attempt"`
	Data     map[string]any   `json:"data"`
	At       time.Time        `json:"at"`
}

// ViewOf is an event as JSON.
func ViewOf(e upload.Event) View {
	return View{Seq: e.Seq, UploadID: e.UploadID, Type: e.Type, Status: e.Status, Attempt: e.Attempt, Data: e.Data, At: e.At.UTC()}
}

// Text is an event as a server-sent one (WHATWG HTML, "Server-sent events", §9.2.5): its id is the sequence
// number, and it has no name, so that whoever listens gets every kind.
func Text(e upload.Event) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %d\ndata: ", e.Seq)
	enc := json.NewEncoder(&b) // writes no line break but its last
	enc.SetEscapeHTML(false)
	if err := enc.Encode(ViewOf(e)); err != nil {
		panic(err) // Data came out of the database as JSON
	}
	b.WriteByte('\n')
	return b.Bytes()
}
