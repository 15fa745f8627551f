package push

import (
	"context"
	"time"

	"slipway/internal/postgres"
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
