// Package sign computes and checks Cloudinary's signatures; it does no I/O and reads no clock.
package sign

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloudinary/cloudinary-go/v2/api"
)

// The algorithms of an account's signatures.
const (
	SHA1   = "sha1"
	SHA256 = "sha256"
)

// Key is what one account signs with.
type Key struct {
	Secret    string
	Algorithm string // SHA1 or SHA256; "" is SHA1, which accounts take unless restricted
	Version   int    // of the string to sign; 0 is 2, where "&" in a value cannot pass for a separator
}

// unsigned are the parameters that are sent beside a signature but are no part of it
// (guide "Generating authentication signatures").
var unsigned = []string{"file", "cloud_name", "resource_type", "api_key", "signature"}

// Request returns the signature of an upload request that carries params, several values of a name
// joined by commas. params must hold the timestamp, in Unix seconds.
func (k Key) Request(params url.Values) (string, error) {
	if params.Get("timestamp") == "" {
		return "", errors.New("sign a request: timestamp is missing")
	}
	signed := url.Values{}
	for name, values := range params {
		if v := strings.Join(values, ","); v != "" {
			signed.Set(name, v)
		}
	}
	for _, name := range unsigned {
		signed.Del(name)
	}
	version := k.Version
	if version == 0 {
		version = 2
	}
	return api.SignParametersUsingAlgoAndVersion(signed, k.Secret, k.algorithm(), version)
}

// ValidResponse tells, in constant time, whether signature is Cloudinary's over the id and version
// of an upload answer. It vouches for nothing else in that answer, and it never expires.
func (k Key) ValidResponse(publicID, version, signature string) bool {
	if _, err := strconv.ParseUint(version, 10, 63); err != nil || publicID == "" || strings.Contains(publicID, "&") {
		return false // another id and version could render the same string
	}
	want := hex.EncodeToString(k.sum("public_id=" + publicID + "&version=" + version))
	return subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
}

// ValidNotification tells, in constant time, whether signature is Cloudinary's on a notification's body and
// the X-Cld-Timestamp that came with it (guide "Notification signatures"). Its age is the caller's to judge, and
// that the body is JSON: else it could have taken digits from the time. An account signs with SHA-1, or with SHA-256 where it is restricted to that; the lengths differ.
func (k Key) ValidNotification(body []byte, timestamp, signature string) bool {
	if _, err := strconv.ParseUint(timestamp, 10, 63); err != nil {
		return false // another body and timestamp could render the same string
	}
	if k.Algorithm = SHA1; len(signature) == hex.EncodedLen(sha256.Size) {
		k.Algorithm = SHA256
	}
	want := hex.EncodeToString(k.sum(string(body) + timestamp))
	return subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
}

// Delivery returns the component of a delivery URL that signs path, which is
// "[<transformation>/]<public_id>[.<ext>]": host, cloud and version are not covered.
func (k Key) Delivery(path string) string {
	return "s--" + base64.URLEncoding.EncodeToString(k.sum(path))[:8] + "--"
}

// LongDelivery is the 32-character form of Delivery, always with SHA-256.
func (k Key) LongDelivery(path string) string {
	k.Algorithm = SHA256
	return "s--" + base64.URLEncoding.EncodeToString(k.sum(path))[:32] + "--"
}

func (k Key) algorithm() string {
	if k.Algorithm == "" {
		return SHA1
	}
	return k.Algorithm
}

// sum hashes s with the secret behind it: Cloudinary's signatures are plain hashes, not HMACs.
func (k Key) sum(s string) []byte {
	if k.algorithm() == SHA256 {
		sum := sha256.Sum256([]byte(s + k.Secret))
		return sum[:]
	}
	sum := sha1.Sum([]byte(s + k.Secret))
	return sum[:]
}
