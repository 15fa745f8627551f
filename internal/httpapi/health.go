package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/auth"
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
	FreeBytes int64      `json:"free_bytes"`
	Room      *roomCheck `json:"room,omitempty"`
}

// roomCheck tells how staging's room is used, by all users and processes. Where none is left, whoever sends files is
// told to wait, which is no reason for requests to go elsewhere.
type roomCheck struct {
	Budget         *int64   `json:"budget"` // bytes; null is what the disk has
	StagedBytes    int64    `json:"staged_bytes"`
	HeldBytes      int64    `json:"held_bytes"` // for what is coming in
	LeftBytes      int64    `json:"left_bytes"`
	WaitingFiles   int64    `json:"waiting_files"`    // that were told to come again
	DrainPerSecond *float64 `json:"drain_per_second"` // bytes that leave staging; null when none have lately
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
		if r.Database.OK && a.operates(c) {
			r.Staging.Room = a.room()
		}
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

// operates tells whether who asks may see what others' uploads come to: by a key of scope admin, or in development.
func (a *API) operates(c *fiber.Ctx) bool {
	shown := strings.Clone(c.Get(fiber.HeaderAuthorization))
	if shown == "" {
		return a.Auth.DevUser != ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	who, err := a.Auth.Identify(ctx, auth.Shown{Authorization: shown})
	return err == nil && who.By == auth.ByKey && who.Anyone
}

// room tells how staging's room is used, nil where nobody counts or can tell.
func (a *API) room() *roomCheck {
	if a.Quotas == nil || a.Quotas.Disk == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	used, left, err := a.Quotas.Room(ctx)
	if err != nil {
		a.server.opts.Log.Warn("read how staging's room is used", "err", err)
		return nil
	}
	r := &roomCheck{StagedBytes: used.Staged, HeldBytes: used.Held, LeftBytes: left, WaitingFiles: used.Waiting, DrainPerSecond: used.Drain}
	if a.Quotas.Budget > 0 {
		r.Budget = &a.Quotas.Budget
	}
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
