package quota

import (
	"context"
	"errors"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	// A file of which nobody knows how long it is has room for firstStep to begin with, and then for as much
	// again as has come, up to longestStep.
	firstStep   = 256 << 10
	longestStep = 64 << 20

	// growPart is how much of what is left such a file is given in advance: one in so many of the bytes.
	growPart = 8

	// askPatience is how long the database may take to say whether there is room.
	askPatience = 10 * time.Second
)

// fit sees to it that there is room for the first n bytes of the file. With an error, there is for fewer.
func (h *Hold) fit(n int64) (fits int64, err error) {
	if (!h.quotas.uploads() || n <= h.bytes) && (!h.quotas.staging() || n <= h.room) {
		return n, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.quotas.Patience+askPatience)
	defer cancel()
	fits, err = h.grow(ctx, n)
	if err != nil && postgres.Unreachable(err) {
		err = &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: err,
			Message: "The service cannot reach its database at the moment, to make room for the rest of the file. Nothing was recorded; try again."}
	}
	return fits, err
}

// grow holds what is missing for the first n bytes, and some more.
func (h *Hold) grow(ctx context.Context, n int64) (fits int64, err error) {
	if h.quotas.uploads() && n > h.bytes {
		if fits, err := h.growBytes(ctx, n); err != nil {
			return fits, err
		}
	}
	if h.quotas.staging() && n > h.room {
		if err := h.growRoom(ctx, n); err != nil {
			return h.room, err
		}
	}
	return n, nil
}

// ahead is how much is asked for where n bytes are needed.
func (h *Hold) ahead(n int64) int64 {
	ahead := n + min(max(n, firstStep), longestStep)
	if h.most >= n {
		ahead = min(ahead, h.most)
	}
	return ahead
}

// growBytes holds n bytes in the user's quotas, and as far as those go some more.
func (h *Hold) growBytes(ctx context.Context, n int64) (fits int64, err error) {
	bytes := h.ahead(n)
	if err = h.holdBytes(ctx, bytes, Need{Staged: bytes, Stored: bytes}); !refused(err) {
		return h.bytes, err
	}
	left := room(h.usage)
	if left < n {
		return left, Need{Staged: n, Stored: n}.within(h.usage)
	}
	return left, h.holdBytes(ctx, left, Need{Staged: left, Stored: left})
}

func refused(err error) bool {
	var exceeded *Exceeded
	var coded *upload.Error
	return errors.As(err, &exceeded) || errors.As(err, &coded) && coded.Code == upload.TooLarge
}

// growRoom holds room for n bytes in staging, and waits a while for it. What there is room for beside them is
// held, too.
func (h *Hold) growRoom(ctx context.Context, n int64) error {
	for deadline := time.Now().Add(h.quotas.Patience); ; {
		left, err := h.tryRoom(ctx, n, h.ahead(n), false)
		if err != nil || n <= h.room {
			return err
		}
		if !time.Now().Before(deadline) {
			return h.full(ctx, n, left)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(h.quotas.Patience / 20):
		}
	}
}
