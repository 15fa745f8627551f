package quota

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Hold is room for one file while it comes in. It ends with Insert, with Release, or, when its process
// dies, with the lease. A nil Hold holds nothing.
type Hold struct {
	quotas *Quotas
	id     upload.ID
	usage  postgres.Usage // beside it
}

// briefly is for what is asked while bytes wait.
const briefly = 2 * time.Second

// Hold keeps room for a file of so many bytes, -1 where nobody knows, that is to become upload id. Errors
// are those of Allow. It returns nil when uploads are not limited.
func (q *Quotas) Hold(ctx context.Context, user string, id upload.ID, length int64) (*Hold, error) {
	if !q.uploads() {
		return nil, nil
	}
	h := &Hold{quotas: q, id: id}
	bytes := max(length, 1) // no file has fewer
	need := Need{Staged: bytes, Stored: bytes, Uploads: 1, Receiving: 1}
	err := postgres.Once(ctx,
		func(ctx context.Context) error {
			return postgres.AsUser(ctx, q.pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
				return postgres.Hold(ctx, tx, user, id, bytes, q.Lease, q.limits, func(u postgres.Usage) error {
					h.usage = u
					return need.within(u)
				})
			})
		},
		func(context.Context) (bool, error) { return false, nil }) // is harmless when done twice
	if err != nil {
		return nil, err
	}
	if h.usage.Changes > fewChanges {
		h.ask("add up what a user uses", func(ctx context.Context) error { return postgres.AddUpUsage(ctx, q.pool, user) })
	}
	return h, nil
}

// fewChanges are read in no time; the sweep adds them up.
const fewChanges = 200

// Release lets the room go. It may be called more than once.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	h.ask("let go of room that was held", func(ctx context.Context) error { return postgres.Release(ctx, h.quotas.pool, h.id) })
}

// Within is body as far as it may be read: a read of more than there is room for is refused, for a file's
// length may not have been declared. Reading keeps the hold.
func (h *Hold) Within(body io.Reader) io.Reader {
	if h == nil {
		return body
	}
	return &held{Hold: h, body: body, room: room(h.usage), kept: time.Now()}
}

type held struct {
	*Hold
	body io.Reader
	read int64
	room int64 // bytes; below 0 it is not bounded
	kept time.Time
}

func (b *held) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.read += int64(n)
	if time.Since(b.kept) > b.quotas.Lease/4 {
		b.kept = time.Now()
		b.ask("keep the room that is held", func(ctx context.Context) error { return postgres.KeepHold(ctx, b.quotas.pool, b.id, b.quotas.Lease) })
	}
	if over := b.read - b.room; b.room >= 0 && over > 0 {
		b.read = b.room
		return n - int(over), Need{Staged: b.room + 1, Stored: b.room + 1}.within(b.usage)
	}
	return n, err
}

// ask asks the database what is not worth an error: the lease makes up for it.
func (h *Hold) ask(what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := f(ctx); err != nil {
		h.quotas.log.Warn(what, "upload_id", h.id, "error", err)
	}
}
