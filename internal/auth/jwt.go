package auth

import (
	"context"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/upload"
)

// parser takes the algorithms for which there is a key, and no others.
func (o Options) parser() *jwt.Parser {
	methods := []string{}
	if o.Secret != "" {
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if o.KeySet != nil {
		methods = append(methods, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg())
	}
	return jwt.NewParser(
		jwt.WithValidMethods(methods), jwt.WithIssuer(o.Issuer), jwt.WithAudience(o.Audience...),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
	)
}

// userOf returns the user whom a JWT names, and until when it does.
func (a *Authenticator) userOf(ctx context.Context, token string) (user string, until time.Time, err error) {
	claims := jwt.MapClaims{}
	_, err = a.users.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return a.keyOf(ctx, t) })
	switch {
	case errors.Is(err, errNoKeys):
		return "", until, &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: err,
			Message: "Tokens cannot be checked at the moment; try again."}
	case err != nil:
		return "", until, refusedToken(err)
	}
	user, ok := claims[a.UserClaim].(string)
	if !ok {
		return "", until, refused("the claim "+a.UserClaim+" is no text", nil)
	}
	ends, err := claims.GetExpirationTime()
	if err != nil {
		return "", until, refusedToken(err)
	}
	user, err = checkUser(user)
	return user, ends.Add(leeway), err
}

// keyOf returns the key with which a token must have been signed. The algorithm decides where it is looked
// for: the secret is never compared with a signature by a public key, nor the other way round. A token that
// demands to be understood in more ways than we know is refused (RFC 7515 §4.1.11).
func (a *Authenticator) keyOf(ctx context.Context, t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, errors.New("it has critical headers")
	}
	if t.Method == jwt.SigningMethodHS256 {
		return []byte(a.Secret), nil
	}
	return a.KeySet.keyOf(ctx, t)
}

// refusedToken tells whoever had a good token that its time is over, or yet to come, and others nothing:
// times are looked at when the signature is right.
func refusedToken(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience):
	case errors.Is(err, jwt.ErrTokenExpired):
		return unauthorized("The token has expired; get a new one.", err)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return unauthorized("The token is not valid yet.", err)
	}
	return refused("the token", err)
}
