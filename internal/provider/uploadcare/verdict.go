package uploadcare

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"slipway/internal/provider"
)

// side is who answered.
type side string

const (
	uploadAPI side = "upload API"
	restAPI   side = "REST API"
	storage   side = "part storage"
	cdn       side = "CDN"
	stranger  side = "line" // something on the way, in another form than Uploadcare's
)

// row is what some answers mean.
type row struct {
	side    side
	status  int
	code    string
	verdict provider.Verdict
}

func (r row) fits(s side, status int, code string) bool {
	return (r.side == "" || r.side == s) && (r.status == 0 || r.status == status) && (r.code == "" || r.code == code)
}

// verdicts says what an answer means; the first row that fits decides, and an empty field fits all.
// Codes and texts: Upload API reference, "Errors"; REST API reference 0.7; S3 for the part storage.
var verdicts = []row{
	// The account, whatever its keys.
	{code: "AccountBlockedError", verdict: provider.Account},
	{code: "AccountLimitsExceededError", verdict: provider.Account},
	{code: "AccountUnpaidError", verdict: provider.Account},
	{code: "AutostoreDisabledError", verdict: provider.Account},

	// Its keys, or our clock, which Check finds wrong as well.
	{code: "ProjectPublicKeyInvalidError", verdict: provider.Denied},
	{code: "ProjectPublicKeyRequiredError", verdict: provider.Denied},
	{code: "ProjectPublicKeyRemovedError", verdict: provider.Denied},
	{code: "SignatureExpirationError", verdict: provider.Denied},
	{code: "SignatureInvalidError", verdict: provider.Denied},
	{code: "SignatureRequiredError", verdict: provider.Denied},
	{code: "SignatureExpirationRequiredError", verdict: provider.Denied},
	{code: "SignatureExpirationInvalidError", verdict: provider.Denied},

	// The session.
	{code: "MultipartFileNotFoundError", verdict: provider.SessionLost},
	{code: "MultipartUploadSizeTooSmallError", verdict: provider.SessionLost},
	{code: "MultipartUploadSizeTooLargeError", verdict: provider.SessionLost},
	{code: "MultipartFileCompletionFailedError", verdict: provider.SessionLost},
	{code: alreadyUploaded, verdict: provider.Unknown},
	{code: "FileNotFoundError", verdict: provider.SessionLost},

	// What passes.
	{code: "RequestThrottledError", verdict: provider.Throttled},
	{code: "UploadFailedError", verdict: provider.Transient},
	{code: "UploadAPIError", verdict: provider.Transient},

	// A part's address: expired, spent, or its session gone. A stalled body and a busy storage pass.
	{side: storage, code: "SlowDown", verdict: provider.Throttled},
	{side: storage, status: 403, verdict: provider.SessionLost},
	{side: storage, status: 404, verdict: provider.SessionLost},
	{side: storage, status: 429, verdict: provider.Throttled},
	{side: storage, verdict: provider.Transient},

	{side: cdn, status: 429, verdict: provider.Throttled},
	{side: cdn, verdict: provider.Transient},

	{side: stranger, status: 401, verdict: provider.Denied},
	{side: stranger, status: 413, verdict: provider.Reject},
	{side: stranger, status: 429, verdict: provider.Throttled},
	{side: stranger, verdict: provider.Transient},

	{status: 401, verdict: provider.Denied},
	{status: 402, verdict: provider.Account},
	{status: 403, verdict: provider.Denied},
	{status: 404, verdict: provider.SessionLost},
	{status: 406, verdict: provider.Denied}, // the API version has ended
	{status: 408, verdict: provider.Transient},
	{status: 413, verdict: provider.Reject},
	{status: 429, verdict: provider.Throttled},
	{side: uploadAPI, status: 400, verdict: provider.Reject}, // content, type, size, name, metadata
	{side: restAPI, status: 400, verdict: provider.Transient},
	{verdict: provider.Transient},
}

// alreadyUploaded is the code of a complete that was obeyed before.
const alreadyUploaded = "MultipartFileAlreadyUploadedError"

func verdict(s side, status int, code string) provider.Verdict {
	for _, r := range verdicts {
		if r.fits(s, status, code) {
			return r.verdict
		}
	}
	return provider.Transient
}

// refusal reads an answer that is not a success. Its text is passed on only where it is a plain
// sentence, and without the project's keys.
func refusal(s side, resp *http.Response, body []byte, keys []string) *provider.Error {
	e := &provider.Error{
		Provider:   name,
		Status:     resp.StatusCode,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After")),
		RequestID:  requestID(resp.Header),
	}
	text, from := read(e, s, body)
	e.Verdict = verdict(from, e.Status, e.Code)
	e.Message = sentence(text, keys)
	return e
}

// read fills e from the body and returns its sentence, and who speaks in this form.
func read(e *provider.Error, s side, body []byte) (text string, from side) {
	switch s {
	case uploadAPI:
		if inner, ok := errorObject(body); ok {
			e.Code, e.Status = inner.Code, cmp.Or(inner.Status, e.Status)
			return inner.Content, s
		}
		if text = sentence(string(body), nil); text != "" {
			return text, s
		}
		return "", stranger
	case restAPI:
		var answer struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body, &answer) != nil || answer.Detail == "" {
			return "", stranger
		}
		return answer.Detail, s
	case storage:
		var answer struct{ Code string }
		if xml.Unmarshal(body, &answer) == nil {
			e.Code = answer.Code
		}
	}
	return "", s
}

// apiError is the object that the Upload API answers, under "error" and with status 200, to a
// request with jsonerrors=1.
type apiError struct {
	Status  int    `json:"status_code"`
	Content string `json:"content"`
	Code    string `json:"error_code"`
}

// errorObject finds the apiError in an answer of the Upload API.
func errorObject(body []byte) (apiError, bool) {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil {
		return apiError{}, false
	}
	return *answer.Error, true
}

func holdsError(body []byte) bool {
	_, ok := errorObject(body)
	return ok
}

// sentence is text without keys, or nothing when it is not one plain line without addresses.
func sentence(text string, keys []string) string {
	text = strings.TrimSpace(text)
	if len(text) > 300 || strings.ContainsAny(text, "<>{}\r\n") || strings.Contains(text, "://") {
		return ""
	}
	for _, key := range keys {
		text = strings.ReplaceAll(text, key, "…")
	}
	return text
}

// retryAfter reads the header's two forms, seconds and a date.
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

func requestID(h http.Header) string {
	if id := h.Get("X-Uploadcare-Request-Id"); id != "" {
		return id
	}
	return h.Get("X-Amz-Request-Id")
}

// failed says what err means, which op came to. ctx is the caller's: that it was canceled is not the
// provider's doing; that its time ran out is.
func (p *Provider) failed(ctx context.Context, op string, err error) error {
	if e, ok := errors.AsType[*provider.Error](err); ok {
		e.Op = op
		return e
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s %s: %w", name, op, ctx.Err())
	}
	return unusable(op, err)
}

// unusable is the lack of an answer, or one that says nothing.
func unusable(op string, cause error) *provider.Error {
	return &provider.Error{
		Provider: name, Op: op, Verdict: provider.Transient,
		Message: "Uploadcare gave no usable answer.", Cause: plain(cause),
	}
}

var errCut = errors.New("the answer ended early")

// plain takes the address out of err, for it may be signed, and io.ErrUnexpectedEOF, which is said
// only of a staged file.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errCut
	}
	return err
}
