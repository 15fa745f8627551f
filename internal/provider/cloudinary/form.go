package cloudinary

import (
	"bytes"
	"fmt"
	"maps"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cloudinary/cloudinary-go/v2/api"
	"github.com/cloudinary/cloudinary-go/v2/api/uploader"

	"slipway/internal/provider"
)

// form is a multipart body without its file: what comes before the bytes and what comes after them.
type form struct {
	contentType   string
	before, after []byte
}

// form renders and signs the parameters of an upload of src to t, as of now.
func (p *Provider) form(src provider.Source, t target, now time.Time) (form, error) {
	params, err := api.StructToParams(uploader.UploadParams{
		PublicID:  t.PublicID,
		Type:      api.DeliveryType(t.Type),
		Overwrite: api.Bool(true),
		Timestamp: now.Unix(),
	})
	if err != nil {
		return form{}, fmt.Errorf("parameters: %w", err)
	}
	// The SDK fails on control characters in these two, escapes nothing, and orders context anew
	// each time, while the chunks of one upload must agree.
	if len(src.Tags) > 0 {
		params.Set("tags", tagList(src.Tags))
	}
	if len(src.Metadata) > 0 {
		params.Set("context", contextPairs(src.Metadata))
	}
	signature, err := p.key.Request(params)
	if err != nil {
		return form{}, err
	}
	params.Set("signature", signature)
	params.Set("api_key", p.opt.APIKey)
	return render(params, fileName(src.FileName))
}

func render(params url.Values, name string) (form, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if err := w.WriteField(k, params.Get(k)); err != nil {
			return form{}, fmt.Errorf("parameter %s: %w", k, err)
		}
	}
	if _, err := w.CreateFormFile("file", name); err != nil {
		return form{}, fmt.Errorf("file header: %w", err)
	}
	split := b.Len()
	if err := w.Close(); err != nil {
		return form{}, fmt.Errorf("end of form: %w", err)
	}
	return form{contentType: w.FormDataContentType(), before: b.Bytes()[:split], after: b.Bytes()[split:]}, nil
}

// tagList joins tags; a comma inside one would split it.
func tagList(tags []string) string {
	list := make([]string, len(tags))
	for i, t := range tags {
		list[i] = strings.ReplaceAll(t, ",", " ")
	}
	return strings.Join(list, ",")
}

var contextEscape = strings.NewReplacer("=", `\=`, "|", `\|`)

// contextPairs renders metadata as "k=v|k=v", sorted by key.
func contextPairs(metadata map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		pairs = append(pairs, contextEscape.Replace(k)+"="+contextEscape.Replace(metadata[k]))
	}
	return strings.Join(pairs, "|")
}

// fileName is name as it may stand in a form: valid text, one path element, no control characters.
// It becomes original_filename, and its extension decides about raw files.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '/' || r == '\\':
			return '_'
		case unicode.IsControl(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, name)
	if strings.Trim(name, ". ") == "" {
		return "file"
	}
	return name
}
