package httpapi

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"slipway/internal/upload"
)

const (
	// answerPolicy is for answers that are no page of ours: a browser that shows one loads nothing for it.
	answerPolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

	// onlyHTTPS binds browsers to HTTPS for a year (RFC 6797). Other hosts of the domain are not ours to bind.
	onlyHTTPS = "max-age=31536000"

	resourcePolicy = "Cross-Origin-Resource-Policy"
)

// secured gives every answer what browsers are to hold to, also those that no route has made.
func (s *Server) secured(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		s.secure(&ctx.Response.Header)
		next(ctx)
	}
}

// secure sets the headers of an answer that loads nothing, stands in no frame and in no other site's page.
// Scripts of allowed origins read it all the same, for that is CORS's to say.
func (s *Server) secure(h *fasthttp.ResponseHeader) {
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	h.Set(fiber.HeaderReferrerPolicy, "no-referrer") // the address may hold a token
	h.Set(fiber.HeaderContentSecurityPolicy, answerPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set(resourcePolicy, "same-origin")
	if strings.HasPrefix(s.opts.PublicURL, "https://") {
		h.Set(fiber.HeaderStrictTransportSecurity, onlyHTTPS)
	}
}

const (
	maxQuery      = 16 << 10 // bytes of a request's query
	maxParameters = 200      // in it
)

// bounded refuses a query that is beyond what any route can want.
func bounded(c *fiber.Ctx) error {
	query := c.Request().URI().QueryString()
	if len(query) > maxQuery || bytes.Count(query, []byte("&")) >= maxParameters {
		return &upload.Error{Code: upload.QueryTooLarge, FixableBy: upload.ByYou,
			Message: fmt.Sprintf("The query after ? holds more than %s, or more than %d parameters.", byteSize(maxQuery), maxParameters)}
	}
	return c.Next()
}
