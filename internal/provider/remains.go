package provider

import "slipway/internal/upload"

// Namer tells what a push that was ended may have left.
type Namer interface {
	// Named returns the asset that the session makes, or may have made, as Delete and Inspect know it. It
	// returns nil where there is no telling; such an asset dies by itself.
	Named(s Session) *upload.Asset
}
