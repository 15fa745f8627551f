package client

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"time"

	"slipway/internal/upload"
)

// maxBatch is how many uploads one request retries by name (docs/uploads.md, "Sending many again").
const maxBatch = 1000

// FailedFilter chooses among the caller's failed uploads; its zero value chooses all of them. With IDs it has nothing else.
type FailedFilter struct {
	IDs           []upload.ID `json:"ids,omitempty"`
	Provider      string      `json:"provider,omitempty"`
	ErrorCode     string      `json:"error_code,omitempty"`
	NamePrefix    string      `json:"q,omitempty"`
	CreatedAfter  *time.Time  `json:"created_after,omitempty"`
	CreatedBefore *time.Time  `json:"created_before,omitempty"`
}

// RetryBatch is what has become of up to a thousand uploads, or would. As JSON it is what the service said, word for word.
type RetryBatch struct {
	Retried    RetryGroup     `json:"retried"`
	NotRetried []RetryRefusal `json:"not_retried"`
	Next       string         `json:"next"` // the path of the next batch

	said json.RawMessage
}

// RetryGroup is how many uploads, and which.
type RetryGroup struct {
	Count int         `json:"count"`
	IDs   []upload.ID `json:"ids"`
}

// RetryRefusal is why some uploads were not retried.
type RetryRefusal struct {
	Code    upload.Code `json:"code"`
	Message string      `json:"message"`
	RetryGroup
}

// UnmarshalJSON implements [json.Unmarshaler].
func (b *RetryBatch) UnmarshalJSON(text []byte) error {
	type fields RetryBatch
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	f.said = bytes.Clone(text)
	*b = RetryBatch(f)
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (b RetryBatch) MarshalJSON() ([]byte, error) { return b.said, nil }

// RetryAll sends the uploads that f chooses on their way again, batch by batch, oldest first. With dryRun it only says what it
// would do. It ends after an error; the batches before it are done.
func (c *Client) RetryAll(ctx context.Context, f FailedFilter, dryRun bool) iter.Seq2[RetryBatch, error] {
	return func(yield func(RetryBatch, error) bool) {
		rest := f.IDs
		for {
			batch := f
			if f.IDs != nil {
				n := min(len(rest), maxBatch)
				batch.IDs, rest = slices.Clip(rest[:n]), rest[n:]
			}
			if !c.retryBatches(ctx, batch, dryRun, yield) || len(rest) == 0 {
				return
			}
		}
	}
}

// retryBatches follows one choice through its pages, and tells whether to go on with another.
func (c *Client) retryBatches(ctx context.Context, f FailedFilter, dryRun bool, yield func(RetryBatch, error) bool) bool {
	body := struct {
		FailedFilter
		DryRun bool `json:"dry_run,omitempty"`
	}{f, dryRun}
	r := request{method: http.MethodPost, path: "/v1/uploads/retry", body: body, twice: true, timeout: callTimeout}
	for {
		var b RetryBatch
		if _, err := c.call(ctx, r, &b); err != nil {
			yield(RetryBatch{}, err)
			return false
		}
		if !yield(b, nil) {
			return false
		}
		if r.query = queryBehind(b.Next); r.query == nil {
			return true
		}
	}
}
