package quota

import (
	"context"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
)

// Tally is what a user uses while a transaction gives them more, one upload after another. A nil Tally limits
// nothing.
type Tally struct{ usage postgres.Usage }

// Tally begins to give a user more, and keeps everybody else from doing so until tx ends. It comes before tx locks
// any of the user's uploads.
func (q *Quotas) Tally(ctx context.Context, tx pgx.Tx, user string) (*Tally, error) {
	if !q.uploads() {
		return nil, nil
	}
	u, err := postgres.LockUsage(ctx, tx, user, "", q.limits)
	if err != nil {
		return nil, err
	}
	return &Tally{u}, nil
}

// Retry counts a failed upload of so many bytes that is sent on its way again, or refuses it. Errors are those of Allow.
func (t *Tally) Retry(size int64) error {
	if t == nil {
		return nil
	}
	if err := ToRetry(size).within(t.usage); err != nil {
		return err
	}
	t.usage.Pending.Files++
	t.usage.Pending.Bytes += size
	return nil
}
