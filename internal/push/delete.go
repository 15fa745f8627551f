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

// deleter removes assets from their providers, and what is left of uploads that were ended on their way. It
// needs no lease: removing twice is harmless, and what it writes is fenced by the job that the deletion's row
// names.
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
	if x.Upload != nil {
		log = log.With("upload_id", *x.Upload)
	}
	err = d.letGo(ctx, x)
	if err == nil && !x.Spared {
		err = d.erase(ctx, x)
	}
	if left := d.Settle - x.Quiet; err == nil && len(x.Remains) > 0 && left > 0 {
		log.Info("what is on its way is waited for", "again_in", left.Round(time.Millisecond))
		return river.JobSnooze(left)
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

// erase removes the asset of a file, or else what there may be of the upload.
func (d *deleter) erase(ctx context.Context, x postgres.Deletion) error {
	if x.Asset.ID == "" {
		for _, r := range x.Remains {
			if err := d.eraseRemains(ctx, x, r); err != nil {
				return err
			}
		}
		return nil
	}
	return d.ask(ctx, x.Provider, func(ctx context.Context, p provider.Provider) error {
		asset := x.Asset
		if inspector, ok := p.(provider.Inspector); ok && x.Unsure {
			var err error
			if asset, err = typed(ctx, inspector, asset); err != nil {
				return err
			}
		}
		return p.Delete(ctx, asset)
	})
}

// eraseRemains removes what a push may have made that was ended, or a browser has sent. Once nobody can be
// sending it any more, the provider is asked whether it is gone.
func (d *deleter) eraseRemains(ctx context.Context, x postgres.Deletion, r postgres.Remains) error {
	return d.ask(ctx, r.Provider, func(ctx context.Context, p provider.Provider) error {
		asset := r.Asset
		if namer, ok := p.(provider.Namer); ok && asset == nil {
			asset = namer.Named(r.Session)
		}
		if asset == nil {
			return nil
		}
		spared, err := x.SparesRemains(ctx, d.pool, r, *asset)
		if err != nil || spared {
			return err
		}
		kinds := []upload.ResourceType{asset.ResourceType}
		if r.Unsure {
			kinds = otherTypes(asset.ResourceType)
		}
		for _, kind := range kinds {
			a := *asset
			a.ResourceType = kind
			if err := d.eraseAsset(ctx, p, a, x.Quiet >= d.Settle); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *deleter) eraseAsset(ctx context.Context, p provider.Provider, a upload.Asset, sure bool) error {
	if err := p.Delete(ctx, a); err != nil || !sure {
		return err
	}
	inspector, ok := p.(provider.Inspector)
	if !ok {
		return nil
	}
	found, err := inspector.Inspect(ctx, a.ID, a.ResourceType)
	if err == nil && found != nil {
		err = &provider.Error{Provider: p.Name(), Op: "delete", Verdict: provider.Transient, Message: "It has the file still."}
	}
	return err
}

// ask makes calls to a provider that carry no file, if anything may be asked of the account now.
func (d *deleter) ask(ctx context.Context, name string, calls func(context.Context, provider.Provider) error) error {
	p, ok := d.providers[name]
	if !ok {
		return errNoProvider
	}
	if _, err := d.open(ctx, p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := calls(ctx, p)
	var pe *provider.Error
	if err != nil && !errors.As(err, &pe) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &provider.Error{Provider: name, Op: "delete", Verdict: provider.Transient, Message: "There was no answer in time.", Cause: err}
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
	if err := postgres.Unstaged(ctx, d.pool, *x.Upload); err != nil {
		return err
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

// fenced is the end of an attempt whose upload is not this worker's any more. Where the upload was ended, what
// the attempt has sent until now may still come to an asset, however late that is: it is looked for again.
func (w *worker) fenced(ctx context.Context, log *slog.Logger, id upload.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	log.Warn("the upload is not this worker's any more")
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return postgres.LookAgain(ctx, tx, w.queue, id) })
	if err != nil {
		log.Error("nobody looks again for what was sent of an upload that may have been ended", "error", err)
	}
	return river.JobCancel(postgres.ErrFenced)
}
