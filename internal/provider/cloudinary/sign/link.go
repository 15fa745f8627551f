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

// Links makes the addresses of an account's assets. How an asset is delivered was decided when it was
// uploaded, and its address tells: what is of another type than "upload" is signed, whatever new uploads are.
type Links struct {
	Key Key // without a Secret nothing is signed
}

var _ provider.Linker = Links{}

// delivered are the parts of a delivery URL: its beginning with resource type and type, the signature, the rest.
var delivered = regexp.MustCompile(`^(.*?/(image|video|raw)/(upload|private|authenticated)/)(s--[A-Za-z0-9_-]+--/)?([^?#]+)$`)

// version is the component of a delivery URL before the id.
var version = regexp.MustCompile(`^v[0-9]+/`)

// Plain is a delivery URL without the signature that Cloudinary puts into the secure_url of an asset
// that opens only with one: what is stored opens nothing.
func Plain(address string) string {
	return delivered.ReplaceAllString(address, "$1$5")
}

// Type is the delivery type in an asset's address: "upload", "private", "authenticated", or "" if it has none.
func Type(address string) string {
	if parts := delivered.FindStringSubmatch(address); parts != nil {
		return parts[3]
	}
	return ""
}

// Link is where the asset is, or by t a picture of it: of an image in the best format that the asking
// browser takes, of a PDF's first page or a video's first frame as JPEG. A signed one does not expire.
func (l Links) Link(a upload.Asset, t provider.Transform, _ time.Time) (provider.Link, error) {
	p := parse(a)
	if t == (provider.Transform{}) {
		return l.to(p, "", a), nil
	}
	page, ok := p.picture(a.ContentType)
	switch {
	case !ok:
		return provider.Link{}, provider.ErrNoPicture
	case page == "":
		return l.to(p, size(t)+"/f_auto,q_auto/", a), nil
	}
	return l.to(p.jpeg(), page+size(t)+"/", a), nil
}

// Thumbnail is where a picture of 300 by 300 pixels is, as JPEG.
func (l Links) Thumbnail(a upload.Asset, _ time.Time) (provider.Link, error) {
	p := parse(a)
	page, ok := p.picture(a.ContentType)
	if !ok {
		return provider.Link{}, provider.ErrNoPicture
	}
	return l.to(p.jpeg(), page+size(provider.Transform{Width: 300, Height: 300, Fit: provider.Cover})+"/", a), nil
}

// place is an asset's address in parts.
type place struct {
	base, kind, access string // base ends with kind and access; all are "" where the address is nobody's we know
	rest               string // [<transformation>/][v<version>/]<id>[.<ext>], escaped as in the address
}

func parse(a upload.Asset) place {
	parts := delivered.FindStringSubmatch(a.URL)
	if parts == nil {
		return place{}
	}
	return place{base: parts[1], kind: parts[2], access: parts[3], rest: parts[5]}
}

// sounds are the formats of audio that Cloudinary keeps beside videos.
var sounds = regexp.MustCompile(`(?i)\.(aac|aiff?|amr|flac|m4a|mp3|ogg|opus|wav)$`)

// picture tells whether there are pictures of the asset, and what of it they show.
func (p place) picture(contentType string) (page string, ok bool) {
	switch p.kind {
	case "image":
		if contentType == "application/pdf" || contentType == "" && strings.HasSuffix(strings.ToLower(p.rest), ".pdf") {
			page = "pg_1,"
		}
		return page, true
	case "video":
		return "so_0,", strings.HasPrefix(contentType, "video/") || contentType == "" && !sounds.MatchString(p.rest)
	}
	return "", false
}

// size is t as a transformation ("Transformation URL API reference", c_limit and c_fill).
func size(t provider.Transform) string {
	s := "c_limit"
	if t.Fit == provider.Cover {
		s = "c_fill"
	}
	if t.Width > 0 {
		s += fmt.Sprintf(",w_%d", t.Width)
	}
	if t.Height > 0 {
		s += fmt.Sprintf(",h_%d", t.Height)
	}
	return s
}

// jpeg is p with the extension of a JPEG.
func (p place) jpeg() place {
	p.rest = withoutExtension(p.rest) + ".jpg"
	return p
}

func withoutExtension(path string) string {
	if dot := strings.LastIndexByte(path, '.'); dot > strings.LastIndexByte(path, '/') {
		return path[:dot]
	}
	return path
}

// to is where a is, which lies at p, through a transformation. It is signed where a opens only so, and for
// no other asset: the address may have been stored by another program, with whatever its user had said.
func (l Links) to(p place, transformation string, a upload.Asset) provider.Link {
	switch {
	case p.base == "":
		return provider.Link{URL: a.URL}
	case p.access == "upload" || l.Key.Secret == "":
		return provider.Link{URL: p.base + transformation + p.rest}
	}
	id, err := url.PathUnescape(p.rest[len(version.FindString(p.rest)):])
	if err != nil || id != a.ID && (p.kind == "raw" || withoutExtension(id) != a.ID) {
		return provider.Link{URL: p.base + transformation + p.rest}
	}
	return provider.Link{URL: p.base + l.Key.Delivery(transformation+id) + "/" + transformation + p.rest, Signed: true}
}
