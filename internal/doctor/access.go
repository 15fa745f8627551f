package doctor

import (
	"context"
	"slices"
	"strings"

	"slipway/internal/auth"
	"slipway/internal/config"
)

// access says who may ask.
func (e *exam) access(ctx context.Context) {
	const part = "access"
	a, h := e.Config.Auth, e.Config.HTTP
	if e.faulty("AUTH_JWT_SECRET", "AUTH_JWKS_URL", "AUTH_API_KEYS", "DEV_USER") {
		return
	}
	if a.JWTSecret != "" {
		e.ok(part, "tokens signed with AUTH_JWT_SECRET are taken (HS256)")
	}
	if a.JWKSURL != "" {
		e.publishedKeys(ctx, part)
	}
	if a.Cookie != "" {
		e.ok(part, "those tokens may stand in the cookie %s (AUTH_COOKIE)", a.Cookie)
	}
	if a.UserHeader != "" {
		e.ok(part, "%s says in the header %s who is asking", strings.Join(h.TrustedProxies, ", "), a.UserHeader)
	}
	switch a.APIKeys {
	case config.APIKeysOff:
		e.ok(part, "API keys and upload tokens are not taken (AUTH_API_KEYS)")
	default:
		e.ok(part, "API keys of servers are taken, and upload tokens; `slipway key list` shows them")
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

// publishedKeys fetches the keys of the sign-in service, as the API would.
func (e *exam) publishedKeys(ctx context.Context, part string) {
	a := e.Config.Auth
	n, err := auth.CountKeys(ctx, a.JWKSURL)
	if err != nil {
		e.fail(part, "see to AUTH_JWKS_URL, or to the service", "tokens of the sign-in service cannot be checked: %v", err)
		return
	}
	e.ok(part, "tokens signed with one of the %d keys at AUTH_JWKS_URL are taken", n)
	if a.Issuer == "" && len(a.Audience) == 0 {
		e.warn(part, "set AUTH_ISSUER and AUTH_AUDIENCE", "such a token is taken whomever it was made for")
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
