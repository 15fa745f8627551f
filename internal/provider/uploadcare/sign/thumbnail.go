package sign

import "strings"

// Thumbnail is the address of a small picture of the file at url, which fits into 300 by 300 pixels, or
// "" for what is no picture (Docs, "Resize, crop, rotation").
func Thumbnail(url, contentType string) string {
	if !strings.HasPrefix(contentType, "image/") || !strings.HasSuffix(url, "/") {
		return ""
	}
	return url + "-/preview/300x300/-/format/auto/-/quality/smart/"
}
