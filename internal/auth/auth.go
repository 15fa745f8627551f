// Package auth tells who is asking.
package auth

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/upload"
)

// Way is how a caller is known.
type Way string

// The ways in, from the one that proves most to the one that proves nothing.
const (
	ByToken       Way = "token"        // a JWT in the header Authorization
	ByCookie      Way = "cookie"       // a JWT in a cookie
	ByKey         Way = "api_key"      // a server, for one of its users
	ByUploadToken Way = "upload_token" // for a while, to send files
	ByProxy       Way = "proxy"        // a trusted proxy says so
	ByDevUser     Way = "dev_user"     // nobody has shown anything
)

// Ambient tells whether a browser sends what the caller is known by with every request, also with those
// that pages of other sites make it send.
func (w Way) Ambient() bool { return w == ByCookie || w == ByProxy || w == ByDevUser }

// Right is what a caller may do.
type Right uint8

// The rights, each of which a route asks for.
const (
	Read   Right = 1 << iota // look at their uploads and files
	Send                     // upload
	Change                   // whatever else their owner may
	Vouch                    // make upload tokens, for anybody

	everything = Read | Send | Change
)

// Caller is who asks. One without a User is a server that has not said for whom it asks, as only Vouch,
// and Anyone for one upload, allow.
type Caller struct {
	User   string
	By     Way
	Rights Right
	Anyone bool // may read whatever is anybody's

	// Until is when what they have shown is not good any more; zero where it does not say. Whoever is answered
	// for longer than that has to show something new.
	Until time.Time

	// What an upload token allows its holder to send.
	MaxBytes int64  // in one file; 0 is no limit of its own
	Provider string // "" is any

	KeyPrefix string // of the API key that is shown, for the log
	keyID     string // of the API key that is shown, or with which what is shown was made
}

// May tells whether the caller has the right.
func (c Caller) May(r Right) bool { return c.Rights&r == r }

// Shown is what a request shows of who sends it; what it does not show is "".
type Shown struct {
	Authorization string // the header
	Token         string // an upload token in the query or in a form
	Cookie        string // the value of the cookie of that name
	UserHeader    string // the header of that name, as far as a trusted proxy has set it
	ActFor        string // the user for whom a server asks
}

// Options are the ways in. Zero closes each of them.
type Options struct {
	Secret    string   // signs users' tokens, in HS256
	KeySet    *KeySet  // those who sign users' tokens otherwise
	Issuer    string   // of users' tokens; "" is any
	Audience  []string // one of which users' tokens are for; none is any
	UserClaim string   // names the user in them; "" is sub

	Cookie     string // the name of the cookie that holds a user's token
	UserHeader string // the name of the header in which a trusted proxy names the user

	Keys    *Keys   // of servers
	Tokens  *Tokens // signs what servers hand on to their users
	DevUser string  // whom everybody counts as who shows nothing
}

// Authenticator knows callers by what they show.
type Authenticator struct {
	Options
	users *jwt.Parser
}

// New returns an authenticator.
func New(o Options) *Authenticator {
	if o.UserClaim == "" {
		o.UserClaim = "sub"
	}
	return &Authenticator{Options: o, users: o.parser()}
}

// Ways are the ways in that are open.
func (a *Authenticator) Ways() []string {
	ways := []string{}
	for _, way := range []struct {
		name string
		open bool
	}{
		{"jwks", a.KeySet != nil}, {"secret", a.Secret != ""}, {"cookie", a.Cookie != ""}, {"proxy", a.UserHeader != ""},
		{"api_keys", a.Keys != nil}, {"upload_tokens", a.Tokens != nil}, {"dev_user", a.DevUser != ""},
	} {
		if way.open {
			ways = append(ways, way.name)
		}
	}
	return ways
}

// Identify tells who sends a request that shows this. What was said explicitly goes before what browsers
// and proxies add by themselves, and what is wrong is never passed over for something weaker. Errors are
// coded: Unauthorized, InvalidRequest, InvalidParameter, and Unavailable while nobody can tell.
func (a *Authenticator) Identify(ctx context.Context, s Shown) (Caller, error) {
	switch {
	case s.Authorization != "" && s.Token != "":
		return Caller{}, &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou,
			Message: "Send a token in one place: in the header Authorization, or as token."} // RFC 6750 §2
	case s.Authorization != "":
		scheme, token, _ := strings.Cut(s.Authorization, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return Caller{}, unauthorized("The header Authorization must be: Bearer <token>.", nil)
		}
		return a.bearer(ctx, strings.TrimSpace(token), s.ActFor)
	case s.Token != "":
		return a.holder(ctx, s.Token)
	case s.Cookie != "" && a.Cookie != "":
		user, until, err := a.userOf(ctx, s.Cookie)
		return Caller{User: user, By: ByCookie, Rights: everything, Until: until}, err
	case s.UserHeader != "" && a.UserHeader != "":
		user, err := checkUser(s.UserHeader)
		return Caller{User: user, By: ByProxy, Rights: everything}, err
	case a.DevUser != "":
		return Caller{User: a.DevUser, By: ByDevUser, Rights: everything}, nil
	}
	return Caller{}, unauthorized("Send a token in the header Authorization: Bearer <token>.", nil)
}

// While returns a context that ends with ctx, and when what the caller has shown is not good any more: it has run out, or the
// API key that it is, or was made with, was revoked or has run out, which is noticed within 2 s. cancel lets its resources go.
func (a *Authenticator) While(ctx context.Context, who Caller) (_ context.Context, cancel context.CancelFunc) {
	cancel = func() {}
	if !who.Until.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, who.Until)
	}
	if who.keyID == "" || a.Keys == nil {
		return ctx, cancel
	}
	before := cancel
	ctx, end := context.WithCancel(ctx)
	stop := a.Keys.whenGone(who.keyID, end)
	return ctx, func() { stop(); end(); before() }
}

// bearer tells the kinds of tokens apart by what they begin with. Each is checked with its own key alone.
func (a *Authenticator) bearer(ctx context.Context, token, actFor string) (Caller, error) {
	switch {
	case strings.HasPrefix(token, keyMark):
		return a.server(ctx, token, actFor)
	case strings.HasPrefix(token, tokenMark):
		return a.holder(ctx, token)
	}
	user, until, err := a.userOf(ctx, token)
	return Caller{User: user, By: ByToken, Rights: everything, Until: until}, err
}

const maxUserBytes = 255

// NamesUser tells whether an id can be a user's: 1 to 255 bytes of text.
func NamesUser(id string) bool {
	return id != "" && len(id) <= maxUserBytes && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

func checkUser(id string) (string, error) {
	if !NamesUser(id) {
		return "", refused("it names no user", nil)
	}
	return id, nil
}

const leeway = 30 * time.Second // for clocks that differ

// refused is all that who shows something wrong is told; why is for the log.
func refused(why string, cause error) error {
	return unauthorized("What was sent to say who is asking is not accepted here.", &refusal{why, cause})
}

// refusal is why a caller is not believed.
type refusal struct {
	why   string
	cause error
}

func (r *refusal) Error() string {
	if r.cause == nil {
		return r.why
	}
	return r.why + ": " + r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }

func unauthorized(message string, cause error) error {
	return &upload.Error{Code: upload.Unauthorized, Message: message, FixableBy: upload.ByYou, Cause: cause}
}
