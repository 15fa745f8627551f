package process

import (
	"slipway/internal/config"
	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
)

// Imports say what may be fetched from the web, by the settings; nil: nothing.
func Imports(c *config.Config) (*ingest.Imports, error) {
	if !c.Imports.On {
		return nil, nil
	}
	policy, err := source.NewPolicy(c.Imports.PrivateNetworks)
	if err != nil {
		return nil, err
	}
	return &ingest.Imports{Policy: policy, Within: c.Imports.Deadline}, nil
}
