package source

import (
	"mime"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the most bytes in a file name that providers take.
const maxName = 255

// nameOf is the file name in a Content-Disposition header (RFC 6266), "" if there is none that can be used.
func nameOf(disposition string) string {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	return cleanName(params["filename"])
}

// NameInPath is the file name in a URL, "" if there is none that can be used.
func NameInPath(u *url.URL) string {
	if u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return ""
	}
	return cleanName(path.Base(u.Path))
}

// cleanName makes a file name of what somebody on the web has called a file: no path, nothing that cannot be
// seen, of 1 to maxName bytes with its extension; or "".
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "")
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, name)
	name = strings.TrimSpace(name)
	if strings.Trim(name, ". ") == "" {
		return ""
	}
	return shorten(name)
}

// shorten takes from the middle of a name what is too much.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	extension := path.Ext(name)
	if len(extension) > 16 {
		extension = ""
	}
	stem := name[:maxName-len(extension)]
	for !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + extension
}
