package push

import (
	"context"

	"slipway/internal/postgres"
)

// AttemptOf tells the attempts apart in whose name calls are made; nil for other calls.
func AttemptOf(ctx context.Context) any {
	if held, ok := ctx.Value(leaseKey{}).(*lease); ok {
		return held
	}
	return nil
}

// Kill ends an attempt that has been taken over, as the next beat of its lease would.
func Kill(attempt any) { attempt.(*lease).cancel(postgres.ErrFenced) }
