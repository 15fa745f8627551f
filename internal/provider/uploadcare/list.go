package uploadcare

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

var _ provider.Lister = (*Provider)(nil)

// List implements provider.Lister with the list of the project's stored files, 1,000 in one call. Those of ours
// say so in their metadata, unless their owner has filled it.
func (p *Provider) List(ctx context.Context, _ string, page func([]provider.Listed) error) error {
	query := url.Values{"stored": {"true"}, "removed": {"false"}, "ordering": {"datetime_uploaded"}, "limit": {strconv.Itoa(pageSize)}}.Encode()
	for query != "" {
		got, err := p.filesBy(ctx, "list", query)
		if err != nil {
			return err
		}
		var listed []provider.Listed
		for _, f := range got.Results {
			if f.UploadedAt == nil {
				continue
			}
			listed = append(listed, provider.Listed{Asset: p.described(f.Info, provider.Source{}), Key: f.Metadata[sign.Key], MadeAt: f.UploadedAt.Time})
		}
		if len(listed) > 0 {
			if err := page(listed); err != nil {
				return err
			}
		}
		next, err := url.Parse(got.Next)
		if err != nil {
			return unusable("list", err)
		}
		query = next.RawQuery
	}
	return nil
}

type files struct {
	Next    string     `json:"next"`
	Results []sentFile `json:"results"`
}

// filesBy is one page of the project's files.
func (p *Provider) filesBy(ctx context.Context, op, query string) (files, error) {
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	var page files
	req, err := p.sdk.NewRequest(call, restHost, http.MethodGet, "/files/?"+query, nil)
	if err == nil {
		err = p.sdk.Do(req, &page)
	}
	if err != nil {
		return page, p.failed(ctx, op, err)
	}
	return page, nil
}

// Absent implements provider.Lister: one call for each asset.
func (p *Provider) Absent(ctx context.Context, assets []upload.Asset) ([]upload.Asset, error) {
	var absent []upload.Asset
	for _, a := range assets {
		found, err := p.Inspect(ctx, a.ID, a.ResourceType)
		if err != nil {
			return nil, err
		}
		if found == nil {
			absent = append(absent, a)
		}
	}
	return absent, nil
}
