package httpapi

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/dunglas/httpsfv"
	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	// headerReplayed says that the answer is about an upload that an earlier request has made.
	headerReplayed = "Idempotent-Replayed"

	maxKeyBytes = 255
)

// errMade ends the reading of a request whose upload is there already.
var errMade = errors.New("an earlier request has made the upload")

// idempotencyKey returns the key that the client has given the request, "" if it has none. It is a string as
// structured fields write it (draft-ietf-httpapi-idempotency-key-header-07 §2.1); one that is sent as it is,
// without the quotes, is taken for the same.
func idempotencyKey(c *fiber.Ctx) (string, error) {
	lines := c.Request().Header.PeekAll(headerIdempotencyKey)
	if len(lines) == 0 {
		return "", nil
	}
	text := strings.Trim(string(lines[0]), " \t")
	key := text
	if strings.HasPrefix(text, `"`) {
		item, err := httpsfv.UnmarshalItem([]string{text})
		if err != nil {
			return "", invalidKey(err)
		}
		key, _ = item.Value.(string)
	} else if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",;\`, r) }) {
		return "", invalidKey(nil)
	}
	if len(lines) > 1 || key == "" || len(key) > maxKeyBytes {
		return "", invalidKey(nil)
	}
	return key, nil
}

func invalidKey(cause error) error {
	return &upload.Error{Code: upload.InvalidKey, FixableBy: upload.ByYou, Cause: cause,
		Message: fmt.Sprintf(`The header %s must be there once, and be a string of 1 to %d characters of ASCII, such as "8e03978e-40d5-43e8-bc93-6894a57f9324".`, headerIdempotencyKey, maxKeyBytes)}
}

// claim takes the key of a request that makes an upload, nil if it has none, before anything is refused that an
// earlier request with the key may have got; or it returns the upload that one has made. Of the call it is told what
// the body's length and its boundary do not say. Errors are coded: InvalidKey, KeyReused, KeyInFlight, Gone, Unavailable.
func (a *API) claim(c *fiber.Ctx, call ingest.Call) (*ingest.Key, *upload.Upload, error) {
	var err error
	if call.Key, err = idempotencyKey(c); err != nil || call.Key == "" {
		return nil, nil, err
	}
	call.User, call.Route = user(c), c.Route().Path
	if call.Length == 0 {
		call.Length = max(int64(c.Request().Header.ContentLength()), -1)
	}
	if _, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType)); err == nil {
		call.Boundary = len(params["boundary"])
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	key, made, err := a.Ingest.Claim(ctx, call)
	if made != nil {
		c.Set(headerReplayed, "true")
		c.Locals(uploadKey{}, made.ID)
	}
	return key, made, databaseError(err, noUpload)
}
