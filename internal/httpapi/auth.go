package httpapi

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

type callerKey struct{}

func caller(c *fiber.Ctx) auth.Caller {
	who, _ := c.Locals(callerKey{}).(auth.Caller)
	return who
}

func user(c *fiber.Ctx) string { return caller(c).User }

// authenticated lets through whoever may do all that a user may, to handlers that ask user. It is what a
// route takes that does more than to show, or less than to take in a file.
func (a *API) authenticated(c *fiber.Ctx) error { return a.identified(c, auth.Change) }

// reading lets through whoever may look at the user's uploads and files.
func (a *API) reading(c *fiber.Ctx) error { return a.identified(c, auth.Read) }

// vouching lets through whoever may make upload tokens.
func (a *API) vouching(c *fiber.Ctx) error { return a.identified(c, auth.Vouch) }

func (a *API) identified(c *fiber.Ctx, right auth.Right) error {
	s, err := a.shown(c)
	if err == nil {
		err = a.identify(c, s, right)
	}
	if err != nil {
		return challenge(c, s, err)
	}
	return c.Next()
}

// sending lets through whoever may upload. A form may say who that is in its field token, which comes
// before the file; whoever nothing else has been said of is looked for there (see formSender).
func (a *API) sending(c *fiber.Ctx) error {
	s, err := a.shown(c)
	if err == nil {
		err = a.identify(c, s, auth.Send)
	}
	explicit := s.Authorization != "" || s.Token != ""
	if kind, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType)); kind == fiber.MIMEMultipartForm && !explicit {
		c.Locals(untoldKey{}, untold{s, err})
		return c.Next()
	}
	if err != nil {
		return challenge(c, s, err)
	}
	return c.Next()
}

// untold is what is known of a form's sender before its fields are.
type untold struct {
	shown auth.Shown
	err   error
}

type untoldKey struct{}

// formToken is the field of a form that holds an upload token, and the parameter of a query.
const formToken = "token"

// senderKnown tells whether the sender of a form has been let through before its fields are read.
func senderKnown(c *fiber.Ctx) bool {
	u, ok := c.Locals(untoldKey{}).(untold)
	return !ok || u.err == nil
}

// formSender tells who sends a form, by the fields before the file. A token there goes before a cookie.
func (a *API) formSender(c *fiber.Ctx, fields url.Values) error {
	token := fields.Get(formToken)
	u, ok := c.Locals(untoldKey{}).(untold)
	switch {
	case ok && token != "":
		u.shown.Token = token
		u.err = a.identify(c, u.shown, auth.Send)
	case token != "":
		return challenge(c, auth.Shown{Token: token}, errTwoTokens)
	}
	if u.err != nil {
		return challenge(c, u.shown, u.err)
	}
	return nil
}

var errTwoTokens = &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou,
	Message: "The form holds a token, and another was sent with the request; send one."}

// tokenIsEarly refuses a form whose token came too late to count.
func tokenIsEarly(before, all url.Values) error {
	if len(all[formToken]) > len(before[formToken]) {
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Message: "The field token must come before the file."}
	}
	return nil
}

// shown is what a request shows of its sender. A header that only a trusted proxy may set is not there
// from anybody else; one that stands twice could be the client's beside the proxy's.
func (a *API) shown(c *fiber.Ctx) (auth.Shown, error) {
	var s auth.Shown
	var err error
	for _, h := range []struct {
		name string
		to   *string
		open bool
	}{
		{fiber.HeaderAuthorization, &s.Authorization, true},
		{auth.UserHeader, &s.ActFor, true},
		{a.Auth.UserHeader, &s.UserHeader, a.Auth.UserHeader != "" && c.IsProxyTrusted()},
	} {
		if !h.open {
			continue
		}
		switch lines := c.Request().Header.PeekAll(h.name); len(lines) {
		case 0:
		case 1:
			*h.to = string(lines[0])
		default:
			err = &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Message: "The header " + h.name + " stands there twice."}
		}
	}
	s.Token = strings.Clone(c.Query(formToken))
	if a.Auth.Cookie != "" {
		s.Cookie = strings.Clone(c.Cookies(a.Auth.Cookie))
	}
	return s, err
}

// identify finds out who asks, whether they may, and that no page of another site does so in their name.
func (a *API) identify(c *fiber.Ctx, s auth.Shown, right auth.Right) error {
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	who, err := a.Auth.Identify(ctx, s)
	if err != nil {
		return databaseError(err, noUpload)
	}
	if !who.May(right) {
		return beyond(c, "What was sent to say who is asking is not good for this.")
	}
	if who.By.Ambient() && !a.ownPage(c, who.By, right) {
		return &upload.Error{Code: upload.Forbidden, Message: "Pages of other sites may change nothing here without a token; the server's log says how to allow this one."}
	}
	if who.User == "" && right != auth.Vouch {
		if who.User, err = a.ownerInPath(ctx, c, who); err != nil {
			return err
		}
	}
	if err := a.paced(ctx, c, who.User); err != nil {
		return err
	}
	c.Locals(callerKey{}, who)
	if who.By == auth.ByUploadToken && s.Token != "" {
		c.Locals(pageTokenKey{}, s.Token)
	}
	return nil
}

// ownerInPath returns for whom a server asks that has not said so: whoever reads for anybody means the
// owner of the upload in the path. "" is nobody, whose uploads there are none.
func (a *API) ownerInPath(ctx context.Context, c *fiber.Ctx, who auth.Caller) (string, error) {
	id, err := upload.ParseID(strings.Clone(c.Params("id")))
	if err != nil || !who.Anyone {
		return "", &upload.Error{Code: upload.InvalidParameter, FixableBy: upload.ByYou, Message: "Say for which user you ask, in the header " + auth.UserHeader + "."}
	}
	u, err := postgres.UploadOf(ctx, a.Pool, id)
	if err != nil && !errors.Is(err, postgres.ErrNoUpload) {
		return "", databaseError(err, noUpload)
	}
	return u.UserID, nil
}

type pageTokenKey struct{}

// pageToken is the token with which a browser came, as its next page needs it: "" or ?token=….
func pageToken(c *fiber.Ctx) string {
	token, _ := c.Locals(pageTokenKey{}).(string)
	if token == "" {
		return ""
	}
	return "?" + formToken + "=" + url.QueryEscape(token)
}

// ownPage tells whether the request comes from a page of ours, of an origin that is allowed by name, or
// from no page, or is one that changes nothing. What browsers send along with a cookie, and nothing says
// from where, could be from anywhere.
func (a *API) ownPage(c *fiber.Ctx, by auth.Way, right auth.Right) bool {
	if right == auth.Read {
		return true
	}
	origin, site := c.Get(fiber.HeaderOrigin), c.Get("Sec-Fetch-Site")
	changes := c.Method() != http.MethodGet && c.Method() != http.MethodHead
	if by == auth.ByCookie && changes && origin == "" && site == "" {
		return false
	}
	r := &http.Request{Method: http.MethodPost, Host: c.Hostname(), Header: http.Header{}}
	r.Header.Set(fiber.HeaderOrigin, origin)
	r.Header.Set("Sec-Fetch-Site", site)
	return new(http.CrossOriginProtection).Check(r) == nil || a.server.origins.allow(strings.ToLower(origin))
}

// bearer is the challenge of RFC 6750 §3.
const bearer = `Bearer realm="slipway"`

// challenge adds to an error what RFC 6750 §3.1 has for it. Whoever has shown nothing is told no more than
// where they are.
func challenge(c *fiber.Ctx, s auth.Shown, err error) error {
	code := ""
	s.ActFor = ""
	switch coded(err).Code {
	case upload.Unauthorized:
		if s != (auth.Shown{}) {
			code = "invalid_token"
		}
	case upload.InvalidRequest:
		code = "invalid_request"
	default:
		return err
	}
	setChallenge(c, code)
	return err
}

// beyond is an error for who may ask, and not for this.
func beyond(c *fiber.Ctx, message string) error {
	setChallenge(c, "insufficient_scope")
	return &upload.Error{Code: upload.Forbidden, FixableBy: upload.ByYou, Message: message}
}

func setChallenge(c *fiber.Ctx, code string) {
	value := bearer
	if code != "" {
		value += `, error="` + code + `"`
	}
	c.Set(fiber.HeaderWWWAuthenticate, value)
}
