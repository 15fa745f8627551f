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

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// What an account has met is one row, slipway.providers, that every worker reads before each call and writes after
// a bad one:
//
//	the provider asks to wait           pause for so long, halve what may be on its way; one more each quiet minute
//	it refuses the account              pause
//	it denies a request                 ask Check: pause, or else trouble
//	it fails, or cannot be reached      ask Check: pause, or else trouble
//	trouble befalls enoughTrouble       pause: Check cannot see what they share
//	uploads, and none has succeeded
//
// A wait that was asked for ends by itself. Any other pause is ended by a probe: when it is over, whoever claims it
// first asks Check, and the rest wait as long again. A pause costs no upload an attempt.

const (
	// enoughTrouble is how many uploads must fail in a row, others than those that failed before.
	enoughTrouble = 3
	// confirmLimit bounds the question whether an account is good, asked by a worker that still holds a lease.
	confirmLimit = 5 * time.Second
)

// pausedError ends an attempt because nothing can be sent from the account now.
type pausedError struct {
	says upload.Error
	wait time.Duration
}

func (e *pausedError) Error() string { return e.says.Message }

func paused(code upload.Code, reason string, left time.Duration) *pausedError {
	says := upload.Error{Code: code, Retryable: true, FixableBy: upload.ByProvider, Message: reason + " Delivery goes on by itself."}
	if code == upload.ProviderAccount {
		says.FixableBy = upload.ByOperator
		says.Message = reason + " Delivery goes on by itself once the operator has mended it."
	}
	return &pausedError{says: says, wait: left + rand.N(left/10+time.Millisecond)}
}

// standing is the pause that the account is in; nil when calls may be made, or when a probe is due.
func standing(state postgres.ProviderState) *pausedError {
	if state.PausedUntil == nil || state.PausedFor <= 0 {
		return nil
	}
	return paused(upload.Code(state.PauseCode), state.PauseReason, state.PausedFor)
}

// open returns when the account may be sent to. When a pause is over, whoever comes first asks whether the account
// is good again.
func (w *worker) open(ctx context.Context, p provider.Provider) (postgres.ProviderState, error) {
	var state postgres.ProviderState
	err := w.write(ctx, func(ctx context.Context) (err error) {
		state, err = postgres.Provider(ctx, w.pool, p.Name())
		return err
	})
	if err != nil || state.PausedUntil == nil {
		return state, err
	}
	if pause := standing(state); pause != nil {
		return state, pause
	}
	mine, err := postgres.ClaimProbe(ctx, w.pool, p.Name(), w.Rest)
	if err != nil {
		return state, err
	}
	if !mine {
		return state, paused(upload.Code(state.PauseCode), state.PauseReason, w.Rest)
	}
	return state, w.learn(ctx, p)
}

// learn asks the account for its plan, and writes down the answer or the pause that it calls for.
func (w *worker) learn(ctx context.Context, p provider.Provider) error {
	call, end := during(ctx, callTimeout)
	defer end()
	err := check(call, p)
	if pause := w.failsCheck(ctx, p, err); pause != nil {
		w.log.Error("the provider is paused", "provider", p.Name(), "error", err, "again_in", pause.wait.Round(time.Millisecond))
		return pause
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return postgres.LearnProvider(ctx, w.pool, p.Name(), p.Capabilities())
}

// postpone keeps an upload waiting whose account is paused, without an attempt at it; 0 when it need not wait.
func (w *worker) postpone(ctx context.Context, id upload.ID, job int64) (time.Duration, error) {
	state, err := postgres.ProviderOf(ctx, w.pool, id, job)
	if err != nil {
		return 0, err
	}
	pause := standing(state)
	if pause == nil {
		return 0, nil
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return postgres.Postpone(ctx, tx, id, job, pause.says, pause.wait) })
	if errors.Is(err, postgres.ErrNoUpload) {
		return 0, nil // an attempt finds out what is to become of it
	}
	return pause.wait, err
}

// heed writes down what an error says of the account, and returns the pause that it comes to; nil when the error is
// the upload's own.
func (w *worker) heed(ctx context.Context, id upload.ID, pe *provider.Error) *pausedError {
	switch pe.Verdict {
	case provider.Throttled:
		return w.throttle(ctx, pe)
	case provider.Account:
		return w.pause(ctx, upload.ProviderAccount, pe)
	case provider.Denied, provider.Transient, provider.Unknown:
		return w.confirm(ctx, id, pe)
	}
	return nil
}

// confirm finds out whether an error that may be the account's or the upload's is the account's.
func (w *worker) confirm(ctx context.Context, id upload.ID, pe *provider.Error) *pausedError {
	state, err := postgres.Provider(ctx, w.pool, pe.Provider)
	if err != nil {
		w.log.Error("read the provider", "provider", pe.Provider, "error", err)
		return nil
	}
	if pause := standing(state); pause != nil {
		return pause
	}
	p, ok := w.providers[pe.Provider]
	if !ok {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	if pause := w.failsCheck(ctx, p, check(call, p)); pause != nil || id == "" {
		return pause
	}
	befallen, err := postgres.Trouble(ctx, w.pool, pe.Provider, id)
	switch {
	case err != nil:
		w.log.Error("write the provider's trouble", "provider", pe.Provider, "error", err)
		return nil
	case befallen < enoughTrouble:
		return nil
	case pe.Verdict == provider.Denied:
		return w.pause(ctx, upload.ProviderAccount, pe)
	}
	return w.pause(ctx, upload.ProviderUnavailable, pe)
}

// forgetTrouble lets what has failed before count no more against an account that has just taken a file.
func (w *worker) forgetTrouble(ctx context.Context, log *slog.Logger, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := postgres.ForgetTrouble(ctx, w.pool, name); err != nil {
		log.Warn("forget the provider's trouble", "error", err)
	}
}

// check asks whether the account is good, and once more where the answer may be one request's bad luck.
func check(ctx context.Context, p provider.Provider) error {
	err := p.Check(ctx)
	var pe *provider.Error
	if errors.As(err, &pe) && pe.Verdict == provider.Transient && ctx.Err() == nil {
		return p.Check(ctx)
	}
	return err
}

// failsCheck is the pause that an answer to Check calls for. That the hour's questions are spent says nothing
// against the account.
func (w *worker) failsCheck(ctx context.Context, p provider.Provider, err error) *pausedError {
	if err == nil {
		return nil
	}
	select {
	case <-ctx.Done(): // the worker stops: that is no answer
		return nil
	default:
	}
	var pe *provider.Error
	if !errors.As(err, &pe) {
		pe = &provider.Error{Provider: p.Name(), Op: "check", Verdict: provider.Transient, Message: "There was no answer in time.", Cause: err}
	}
	switch pe.Verdict {
	case provider.Throttled:
		return w.throttle(ctx, pe)
	case provider.Spent:
		return nil
	case provider.Account:
		return w.pause(ctx, upload.ProviderAccount, pe)
	}
	return w.pause(ctx, upload.ProviderUnavailable, pe)
}

// pause stops every worker from sending to the account until it is asked again.
func (w *worker) pause(ctx context.Context, code upload.Code, pe *provider.Error) *pausedError {
	reason := unavailableMessage(providerTitle(pe.Provider), pe)
	if code == upload.ProviderAccount {
		reason = sentence(providerTitle(pe.Provider)+" refuses the account", pe.Reason())
	}
	if err := postgres.PauseProvider(ctx, w.pool, pe.Provider, string(code), reason, w.Rest); err != nil {
		w.log.Error("pause the provider", "provider", pe.Provider, "error", err)
	}
	return paused(code, reason, w.Rest)
}

// throttle keeps every worker waiting for as long as the provider has asked for; where it does not say, longer each
// time.
func (w *worker) throttle(ctx context.Context, pe *provider.Error) *pausedError {
	state, err := postgres.Provider(ctx, w.pool, pe.Provider)
	wait := cmp.Or(pe.RetryAfter, w.Backoff(state.Throttles+1))
	reason := fmt.Sprintf("%s asked to wait %s.", providerTitle(pe.Provider), max(wait.Round(time.Second), time.Second))
	if err == nil {
		err = postgres.ThrottleProvider(ctx, w.pool, pe.Provider, reason, wait, w.fullParallel())
	}
	if err != nil {
		w.log.Error("throttle the provider", "provider", pe.Provider, "error", err)
	}
	return paused(upload.ProviderThrottled, reason, wait)
}

// fullParallel is how many requests with a file's bytes a worker has on their way to a provider at most.
func (w *worker) fullParallel() int {
	full := len(upload.Queues("")) * max(w.FilesInFlight, 1) * max(w.PartsInFlight, 1)
	if w.Connections > 0 {
		return min(full, w.Connections)
	}
	return full
}
