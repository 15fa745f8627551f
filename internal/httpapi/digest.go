package httpapi

import (
	"github.com/dunglas/httpsfv"
	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// declaredDigest returns what Content-Digest and Repr-Digest say of a body that is the file itself
// (RFC 9530); without a content coding both are of the same bytes.
func declaredDigest(c *fiber.Ctx) (d ingest.Digest, err error) {
	for _, name := range []string{"Content-Digest", "Repr-Digest"} {
		var lines []string
		for _, line := range c.Request().Header.PeekAll(name) {
			lines = append(lines, string(line))
		}
		dictionary, err := httpsfv.UnmarshalDictionary(lines)
		if err != nil {
			return d, invalidDigest(name, err)
		}
		for _, algorithm := range dictionary.Names() {
			member, _ := dictionary.Get(algorithm)
			item, isItem := member.(httpsfv.Item)
			value, isBytes := item.Value.([]byte)
			if !isItem || !isBytes || !d.Set(algorithm, value) {
				return d, invalidDigest(name, nil)
			}
		}
	}
	return d, nil
}

func invalidDigest(header string, cause error) error {
	return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Cause: cause,
		Message: "The header " + header + " cannot be read; write sha-256=:<base64>: or crc32c=:<base64>:, as in RFC 9530."}
}
