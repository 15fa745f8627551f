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

// Inspect implements provider.Inspector with one call of the Admin API. An Error with Throttled means that
// this hour's are spent.
func (p *Provider) Inspect(ctx context.Context, id string, rt upload.ResourceType) (*provider.Found, error) {
	a, err := p.resource(ctx, target{PublicID: escaped(id), ResourceType: rt, Type: deliveryType})
	switch {
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case a.PublicID != id || a.SecureURL == "" || a.Bytes <= 0:
		return nil, unreadable("lookup", errors.New("public_id, secure_url or bytes is missing"))
	}
	made, err := time.Parse(time.RFC3339, a.CreatedAt)
	if err != nil {
		return nil, unreadable("lookup", err)
	}
	t := target{PublicID: id, ResourceType: rt, Type: deliveryType}
	return &provider.Found{
		Asset:    *a.asset(t, provider.Source{ContentType: contentType(rt, a)}),
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

// Proven implements provider.Prover. An address without an extension leads to the original's format.
func (p *Provider) Proven(id string, rt upload.ResourceType, version int64) upload.Asset {
	base := cmp.Or(p.opt.DeliveryBase, "https://res.cloudinary.com")
	return upload.Asset{
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
