package api

import (
	"context"
	"log/slog"

	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/process"
)

// sharedSecret is what every API process of the installation derives its keys from.
func sharedSecret(ctx context.Context, c *config.Config, base *process.Base) ([]byte, error) {
	if s := c.Auth.TokenSecret.Reveal(); s != "" {
		return []byte(s), nil
	}
	return postgres.TokenSecret(ctx, base.Pool)
}

// authenticator knows callers by the ways that the settings open.
func authenticator(c *config.Config, base *process.Base, secret []byte, log *slog.Logger) (*auth.Authenticator, error) {
	s := c.Auth
	o := auth.Options{
		Secret: s.JWTSecret.Reveal(), Issuer: s.Issuer, Audience: s.Audience, UserClaim: s.UserClaim,
		Cookie: s.Cookie, UserHeader: s.UserHeader, DevUser: s.DevUser,
	}
	var err error
	if s.JWKSURL != "" {
		if o.KeySet, err = auth.NewKeySet(s.JWKSURL, log); err != nil {
			return nil, err
		}
		if s.Issuer == "" && len(s.Audience) == 0 {
			log.Warn("any token that AUTH_JWKS_URL's keys have signed is taken, whomever it is for; set AUTH_ISSUER and AUTH_AUDIENCE")
		}
	}
	if s.APIKeys != config.APIKeysOff {
		o.Keys = auth.NewKeys(base.Pool, log)
		if o.Tokens, err = auth.NewTokens(secret, base.Installation.ID); err != nil {
			return nil, err
		}
	}
	return auth.New(o), nil
}
