package cloudinary

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// unsigned are the parameters that no signature covers ("Generating authentication
// signatures"); one that does is refused.
var unsigned = []string{"file", "cloud_name", "resource_type", "api_key", "signature"}

// stringToSign renders parameters for signing: name=value in the order of the names, joined
// with &, arrays with commas, empty values left out, nothing escaped. Version 2 writes an &
// inside a pair as %26, so that a value cannot pose as another parameter.
func stringToSign(p params, version int) string {
	var pairs []string
	for _, name := range p.names() {
		value := p.get(name)
		if value == "" || slices.Contains(unsigned, name) {
			continue
		}
		pair := name + "=" + value
		if version >= 2 {
			pair = strings.ReplaceAll(pair, "&", "%26")
		}
		pairs = append(pairs, pair)
	}
	return strings.Join(pairs, "&")
}

// algorithms are the hashes of a signature, by the name they have in settings of the SDKs.
var algorithms = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New}

// sign is the lower-hex hash of text with the secret behind it; Cloudinary uses no HMAC.
func sign(text, secret, algorithm string) string {
	return hex.EncodeToString(sum(text, secret, algorithm))
}

func sum(text, secret, algorithm string) []byte {
	h := algorithms[algorithm]()
	h.Write([]byte(text + secret))
	return h.Sum(nil)
}

// signAnswer is the signature in an upload answer, version 1 rules whatever the account's.
func signAnswer(publicID string, version int64, secret, algorithm string) string {
	return sign("public_id="+publicID+"&version="+strconv.FormatInt(version, 10), secret, algorithm)
}

// signNotification is the X-Cld-Signature of a webhook.
func signNotification(body string, timestamp int64, secret, algorithm string) string {
	return sign(body+strconv.FormatInt(timestamp, 10), secret, algorithm)
}

// signDelivery is the s--…-- segment of a delivery URL over what follows the version: 8
// characters of SHA-1, or 32 of SHA-256.
func signDelivery(path, secret, algorithm string) string {
	length := 8
	if algorithm == "sha256" {
		length = 32
	}
	return "s--" + base64.URLEncoding.EncodeToString(sum(path, secret, algorithm))[:length] + "--"
}
