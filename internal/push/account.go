package push

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// pausedError ends an attempt because nothing can be sent from the account now.
type pausedError struct {
	says upload.Error
	wait time.Duration
}

func (e *pausedError) Error() string { return e.says.Message }

// open returns when the account may be sent to. While it is paused nothing is; when the pause is
// over, whoever comes first asks whether the account is good again.
func (w *worker) open(ctx context.Context, p provider.Provider) error {
	state, err := postgres.Provider(ctx, w.pool, p.Name())
	if err != nil {
		return fmt.Errorf("read the provider: %w", err)
	}
	if state.PausedUntil == nil {
		return nil
	}
	if left := time.Until(*state.PausedUntil); left > 0 {
		return newPause(upload.Code(state.PauseCode), state.PauseReason, left)
	}
	return w.learn(ctx, p)
}

// learn asks the account for its plan, and writes down the answer or the pause that it calls for.
func (w *worker) learn(ctx context.Context, p provider.Provider) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.Check(call)
	var pe *provider.Error
	if errors.As(err, &pe) && pe.Verdict == provider.Account {
		paused := w.pause(ctx, p.Name(), pe)
		w.log.Error("the provider refuses the account", "provider", p.Name(), "error", err, "again_in", paused.wait.Round(time.Second))
		return paused
	}
	if err != nil {
		return err
	}
	return postgres.LearnProvider(ctx, w.pool, p.Name(), p.Capabilities())
}

// pause stops every worker from sending to the account until it is asked again.
func (w *worker) pause(ctx context.Context, name string, pe *provider.Error) *pausedError {
	reason := sentence(providerTitle(name)+" refuses the account", pe.Message)
	if err := postgres.PauseProvider(ctx, w.pool, name, string(upload.ProviderAccount), reason, w.Rest); err != nil {
		w.log.Error("pause the provider", "provider", name, "error", err)
	}
	return newPause(upload.ProviderAccount, reason, w.Rest)
}

func newPause(code upload.Code, reason string, left time.Duration) *pausedError {
	return &pausedError{
		wait: left + rand.N(left/10+time.Millisecond),
		says: upload.Error{Code: code, Retryable: true, FixableBy: upload.ByOperator,
			Message: reason + " Delivery goes on by itself once the operator has mended it."},
	}
}
