package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

const (
	// maxJSON bounds the body of a request that is no upload, in bytes; whole answers of Cloudinary's fit.
	maxJSON = 256 << 10
	// maxDepth is how many objects and lists may stand in each other.
	maxDepth = 32
)

// readJSON reads the request's body, which may be called whatever the client calls it.
func (a *API) readJSON(c *fiber.Ctx, v any) error {
	text, err := a.server.readWhole(c, maxJSON)
	if err != nil {
		return err
	}
	return parseJSON(text, v)
}

// readOptionalJSON is readJSON where there may be no body, and then v stays as it is.
func (a *API) readOptionalJSON(c *fiber.Ctx, v any) error {
	text, err := a.server.readWhole(c, maxJSON)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return err
	}
	return parseJSON(text, v)
}

func parseJSON(text []byte, v any) error {
	if err := shallow(text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Cause: err, Message: "The body cannot be read as the JSON that is expected here."}
	}
	return nil
}

// readWhole returns a body that is no file, of at most limit bytes.
func (s *Server) readWhole(c *fiber.Ctx, limit int64) (text []byte, err error) {
	if err := plainEncoding(c); err != nil {
		return nil, err
	}
	body, err := s.openBody(c, limit)
	if err == nil {
		text, err = io.ReadAll(body)
	}
	var e *upload.Error
	if errors.As(err, &e) && e.Code == upload.TooLarge {
		err = &upload.Error{Code: upload.BodyTooLarge, FixableBy: upload.ByYou, Message: fmt.Sprintf("The body is larger than %s.", byteSize(limit))}
	}
	return text, err
}

// shallow refuses JSON that is nested deeper than anything that is sent here.
func shallow(text []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return &upload.Error{Code: upload.JSONTooDeep, FixableBy: upload.ByYou, Message: fmt.Sprintf("The body's JSON is nested more than %d deep.", maxDepth)}
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return nil
}
