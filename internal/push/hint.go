package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// hinter looks after what providers' notifications are about. They say only that there may be news: what is
// written is what the provider answers when it is asked, so that nothing depends on how many of them come, nor
// when, nor in which order.
type hinter struct {
	river.WorkerDefaults[upload.HintArgs]
	*worker
}

// Timeout bounds a turn.
func (h *hinter) Timeout(*river.Job[upload.HintArgs]) time.Duration { return verifyTimeout }

// NextRetry is for turns that the database has ended.
func (h *hinter) NextRetry(*river.Job[upload.HintArgs]) time.Time {
	return time.Now().Add(5 * time.Second)
}

// Work has the provider asked about every upload that the hint is about, and those that wait for the answer
// already asked sooner.
func (h *hinter) Work(ctx context.Context, job *river.Job[upload.HintArgs]) error {
	found, err := postgres.HintedUploads(ctx, h.pool, job.Args)
	if err != nil {
		return err
	}
	for _, u := range found {
		if job.Args.News != upload.Removed || u.Status == upload.Completed {
			err = h.heed(ctx, u, job.Args)
		}
		if err != nil && !errors.Is(err, postgres.ErrNoUpload) {
			return h.again(ctx, job, u, err)
		}
	}
	return nil
}

func (h *hinter) heed(ctx context.Context, u upload.Upload, hint upload.HintArgs) error {
	if u.Status == upload.Completed && hint.News == upload.Arrived && hint.Version <= u.Asset.Version {
		return nil // that is known
	}
	err := pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error { return postgres.AskAgain(ctx, tx, h.queue, u, hint.AssetID) })
	if u.Status == upload.Completed && errors.Is(err, postgres.ErrNoUpload) { // nobody is asking
		return h.refresh(ctx, u, hint.News)
	}
	return err
}

// refresh brings what is recorded of an asset up to what its provider says. Only where a notification says that
// it was removed is it believed to be gone: that it cannot be found once may have other reasons.
func (h *hinter) refresh(ctx context.Context, u upload.Upload, news upload.News) error {
	p, ok := h.providers[u.Provider]
	if !ok {
		return errNoProvider
	}
	inspector, ok := p.(provider.Inspector)
	if !ok {
		return nil
	}
	if _, err := h.open(ctx, p); err != nil {
		return err
	}
	q := &inquiry{worker: h.worker, u: u, log: h.log.With("upload_id", u.ID, "provider", u.Provider)}
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := inspector.Inspect(call, u.Asset.ID, u.Asset.ResourceType)
	switch {
	case err != nil:
		return q.inTime(call, err)
	case found != nil:
		return q.update(ctx, *found)
	case news == upload.Removed:
		return q.lose(ctx)
	}
	q.log.Warn("a notification is about an asset that the provider does not have", "asset", u.Asset.ID, "news", news)
	return nil
}

// update writes what has changed, if anything has.
func (q *inquiry) update(ctx context.Context, f provider.Found) error {
	a := merged(*q.u.Asset, f.Asset)
	changed := a != *q.u.Asset
	if f.Tags != nil && !slices.Equal(slices.Sorted(slices.Values(f.Tags)), slices.Sorted(slices.Values(q.u.Tags))) {
		q.u.Tags, changed = nil, true
		q.noteTags(f.Tags)
	}
	switch flagged := q.u.Error != nil; {
	case f.Infected != "" && !flagged:
		e := infected(q.u.Provider, f)
		q.u.Error, changed = &e, true
	case f.Infected == "" && flagged:
		q.u.Error, changed = nil, true
	}
	if !changed {
		return nil
	}
	err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error { return postgres.RefreshAsset(ctx, tx, q.u, a) })
	if errors.Is(err, postgres.ErrNoUpload) {
		return errOvertaken
	}
	if err == nil {
		q.log.Info("the provider has changed the asset", "asset", a.ID)
	}
	return err
}

// errOvertaken means that somebody else has written meanwhile, perhaps with a newer answer: ask again.
var errOvertaken = errors.New("the upload has changed while its provider was asked")

// merged is what is known of an asset with what its provider says now: what it does not say stays. The type of
// the content is what was found out when the file came.
func merged(known, said upload.Asset) upload.Asset {
	return upload.Asset{
		ID: known.ID, URL: cmp.Or(said.URL, known.URL), ResourceType: known.ResourceType, ContentType: cmp.Or(known.ContentType, said.ContentType),
		Size: cmp.Or(said.Size, known.Size), Width: cmp.Or(said.Width, known.Width), Height: cmp.Or(said.Height, known.Height),
		Duration: cmp.Or(said.Duration, known.Duration), Format: cmp.Or(said.Format, known.Format),
		Version: cmp.Or(said.Version, known.Version), ETag: cmp.Or(said.ETag, known.ETag),
	}
}

// lose ends a file that somebody has deleted at its provider.
func (q *inquiry) lose(ctx context.Context) error {
	if err := q.staging.Remove(ctx, q.u.ID); err != nil {
		return &stagingError{err}
	}
	why := "The file was deleted at " + providerTitle(q.u.Provider) + "."
	err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error { return postgres.LoseAsset(ctx, tx, q.queue, q.u, why) })
	var refused *upload.Error
	if errors.As(err, &refused) { // another installation's
		q.log.Warn("a file that was deleted at its provider stays in the database", "code", refused.Code)
		return nil
	}
	if err == nil {
		q.log.Warn("the file was deleted at its provider", "asset", q.u.Asset.ID)
	}
	return err
}

// again says when the provider is asked next. A hint is no promise: after a week it is dropped.
func (h *hinter) again(ctx context.Context, job *river.Job[upload.HintArgs], u upload.Upload, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled // the worker stops; River makes the row available again
	}
	if errors.Is(cause, errOvertaken) {
		return river.JobSnooze(h.Backoff(1))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	o := h.judge(ctx, upload.Upload{Provider: u.Provider, Attempt: job.Attempt, MaxAttempts: math.MaxInt}, cause)
	log := h.log.With("upload_id", u.ID, "job_id", job.ID, "provider", u.Provider, "code", o.err.Code, "error", cause)
	if o.give || time.Since(job.CreatedAt) > upload.WebhookMemory {
		log.Warn("a notification came to nothing")
		return river.JobCancel(fmt.Errorf("ask about %s: %w", u.ID, cause))
	}
	log.Warn("the provider is asked again later", "again_in", o.after.Round(time.Millisecond))
	return river.JobSnooze(o.after)
}
