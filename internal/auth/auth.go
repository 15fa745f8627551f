// Package auth tells who is asking.
package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/upload"
)

const (
	leeway       = 30 * time.Second // for clocks that differ
	maxUserBytes = 255
)

// Caller is who asks.
type Caller struct {
	User string

	// Token says that the caller showed a token. Who is known without one may be a page of another
	// site, for a browser sends its requests as anybody's.
	Token bool
}

// Authenticator knows callers by the tokens that they bring.
type Authenticator struct {
	secret  []byte
	devUser string
	parser  *jwt.Parser
}

// New returns an authenticator that takes tokens signed with secret (HS256), none where it is empty.
// Who brings no token counts as devUser; where that is empty, as nobody.
func New(secret, devUser string) *Authenticator {
	return &Authenticator{
		secret:  []byte(secret),
		devUser: devUser,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithLeeway(leeway),
			jwt.WithExpirationRequired(),
		),
	}
}

// DevUser is whom everybody counts as who brings no token, or "".
func (a *Authenticator) DevUser() string { return a.devUser }

// Identify tells who sends a request with this Authorization header, or fails with Unauthorized.
func (a *Authenticator) Identify(authorization string) (Caller, error) {
	if authorization == "" {
		if a.devUser == "" {
			return Caller{}, unauthorized("Send a token in the header Authorization: Bearer <token>.", nil)
		}
		return Caller{User: a.devUser}, nil
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Caller{}, unauthorized("The header Authorization must be: Bearer <token>.", nil)
	}
	user, err := a.subject(strings.TrimSpace(token))
	if err != nil {
		return Caller{}, err
	}
	return Caller{User: user, Token: true}, nil
}

// subject returns whom a token is for.
func (a *Authenticator) subject(token string) (string, error) {
	if len(a.secret) == 0 {
		return "", unauthorized("No tokens are taken here: AUTH_JWT_SECRET is not set.", nil)
	}
	var claims jwt.RegisteredClaims
	_, err := a.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.secret, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", unauthorized("The token has expired; get a new one.", err)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "", unauthorized("The token is not valid yet.", err)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "", unauthorized("The token never expires; it needs the claim exp.", err)
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "", unauthorized("The token is not a JSON Web Token.", err)
	case err != nil:
		return "", unauthorized("The token is not signed with this service's key, in HS256.", err)
	case claims.Subject == "", len(claims.Subject) > maxUserBytes, strings.ContainsFunc(claims.Subject, unicode.IsControl):
		return "", unauthorized(fmt.Sprintf("The token names no user: its claim sub must have 1 to %d bytes of text.", maxUserBytes), nil)
	}
	return claims.Subject, nil
}

func unauthorized(message string, cause error) error {
	return &upload.Error{Code: upload.Unauthorized, Message: message, FixableBy: upload.ByYou, Cause: cause}
}
