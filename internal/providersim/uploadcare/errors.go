package uploadcare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// refusal is an error answer of the Upload API; its texts and codes are those of "Errors" in
// the Upload API documentation.
type refusal struct {
	Status     int
	Code       string
	Text       string
	RetryAfter int // seconds, with 429
}

func (e *refusal) Error() string { return e.Code + ": " + e.Text }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{Status: status, Code: code, Text: fmt.Sprintf(format, args...)}
}

func required(param string) *refusal {
	return refuse(http.StatusBadRequest, "RequestParamRequiredError", "%s is required.", param)
}

var (
	errFileNotFound     = refuse(404, "FileNotFoundError", "File is not found.")
	errFileIDInvalid    = refuse(400, "FileIdInvalidError", "file_id is invalid.")
	errNoFiles          = refuse(400, "FilesRequiredError", "Request does not contain files.")
	errRequestTooLarge  = refuse(413, "RequestSizeLimitExceededError", "The size of the request is too large.")
	errFileTooBig       = refuse(400, "FileSizeLimitExceededError", "File is too large.")
	errForm             = refuse(400, "PostRequestParserFailedError", "HTTP POST request parsing failed.")
	errManyFields       = refuse(400, "RequestFiledsNumberLimitExceededError", "The request contains too many HTTP POST fields.")
	errNull             = refuse(400, "NullCharactersForbiddenError", "Null characters are not allowed.")
	errMethod           = refuse(405, "MethodNotAllowedError", "Method is not allowed.")
	errAutostoreOff     = refuse(403, "AutostoreDisabledError", "Autostore is disabled.")
	errInternal         = refuse(500, "UploadAPIError", "Internal error.")
	errSignatureMissing = refuse(400, "SignatureRequiredError", "`signature` is required.")
	errExpireMissing    = refuse(400, "SignatureExpirationRequiredError", "`expire` is required.")
	errExpireMalformed  = refuse(400, "SignatureExpirationInvalidError", "`expire` must be a UNIX timestamp.")
	errSignatureOld     = refuse(403, "SignatureExpirationError", "Expired signature.")
	errSignatureWrong   = refuse(403, "SignatureInvalidError", "Invalid signature.")

	errSizeMalformed    = refuse(400, "MultipartSizeInvalidError", "size should be integer.")
	errSizeTooSmall     = refuse(400, "MultipartFileSizeTooSmallError", "File size can not be less than %d bytes. Please use direct upload instead of multipart.", minMultipart)
	errProjectLimit     = refuse(400, "MultipartFileSizeLimitExceededError", "File size exceeds project limit.")
	errPartSizeInvalid  = refuse(400, "MultipartPartSizeInvalidError", "part_size should be integer.")
	errPartSizeTooSmall = refuse(400, "MultipartPartSizeTooSmallError", "Part size can not be less than %d bytes.", minPart)
	errPartSizeTooBig   = refuse(400, "MultipartPartSizeTooBigError", "Part size can not be more than %d bytes.", int64(maxPart))

	errUploadNotFound = refuse(404, "MultipartFileNotFoundError", "File is not found.")
	errAlreadyThere   = refuse(400, "MultipartFileAlreadyUploadedError", "File is already uploaded.")
	errPartsMissing   = refuse(400, "MultipartUploadSizeTooSmallError", "File size mismatch. Not all parts uploaded?")
	errPartsTooMuch   = refuse(400, "MultipartUploadSizeTooLargeError", "Uploaded size is more than expected.")
	errPartsUneven    = refuse(400, "MultipartFileCompletionFailedError", "Can not complete upload. Wrong parts size?")
)

// accountErrors are the answers of an account in trouble, by Config.Account.
var accountErrors = map[string]*refusal{
	"blocked": refuse(403, "AccountBlockedError", "Account has been blocked."),
	"limits":  refuse(403, "AccountLimitsExceededError", "Account has reached its limits."),
	"unpaid":  refuse(403, "AccountUnpaidError", "Account has been blocked for non payment."),
}

func throttled(seconds int) *refusal {
	e := refuse(429, "RequestThrottledError", "Request was throttled.")
	e.RetryAfter = seconds
	return e
}

// wantsJSONErrors is whether an error is to be a JSON body under status 200.
func wantsJSONErrors(r *http.Request) bool {
	return r.URL.Query().Get("jsonerrors") == "1" || strings.Contains(r.Header.Get("Accept"), "application/json")
}

// writeUploadError answers in the form the request asked for. What is not a refusal is the
// simulator's own trouble, told in X-Sim-Error.
func writeUploadError(w http.ResponseWriter, r *http.Request, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		w.Header().Set("X-Sim-Error", strconv.Quote(err.Error()))
		e = errInternal
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if wantsJSONErrors(r) {
		writeJSON(w, http.StatusOK, "application/json", map[string]any{"error": map[string]any{
			"status_code": e.Status, "content": e.Text, "error_code": e.Code,
		}})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(e.Status)
	_, _ = io.WriteString(w, e.Text) // an error is a client that has left
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // an error is a client that has left
}
