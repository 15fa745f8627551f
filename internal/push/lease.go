package push

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// LeaseTTL is how long a lease lives that is not renewed.
const LeaseTTL = 15 * time.Second

const (
	// leaseBeat is how often the leases of a process are renewed, by one statement. Where nothing is announced,
	// that is how a worker hears that its upload was canceled, which is promised to stop within 2 s.
	leaseBeat = 1500 * time.Millisecond
	// renewLimit is how long the database may take over it.
	renewLimit = 4 * time.Second
)

// leases are the rights to push that this process holds.
type leases struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	mu   sync.Mutex
	held map[upload.ID]*lease
}

type lease struct {
	epoch  int64
	until  time.Time // by our own clock, counted from before the renewal was asked for
	cancel context.CancelCauseFunc
}

func newLeases(pool *pgxpool.Pool, log *slog.Logger) *leases {
	return &leases{pool: pool, log: log, held: map[upload.ID]*lease{}}
}

// hold keeps a lease, just taken, alive until release is called. The context it returns ends with
// postgres.ErrFenced when the lease is lost, or when it can no longer be proven to be ours.
func (l *leases) hold(ctx context.Context, id upload.ID, epoch int64) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	mine := &lease{epoch: epoch, until: time.Now().Add(LeaseTTL - renewLimit), cancel: cancel}
	l.mu.Lock()
	l.held[id] = mine
	l.mu.Unlock()
	return held, func() {
		l.mu.Lock()
		if l.held[id] == mine {
			delete(l.held, id)
		}
		l.mu.Unlock()
		cancel(nil)
	}
}

// run renews until ctx ends. It asks nothing of the database while nothing is held.
func (l *leases) run(ctx context.Context) {
	tick := time.NewTicker(leaseBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.renew(ctx)
		}
	}
}

func (l *leases) renew(ctx context.Context) {
	l.mu.Lock()
	var asked []postgres.Held
	for id, h := range l.held {
		asked = append(asked, postgres.Held{ID: id, Epoch: h.epoch})
	}
	l.mu.Unlock()
	if len(asked) == 0 {
		return
	}
	before := time.Now()
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	kept, err := postgres.Renew(ctx, l.pool, asked, LeaseTTL)
	cancel()
	if err != nil {
		l.log.Warn("renew leases", "error", err)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asked {
		h := l.held[a.ID]
		if h == nil || h.epoch != a.Epoch {
			continue
		}
		switch ours, answered := kept[a.ID]; {
		case answered && ours:
			h.until = before.Add(LeaseTTL)
		case answered:
			h.cancel(postgres.ErrFenced)
		case time.Now().After(h.until): // nobody has said that it is still ours
			h.cancel(postgres.ErrFenced)
		}
	}
}
