package cloudinary

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/upload"
)

var _ provider.Lister = (*Provider)(nil)

// What one call of the Admin API lists at most (Admin API reference, "Get resources").
const (
	pageSize = 500
	maxIDs   = 100
)

// List implements provider.Lister with the Admin API's listing by prefix, of each resource and delivery type by
// itself: one call for 500 assets.
func (p *Provider) List(ctx context.Context, installation string, page func([]provider.Listed) error) error {
	const op = "list"
	for _, rt := range []upload.ResourceType{upload.Image, upload.Video, upload.Raw} {
		for _, kind := range []string{deliveryType, authenticated} {
			query := url.Values{"prefix": {installation + "/"}, "max_results": {strconv.Itoa(pageSize)}}
			for {
				got, err := p.resources(ctx, op, rt, kind, query)
				if err != nil {
					return err
				}
				listed := make([]provider.Listed, len(got.Resources))
				for i, a := range got.Resources {
					if listed[i], err = a.listed(target{a.PublicID, rt, kind}); err != nil {
						return unreadable(op, err)
					}
				}
				if len(listed) > 0 {
					if err := page(listed); err != nil {
						return err
					}
				}
				if got.NextCursor == "" {
					break
				}
				query.Set("next_cursor", got.NextCursor)
			}
		}
	}
	return nil
}

type listing struct {
	Resources  []answer `json:"resources"`
	NextCursor string   `json:"next_cursor"`
}

// resources are the assets of one type that query asks for.
func (p *Provider) resources(ctx context.Context, op string, rt upload.ResourceType, kind string, query url.Values) (listing, error) {
	limited, cancel := context.WithTimeout(ctx, 2*p.opt.CallTimeout)
	defer cancel()
	var got listing
	req, err := http.NewRequestWithContext(limited, http.MethodGet, p.address("resources", string(rt), kind)+"?"+query.Encode(), nil)
	if err != nil {
		return got, fmt.Errorf("cloudinary %s: %w", op, err)
	}
	req.SetBasicAuth(p.opt.APIKey, p.opt.APISecret)
	err = p.fetchInto(ctx, op, req, &got)
	return got, err
}

// keyLength is that of an upload's id.
const keyLength = 36

// listed takes the key of the push, or of the reservation, from the beginning of the public id.
func (a answer) listed(t target) (provider.Listed, error) {
	made, err := time.Parse(time.RFC3339, a.CreatedAt)
	if err != nil {
		return provider.Listed{}, err
	}
	l := provider.Listed{Asset: *a.asset(t, provider.Source{ContentType: contentType(t.ResourceType, a)}), MadeAt: made}
	if slash := strings.IndexByte(a.PublicID, '/'); slash >= 0 && len(a.PublicID) > slash+keyLength {
		l.Key = a.PublicID[:slash+1+keyLength]
	}
	return l, nil
}

// Absent implements provider.Lister: one call for up to 100 assets of the same types. An id with a comma would be
// taken for two, and is asked for alone.
func (p *Provider) Absent(ctx context.Context, assets []upload.Asset) ([]upload.Asset, error) {
	have := map[target]bool{}
	asked := map[target][]string{} // ids, by the types that they have in common
	for _, a := range assets {
		for _, kind := range kinds(a) {
			t := target{a.ID, a.ResourceType, kind}
			if strings.Contains(a.ID, ",") {
				found, err := p.inspect(ctx, t)
				if err != nil {
					return nil, err
				}
				have[t] = found != nil
				continue
			}
			of := target{ResourceType: a.ResourceType, Type: kind}
			if !slices.Contains(asked[of], a.ID) {
				asked[of] = append(asked[of], a.ID)
			}
		}
	}
	for of, ids := range asked {
		for some := range slices.Chunk(ids, maxIDs) {
			got, err := p.resources(ctx, "lookup", of.ResourceType, of.Type, url.Values{"public_ids[]": some, "max_results": {strconv.Itoa(maxIDs)}})
			if err != nil {
				return nil, err
			}
			for _, a := range got.Resources {
				have[target{a.PublicID, of.ResourceType, of.Type}] = true
			}
		}
	}
	var absent []upload.Asset
	for _, a := range assets {
		if !slices.ContainsFunc(kinds(a), func(kind string) bool { return have[target{a.ID, a.ResourceType, kind}] }) {
			absent = append(absent, a)
		}
	}
	return absent, nil
}

// kinds are the delivery types that an asset may have.
func kinds(a upload.Asset) []string {
	if kind := sign.Type(a.URL); kind != "" {
		return []string{kind}
	}
	return []string{deliveryType, authenticated}
}
