package client

import (
	"fmt"
	"net/http"
	"time"

	"slipway/internal/upload"
)

// Error is the service's refusal (RFC 9457). Code is "" when the answer was not Slipway's own.
type Error struct {
	Status    int         `json:"status"` // of HTTP
	Code      upload.Code `json:"code"`
	Detail    string      `json:"detail"` // a sentence that says what to do
	Instance  string      `json:"instance,omitempty"`
	Retryable bool        `json:"retryable"`
	UploadID  upload.ID   `json:"upload_id,omitempty"` // of an upload that is there, or may be

	RetryAfter time.Duration `json:"-"` // 0 when no wait was asked for
	Unknown    bool          `json:"-"` // whether the request was carried out: it was, or will have been, by an earlier try
}

func (e *Error) Error() string { return e.Detail }

// queued tells whether the service is well, and takes the request when its turn has come.
func (e *Error) queued() bool {
	return (e.Status == http.StatusInsufficientStorage || e.Status == http.StatusTooManyRequests) && e.RetryAfter <= longestTurn
}

// UnreachableError means that no answer came.
type UnreachableError struct {
	URL     string // of the service
	Cause   error
	Unknown bool // whether the request was carried out: it had left as a whole; never of one that only asks

	weather bool // not a wrong address: the service has been met there
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from %s: %v", e.URL, e.Cause)
}

func (e *UnreachableError) Unwrap() error { return e.Cause }
