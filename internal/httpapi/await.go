package httpapi

import (
	"context"
	"sync"
	"time"

	"slipway/internal/upload"
)

// await returns the upload as soon as done says so of it, or as it is when the time is over or ctx ends, which ends when
// the server stops.
func (a *API) await(ctx context.Context, user string, id upload.ID, wait time.Duration, done func(upload.Upload) bool) (upload.Upload, error) {
	watch := a.Hub.Follow(id)
	defer watch.Stop()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		u, err := a.looks.at(lookKey{user, id}, func() (upload.Upload, error) { return a.find(user, id) })
		if err != nil || done(u) {
			return u, err
		}
		watch.Saw(u.Version)
		select {
		case <-ctx.Done():
			return u, nil
		case <-watch.News():
		}
	}
}

// looks shares one read among all who want to know the same at the same time: of those who wait for an upload,
// which are woken together, one asks the database.
type looks struct {
	mu      sync.Mutex
	running map[lookKey]*look
	next    map[lookKey]*look // has not begun yet, so that it will see all that has happened up to now
}

type lookKey struct {
	user string
	id   upload.ID
}

type look struct {
	done chan struct{} // closed when the fields below are set
	u    upload.Upload
	err  error
}

// at returns what a read finds that begins after the call.
func (l *looks) at(key lookKey, read func() (upload.Upload, error)) (upload.Upload, error) {
	l.mu.Lock()
	if shared := l.next[key]; shared != nil {
		l.mu.Unlock()
		<-shared.done
		return shared.u, shared.err
	}
	mine, before := &look{done: make(chan struct{})}, l.running[key]
	l.next[key] = mine
	l.mu.Unlock()
	if before != nil {
		<-before.done
	}

	l.mu.Lock()
	delete(l.next, key)
	l.running[key] = mine
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		if l.running[key] == mine {
			delete(l.running, key)
		}
		l.mu.Unlock()
		close(mine.done)
	}()
	mine.u, mine.err = read()
	return mine.u, mine.err
}
