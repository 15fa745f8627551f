package uploadcare

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"net/mail"
	"strings"
	"time"
)

// maxDateSkew is how far a signed request's date may be from the service's time (REST API
// reference, "Authentication").
const maxDateSkew = 15 * time.Minute

var errCredentials = &restError{Status: 401, Detail: "Incorrect authentication credentials."}

// authenticate checks the Authorization of a REST request with that body, in either scheme.
func (s *Sim) authenticate(r *http.Request, body []byte) error {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	key, proof, ok := strings.Cut(credentials, ":")
	if !ok {
		return errCredentials
	}
	if !sameText(key, s.publicKey) {
		return &restError{Status: 401, Detail: "Public key " + key + " not found."}
	}
	switch scheme {
	case "Uploadcare.Simple":
		if !sameText(proof, s.secretKey) {
			return errCredentials
		}
		return nil
	case "Uploadcare":
		return s.checkRequestSignature(r, body, proof)
	default:
		return errCredentials
	}
}

func (s *Sim) checkRequestSignature(r *http.Request, body []byte, signature string) error {
	date := r.Header.Get("X-Uploadcare-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := mail.ParseDate(date)
	if err != nil || at.Sub(s.clientTime()).Abs() > maxDateSkew {
		return errCredentials
	}
	contentType := r.Header.Get("Content-Type")
	// Clients differ in whether they sign the path as sent or as decoded.
	for _, uri := range []string{r.URL.RequestURI(), withQuery(r.URL.Path, r.URL.RawQuery)} {
		if sameText(signature, requestSignature(s.secretKey, r.Method, body, contentType, date, uri)) {
			return nil
		}
	}
	return &restError{Status: 401, Detail: "Invalid signature. Please check your Secret key."}
}

func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

// requestSignature is the lower-hex HMAC-SHA1 of a REST request (REST API reference,
// "Uploadcare" authentication scheme); uri is path with query.
func requestSignature(secret, method string, body []byte, contentType, date, uri string) string {
	sum := md5.Sum(body)
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.Join([]string{method, hex.EncodeToString(sum[:]), contentType, date, uri}, "\n")))
	return hex.EncodeToString(mac.Sum(nil))
}
