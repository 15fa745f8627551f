package api

import (
	"context"
	"log/slog"

	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/process"
)

// authenticator knows callers by the ways that the settings open.
func authenticator(ctx context.Context, c *config.Config, base *process.Base, log *slog.Logger) (*auth.Authenticator, error) {
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
		secret := []byte(s.TokenSecret.Reveal())
		if len(secret) == 0 {
			if secret, err = postgres.TokenSecret(ctx, base.Pool); err != nil {
				return nil, err
			}
		}
		if o.Tokens, err = auth.NewTokens(secret, base.Installation.ID); err != nil {
			return nil, err
		}
	}
	return auth.New(o), nil
}
