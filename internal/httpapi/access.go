package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

type uploadKey struct{}

// access gives every request an id, and writes a line about it. The line has no path, for
// a path may hold what a client made up, and no query, for that may hold a token.
func (s *Server) access(c *fiber.Ctx) error {
	start := time.Now()
	c.Set("X-Request-Id", requestID(c.Context()))
	route := "none"
	err := c.Next()
	var unrouted *fiber.Error
	if !errors.As(err, &unrouted) {
		route = c.Route().Path
	}
	if err != nil {
		if err := s.answerError(c, err); err != nil {
			return err
		}
	}
	s.logAccess(c, start, route)
	return nil
}

func (s *Server) logAccess(c *fiber.Ctx, start time.Time, route string) {
	level := slog.LevelDebug
	if c.Method() != http.MethodGet && c.Method() != http.MethodHead {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("method", c.Method()), slog.String("route", route), slog.Int("status", c.Response().StatusCode()),
		slog.Duration("took", time.Since(start).Round(time.Microsecond)), slog.String("request_id", requestID(c.Context())),
	}
	if id, ok := c.Locals(uploadKey{}).(upload.ID); ok {
		attrs = append(attrs, slog.String("upload_id", string(id)))
	}
	if key := caller(c).KeyPrefix; key != "" {
		attrs = append(attrs, slog.String("api_key", key))
	}
	s.opts.Log.LogAttrs(c.Context(), level, "request", attrs...)
}
