package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"slipway/internal/upload"
)

// Verdict is what a fault at the source means for the import.
type Verdict int

const (
	Again  Verdict = iota // it may pass: try again, a bounded number of times
	Wait                  // the source has said when to come back
	Refuse                // it will not pass
)

// Error is a fault at the source. Its text holds nothing of the URL but its host.
type Error struct {
	Verdict Verdict
	After   time.Duration // with Wait
	Says    upload.Error  // to the upload's owner; it holds no address
	Cause   error
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Says.Error()
	}
	return string(e.Says.Code) + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

func refuse(code upload.Code, cause error, format string, a ...any) *Error {
	return &Error{Verdict: Refuse, Cause: cause, Says: upload.Error{Code: code, FixableBy: upload.ByYou, Message: fmt.Sprintf(format, a...)}}
}

func again(cause error, message string) *Error {
	return &Error{Verdict: Again, Cause: cause, Says: upload.Error{Code: upload.SourceUnavailable, Retryable: true, FixableBy: upload.ByProvider, Message: message}}
}

// unreachable is said of names that do not exist and of those that lead where nobody may fetch from alike: what
// there is in a private network is nobody's to find out.
func unreachable(cause error) *Error {
	return refuse(upload.SourceRefused, cause, "There is no server on the public network at this address.")
}

var (
	errSlow = errors.New("the source was too slow")
	errOpen = errors.New("the source did not answer in time")
)

// answered is what a status means that is not the file. The table is by RFC 9110 §15.
func answered(resp *http.Response, now time.Time) *Error {
	status := resp.StatusCode
	cause := fmt.Errorf("the source answered %d", status)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return refuse(upload.SourceRefused, cause, "The address answered %d: it does not give the file to everybody. Import from one that needs no sign-in, such as a signed link.", status)
	case http.StatusNotFound, http.StatusGone:
		return refuse(upload.SourceRefused, cause, "The address answered %d: there is no such file.", status)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if after, ok := retryAfter(resp.Header.Get("Retry-After"), now); ok {
			return &Error{Verdict: Wait, After: after, Cause: cause, Says: upload.Error{Code: upload.SourceThrottled, Retryable: true, FixableBy: upload.ByProvider,
				Message: fmt.Sprintf("The address answered %d and asks to wait until %s.", status, now.Add(after).UTC().Format("15:04:05 UTC"))}}
		}
		return again(cause, fmt.Sprintf("The address answered %d.", status))
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return again(cause, fmt.Sprintf("The address answered %d.", status))
	}
	switch {
	case status >= 500:
		return again(cause, fmt.Sprintf("The address answered %d.", status))
	case status < 300:
		return refuse(upload.SourceRefused, cause, "The address answered %d, which is no file.", status)
	}
	return refuse(upload.SourceRefused, cause, "The address answered %d.", status)
}

// maxRetryAfter bounds what a source may ask; the import's own deadline does the rest.
const maxRetryAfter = 24 * time.Hour

// retryAfter is a Retry-After header (RFC 9110 §10.2.3), of at least a second.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return max(time.Second, min(time.Duration(seconds)*time.Second, maxRetryAfter)), true
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Second, min(at.Sub(now), maxRetryAfter)), true
	}
	return 0, false
}

// failed is what an error of the connection means, before the answer or within it.
func failed(ctx context.Context, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow):
		return again(cause, "The file came too slowly, or not at all any more.")
	case errors.Is(cause, errOpen):
		return again(cause, "The server at the address did not answer in time.")
	case cause != nil:
		return cause
	}
	var asked *url.Error // whose text has the whole URL
	if errors.As(err, &asked) {
		err = asked.Err
	}
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		network     *net.OpError
	)
	switch {
	case errors.Is(err, errForbidden):
		return unreachable(errForbidden)
	case errors.As(err, &name) && name.IsNotFound:
		return unreachable(fmt.Errorf("resolve: %s", name.Err))
	case errors.As(err, &name):
		return again(fmt.Errorf("resolve: %s", name.Err), "The server's name could not be looked up.")
	case errors.As(err, &certificate), errors.As(err, &unknown), errors.As(err, &record), errors.As(err, &alert):
		return refuse(upload.SourceRefused, err, "The server at the address cannot be trusted: a safe connection (TLS) to it could not be made.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return again(err, "The file was cut off.")
	case errors.As(err, &network), errors.Is(err, io.EOF):
		return again(err, "The server at the address could not be reached, or has broken off.")
	}
	return again(fmt.Errorf("fetch: %T", err), "What the server answered cannot be understood.")
}
