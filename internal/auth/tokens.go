package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenMark begins every upload token. What follows is a JWT that only we read.
const tokenMark = "slt_"

// Tokens signs and checks upload tokens: what a server hands to a user's browser so that it may send files.
type Tokens struct {
	key    []byte
	issuer string
	parser *jwt.Parser
}

// NewTokens returns the tokens of an installation. Every process of it that has the same secret, of at least
// 32 bytes, takes them.
func NewTokens(secret []byte, installation string) (*Tokens, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "slipway upload tokens of "+installation, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("the key of upload tokens: %w", err)
	}
	return &Tokens{key: key, issuer: installation, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(installation),
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway),
	)}, nil
}

// Grant is what an upload token allows.
type Grant struct {
	User     string
	MaxBytes int64  // in one file; 0 is no limit of its own
	Provider string // "" is any
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Key      string `json:"key"` // with which it was asked for; it ends with that
	MaxBytes int64  `json:"max_bytes,omitempty"`
	Provider string `json:"provider,omitempty"`
}

// Issue returns a token that ends at a time, or when the API key of the one who asks for it ends.
func (t *Tokens) Issue(by Caller, g Grant, ends time.Time) (string, error) {
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{Issuer: t.issuer, Subject: g.User, ExpiresAt: jwt.NewNumericDate(ends)},
		Key:              by.keyID, MaxBytes: g.MaxBytes, Provider: g.Provider,
	}).SignedString(t.key)
	if err != nil {
		return "", fmt.Errorf("sign the upload token: %w", err)
	}
	return tokenMark + signed, nil
}

// holder returns whoever shows an upload token.
func (a *Authenticator) holder(ctx context.Context, token string) (Caller, error) {
	signed, ok := strings.CutPrefix(token, tokenMark)
	if !ok || a.Tokens == nil || a.Keys == nil {
		return Caller{}, refused("it is no upload token, or those are off", nil)
	}
	var claims tokenClaims
	if _, err := a.Tokens.parser.ParseWithClaims(signed, &claims, func(*jwt.Token) (any, error) { return a.Tokens.key, nil }); err != nil {
		return Caller{}, refusedToken(err)
	}
	user, err := checkUser(claims.Subject)
	if err != nil {
		return Caller{}, err
	}
	alive, err := a.Keys.alive(ctx, claims.Key)
	if err != nil {
		return Caller{}, err
	}
	if !alive {
		return Caller{}, unauthorized("The token has been revoked.", nil)
	}
	return Caller{User: user, By: ByUploadToken, Rights: Read | Send, MaxBytes: claims.MaxBytes, Provider: claims.Provider,
		Until: claims.ExpiresAt.Add(leeway), keyID: claims.Key}, nil
}
