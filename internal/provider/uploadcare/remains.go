package uploadcare

import (
	"slipway/internal/provider"
	"slipway/internal/upload"
)

var _ provider.Namer = (*Provider)(nil)

// Named implements provider.Namer. A file that goes whole gets its name with the answer, and is not stored.
func (p *Provider) Named(s provider.Session) *upload.Asset {
	if s.ID == "" {
		return nil
	}
	return &upload.Asset{ID: s.ID}
}
