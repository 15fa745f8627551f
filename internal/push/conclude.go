package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// stagingError means that staging could not be read; it says nothing about the file or the provider.
type stagingError struct{ error }

func (e *stagingError) Unwrap() error { return e.error }

var (
	errNoProvider = errors.New("the provider is not configured in this worker")
	errOverdue    = errors.New("the time in which the upload was to be delivered is over")
	errCorrupted  = errors.New("staging does not hold the bytes that were received")
)

// Backoff is how long to wait after the given attempt, from 1: two seconds doubled each time, at
// most ten minutes, and somewhere in the upper half of it.
func Backoff(attempt int) time.Duration {
	d := min(2*time.Second<<min(max(attempt, 1)-1, 10), 10*time.Minute)
	return d/2 + rand.N(d/2)
}

// outcome is what an attempt that did not deliver comes to.
type outcome struct {
	err      upload.Error
	give     bool          // the upload is given up
	after    time.Duration // else it is tried again after this
	giveBack bool          // and the attempt is not counted
}

// conclude writes what an attempt came to, fenced, into our row; then it tells River.
func (w *worker) conclude(ctx context.Context, log *slog.Logger, job *river.Job[upload.PushArgs], u upload.Upload, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()

	if now, err := postgres.UploadOf(ctx, w.pool, u.ID); err == nil && now.Epoch == u.Epoch {
		u = now // progress has reset the attempts
	}
	o := w.judge(ctx, u, cause)
	if u.DeliverBy != nil && time.Now().Add(o.after).After(*u.DeliverBy) && !o.give {
		o = outcome{give: true, err: upload.Error{Code: upload.DeadlineExceeded, Retryable: true, FixableBy: o.err.FixableBy,
			Message: "The file could not be delivered in time. The last reason: " + o.err.Message}}
	}
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if o.give {
			return postgres.Fail(ctx, tx, u, o.err, w.KeepFailed)
		}
		return postgres.Wait(ctx, tx, u, o.err, o.after, o.giveBack)
	})
	switch {
	case errors.Is(err, postgres.ErrFenced):
		return w.fenced(ctx, log, u.ID)
	case err != nil:
		return fmt.Errorf("write what the attempt came to (%w): %w", cause, err)
	case o.give:
		log.Error("the upload has failed", "code", o.err.Code, "error", cause)
		return river.JobCancel(cause)
	}
	log.Warn("the attempt has failed", "code", o.err.Code, "error", cause, "again_in", o.after.Round(time.Millisecond))
	w.mu.Lock()
	w.next[job.ID] = time.Now().Add(o.after)
	w.mu.Unlock()
	return cause
}

// judge decides, in one place, what an error means for the upload.
func (w *worker) judge(ctx context.Context, u upload.Upload, cause error) outcome {
	again := func(e upload.Error) outcome { // costs an attempt
		if u.Attempt >= u.MaxAttempts {
			e.Message = fmt.Sprintf("%s It was tried %d times.", e.Message, u.Attempt)
			return outcome{err: e, give: true}
		}
		return outcome{err: e, after: w.Backoff(u.Attempt)}
	}
	service := providerTitle(u.Provider)

	var fe *findingError
	var unscanned *scanError
	var se *stagingError
	var pe *provider.Error
	var paused *pausedError
	switch {
	case errors.Is(cause, errCorrupted):
		return outcome{give: true, err: upload.Error{Code: upload.StagingCorrupted, FixableBy: upload.ByYou,
			Message: "The stored copy of the file was damaged before it could be delivered. Upload the file again."}}
	case errors.Is(cause, staging.ErrMissing), errors.As(cause, &se):
		return outcome{after: w.Rest, giveBack: true, err: upload.Error{Code: upload.StagingUnreachable, Retryable: true, FixableBy: upload.ByOperator,
			Message: "The stored copy of the file cannot be read at the moment. Delivery goes on once the operator has mended it."}}
	case errors.As(cause, &fe):
		return outcome{give: true, err: found(fe.finding)}
	case errors.As(cause, &unscanned):
		return outcome{after: w.Rest, giveBack: true, err: upload.Error{Code: upload.ScanUnavailable, Retryable: true, FixableBy: upload.ByOperator,
			Message: "The file could not be scanned, and is not sent before it is. It is scanned as soon as the scanner works again."}}
	case errors.Is(cause, errOverdue):
		reason := "There was nothing wrong but the time."
		if u.Error != nil {
			reason = "The last reason: " + u.Error.Message
		}
		return outcome{give: true, err: upload.Error{Code: upload.DeadlineExceeded, Retryable: true, FixableBy: upload.ByOperator,
			Message: "The file could not be delivered in time. " + reason}}
	case errors.Is(cause, errNoProvider):
		return outcome{after: w.Rest, giveBack: true, err: upload.Error{Code: upload.ProviderMissing, Retryable: true, FixableBy: upload.ByOperator,
			Message: "No running worker has credentials for " + service + ". Delivery goes on once one has."}}
	case errors.As(cause, &paused):
		return outcome{after: paused.wait, giveBack: true, err: paused.says}
	case !errors.As(cause, &pe):
		return again(upload.Error{Code: upload.Internal, Retryable: true, FixableBy: upload.ByOperator,
			Message: "Delivery was interrupted by a fault of the service."})
	}

	if paused := w.heed(ctx, u.ID, pe); paused != nil {
		return outcome{after: paused.wait, giveBack: true, err: paused.says}
	}
	switch pe.Verdict {
	case provider.Reject:
		return outcome{give: true, err: upload.Error{Code: upload.ProviderRejected, FixableBy: upload.ByYou,
			Message: sentence(service+" refused the file", pe.Reason())}}
	case provider.Spent:
		wait := cmp.Or(pe.RetryAfter, w.Backoff(u.Attempt))
		return outcome{after: wait, giveBack: true, err: upload.Error{Code: upload.ProviderThrottled, Retryable: true, FixableBy: upload.ByProvider,
			Message: fmt.Sprintf("What became of the file must be asked of %s, whose answers for this hour are spent. It is asked again at %s.",
				service, time.Now().Add(wait).UTC().Format("15:04:05 UTC"))}}
	case provider.Denied:
		return again(upload.Error{Code: upload.ProviderAccount, Retryable: true, FixableBy: upload.ByOperator,
			Message: sentence(service+" denies this file, with keys that are good", pe.Reason())})
	case provider.Integrity:
		return again(upload.Error{Code: upload.IntegrityMismatch, Retryable: true, FixableBy: upload.ByProvider,
			Message: sentence("What arrived at "+service+" is not what was sent", pe.Reason())})
	case provider.SessionLost:
		return again(upload.Error{Code: upload.SessionLost, Retryable: true, FixableBy: upload.ByProvider,
			Message: sentence(service+" has forgotten the parts that it had", pe.Reason())})
	}
	return again(upload.Error{Code: upload.ProviderUnavailable, Retryable: true, FixableBy: upload.ByProvider,
		Message: unavailableMessage(service, pe)})
}

func unavailableMessage(service string, pe *provider.Error) string {
	if pe.Status == 0 {
		return sentence(service+" could not be reached for "+pe.Op, pe.Message)
	}
	return sentence(fmt.Sprintf("%s answered %d for %s", service, pe.Status, pe.Op), pe.Message)
}

// sentence joins what happened and what the provider said of it.
func sentence(what, said string) string {
	if said == "" {
		return what + "."
	}
	if last := said[len(said)-1]; last != '.' && last != '!' && last != '?' {
		said += "."
	}
	return what + ": " + said
}

func providerTitle(name string) string {
	switch name {
	case "uploadcare":
		return "Uploadcare"
	case "cloudinary":
		return "Cloudinary"
	}
	return name
}
