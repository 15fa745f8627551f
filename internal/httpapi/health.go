package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/postgres"
)

// probeTime is how long readiness waits for the database and for staging.
const probeTime = 2 * time.Second

// readiness is what /readyz?verbose tells. Ready needs the database and room in staging; the rest is
// what an operator looks for first.
type readiness struct {
	Ready     bool            `json:"ready"`
	Draining  bool            `json:"draining"`
	Database  check           `json:"database"`
	Staging   stagingCheck    `json:"staging"`
	Events    string          `json:"events"` // "listening", or "polling" where the database cannot announce them
	Auth      []string        `json:"auth"`   // the ways in that are open
	JWKS      *jwksCheck      `json:"jwks,omitempty"`
	DevUser   string          `json:"dev_user,omitempty"`
	Delivery  string          `json:"delivery,omitempty"` // "public" or "signed"
	Providers []providerCheck `json:"providers"`
}

type check struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// jwksCheck tells how the keys stand that check users' tokens. Without any those tokens cannot be taken;
// others can, so that requests may come all the same.
type jwksCheck struct {
	check
	Keys      int        `json:"keys"`
	FetchedAt *time.Time `json:"fetched_at,omitempty"`
}

type stagingCheck struct {
	check
	FreeBytes int64 `json:"free_bytes"`
}

type providerCheck struct {
	Name        string     `json:"name"`
	OK          bool       `json:"ok"`
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	PauseReason string     `json:"pause_reason,omitempty"`
}

// readyz tells whether requests should come here.
func (a *API) readyz(c *fiber.Ctx) error {
	r := a.readiness()
	status := http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
		c.Set(fiber.HeaderRetryAfter, "2")
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if c.Context().QueryArgs().Has("verbose") {
		return answer(c, status, r)
	}
	if !r.Ready {
		return c.Status(status).SendString("not ready\n")
	}
	return c.SendString("ok\n")
}

func (a *API) readiness() readiness {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	log := a.server.opts.Log
	r := readiness{Draining: a.server.draining.Load(), Events: "polling", Auth: a.Auth.Ways(), JWKS: a.jwks(), DevUser: a.Auth.DevUser, Delivery: a.Delivery, Providers: []providerCheck{}}
	if a.Hub.Listening() {
		r.Events = "listening"
	}

	known, err := postgres.Providers(ctx, a.Pool)
	if r.Database.OK = err == nil; err != nil {
		log.Warn("not ready: the database", "err", err)
		r.Database.Error = "the database does not answer"
	}
	for _, p := range known {
		paused := p.PausedUntil != nil
		one := providerCheck{Name: p.Name, OK: !paused, PausedUntil: utc(p.PausedUntil)}
		if paused {
			one.PauseReason = p.PauseReason
		}
		r.Providers = append(r.Providers, one)
	}

	r.Staging.FreeBytes, err = a.Ingest.Staging.Free(ctx)
	switch r.Staging.OK = err == nil && r.Staging.FreeBytes > 0; {
	case err != nil:
		log.Warn("not ready: staging", "err", err)
		r.Staging.Error = "staging cannot be reached"
	case !r.Staging.OK:
		r.Staging.Error = "there is no room"
	}
	r.Ready = r.Database.OK && r.Staging.OK && !r.Draining
	return r
}

func (a *API) jwks() *jwksCheck {
	if a.Auth.KeySet == nil {
		return nil
	}
	standing := a.Auth.KeySet.Standing()
	j := &jwksCheck{check: check{OK: !standing.Failed && standing.Keys > 0}, Keys: standing.Keys}
	if !standing.Fetched.IsZero() {
		j.FetchedAt = utc(&standing.Fetched)
	}
	switch {
	case standing.Failed:
		j.Error = "the last fetch failed"
	case standing.Keys == 0:
		j.Error = "they have not been fetched yet"
	}
	return j
}
