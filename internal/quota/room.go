package quota

import (
	"context"
	"fmt"
	"sync"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Disk is where staging is.
type Disk interface {
	// Free is how many bytes there is room for, after the reserve.
	Free(ctx context.Context) (int64, error)
}

// Full is the Cause of a refusal for want of room in staging.
type Full struct {
	After time.Duration // until there is room, going by how fast staging empties and who waits in front
}

func (f *Full) Error() string { return "staging is full" }

const (
	// Files up to smallFile find room in the share of their process, without asking the database.
	smallFile = 1 << 20

	// A process takes in advance, for its share, what came in within shareTime, twice; at most mostAhead, and one
	// in sharePart of the bytes that are left.
	shareTime = 10 * time.Second
	mostAhead = 64 << 20
	sharePart = 32
)

// unsure is when to come again where nobody can say.
const unsure = 30 * time.Second

// staging tells whether room in staging is limited.
func (q *Quotas) staging() bool { return q != nil && q.Disk != nil }

// Admit refuses a file of so many bytes, at least, for which there is no room in staging now, before anything else
// is asked of its sender. It holds none. Errors are NoRoom, with a Full as its Cause.
func (q *Quotas) Admit(ctx context.Context, user string, bytes int64) error {
	if !q.staging() || bytes <= smallFile { // for which there is always a share
		return nil
	}
	ask := postgres.RoomAsk{ID: upload.NewID(), User: user, Least: bytes, Most: bytes, Queued: true}
	if err := q.bound(ctx, &ask); err != nil {
		return err
	}
	fits, left, err := postgres.RoomLeft(ctx, q.pool, ask)
	if err != nil || fits {
		return err
	}
	return q.full(ctx, user, "", bytes, left)
}

// Room returns how staging's room is used, and how many bytes are left, at least as far as this process knows.
func (q *Quotas) Room(ctx context.Context) (r postgres.Room, left int64, err error) {
	var ask postgres.RoomAsk
	if err := q.bound(ctx, &ask); err != nil {
		return r, 0, err
	}
	if r, err = postgres.ReadRoom(ctx, q.pool); err != nil {
		return r, 0, err
	}
	left = ask.Disk - r.Unwritten
	if q.Budget > 0 {
		left = min(left, q.Budget-r.Staged-r.Held)
	}
	return r, max(left, 0), nil
}

// bound says what there is.
func (q *Quotas) bound(ctx context.Context, a *postgres.RoomAsk) error {
	free, err := q.Disk.Free(ctx)
	if err != nil {
		return fmt.Errorf("free room in staging: %w", err)
	}
	a.Disk = free + q.written.Load()
	if q.Budget > 0 {
		a.Budget = &q.Budget
	}
	return nil
}

// takeRoom holds room for n bytes in staging under the upload's own id.
func (h *Hold) takeRoom(ctx context.Context, n int64) error {
	left, err := h.tryRoom(ctx, n, n, true)
	if err == nil && h.room < n {
		err = h.full(ctx, n, left)
	}
	return err
}

// tryRoom holds room for at least so many bytes if there is any, under the upload's own id. left is how much there
// was.
func (h *Hold) tryRoom(ctx context.Context, least, most int64, queued bool) (left int64, err error) {
	ask := postgres.RoomAsk{ID: h.id, User: h.user, Held: h.room, Least: least, Most: most, Queued: queued, Part: growPart, Life: h.life}
	if h.shared {
		ask.Held = 0
	}
	kept, left, err := h.quotas.claim(ctx, ask)
	if err != nil || kept < least {
		return left, err
	}
	if h.shared {
		h.quotas.share.giveBack(h.room, false)
		h.shared = false
	}
	h.row, h.room = true, kept
	return left, nil
}

func (q *Quotas) claim(ctx context.Context, a postgres.RoomAsk) (kept, left int64, err error) {
	if err := q.bound(ctx, &a); err != nil {
		return 0, 0, err
	}
	err = repeated(ctx, func(ctx context.Context) (err error) {
		kept, left, err = postgres.TakeRoom(ctx, q.pool, a)
		return err
	})
	return kept, left, err
}

// full is the refusal of n bytes more where there is room for fewer.
func (h *Hold) full(ctx context.Context, n, left int64) error {
	if h.lasts {
		return h.quotas.full(ctx, h.user, h.id, n, left)
	}
	return h.quotas.full(ctx, h.user, "", n, left)
}

// full is the refusal of a file of so many bytes where there is room for fewer. The upload is named if it comes again
// as itself.
func (q *Quotas) full(ctx context.Context, user string, named upload.ID, bytes, left int64) error {
	after, err := postgres.QueueForRoom(ctx, q.pool, user, named, bytes, left)
	if err != nil {
		q.log.Warn("say when there will be room", "error", err)
		after = unsure
	}
	return &upload.Error{Code: upload.NoRoom, Retryable: true, FixableBy: upload.ByOperator, Cause: &Full{After: after},
		Message: "There is no room for the file at the moment. There will be when others that are on their way have left."}
}

// share is room in staging that a process has taken in advance, for small files.
type share struct {
	id upload.ID // in whose name

	mu    sync.Mutex
	room  int64 // bytes taken
	out   int64 // of those, for files that are coming in
	spent int64 // of those, for files that count by their rows since
	used  int64 // what was given out since it was taken
	taken time.Time
}

// takeShare holds room for n bytes in the process's share, which grows where it is too small.
func (h *Hold) takeShare(ctx context.Context, n int64) error {
	got, left, err := h.quotas.giveOut(ctx, n)
	if err == nil && !got {
		err = h.full(ctx, n, left)
	}
	if err == nil {
		h.room, h.shared = n, true
	}
	return err
}

// giveOut gives n bytes out of the share, which is taken anew where it has too few. left is how much room there
// was in staging.
func (q *Quotas) giveOut(ctx context.Context, n int64) (got bool, left int64, err error) {
	s := &q.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.taken) > q.Lease*3/4 || s.out+s.spent+n > s.room {
		if left, err = q.takeAhead(ctx, n); err != nil || s.out+n > s.room {
			return false, left - s.out, err
		}
	}
	s.out += n
	s.used += n
	return true, 0, nil
}

// takeAhead takes anew what the files need that are coming in, n bytes more, and what may come soon. The share is locked.
func (q *Quotas) takeAhead(ctx context.Context, n int64) (left int64, err error) {
	s := &q.share
	now := time.Now()
	soon := 2 * float64(s.used) * min(1, float64(shareTime)/float64(max(now.Sub(s.taken), 1)))
	least := s.out + n
	kept, left, err := q.claim(ctx, postgres.RoomAsk{
		ID: s.id, Held: s.out, Least: least, Most: least + min(int64(soon), mostAhead), Part: sharePart, Life: q.Lease,
	})
	if err == nil {
		s.room, s.spent, s.used, s.taken = kept, 0, 0, now
	}
	return left, err
}

// keepShare prolongs the share's lease while files come in that need it.
func (q *Quotas) keepShare() {
	s := &q.share
	if !s.mu.TryLock() {
		return // somebody is at it
	}
	defer s.mu.Unlock()
	if time.Since(s.taken) <= q.Lease/4 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if _, err := q.takeAhead(ctx, 0); err != nil {
		q.log.Warn("keep the room that is held for small files", "error", err)
	}
}

// giveBack ends the hold of n bytes, which count by their row since if they were recorded.
func (s *share) giveBack(n int64, recorded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out -= n
	if recorded {
		s.spent += n
	}
}

// Close gives back what was taken in advance. No file comes in any more.
func (q *Quotas) Close() {
	s := &q.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	if err := postgres.Release(ctx, q.pool, s.id); err != nil {
		q.log.Warn("give back the room for small files", "error", err)
	}
}
