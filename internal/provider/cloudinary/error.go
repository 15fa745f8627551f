package cloudinary

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"slipway/internal/provider"
)

// errStale is the cause of an Error for a request whose timestamp Cloudinary found too old.
var errStale = errors.New("cloudinary's clock is more than an hour ahead of ours")

// verdicts is what a status means (Upload API reference, "Error handling"; the Admin API has the
// same). 420 is Cloudinary's own for a spent quota; 423 is an asset that is still processed.
var verdicts = map[int]provider.Verdict{
	http.StatusBadRequest:            provider.Reject,
	http.StatusUnauthorized:          provider.Denied,
	http.StatusPaymentRequired:       provider.Account,
	http.StatusForbidden:             provider.Denied,
	http.StatusNotFound:              provider.Reject,
	http.StatusConflict:              provider.Reject,
	http.StatusRequestEntityTooLarge: provider.Reject,
	statusRateLimited:                provider.Throttled,
	http.StatusTooManyRequests:       provider.Throttled,
	http.StatusLocked:                provider.Transient,
	http.StatusRequestTimeout:        provider.Transient,
}

const statusRateLimited = 420

// verdict looks a status up. Without a reason in Cloudinary's form the answer came from something
// before it, whose refusals pass, all but the one for a request that is too large.
func verdict(status int, reasoned bool) provider.Verdict {
	v, listed := verdicts[status]
	switch {
	case v == provider.Throttled, status == http.StatusRequestEntityTooLarge:
		return v
	case !reasoned, status < 400, status >= 500:
		return provider.Transient
	case !listed:
		return provider.Reject
	}
	return v
}

// ask makes a call through the SDK, which panics on some answers.
func ask[T any](ctx context.Context, op string, call func() (T, error)) (answer T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = unreadable(op, fmt.Errorf("the SDK panicked: %v", r))
		}
	}()
	answer, err = call()
	if err != nil {
		err = fault(ctx, op, err)
	}
	return answer, err
}

// fault is what an error from a request of op means. When ctx has ended, that is the reason.
func fault(ctx context.Context, op string, err error) error {
	var e *provider.Error
	if errors.As(err, &e) {
		e.Op = op
		return e
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cloudinary %s: %w", op, context.Cause(ctx))
	}
	var sent *url.Error
	if !errors.As(err, &sent) {
		return unreadable(op, err)
	}
	return &provider.Error{Provider: Name, Op: op, Verdict: provider.Transient, Message: "There was no answer.", Cause: wire(sent.Err)}
}

// unreadable is the error for a success that says nothing we understand.
func unreadable(op string, cause error) *provider.Error {
	return &provider.Error{
		Provider: Name, Op: op, Status: http.StatusOK, Verdict: provider.Transient,
		Message: "Cloudinary's answer cannot be read.", Cause: wire(cause),
	}
}

// wire keeps the text of an error from the connection and hides its kind: an answer that ended early
// is not to be taken for a staged file that did.
func wire(err error) error { return errors.New(err.Error()) }

// refused is the error that is in the answer of a call which succeeded by its status; nil without one.
func (l *line) refused(op, message string) error {
	if message == "" {
		return nil
	}
	return &provider.Error{Provider: Name, Op: op, Status: http.StatusOK, Verdict: provider.Transient, Message: l.clean(message)}
}
