package client

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/golang-jwt/jwt/v5"
)

// Identity tells this service, as whoever asks it, from all others. Neither an address nor a token can be read from
// it. It stays the same when a user's JWT is renewed.
func (c *Client) Identity() string {
	who := c.opts.Token
	if t, _, err := jwt.NewParser().ParseUnverified(who, &jwt.RegisteredClaims{}); err == nil { // the service verifies it
		if claims := t.Claims.(*jwt.RegisteredClaims); claims.Subject != "" {
			who = claims.Issuer + "\n" + claims.Subject
		}
	}
	sum := sha256.Sum256([]byte(c.base + "\n" + who))
	return hex.EncodeToString(sum[:])
}
