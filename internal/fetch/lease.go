package fetch

import (
	"context"
	"errors"
	"sync"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// errLeaseExpired ends a fetch whose lease could not be renewed in time, and may be another's by now.
var errLeaseExpired = errors.New("the lease was not renewed in time")

// hold renews the lease of an import, which was asked for at that time, until release is called. The context that it
// returns ends with postgres.ErrFenced when the lease is lost, with errLeaseExpired when nobody says that it is still
// ours.
func (w *Worker) hold(ctx context.Context, u upload.Upload, asked time.Time) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	beats.Go(func() {
		tick := time.NewTicker(w.Beat)
		defer tick.Stop()
		expiry := time.AfterFunc(time.Until(asked.Add(w.LeaseTTL)), func() { cancel(errLeaseExpired) })
		defer expiry.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			before := time.Now()
			switch kept, answered, err := w.renew(held, u); {
			case err != nil && held.Err() == nil:
				w.log.Warn("renew a lease", "upload_id", u.ID, "error", err)
			case kept:
				expiry.Reset(time.Until(before.Add(w.LeaseTTL)))
			case answered:
				cancel(postgres.ErrFenced)
			}
		}
	})
	return held, func() {
		cancel(nil)
		beats.Wait()
	}
}

func (w *Worker) renew(ctx context.Context, u upload.Upload) (kept, answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.LeaseTTL/4)
	defer cancel()
	held, err := postgres.Renew(ctx, w.pool, []postgres.Held{{ID: u.ID, Epoch: u.Epoch}}, w.LeaseTTL)
	kept, answered = held[u.ID]
	return kept, answered, err
}
