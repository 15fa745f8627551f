package cloudinary

import (
	"cmp"
	"context"
	"errors"
	"mime"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

var (
	_ provider.Inspector = (*Provider)(nil)
	_ provider.Prover    = (*Provider)(nil)
)

// Inspect implements provider.Inspector with a call of the Admin API, and a second one where delivery is
// signed: what was sent with the guide's own signature is public all the same. An Error with Throttled
// means that this hour's calls are spent.
func (p *Provider) Inspect(ctx context.Context, id string, rt upload.ResourceType) (*provider.Found, error) {
	if p.opt.Authenticated {
		if found, err := p.inspect(ctx, target{PublicID: id, ResourceType: rt, Type: authenticated}); found != nil || err != nil {
			return found, err
		}
	}
	return p.inspect(ctx, target{PublicID: id, ResourceType: rt, Type: deliveryType})
}

func (p *Provider) inspect(ctx context.Context, t target) (*provider.Found, error) {
	a, err := p.resource(ctx, target{PublicID: escaped(t.PublicID), ResourceType: t.ResourceType, Type: t.Type})
	switch {
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case a.PublicID != t.PublicID || a.SecureURL == "" || a.Bytes <= 0:
		return nil, unreadable("lookup", errors.New("public_id, secure_url or bytes is missing"))
	}
	made, err := time.Parse(time.RFC3339, a.CreatedAt)
	if err != nil {
		return nil, unreadable("lookup", err)
	}
	return &provider.Found{
		Asset:    *a.asset(t, provider.Source{ContentType: contentType(t.ResourceType, a)}),
		FileName: namedAfter(a),
		Tags:     a.Tags,
		MadeAt:   made,
	}, nil
}

// escaped is a public id as it stands in a path; its slashes part segments.
func escaped(id string) string {
	segments := strings.Split(id, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// Proven implements provider.Prover: an address without an extension leads to the original's format. The
// signature does not cover how the asset is delivered, so where that may differ it does not do.
func (p *Provider) Proven(id string, rt upload.ResourceType, version int64) *upload.Asset {
	if p.opt.Authenticated {
		return nil
	}
	base := cmp.Or(p.opt.DeliveryBase, "https://res.cloudinary.com")
	return &upload.Asset{
		ID: id, ResourceType: rt, Version: version,
		URL: strings.Join([]string{
			base, url.PathEscape(p.opt.CloudName), string(rt), deliveryType, "v" + strconv.FormatInt(version, 10), escaped(id),
		}, "/"),
	}
}

// namedAfter is a file name for an asset whose own the Admin API does not tell.
func namedAfter(a answer) string {
	name := path.Base(a.PublicID)
	if a.Format != "" && path.Ext(name) == "" {
		name += "." + a.Format
	}
	return name
}

// contentTypes are those of formats that are not called as their media types are.
var contentTypes = map[string]string{
	"jpg": "image/jpeg", "svg": "image/svg+xml", "tif": "image/tiff", "ico": "image/x-icon", "psd": "image/vnd.adobe.photoshop",
	"pdf": "application/pdf", "ai": "application/postscript", "eps": "application/postscript",
	"mov": "video/quicktime", "mkv": "video/x-matroska", "avi": "video/x-msvideo", "wmv": "video/x-ms-wmv", "flv": "video/x-flv",
	"3gp": "video/3gpp", "ogv": "video/ogg", "mpg": "video/mpeg", "m3u8": "application/vnd.apple.mpegurl",
	"mp3": "audio/mpeg", "m4a": "audio/mp4", "wav": "audio/wav", "ogg": "audio/ogg", "flac": "audio/flac", "aac": "audio/aac",
}

// contentType is the media type of an asset, which Cloudinary tells only by its format.
func contentType(rt upload.ResourceType, a answer) string {
	format := strings.ToLower(a.Format)
	if t, ok := contentTypes[format]; ok {
		return t
	}
	switch {
	case rt == upload.Raw:
		return cmp.Or(mime.TypeByExtension(strings.ToLower(path.Ext(a.PublicID))), "application/octet-stream")
	case format == "":
		return "application/octet-stream"
	case a.IsAudio:
		return "audio/" + format
	}
	return string(rt) + "/" + format
}
