package ingest

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// Batch is what has become of the uploads that were to be retried together.
type Batch struct {
	Retried []upload.ID
	Refused []Refused
	Chosen  int       // uploads that the filter has chosen, up to its limit
	Last    upload.ID // the last of them
}

// Refused are uploads that were not retried for one reason. Where how much is left of a quota is said, it is what is
// left after the batch.
type Refused struct {
	*upload.Error
	IDs []upload.ID
}

// RetryAll sends the failed uploads that f chooses on their way again, to their own providers, all of them together,
// and says of the others why not: NotFound and NotFailed, of those whose ids were given, BytesGone, StoredQuota and
// TooLarge. With dryRun it says what it would do and does nothing. Doing it again is harmless: what has been retried
// has not failed any more.
func (in *Ingest) RetryAll(ctx context.Context, user string, f postgres.FailedFilter, dryRun bool) (Batch, error) {
	var done Batch
	err := postgres.AsUser(ctx, in.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		tally, err := in.Quotas.Tally(ctx, tx, user)
		if err != nil {
			return err
		}
		chosen, err := postgres.LockFailed(ctx, tx, user, f)
		if err != nil {
			return err
		}
		again, err := done.sort(chosen, f.IDs, tally)
		if err != nil || dryRun {
			return err
		}
		return postgres.RequeueAll(ctx, tx, in.Queue, user, again, in.DeliverWithin)
	})
	return done, unavailable(err)
}

// sort returns those of the chosen uploads that are to be retried.
func (b *Batch) sort(chosen []upload.Upload, asked []upload.ID, tally *quota.Tally) (again []upload.Upload, err error) {
	missing := map[upload.ID]bool{}
	for _, id := range asked {
		missing[id] = true
	}
	for _, u := range chosen {
		delete(missing, u.ID)
		b.Chosen, b.Last = b.Chosen+1, u.ID
		err := retryable(u, tally)
		var refusal *upload.Error
		switch {
		case err == nil:
			again, b.Retried = append(again, u), append(b.Retried, u.ID)
		case errors.As(err, &refusal):
			b.refuse(u.ID, refusal)
		default:
			return nil, err
		}
	}
	for _, id := range asked {
		if missing[id] {
			delete(missing, id)
			b.refuse(id, &upload.Error{Code: upload.NotFound, Message: "There is no upload with this id."})
		}
	}
	return again, nil
}

func retryable(u upload.Upload, tally *quota.Tally) error {
	switch {
	case u.Status != upload.Failed:
		return &upload.Error{Code: upload.NotFailed, Message: "Only a failed upload can be retried."}
	case u.Unstaged != nil:
		return errBytesGone("")
	}
	return tally.Retry(u.Size)
}

func (b *Batch) refuse(id upload.ID, e *upload.Error) {
	for i := range b.Refused {
		if r := &b.Refused[i]; r.Code == e.Code {
			r.Error, r.IDs = e, append(r.IDs, id)
			return
		}
	}
	b.Refused = append(b.Refused, Refused{e, []upload.ID{id}})
}
