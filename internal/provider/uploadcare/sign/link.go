package sign

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// Links makes the addresses of a project's files. The zero value makes public ones.
type Links struct {
	Base   string        // of the host that demands tokens, without a slash at its end
	Secret string        // that tokens are signed with, in hex; "" where delivery is public
	TTL    time.Duration // of a token
}

var _ provider.Linker = Links{}

// named is what can be a part of a path that is signed: a file's uuid, or a group's with its count.
var named = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(~[0-9]+)?$`)

// Link is where the file is, or by t a picture of it in the best format that the asking browser takes.
// Where delivery is signed, it opens this one address until now plus TTL. What no id names stays as it is.
func (l Links) Link(a upload.Asset, t provider.Transform, now time.Time) (provider.Link, error) {
	if t != (provider.Transform{}) && a.ContentType != "" && !strings.HasPrefix(a.ContentType, "image/") {
		return provider.Link{}, provider.ErrNoPicture
	}
	root, path, known := split(a)
	switch {
	case !known && t != (provider.Transform{}):
		return provider.Link{}, provider.ErrNoPicture
	case !known:
		return provider.Link{URL: a.URL}, nil
	}
	end := strings.LastIndexByte(path, '/') + 1 // a file's name may follow
	path = path[:end] + operations(t) + path[end:]
	if l.Secret == "" {
		return provider.Link{URL: root + path}, nil
	}
	token, err := Delivery(l.Secret, path, now.Add(l.TTL))
	if err != nil {
		return provider.Link{}, fmt.Errorf("sign an Uploadcare link: %w", err)
	}
	return provider.Link{URL: l.Base + path + "?token=" + token, Signed: true}, nil
}

// Thumbnail is where a picture of an image is that fits into 300 by 300 pixels. There is none by address
// of a video or a document, and none of what is not known for an image.
func (l Links) Thumbnail(a upload.Asset, now time.Time) (provider.Link, error) {
	if a.ContentType == "" {
		return provider.Link{}, provider.ErrNoPicture
	}
	return l.Link(a, provider.Transform{Width: 300, Height: 300, Fit: provider.Contain}, now)
}

// split parts the address of a file before its path, which begins with its id.
func split(a upload.Asset) (root, path string, known bool) {
	if !named.MatchString(a.ID) {
		return "", "", false
	}
	at := strings.Index(a.URL, "/"+a.ID+"/")
	if _, err := url.Parse(a.URL); err != nil || at < 0 || strings.ContainsAny(a.URL, "?#") {
		return "", "", false
	}
	return a.URL[:at], a.URL[at:], true
}

// operations are t as a part of a path (Docs, "Resize, crop, rotation").
func operations(t provider.Transform) string {
	const best = "-/format/auto/-/quality/smart/"
	switch {
	case t == provider.Transform{}:
		return ""
	case t.Fit == provider.Cover:
		return fmt.Sprintf("-/scale_crop/%dx%d/center/", t.Width, t.Height) + best
	case t.Height == 0:
		return fmt.Sprintf("-/stretch/off/-/resize/%dx/", t.Width) + best
	case t.Width == 0:
		return fmt.Sprintf("-/stretch/off/-/resize/x%d/", t.Height) + best
	}
	return fmt.Sprintf("-/preview/%dx%d/", t.Width, t.Height) + best
}
