package process

import (
	"slipway/internal/config"
	"slipway/internal/ingest"
)

// Rules are what may come in, by the settings.
func Rules(c *config.Config) ingest.Rules { return rules(c.HTTP.AllowedTypes, c.HTTP.MaxBytesByType) }

// ProviderRules are what may come in for each provider, beside Rules.
func ProviderRules(c *config.Config) map[string]ingest.Rules {
	return map[string]ingest.Rules{
		"uploadcare": rules(c.Uploadcare.AllowedTypes, c.Uploadcare.MaxBytesByType),
		"cloudinary": rules(c.Cloudinary.AllowedTypes, c.Cloudinary.MaxBytesByType),
	}
}

func rules(types []string, sizes config.TypeSizes) ingest.Rules {
	r := ingest.Rules{Types: types}
	for _, s := range sizes {
		r.Sizes = append(r.Sizes, ingest.MaxSize(s))
	}
	return r
}
