package fetch

import (
	"errors"
	"fmt"
	"time"

	"slipway/internal/fetch/source"
	"slipway/internal/quota"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// stagingError is a fault of staging, not of the file's source.
type stagingError struct{ error }

func (e *stagingError) Unwrap() error { return e.error }

// outcome is what an attempt that did not bring the file comes to.
type outcome struct {
	err      upload.Error
	give     bool          // the import is given up
	after    time.Duration // else it is tried again after this
	giveBack bool          // and the attempt is not counted
}

// judge decides, in one place, what an error means for the import.
//
//	the source refuses, or what it gives may not come in    failed
//	it asks to wait                                         wait that long, no attempt is counted
//	it fails, breaks off, is too slow, cannot be reached    try again, up to max_attempts
//	the user's quotas, room, staging, the database          wait, no attempt is counted
//	the time for the import is over                         failed
func (a *attempt) judge(cause error) outcome {
	again := func(e upload.Error) outcome {
		if a.u.Attempt >= a.u.MaxAttempts {
			e.Message = fmt.Sprintf("%s It was tried %d times.", e.Message, a.u.Attempt)
			return outcome{err: e, give: true}
		}
		return outcome{err: e, after: a.Backoff(a.u.Attempt)}
	}
	var (
		from  *source.Error
		coded *upload.Error
		limit *quota.Exceeded
		full  *quota.Full
		store *stagingError
	)
	switch {
	case errors.Is(cause, errOverdue):
		message := "The file could not be fetched in time."
		if a.u.Error != nil {
			message += " The last reason: " + a.u.Error.Message
		}
		return outcome{give: true, err: upload.Error{Code: upload.ImportOverdue, FixableBy: upload.ByProvider, Message: message}}
	case errors.As(cause, &from) && from.Verdict == source.Refuse:
		return outcome{give: true, err: from.Says}
	case errors.As(cause, &from) && from.Verdict == source.Wait:
		return outcome{after: from.After, giveBack: true, err: from.Says}
	case errors.As(cause, &from):
		return again(from.Says)
	case errors.Is(cause, staging.ErrNoRoom):
		return outcome{after: a.Rest, giveBack: true, err: upload.Error{Code: upload.NoRoom, Retryable: true, FixableBy: upload.ByOperator,
			Message: "There is no room for the file at the moment. It is fetched once there is."}}
	case errors.As(cause, &store):
		return outcome{after: a.Rest, giveBack: true, err: upload.Error{Code: upload.StagingUnreachable, Retryable: true, FixableBy: upload.ByOperator,
			Message: "The file cannot be stored here at the moment. It is fetched once the operator has mended that."}}
	case errors.As(cause, &coded) && coded.Code == upload.UnknownProvider:
		return outcome{after: a.Rest, giveBack: true, err: upload.Error{Code: upload.ProviderMissing, Retryable: true, FixableBy: upload.ByOperator,
			Message: "No running worker has credentials for " + a.u.Provider + ". The file is fetched once one has."}}
	case errors.As(cause, &coded) && errors.As(cause, &limit) && coded.Retryable:
		return outcome{after: limit.After, giveBack: true, err: *coded}
	case errors.As(cause, &coded) && errors.As(cause, &full):
		return outcome{after: min(full.After, a.Rest), giveBack: true, err: *coded} // nobody is bothered by a look
	case errors.As(cause, &coded) && coded.Retryable:
		return outcome{after: a.Rest, giveBack: true, err: *coded}
	case errors.As(cause, &coded):
		e := *coded
		if e.FixableBy == "" {
			e.FixableBy = upload.ByYou
		}
		return outcome{give: true, err: e}
	}
	return again(upload.Error{Code: upload.Internal, Retryable: true, FixableBy: upload.ByOperator, Message: "The import was interrupted by a fault of the service."})
}
