package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	// keepEvery is how often the keeper looks whose checkpoint is due.
	keepEvery = checkpointTime / 8
	// keepAtOnce is how many files are made durable side by side.
	keepAtOnce = 8
)

// keeper writes down how far the files have come that a process receives, while they come: together, for there may
// be thousands of them that come slowly.
type keeper struct {
	re *Resumable

	mu        sync.Mutex
	receivers map[upload.ID][]*receiver // by what they receive, or are about to: somebody newer comes before the older has gone
	runs      bool
}

func (k *keeper) add(rc *receiver) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.receivers[rc.id] = append(k.receivers[rc.id], rc)
	if !k.runs {
		k.runs = true
		go k.run()
	}
}

func (k *keeper) remove(rc *receiver) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.receivers[rc.id] = slices.DeleteFunc(k.receivers[rc.id], func(other *receiver) bool { return other == rc })
	if len(k.receivers[rc.id]) == 0 {
		delete(k.receivers, rc.id)
	}
}

// start has checkpoints made of what rc receives, and stop called when it is to let go, which may be at once.
func (k *keeper) start(rc *receiver, stop func(error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	rc.stop, rc.busy, rc.kept = stop, make(chan struct{}, 1), time.Now()
	rc.yield()
}

// end returns when nothing is written down any more of what rc receives.
func (k *keeper) end(rc *receiver) {
	rc.busy <- struct{}{} // for good
	k.remove(rc)
}

// wanted stops those who receive an upload under an epoch up to this one, or are about to.
func (k *keeper) wanted(id upload.ID, epoch int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, rc := range k.receivers[id] {
		rc.wanted = max(rc.wanted, epoch)
		rc.yield()
	}
}

// yield lets go of what somebody wants. The caller holds the keeper's lock.
func (rc *receiver) yield() {
	if rc.stop != nil && rc.seen.ReceiveEpoch <= rc.wanted {
		rc.stop(errInterrupted(rc.id))
	}
}

// run keeps what is received, as long as something is.
func (k *keeper) run() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for now := range tick.C {
		due, more := k.due(now)
		if !more {
			return
		}
		k.keep(due)
	}
}

// due takes hold of those whose last checkpoint is old enough.
func (k *keeper) due(now time.Time) (due []*receiver, more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, same := range k.receivers {
		for _, rc := range same {
			select {
			case rc.busy <- struct{}{}:
			default:
				continue
			}
			if rc.over || now.Sub(rc.kept) < checkpointTime {
				<-rc.busy
				continue
			}
			due = append(due, rc)
		}
	}
	k.runs = len(k.receivers) > 0
	return due, k.runs
}

// keep writes down how far those have come that it was given to hold, and lets go of them. It stops the copying where somebody
// else wants to go on, or has.
func (k *keeper) keep(held []*receiver) {
	if len(held) == 0 {
		return
	}
	defer func() {
		for _, rc := range held {
			rc.kept = time.Now()
			<-rc.busy
		}
	}()
	failed := make([]error, len(held))
	var durable errgroup.Group
	durable.SetLimit(keepAtOnce)
	for i, rc := range held {
		durable.Go(func() error {
			failed[i] = rc.advance()
			return nil
		})
	}
	_ = durable.Wait() // each has an error of its own
	var reached []postgres.Reached
	for i, rc := range held {
		if failed[i] == nil {
			reached = append(reached, postgres.Reached{User: rc.seen.UserID, ID: rc.seen.ID, Received: rc.record})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	written, err := postgres.Checkpoints(ctx, k.re.Pool, reached)
	if err != nil {
		k.re.Log.Warn("what has come of files is not written down yet", "uploads", len(reached), "error", err)
	}
	for i, rc := range held {
		wanted, there := written[postgres.Turn{ID: rc.seen.ID, Epoch: rc.seen.ReceiveEpoch}]
		switch {
		case failed[i] != nil:
		case err != nil:
			continue
		case !there:
			wanted, failed[i] = rc.keep(ctx)
		}
		rc.heed(wanted, failed[i])
	}
}

// keep is for one that could not be written down with the others.
func (rc *receiver) keep(ctx context.Context) (wanted bool, err error) {
	err = rc.asOwner(ctx, rc.seen.UserID, func(tx pgx.Tx) error {
		wanted, err = postgres.Checkpoint(ctx, tx, rc.seen.UserID, rc.seen.ID, rc.record, false)
		return err
	})
	return wanted, err
}

// heed does what a checkpoint has told.
func (rc *receiver) heed(wanted bool, err error) {
	var refused *upload.Error
	switch {
	case errors.Is(err, postgres.ErrFenced), err == nil && wanted:
		rc.stop(errInterrupted(rc.seen.ID))
		rc.over = true
	case errors.As(err, &refused) && !refused.Retryable:
		rc.stop(refused)
		rc.over = true
	case err != nil:
		rc.Log.Warn("what has come of a file is not written down yet", "upload_id", rc.seen.ID, "error", err)
	}
}
