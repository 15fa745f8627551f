package push

import (
	"context"
	"errors"
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

// errLeaseExpired ends what is done under a lease that could not be renewed in time, and may be another's by now.
var errLeaseExpired = errors.New("the lease was not renewed in time")

// leases are the rights to push that this process holds. One is renewed while a step is made under it, a call to
// the provider above all, whose limit has not passed: who hangs anywhere else loses it, as the dead do.
type leases struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	ttl  time.Duration
	beat time.Duration

	mu   sync.Mutex
	held map[upload.ID]*lease
}

type lease struct {
	epoch  int64
	cancel context.CancelCauseFunc
	expiry *time.Timer // counted from before the renewal was asked for, so that it comes first here

	mu    sync.Mutex
	steps int       // being made
	limit time.Time // of the one that may take longest
}

func newLeases(pool *pgxpool.Pool, log *slog.Logger) *leases {
	return &leases{pool: pool, log: log, ttl: LeaseTTL, beat: leaseBeat, held: map[upload.ID]*lease{}}
}

// hold keeps a lease, which was asked for at that time, until release is called. The context that it returns ends
// with postgres.ErrFenced when the lease is lost, with errLeaseExpired when nobody says that it is still ours.
func (l *leases) hold(ctx context.Context, id upload.ID, epoch int64, asked time.Time) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	mine := &lease{epoch: epoch, cancel: cancel}
	mine.expiry = time.AfterFunc(time.Until(asked.Add(l.ttl)), func() { cancel(errLeaseExpired) })
	l.mu.Lock()
	l.held[id] = mine
	l.mu.Unlock()
	return context.WithValue(held, leaseKey{}, mine), func() {
		l.mu.Lock()
		if l.held[id] == mine {
			delete(l.held, id)
		}
		l.mu.Unlock()
		mine.expiry.Stop()
		cancel(nil)
	}
}

type leaseKey struct{}

// during bounds a step. The lease that ctx carries, if any, is renewed until end is called or the limit has passed.
func during(ctx context.Context, limit time.Duration) (step context.Context, end func()) {
	step, cancel := context.WithTimeout(ctx, limit)
	held, ok := ctx.Value(leaseKey{}).(*lease)
	if !ok {
		return step, cancel
	}
	held.begin(time.Now().Add(limit))
	return step, sync.OnceFunc(func() {
		cancel()
		held.end()
	})
}

func (h *lease) begin(limit time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps++
	if limit.After(h.limit) {
		h.limit = limit
	}
}

func (h *lease) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.steps--; h.steps == 0 {
		h.limit = time.Time{}
	}
}

// wanted tells whether a step is being made whose limit has not passed.
func (h *lease) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.limit)
}

// run renews until ctx ends. It asks nothing of the database while nothing is held.
func (l *leases) run(ctx context.Context) {
	tick := time.NewTicker(l.beat)
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
		if h.wanted() {
			asked = append(asked, postgres.Held{ID: id, Epoch: h.epoch})
		}
	}
	l.mu.Unlock()
	if len(asked) == 0 {
		return
	}
	before := time.Now()
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	kept, err := postgres.Renew(ctx, l.pool, asked, l.ttl)
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
			h.expiry.Reset(time.Until(before.Add(l.ttl)))
		case answered:
			h.cancel(postgres.ErrFenced)
		}
	}
}
