package quota

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Hold is room for one file while it comes in: in its owner's quotas, and in staging. It ends with End, with
// Release, or, when its process dies, with its lease. One goroutine uses it. A nil Hold holds nothing.
type Hold struct {
	quotas *Quotas
	user   string
	id     upload.ID
	life   time.Duration // of the lease
	lasts  bool          // beyond this process; its upload says how much has come
	most   int64         // bytes that the file can have, -1 where nobody knows
	offset int64         // bytes that came before

	row   bool           // the database knows of it
	usage postgres.Usage // of the user, beside it
	bytes int64          // held in the user's quotas, where those are limited

	room   int64 // held in staging, where that is limited
	shared bool  // the room is of the process's share
	came   int64 // bytes of which only this process knows
}

// briefly is for what is asked while bytes wait.
const briefly = 2 * time.Second

// Hold keeps room for a file of so many bytes, -1 where nobody knows, that is to become upload id. Errors
// are those of Allow, and NoRoom with a Full as its Cause. It returns nil when nothing is limited.
func (q *Quotas) Hold(ctx context.Context, user string, id upload.ID, length int64) (*Hold, error) {
	return q.HoldBetween(ctx, user, id, length, length)
}

// HoldBetween is Hold for a file that has so many bytes at least and at most, -1 where nobody knows.
func (q *Quotas) HoldBetween(ctx context.Context, user string, id upload.ID, least, most int64) (*Hold, error) {
	if !q.uploads() && !q.staging() {
		return nil, nil
	}
	h := &Hold{quotas: q, user: user, id: id, life: q.Lease, most: most}
	if err := h.begin(ctx, least, most <= smallFile); err != nil {
		return nil, err
	}
	return h, nil
}

// HoldLasting is Hold for a file that comes in by several requests, in whatever processes: what is held lasts
// for life, unless it is prolonged or released.
func (q *Quotas) HoldLasting(ctx context.Context, user string, id upload.ID, length int64, life time.Duration) (*Hold, error) {
	if !q.uploads() && !q.staging() {
		return nil, nil
	}
	h := &Hold{quotas: q, user: user, id: id, life: max(life, q.Lease), lasts: true, most: length}
	if err := h.begin(ctx, length, false); err != nil {
		return nil, err
	}
	return h, nil
}

// Resume returns what HoldLasting has held for a file of which so many bytes have come, for as long as life from
// now. What was lost meanwhile is held again.
func (q *Quotas) Resume(ctx context.Context, user string, id upload.ID, length, received int64, life time.Duration) (*Hold, error) {
	if !q.uploads() && !q.staging() {
		return nil, nil
	}
	h := &Hold{quotas: q, user: user, id: id, life: max(life, q.Lease), lasts: true, most: length, offset: received, row: true}
	var err error
	if h.bytes, h.room, err = postgres.KeepHold(ctx, q.pool, id, h.life); err != nil {
		return nil, err
	}
	if length >= 0 {
		err = h.again(ctx, length)
	} else {
		_, err = h.grow(ctx, max(received, 1))
	}
	return h, err
}

// Pause lets go of the room for what has not come yet, until Resume: nobody knows when it will. received is how many
// bytes have.
func (h *Hold) Pause(received int64) {
	switch {
	case h == nil:
	case received > 0:
		h.leave(false)
		h.ask("let go of room that was held", func(ctx context.Context) error { return postgres.ShrinkHold(ctx, h.quotas.pool, h.id, received) })
	default:
		h.Release()
	}
}

// again holds so many bytes for an upload that counts already.
func (h *Hold) again(ctx context.Context, length int64) error {
	if h.quotas.uploads() && h.bytes < length {
		if _, err := h.growBytes(ctx, length); err != nil {
			return err
		}
	}
	if !h.quotas.staging() || h.room >= length {
		return nil
	}
	return h.takeRoom(ctx, length)
}

// begin holds room for the first time, where it may in the process's share.
func (h *Hold) begin(ctx context.Context, least int64, share bool) error {
	q := h.quotas
	if q.uploads() {
		bytes := max(least, 1) // no file has fewer
		if err := h.holdBytes(ctx, bytes, Need{Staged: bytes, Stored: bytes, Uploads: 1, Receiving: 1}); err != nil {
			return err
		}
		if h.usage.Changes > fewChanges {
			h.ask("add up what a user uses", func(ctx context.Context) error { return postgres.AddUpUsage(ctx, q.pool, h.user) })
		}
	}
	if !q.staging() {
		return nil
	}
	n := h.most
	if n < 0 {
		n = firstStep
	}
	var err error
	if share {
		err = h.takeShare(ctx, n)
	} else {
		err = h.takeRoom(ctx, n)
	}
	if err != nil {
		h.Release()
	}
	return err
}

// fewChanges are read in no time; the sweep adds them up.
const fewChanges = 200

// holdBytes holds so many bytes in the user's quotas, all together, if they have what is needed.
func (h *Hold) holdBytes(ctx context.Context, bytes int64, need Need) error {
	q := h.quotas
	err := repeated(ctx, func(ctx context.Context) error {
		return postgres.AsUser(ctx, q.pool, postgres.Claims{Subject: h.user}, func(tx pgx.Tx) error {
			return postgres.Hold(ctx, tx, h.user, h.id, bytes, h.life, q.limits, func(u postgres.Usage) error {
				h.usage = u
				return need.within(u)
			})
		})
	})
	if err != nil {
		return err
	}
	h.row, h.bytes = true, bytes
	return nil
}

// repeated asks the database for what is harmless when done twice.
func repeated(ctx context.Context, ask func(context.Context) error) error {
	return postgres.Once(ctx, ask, func(context.Context) (bool, error) { return false, nil })
}

// Release lets the room go. It may be called more than once.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	h.leave(false)
	if h.row {
		h.ask("let go of room that was held", func(ctx context.Context) error { return postgres.Release(ctx, h.quotas.pool, h.id) })
	}
}

// End tells that the file's bytes are counted by its upload from now on: the transaction has been committed that
// recorded it, and let the room go.
func (h *Hold) End() {
	if h != nil {
		h.leave(true)
	}
}

// leave forgets what the process itself knows of the hold.
func (h *Hold) leave(recorded bool) {
	if h.shared {
		h.quotas.share.giveBack(h.room, recorded)
		h.shared, h.room = false, 0
	}
	h.quotas.written.Add(-h.came)
	h.came = 0
}

// Within is body as far as it may be read: a read of more than there is room for is refused, for a file's
// length may not have been declared. Reading keeps the hold, and has it grow.
func (h *Hold) Within(body io.Reader) io.Reader {
	if h == nil {
		return body
	}
	return &held{Hold: h, body: body, read: h.offset, kept: time.Now()}
}

type held struct {
	*Hold
	body io.Reader
	read int64
	kept time.Time
}

func (b *held) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if time.Since(b.kept) > b.quotas.Lease/4 {
		b.kept = time.Now()
		b.keep()
	}
	if fits, refusal := b.fit(b.read + int64(n)); refusal != nil {
		n, err = int(max(fits-b.read, 0)), refusal
	}
	b.read += int64(n)
	if !b.lasts {
		b.came += int64(n)
		b.quotas.written.Add(int64(n))
	}
	return n, err
}

// keep prolongs the lease.
func (h *Hold) keep() {
	if h.row {
		h.ask("keep the room that is held", func(ctx context.Context) error {
			_, _, err := postgres.KeepHold(ctx, h.quotas.pool, h.id, h.quotas.Lease)
			return err
		})
	}
	if h.shared {
		h.quotas.keepShare()
	}
}

// ask asks the database what is not worth an error: the lease makes up for it.
func (h *Hold) ask(what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := f(ctx); err != nil {
		h.quotas.log.Warn(what, "upload_id", h.id, "error", err)
	}
}

// ID is of the upload that the room is held for.
func (h *Hold) ID() upload.ID { return h.id }
