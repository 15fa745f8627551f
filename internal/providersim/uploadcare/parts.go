package uploadcare

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// amzTime is the form of X-Amz-Date.
	amzTime = "20060102T150405Z"
	// maxRefusedBody is how much of a refused part is read and thrown away, in bytes.
	maxRefusedBody = 64 << 20
)

// s3Error is an error answer of the part storage (S3 API reference, "Error responses").
type s3Error struct {
	Status  int    `xml:"-"`
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
}

func (e *s3Error) Error() string { return e.Code + ": " + e.Message }

var (
	errSignatureMismatch = &s3Error{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	errURLExpired        = &s3Error{403, "AccessDenied", "Request has expired"}
	errNoSuchUpload      = &s3Error{404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."}
	errNoLength          = &s3Error{411, "MissingContentLength", "You must provide the Content-Length HTTP header."}
	errPartTooLarge      = &s3Error{400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"}
	errBodyStalled       = &s3Error{400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."}
	errS3Method          = &s3Error{405, "MethodNotAllowed", "The specified method is not allowed against this resource."}
	errS3Internal        = &s3Error{500, "InternalError", "We encountered an internal error. Please try again."}
)

// partURL is the signed address of part n, in the form of recorded traffic.
func (s *Sim) partURL(ses Session, n int) string {
	path := "/" + ses.UUID + "/" + safeName(ses.File.Name)
	query := url.Values{
		"uploadId":            {ses.UploadID},
		"partNumber":          {strconv.Itoa(n)},
		"X-Amz-Algorithm":     {"AWS4-HMAC-SHA256"},
		"X-Amz-Credential":    {"AKIASIMULATEDUPLOADC/" + ses.Started.Format("20060102") + "/us-east-1/s3/aws4_request"},
		"X-Amz-Date":          {ses.Started.Format(amzTime)},
		"X-Amz-Expires":       {strconv.Itoa(int(sessionLife / time.Second))},
		"X-Amz-SignedHeaders": {"host"},
	}
	query.Set("X-Amz-Signature", s.partSignature(path, query))
	return s.base().Parts + path + "?" + query.Encode()
}

// partSignature covers the path and every query parameter but itself. The host stays out of
// it, so that a part may pass through a proxy.
func (s *Sim) partSignature(path string, query url.Values) string {
	signed := url.Values{}
	for name, values := range query {
		if name != "X-Amz-Signature" {
			signed[name] = values
		}
	}
	mac := hmac.New(sha256.New, []byte(s.secretKey))
	mac.Write([]byte("PUT\n" + path + "\n" + signed.Encode()))
	return hex.EncodeToString(mac.Sum(nil))
}

// PartsHandler serves the part URLs, and the control routes beside them.
func (s *Sim) PartsHandler() http.Handler {
	return s.Controls.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-amz-request-id", strings.ToUpper(hexBytes(8)))
		w.Header().Set("x-amz-id-2", base64.StdEncoding.EncodeToString(randomBytes(57)))
		w.Header().Set("Server", "AmazonS3")
		if openToPages(w, r, "ETag") {
			return
		}
		sum, err := s.putPart(r)
		if err != nil {
			// A refusal waits for the body: a client that still sends would see a broken
			// connection in place of it. What cannot be read changes nothing about it.
			_, _ = io.CopyN(io.Discard, r.Body, maxRefusedBody)
			writeS3Error(w, err)
			return
		}
		w.Header().Set("ETag", `"`+sum+`"`)
	}))
}

// putPart takes a part's bytes and returns their MD5.
func (s *Sim) putPart(r *http.Request) (string, error) {
	if r.Method != http.MethodPut {
		return "", errS3Method
	}
	query := r.URL.Query()
	if !sameText(query.Get("X-Amz-Signature"), s.partSignature(r.URL.Path, query)) {
		return "", errSignatureMismatch
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, err := strconv.Atoi(query.Get("partNumber"))
	if err != nil {
		return "", errSignatureMismatch
	}
	signedAt, err := time.Parse(amzTime, query.Get("X-Amz-Date"))
	if err != nil || s.Controls.Clock.Now().After(signedAt.Add(sessionLife)) {
		return "", errURLExpired
	}
	ses, ok := s.sessions.Get(id)
	switch {
	case !ok, ses.Completed, ses.UploadID != query.Get("uploadId"):
		return "", errNoSuchUpload
	case r.ContentLength < 0:
		return "", errNoLength
	case r.ContentLength > maxPart:
		return "", errPartTooLarge
	}
	blob, err := s.save(r.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "", errBodyStalled
	}
	if err != nil {
		return "", err
	}
	if err := s.arrive(ses, n, blob); err != nil {
		return "", errors.Join(err, s.files.Remove(blob))
	}
	return blob.MD5, nil
}

// writeS3Error answers in XML. What is not S3's is the simulator's own trouble, told in X-Sim-Error.
func writeS3Error(w http.ResponseWriter, err error) {
	var e *s3Error
	if !errors.As(err, &e) {
		w.Header().Set("X-Sim-Error", strconv.Quote(err.Error()))
		e = errS3Internal
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(e.Status)
	body, _ := xml.Marshal(struct { // two strings and two ids always encode
		XMLName xml.Name `xml:"Error"`
		*s3Error
		RequestID string `xml:"RequestId"`
		HostID    string `xml:"HostId"`
	}{s3Error: e, RequestID: w.Header().Get("x-amz-request-id"), HostID: w.Header().Get("x-amz-id-2")})
	_, _ = w.Write(append([]byte(xml.Header), body...)) // an error is a client that has left
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func hexBytes(n int) string { return hex.EncodeToString(randomBytes(n)) }
