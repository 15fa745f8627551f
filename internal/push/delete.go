package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// deleter removes assets from their providers. It needs no lease: removing twice is harmless, and what it
// writes is fenced by the job that the deletion's row names.
type deleter struct {
	river.WorkerDefaults[upload.DeleteArgs]
	*worker
}

// Timeout bounds a turn, in which the provider is asked what to remove, and to remove it.
func (d *deleter) Timeout(*river.Job[upload.DeleteArgs]) time.Duration { return verifyTimeout }

// NextRetry is for turns whose outcome could not be written.
func (d *deleter) NextRetry(*river.Job[upload.DeleteArgs]) time.Time {
	return time.Now().Add(5 * time.Second)
}

// Work asks the provider to remove the asset, until it says that the asset is gone. Then the guide's row
// goes, too.
func (d *deleter) Work(ctx context.Context, job *river.Job[upload.DeleteArgs]) error {
	x, err := postgres.ReadDeletion(ctx, d.pool, job.Args.DeletionID, job.ID)
	if errors.Is(err, postgres.ErrNoUpload) {
		return nil // done, or another row's job now
	}
	if err != nil {
		return err
	}
	log := d.log.With("provider", x.Provider, "asset", x.Asset.ID, "job_id", job.ID)
	if !x.Spared {
		err = d.erase(ctx, x)
	}
	if err == nil {
		err = d.letGo(ctx, x)
	}
	if err == nil {
		err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return postgres.FinishDeletion(ctx, tx, x) })
	}
	switch {
	case errors.Is(err, postgres.ErrNoUpload):
		return nil
	case err != nil:
		return d.again(ctx, log, x, err)
	case x.Spared:
		log.Warn("a deleted file's asset is somebody else's by now, and stays")
	default:
		log.Info("deleted")
	}
	return nil
}

func (d *deleter) erase(ctx context.Context, x postgres.Deletion) error {
	p, ok := d.providers[x.Provider]
	if !ok {
		return errNoProvider
	}
	if err := d.open(ctx, p); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asset := x.Asset
	var err error
	if inspector, ok := p.(provider.Inspector); ok && x.Unsure {
		asset, err = typed(call, inspector, asset)
	}
	if err == nil {
		err = p.Delete(call, asset)
	}
	var pe *provider.Error
	if err != nil && !errors.As(err, &pe) && errors.Is(call.Err(), context.DeadlineExceeded) {
		return &provider.Error{Provider: x.Provider, Op: "delete", Verdict: provider.Transient, Message: "There was no answer in time.", Cause: err}
	}
	return err
}

// typed is the asset with the resource type that the provider has it under: under another it would be
// "not found", and stay. The version tells it from assets of the same name.
func typed(ctx context.Context, p provider.Inspector, a upload.Asset) (upload.Asset, error) {
	for _, rt := range otherTypes(a.ResourceType) {
		found, err := p.Inspect(ctx, a.ID, rt)
		if err != nil {
			return a, err
		}
		if found != nil && found.Asset.Version == a.Version {
			return found.Asset, nil
		}
	}
	return a, nil
}

// letGo removes the bytes that staging may still have of the file.
func (d *deleter) letGo(ctx context.Context, x postgres.Deletion) error {
	if x.Upload == nil {
		return nil
	}
	if err := d.staging.Remove(ctx, *x.Upload); err != nil {
		return &stagingError{err}
	}
	return nil
}

// again writes why the file is not deleted yet, and when that is tried next.
func (d *deleter) again(ctx context.Context, log *slog.Logger, x postgres.Deletion, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled // the worker stops; River makes the row available again
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	o := d.judge(ctx, upload.Upload{Provider: x.Provider, Attempt: x.Attempt + 1, MaxAttempts: math.MaxInt}, cause)
	if o.give { // what was asked for once is not given up: somebody has to see to it
		o.after = d.Backoff(x.Attempt + 1)
		o.err = upload.Error{Code: o.err.Code, FixableBy: upload.ByOperator, Message: providerTitle(x.Provider) + " refuses to delete the file. It is asked again until the operator has mended it."}
	}
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return postgres.DelayDeletion(ctx, tx, x, o.err, o.after) })
	if errors.Is(err, postgres.ErrNoUpload) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write why the file is not deleted (%w): %w", cause, err)
	}
	log.Warn("the file is not deleted yet", "code", o.err.Code, "error", cause, "again_in", o.after.Round(time.Millisecond))
	return river.JobSnooze(o.after)
}
