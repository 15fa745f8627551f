package httpapi

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

const (
	headerTusResumable      = "Tus-Resumable"
	headerTusVersion        = "Tus-Version"
	headerUploadOffset      = "Upload-Offset"
	headerUploadLength      = "Upload-Length"
	headerUploadDeferLength = "Upload-Defer-Length"
	headerUploadMetadata    = "Upload-Metadata"
	headerUploadConcat      = "Upload-Concat"
	headerUploadChecksum    = "Upload-Checksum"
	headerUploadExpires     = "Upload-Expires"
)

func invalidTus(format string, a ...any) error {
	return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Message: fmt.Sprintf(format, a...)}
}

// headerOf is a header that outlives the request; lines with the same name are one list (RFC 9110 §5.3).
func headerOf(c *fiber.Ctx, name string) string {
	var lines []string
	for _, line := range c.Request().Header.PeekAll(name) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, ",")
}

// bodyType is the type of the request's body, without parameters.
func bodyType(c *fiber.Ctx) string {
	kind, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	return kind
}

// wholeNumber reads a header that is a number of bytes.
func wholeNumber(c *fiber.Ctx, name string) (int64, error) {
	text := headerOf(c, name)
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, invalidTus("The header %s is to be a number of bytes, without a sign.", name)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil { // there are too many digits
		return 0, &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByYou, Message: fmt.Sprintf("%s is larger than any file.", name)}
	}
	return n, nil
}

// declaredLength is how long the file is to become that a request makes an upload for, -1 where that will be said later.
func declaredLength(c *fiber.Ctx) (int64, error) {
	deferred, known := headerOf(c, headerUploadDeferLength), headerOf(c, headerUploadLength) != ""
	switch {
	case deferred != "" && deferred != "1":
		return 0, invalidTus("The header %s can only be 1.", headerUploadDeferLength)
	case (deferred != "") == known:
		return 0, invalidTus("Say how long the file is by %s, or by %s: 1 that you will say it later; not both.", headerUploadLength, headerUploadDeferLength)
	case deferred != "":
		return -1, nil
	}
	return wholeNumber(c, headerUploadLength)
}

// checksumOf is what the bytes of the request sum to, and whether the client has said so.
func checksumOf(c *fiber.Ctx) (d ingest.Digest, declared bool, err error) {
	header := headerOf(c, headerUploadChecksum)
	if header == "" {
		return d, false, nil
	}
	algorithm, encoded, _ := strings.Cut(header, " ")
	sum, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return d, true, invalidTus("The checksum in %s is not in base64.", headerUploadChecksum)
	}
	name := map[string]string{"sha1": "sha", "sha256": "sha-256", "crc32c": "crc32c"}[algorithm]
	if name == "" {
		return d, true, invalidTus("The algorithm of %s is to be one of %s.", headerUploadChecksum, tusChecksums)
	}
	if !d.Set(name, sum) {
		return d, true, invalidTus("The checksum in %s does not have the length that %s has.", headerUploadChecksum, algorithm)
	}
	return d, true, nil
}

// tusKey is stricter than the protocol, which forbids spaces and commas: it is what providers take.
var tusKey = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// tusRequest is what Upload-Metadata says of a file: pairs of a key and a value in base64, separated by commas.
// Two keys each are common for the name and for the type. A value that is empty says nothing.
func tusRequest(c *fiber.Ctx) (ingest.Request, error) {
	r := ingest.Request{}
	header := headerOf(c, headerUploadMetadata)
	if strings.TrimSpace(header) == "" {
		return r, nil
	}
	said := map[string]string{}
	for pair := range strings.SplitSeq(header, ",") {
		key, encoded, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if _, twice := said[key]; !tusKey.MatchString(key) || twice || err != nil {
			return r, invalidTus("The header %s is to be a list of keys, of A-Z a-z 0-9 _ . : -, each with its value in base64 behind a space, and no key twice.", headerUploadMetadata)
		}
		said[key] = string(value)
	}
	for key, value := range said {
		switch key {
		case "filename":
			r.FileName = value
		case "filetype":
			r.ContentType = value
		case "name", "type":
		case "provider":
			r.Provider = value
		case "resource_type":
			r.ResourceType = value
		case "tags":
			for tag := range strings.SplitSeq(value, ",") {
				if tag = strings.TrimSpace(tag); tag != "" {
					r.Tags = append(r.Tags, tag)
				}
			}
		default:
			if value == "" {
				continue
			}
			if r.Metadata == nil {
				r.Metadata = map[string]string{}
			}
			r.Metadata[key] = value
		}
	}
	if r.FileName == "" {
		r.FileName = said["name"]
	}
	if r.ContentType == "" {
		r.ContentType = said["type"]
	}
	return r, nil
}

// finalConcat begins the Upload-Concat of an upload that is made of others.
const finalConcat = "final;"

func isFinal(concat string) bool { return strings.HasPrefix(concat, finalConcat) }

// concatOf tells whether the upload that a request makes is partial, or of which others it is to be made.
func concatOf(c *fiber.Ctx) (partial bool, pieces []upload.ID, err error) {
	header := headerOf(c, headerUploadConcat)
	if header == "" || header == "partial" {
		return header != "", nil, nil
	}
	list, final := strings.CutPrefix(header, finalConcat)
	if !final {
		return false, nil, invalidTus("The header %s is partial, or final; and the addresses of partial uploads.", headerUploadConcat)
	}
	pieces = []upload.ID{}
	for address := range strings.FieldsSeq(list) {
		u, err := url.Parse(address)
		if err != nil {
			return false, nil, invalidTus("%.80q in %s is no address.", address, headerUploadConcat)
		}
		_, name, ours := strings.Cut(u.Path, tusPath)
		id, err := upload.ParseID(name)
		if !ours || err != nil {
			return false, nil, &upload.Error{Code: upload.NotFound, Message: "One of the partial uploads is not there."}
		}
		pieces = append(pieces, id)
	}
	return false, pieces, nil
}
