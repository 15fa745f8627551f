package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
)

const (
	// minSecret is what HS256 asks of its key (RFC 7518 §3.2), in bytes.
	minSecret = 32

	generate = "openssl rand -base64 48"
)

// headerName is also what a cookie may be called (RFC 9110 §5.6.2, RFC 6265 §4.1.1).
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// checkAuth sees to it that somebody may ask, and not everybody.
func (c *Config) checkAuth(need Need, faults *Faults) {
	a := c.Auth
	faults.signingSecret("AUTH_JWT_SECRET", a.JWTSecret)
	faults.signingSecret("AUTH_TOKEN_SECRET", a.TokenSecret)
	c.checkJWKS(faults)
	if a.UserClaim == "" {
		faults.add("AUTH_USER_CLAIM", "is empty", "name the claim that holds the user's id, or unset it for sub")
	}
	if a.Cookie != "" && !headerName.MatchString(a.Cookie) {
		faults.add("AUTH_COOKIE", fmt.Sprintf("is %q, which no cookie can be called", a.Cookie), "give the name of the cookie that holds the token, such as session")
	}
	if a.UserHeader != "" && !headerName.MatchString(a.UserHeader) {
		faults.add("AUTH_USER_HEADER", fmt.Sprintf("is %q, which no header can be called", a.UserHeader), "give the name of the header that your proxy sets, such as X-User-Id")
	}
	if k := a.APIKeys; k != "on" && k != APIKeysOff && k != APIKeysOnly {
		faults.add("AUTH_API_KEYS", fmt.Sprintf("is %q", k), "give on, off, or only, if nobody else is to ask than servers and those they gave an upload token")
	}
	if need&NeedAPI != 0 {
		c.checkSomebody(faults)
	}
}

// checkSomebody notes what makes a setting useless, or the service open to everybody or to nobody.
func (c *Config) checkSomebody(faults *Faults) {
	a := c.Auth
	tokens := a.JWTSecret != "" || a.JWKSURL != ""
	users := tokens || a.UserHeader != "" || a.DevUser != ""
	switch {
	case a.APIKeys == APIKeysOnly && users:
		faults.add("AUTH_API_KEYS", "is only, and users may ask by other settings", "set it to on, or unset AUTH_JWT_SECRET, AUTH_JWKS_URL, AUTH_USER_HEADER and DEV_USER")
	case !users && a.APIKeys != APIKeysOnly:
		faults.add("AUTH_JWT_SECRET", "is not set, and neither are AUTH_JWKS_URL and DEV_USER: nobody could ask for anything",
			"set AUTH_JWKS_URL to where your sign-in service publishes its keys, or AUTH_JWT_SECRET to the key that signs your users' tokens (HS256; make one with: "+
				generate+"), or AUTH_API_KEYS=only if all requests come from your own servers, "+
				"or, to try things out on this machine, DEV_USER=user_123 and HOST=127.0.0.1")
	}
	if c.AdminPort != 0 && a.APIKeys == APIKeysOff && !c.OpenAdmin() {
		faults.add("ADMIN_PORT", "is set, and AUTH_API_KEYS is off: nobody could come in", "set AUTH_API_KEYS to on, and make a key with: slipway key create --scope admin")
	}
	if a.Cookie != "" && !tokens {
		faults.add("AUTH_COOKIE", "is set, and nothing to check the token in it with", "set AUTH_JWKS_URL or AUTH_JWT_SECRET")
	}
	if (a.Issuer != "" || len(a.Audience) > 0) && !tokens {
		variable := "AUTH_ISSUER"
		if a.Issuer == "" {
			variable = "AUTH_AUDIENCE"
		}
		faults.add(variable, "is set, and no tokens are taken", "set AUTH_JWKS_URL or AUTH_JWT_SECRET")
	}
	if a.UserHeader != "" && len(c.HTTP.TrustedProxies) == 0 {
		faults.add("AUTH_USER_HEADER", "is set, and no proxy is trusted to set it", "set TRUSTED_PROXIES to the proxy's address, such as 10.0.0.7")
	}
	if a.UserHeader != "" {
		for _, p := range c.HTTP.TrustedProxies {
			if network, err := netip.ParsePrefix(p); err == nil && network.Bits() == 0 {
				faults.add("TRUSTED_PROXIES", "has "+p+", which is everybody, and whom they name by AUTH_USER_HEADER is believed", "give the addresses of your proxies alone")
			}
		}
	}
	if a.DevUser != "" && !c.HTTP.Loopback() && !a.InsecureDev {
		faults.add("DEV_USER", fmt.Sprintf("is set, and everybody who reaches this server would be %q", a.DevUser),
			"set HOST=127.0.0.1, or INSECURE_DEV=1 if that is meant, or AUTH_JWKS_URL or AUTH_JWT_SECRET instead")
	}
}

// checkJWKS refuses keys that somebody on the way could replace.
func (c *Config) checkJWKS(faults *Faults) {
	if c.Auth.JWKSURL == "" {
		return
	}
	u, err := url.Parse(c.Auth.JWKSURL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil:
		faults.add("AUTH_JWKS_URL", "is no address of keys", "give one such as https://auth.example.com/.well-known/jwks.json")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !c.Auth.InsecureDev:
		faults.add("AUTH_JWKS_URL", "begins with http, and whoever is on the way could put keys of their own in its place", "give it with https, or set INSECURE_DEV=1 if nobody is")
	}
}

func (f *Faults) signingSecret(variable string, s Secret) {
	if n := len(s); n > 0 && n < minSecret {
		f.add(variable, fmt.Sprintf("has %d bytes, and HS256 asks for %d", n, minSecret), "make one with: "+generate)
	}
}
