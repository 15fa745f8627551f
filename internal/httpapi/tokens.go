package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/auth"
	"slipway/internal/ingest"
	"slipway/internal/upload"
)

const (
	defaultTokenLife = 15 * time.Minute
	maxTokenLife     = 24 * time.Hour
)

// tokenRequest is the body of POST /v1/tokens.
type tokenRequest struct {
	UserID   string `json:"user_id"`
	TTL      int64  `json:"ttl"`       // seconds; 0 is 15 minutes
	MaxBytes int64  `json:"max_bytes"` // in one file; 0 is what the service takes
	Provider string `json:"provider"`  // "" is any
}

// tokenAnswer is what it is answered with.
type tokenAnswer struct {
	Token     string    `json:"token"`
	UserID    string    `json:"user_id"`
	ExpiresAt time.Time `json:"expires_at"`
	MaxBytes  int64     `json:"max_bytes,omitempty"`
	Provider  string    `json:"provider,omitempty"`
}

// createToken makes an upload token for a user of the server that asks. A member that is not known is
// refused: it could be a limit, misspelt.
func (a *API) createToken(c *fiber.Ctx) error {
	if a.Auth.Tokens == nil {
		return &upload.Error{Code: upload.Forbidden, FixableBy: upload.ByOperator, Message: "Upload tokens are switched off here."}
	}
	var raw json.RawMessage
	if err := a.readJSON(c, &raw); err != nil {
		return err
	}
	var r tokenRequest
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Cause: err,
			Message: `The body must be like {"user_id":"user_123","ttl":900,"max_bytes":104857600,"provider":"uploadcare"}; ttl is seconds, and all but user_id may be left out.`}
	}
	life := time.Duration(r.TTL) * time.Second
	switch most := int64(maxTokenLife / time.Second); {
	case r.TTL == 0:
		life = defaultTokenLife
	case r.TTL < 0, r.TTL > most:
		return invalidParameter("ttl must be 1 to %d seconds.", most)
	}
	switch {
	case r.MaxBytes < 0:
		return invalidParameter("max_bytes must be a number of bytes, or left out.")
	case r.Provider != "" && !slices.Contains(a.Ingest.Providers, r.Provider):
		return &upload.Error{Code: upload.UnknownProvider, FixableBy: upload.ByYou,
			Message: fmt.Sprintf("Provider %.40q is not configured here; use %s.", r.Provider, strings.Join(a.Ingest.Providers, " or "))}
	case !auth.NamesUser(r.UserID):
		return invalidParameter("user_id must have 1 to 255 bytes of text.")
	}
	ends := time.Now().Add(life).UTC().Truncate(time.Second)
	token, err := a.Auth.Tokens.Issue(caller(c), auth.Grant{User: r.UserID, MaxBytes: r.MaxBytes, Provider: r.Provider}, ends)
	if err != nil {
		return err
	}
	return answerOnce(c, tokenAnswer{Token: token, UserID: r.UserID, ExpiresAt: ends, MaxBytes: r.MaxBytes, Provider: r.Provider})
}

// limitOf is the most bytes in one file of this caller's.
func (a *API) limitOf(c *fiber.Ctx) int64 {
	if most := caller(c).MaxBytes; most > 0 {
		return min(most, a.limit())
	}
	return a.limit()
}

// requested is what fields, and query parameters where there is no field, say of a file, within what the
// caller may send.
func (a *API) requested(c *fiber.Ctx, r ingest.Request) (ingest.Request, error) {
	who := caller(c)
	r.User = who.User
	if who.Provider != "" {
		if r.Provider != "" && r.Provider != who.Provider {
			return r, beyond(c, fmt.Sprintf("The token is good for files to %s alone.", who.Provider))
		}
		r.Provider = who.Provider
	}
	if limit := a.limitOf(c); r.Length > limit {
		return r, tooLarge(limit)
	}
	return r, nil
}
