// Package sign computes the signatures and addresses that Uploadcare checks or derives from keys.
package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Upload is the signature of an upload that has to arrive before expire, sent with expire in Unix
// seconds (Docs, "Upload control with signed uploads"). A project that does not demand it ignores it.
func Upload(secretKey string, expire time.Time) string {
	return hexHMAC([]byte(secretKey), strconv.FormatInt(expire.Unix(), 10))
}

// CDNHost is the host that serves a project's files since July 2025. Its prefix is the first ten
// digits of the key's SHA-256 written in base 36 (pyuploadcare, get_cname_prefix).
func CDNHost(publicKey string) string {
	sum := sha256.Sum256([]byte(publicKey))
	return new(big.Int).SetBytes(sum[:]).Text(36)[:10] + ".ucarecd.net"
}

// Delivery is the token that opens the paths of acl ("/*", "/<uuid>/", "/<uuid>/*") until expire,
// where a project's delivery is signed; it goes into the query as "token" (Docs, "Access control
// with signed URLs"). The secret is hex.
func Delivery(secret, acl string, expire time.Time) (string, error) {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("delivery secret: not hexadecimal")
	}
	msg := fmt.Sprintf("exp=%d~acl=%s", expire.Unix(), strings.ReplaceAll(acl, "~", "%7e"))
	return msg + "~hmac=" + hexHMAC(key, msg), nil
}

// ValidWebhook tells, in constant time, whether header, the X-Uc-Signature of a notification, is on its body
// (Docs, "Signed webhooks"). It says nothing of its age: nothing in a notification tells when it was sent.
func ValidWebhook(secret string, body []byte, header string) bool {
	return hmac.Equal([]byte("v1="+hexHMAC([]byte(secret), string(body))), []byte(header))
}

func hexHMAC(key []byte, msg string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(msg))
	return hex.EncodeToString(h.Sum(nil))
}
