package ingest

import (
	"fmt"
	"mime"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"slipway/internal/upload"
)

// What every provider takes: Uploadcare's rules, the stricter ones ("File metadata management" and
// "File tags" in its documentation), so that an upload can go to either.
const (
	maxNameBytes  = 255
	maxTags       = 50
	maxTagChars   = 100
	maxMetadata   = 50
	maxValueChars = 512
)

var (
	tagPattern = regexp.MustCompile(`^[a-z0-9._-]+$`)
	keyPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
)

func checkName(name string) error {
	fault := ""
	switch {
	case len(name) > maxNameBytes:
		fault = fmt.Sprintf("has %d bytes; at most %d are allowed", len(name), maxNameBytes)
	case !utf8.ValidString(name):
		fault = "is not UTF-8"
	case strings.ContainsAny(name, `/\`) || name == "." || name == "..":
		fault = "holds a path; send the bare name"
	case strings.ContainsFunc(name, unicode.IsControl):
		fault = "holds control characters"
	case strings.TrimSpace(name) == "":
		fault = "is blank"
	default:
		return nil
	}
	return &upload.Error{Code: upload.InvalidFileName, FixableBy: upload.ByYou, Message: "The file name " + fault + "."}
}

// checkTags returns the tags in lower case.
func checkTags(tags []string) ([]string, error) {
	if len(tags) > maxTags {
		return nil, invalidMetadata("%d tags were sent; at most %d are allowed", len(tags), maxTags)
	}
	var out []string
	for _, t := range tags {
		t = strings.ToLower(strings.TrimSpace(t))
		if len(t) > maxTagChars || !tagPattern.MatchString(t) {
			return nil, invalidMetadata("tag %.40q: a tag is 1 to %d of a-z 0-9 . _ -", t, maxTagChars)
		}
		out = append(out, t)
	}
	return out, nil
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadata {
		return invalidMetadata("%d metadata entries were sent; at most %d are allowed", len(m), maxMetadata)
	}
	for k, v := range m {
		if !keyPattern.MatchString(k) {
			return invalidMetadata("metadata key %.40q: a key is 1 to 64 of A-Z a-z 0-9 _ . : -", k)
		}
		if n := utf8.RuneCountInString(v); n < 1 || n > maxValueChars || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			return invalidMetadata("metadata %q: a value is 1 to %d characters of text", k, maxValueChars)
		}
	}
	return nil
}

func invalidMetadata(format string, a ...any) error {
	return &upload.Error{Code: upload.InvalidMetadata, FixableBy: upload.ByYou, Message: upperFirst(fmt.Sprintf(format, a...)) + "."}
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// contentType is the declared type if it says something, else what the content looks like.
func contentType(declared, content string) string {
	t, params, err := mime.ParseMediaType(declared)
	switch {
	case err != nil, !strings.Contains(t, "/"), len(declared) > 255:
	case t == "application/octet-stream", t == "application/x-www-form-urlencoded", strings.HasPrefix(t, "multipart/"):
	default:
		return mime.FormatMediaType(t, params)
	}
	if content == "" {
		return "application/octet-stream"
	}
	return content
}

func mimetypeExtension(contentType string) string {
	if m := mimetype.Lookup(contentType); m != nil {
		return m.Extension()
	}
	return ""
}

// stillImages are the image types that a provider's image pipeline is known to read; another goes as raw.
var stillImages = map[string]bool{
	"image/jpeg": true, "image/png": true, "image/gif": true, "image/webp": true, "image/bmp": true, "image/tiff": true,
	"image/svg+xml": true, "image/heic": true, "image/heif": true, "image/avif": true, "image/x-icon": true,
	"image/vnd.adobe.photoshop": true, "image/jxl": true, "image/jp2": true, "application/pdf": true,
}

// resourceType tells the kind of asset by the content alone: what a name or a client says of a file
// does not make it one that a provider can read.
func resourceType(content string) upload.ResourceType {
	t, _, _ := strings.Cut(content, ";")
	switch {
	case stillImages[t]:
		return upload.Image
	case strings.HasPrefix(t, "video/"), strings.HasPrefix(t, "audio/"):
		return upload.Video
	}
	return upload.Raw
}

// size is a number of bytes as a person reads it, exact below 1 MiB.
func size(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB (%d bytes)", float64(n)/(1<<20), n)
	}
	return fmt.Sprintf("%.1f GiB (%d bytes)", float64(n)/(1<<30), n)
}
