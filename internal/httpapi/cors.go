package httpapi

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"

	"slipway/internal/upload"
)

// What scripts from other origins may send and read. The tus and Upload-* names are those of tus 1.0.0.
var (
	corsMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

	corsRequestHeaders = []string{
		"Authorization", "Content-Type", "Content-Disposition", "Accept", "Cache-Control", "Last-Event-ID",
		"Content-Digest", "Repr-Digest", headerIdempotencyKey, "Prefer", "If-None-Match", "If-Match", "X-Requested-With", "X-Request-Id", "X-HTTP-Method-Override",
		"Tus-Resumable", "Upload-Checksum", "Upload-Concat", "Upload-Defer-Length", "Upload-Length", "Upload-Metadata", "Upload-Offset",
	}

	corsExposedHeaders = []string{
		"Location", "ETag", "Link", "Retry-After", "RateLimit", "RateLimit-Policy", "Preference-Applied", "WWW-Authenticate", "X-Request-Id", headerReplayed,
		"Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version",
		"Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset",
	}
)

const preflightAge = 2 * 60 * 60 // seconds; the most that Chromium keeps

// origins decides which pages may call us from elsewhere.
type origins struct {
	allowed []string // as a browser writes them, or "*"
	cookies bool     // pages may send them along
	dev     bool     // any page from this machine
	log     *slog.Logger

	mu      sync.Mutex
	refused map[string]bool // logged already
}

// maxRefused bounds what the log and the memory hold of refused origins; anybody can make them up.
const maxRefused = 100

// cors answers preflights and adds the headers that let a page of an allowed origin read our answers.
func (o *origins) cors() fiber.Handler {
	cfg := cors.Config{
		Next:             func(c *fiber.Ctx) bool { return c.Get(fiber.HeaderOrigin) == c.BaseURL() },
		AllowOriginsFunc: o.allow,
		AllowMethods:     strings.Join(corsMethods, ","),
		AllowHeaders:     strings.Join(corsRequestHeaders, ","),
		ExposeHeaders:    strings.Join(corsExposedHeaders, ","),
		AllowCredentials: o.cookies,
		MaxAge:           preflightAge,
	}
	if slices.Contains(o.allowed, "*") {
		cfg.AllowOrigins, cfg.AllowOriginsFunc, cfg.AllowCredentials = "*", nil, false
	}
	return cors.New(cfg)
}

func (o *origins) allow(origin string) bool {
	for _, a := range o.allowed {
		if strings.EqualFold(a, origin) {
			return true
		}
	}
	if o.dev {
		if u, err := url.Parse(origin); err == nil && loopbackHost(u.Host) {
			return true
		}
	}
	o.refuse(strings.Clone(origin))
	return false
}

// refuse logs an origin once, with the line that would allow it.
func (o *origins) refuse(origin string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused[origin] || len(o.refused) == maxRefused {
		return
	}
	o.refused[origin] = true
	setting := "ALLOWED_ORIGINS=" + strings.Join(append(slices.Clone(o.allowed), origin), ",")
	o.log.Warn("a page of an origin that is not allowed called; to allow it, set "+setting, "origin", origin)
}

// onlyLoopback keeps pages of other sites away from a server that trusts whoever reaches it on this machine:
// a name of theirs that resolves to 127.0.0.1, and forms, which browsers send without asking first.
func (o *origins) onlyLoopback(publicURL string) fiber.Handler {
	public, _ := url.Parse(publicURL) // config has checked it
	return func(c *fiber.Ctx) error {
		host := string(c.Request().URI().Host())
		if !loopbackHost(host) && (public == nil || !strings.EqualFold(host, public.Host)) {
			return &upload.Error{Code: upload.Forbidden, Message: fmt.Sprintf("In development only this machine is served, not the host %q.", host)}
		}
		origin := c.Get(fiber.HeaderOrigin)
		if origin != "" && origin != c.BaseURL() && !slices.Contains(o.allowed, "*") && !o.allow(strings.ToLower(origin)) {
			return &upload.Error{Code: upload.Forbidden, Message: fmt.Sprintf("Pages of %q may not call this server; its log says how to allow them.", origin)}
		}
		return c.Next()
	}
}

// loopbackHost tells whether hostport names this machine. Names under .localhost always do (RFC 6761 §6.3).
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
