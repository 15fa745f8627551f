package cloudinary

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/cloudinary/cloudinary-go/v2/api"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/upload"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// answer is what we need of an upload's or a lookup's answer. The SDK's types hold much more, and
// fail a success for an odd date or number in what nobody asked for.
type answer struct {
	Done      *bool   `json:"done"`
	Status    string  `json:"status"`
	AssetID   string  `json:"asset_id"`
	PublicID  string  `json:"public_id"`
	SecureURL string  `json:"secure_url"`
	Version   int64   `json:"version"`
	Bytes     int64   `json:"bytes"`
	ETag      string  `json:"etag"`
	Format    string  `json:"format"`
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Duration  float64 `json:"duration"`

	CreatedAt string   `json:"created_at"`
	Tags      []string `json:"tags"`
	IsAudio   bool     `json:"is_audio"`
}

// final tells whether there is an asset, which makes an answer the last of an upload.
func (a answer) final() bool { return a.AssetID != "" || a.Done != nil && *a.Done }

// prove tells whether the asset of a is t and holds the size bytes with the MD5 sum.
func (a answer) prove(op string, t target, size int64, sum []byte) error {
	if a.PublicID == "" || a.SecureURL == "" || a.ETag == "" {
		return unreadable(op, errors.New("public_id, secure_url or etag is missing"))
	}
	if want := hex.EncodeToString(sum); a.PublicID != t.PublicID || a.Bytes != size || a.ETag != want {
		return &provider.Error{
			Provider: Name, Op: op, Status: http.StatusOK, Verdict: provider.Integrity,
			Message: fmt.Sprintf("Cloudinary stored %s with %d bytes and etag %s; sent was %s with %d and %s.",
				a.PublicID, a.Bytes, a.ETag, t.PublicID, size, want),
		}
	}
	return nil
}

func (a answer) asset(t target, src provider.Source) *upload.Asset {
	return &upload.Asset{
		ID:           a.PublicID,
		URL:          sign.Plain(a.SecureURL),
		ResourceType: t.ResourceType,
		ContentType:  src.ContentType,
		Size:         a.Bytes,
		Width:        a.Width,
		Height:       a.Height,
		Duration:     a.Duration,
		Format:       a.Format,
		Version:      a.Version,
		ETag:         a.ETag,
	}
}

// address is where the account's API has path.
func (p *Provider) address(path ...any) string {
	return api.BaseURL(p.opt.UploadPrefix, "") + "/" + url.PathEscape(p.opt.CloudName) + "/" + api.BuildPath(path...)
}

// fetch makes a request of our own. ctx is the caller's, without the request's own deadline.
func (p *Provider) fetch(ctx context.Context, op string, req *http.Request) (answer, error) {
	var a answer
	err := p.fetchInto(ctx, op, req, &a)
	return a, err
}

func (p *Provider) fetchInto(ctx context.Context, op string, req *http.Request, out any) error {
	req.Header.Set("User-Agent", api.GetUserAgent())
	resp, err := p.http.Do(req)
	if err != nil {
		return fault(ctx, op, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fault(ctx, op, err)
	}
	if err := p.line.refused(op, reason(body)); err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return unreadable(op, err)
	}
	return nil
}
