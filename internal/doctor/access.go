package doctor

import (
	"context"
	"slices"
	"strings"
)

// access says who may ask.
func (e *exam) access() {
	const part = "access"
	a, h := e.Config.Auth, e.Config.HTTP
	if e.faulty("AUTH_JWT_SECRET", "DEV_USER") {
		return
	}
	if a.JWTSecret != "" {
		e.ok(part, "tokens signed with AUTH_JWT_SECRET are taken (HS256)")
	}
	switch {
	case a.DevUser == "":
		return
	case h.Loopback():
		e.ok(part, "whoever on this machine brings no token is %q (DEV_USER)", a.DevUser)
	default:
		e.warn(part, "unset DEV_USER and INSECURE_DEV wherever others can reach this server", "whoever brings no token is %q, and not only from this machine (DEV_USER)", a.DevUser)
	}
}

// origins says which pages may call.
func (e *exam) origins() {
	const part = "origins"
	h := e.Config.HTTP
	switch {
	case e.faulty("ALLOWED_ORIGINS"):
	case slices.Contains(h.AllowedOrigins, "*"):
		e.warn(part, "name your pages' origins in ALLOWED_ORIGINS", "pages from everywhere may call")
	case len(h.AllowedOrigins) == 0:
		e.ok(part, "no page of another origin may call; ALLOWED_ORIGINS would name those that may")
	default:
		e.ok(part, "pages of %s may call", strings.Join(h.AllowedOrigins, ", "))
	}
}

// address says what links begin with.
func (e *exam) address(ctx context.Context) {
	const part = "address"
	url := e.Config.HTTP.PublicURL
	switch {
	case e.faulty("PUBLIC_URL"):
		return
	case url == "":
		e.ok(part, "links begin with the address that a request names; PUBLIC_URL would fix it")
		return
	}
	if err := e.answers(ctx, url+"/livez"); err != nil {
		e.warn(part, "start the API, or see to the proxy in front of it", "PUBLIC_URL %s does not answer: %v", url, err)
		return
	}
	if strings.HasPrefix(url, "http://") && !e.Config.HTTP.Loopback() {
		e.warn(part, "put a proxy with TLS in front, and https:// into PUBLIC_URL", "links begin with %s, where tokens and files travel in the clear", url)
		return
	}
	e.ok(part, "links begin with %s, which answers", url)
}
