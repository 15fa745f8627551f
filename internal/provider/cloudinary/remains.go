package cloudinary

import (
	"slipway/internal/provider"
	"slipway/internal/upload"
)

var _ provider.Namer = (*Provider)(nil)

// Named implements provider.Namer: the name was chosen before the first byte.
func (p *Provider) Named(s provider.Session) *upload.Asset {
	t, err := targetOf(s)
	if err != nil || t.PublicID == "" {
		return nil
	}
	return &upload.Asset{ID: t.PublicID, ResourceType: t.ResourceType}
}
