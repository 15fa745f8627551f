package push

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

const (
	// turnBeat is how often backlogs may take a turn among first files.
	turnBeat = 250 * time.Millisecond
	// turnLimit is how long the database may take over it.
	turnLimit = 4 * time.Second
)

// takeTurns keeps first files from starving backlogs in these lanes, until ctx ends. While this process has nothing
// to push there is nobody to starve, and nothing is asked of the database.
func (w *worker) takeTurns(ctx context.Context, lanes []string) {
	tick := time.NewTicker(turnBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !w.leases.any() {
			continue
		}
		call, cancel := context.WithTimeout(ctx, turnLimit)
		err := postgres.TakeTurns(call, w.pool, lanes, w.Patience)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.log.Warn("take turns", "error", err)
		}
	}
}

// any tells whether this process is pushing anything.
func (l *leases) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held) > 0
}

// doors is how many requests with a file's bytes may be on their way; each takes its share.
const doors = 1 << 30

func newDoors(providers map[string]provider.Provider) map[string]*semaphore.Weighted {
	d := map[string]*semaphore.Weighted{}
	for name := range providers {
		d[name] = semaphore.NewWeighted(doors)
		d[upload.Queue(name, upload.SmallFile)] = semaphore.NewWeighted(doors)
	}
	return d
}

// narrow returns when a request with u's bytes may go out, of which at most limit may be on their way to its account.
// Large files leave one of them to small files, which would stand in line behind all their parts. done is to be
// called when it is over.
func (w *worker) narrow(ctx context.Context, u *upload.Upload, limit int) (done func(), err error) {
	account := w.doors[u.Provider]
	if u.Size < upload.SmallFile {
		return enter(ctx, account, limit)
	}
	leaveLane, err := enter(ctx, w.doors[upload.Queue(u.Provider, u.Size)], limit-1)
	if err != nil {
		return nil, err
	}
	leave, err := enter(ctx, account, limit)
	if err != nil {
		leaveLane()
		return nil, err
	}
	return func() {
		leave()
		leaveLane()
	}, nil
}

// enter waits before a door that lets so many pass at once.
func enter(ctx context.Context, door *semaphore.Weighted, limit int) (leave func(), err error) {
	share := int64(doors / max(limit, 1))
	if err := door.Acquire(ctx, share); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { door.Release(share) }, nil
}
