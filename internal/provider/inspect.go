package provider

import (
	"context"
	"time"

	"slipway/internal/upload"
)

// Found is what a provider says of an asset that somebody else has sent.
type Found struct {
	Asset    upload.Asset
	FileName string // "" where the provider does not tell
	Tags     []string
	MadeAt   time.Time // by the provider's clock
	Lasting  bool      // where assets need a commit: it has been made lasting already
	Mark     upload.ID // the upload that the sender has named; "" for none
	Infected string    // with what, by the provider's own look; "" where it has found nothing, or not looked
}

// Inspector describes assets that a client has sent by itself.
type Inspector interface {
	// Inspect asks for the asset with this id, of this resource type where the provider tells them
	// apart. It returns nil when the provider has none, or will not have it any more in a moment.
	Inspect(ctx context.Context, id string, rt upload.ResourceType) (*Found, error)
}

// Prover makes an asset of what the provider's signature proves of it, without asking.
type Prover interface {
	// Proven returns the asset with its address, and without whatever only the provider knows. It
	// returns nil where the signature does not prove enough, and then the provider is to be asked.
	Proven(id string, rt upload.ResourceType, version int64) *upload.Asset
}

// Finder finds assets whose names are the provider's own.
type Finder interface {
	// Marked returns the id of the asset whose sender has named the upload, among those that were made since
	// then and are not lasting; "" for none.
	Marked(ctx context.Context, mark upload.ID, since time.Time) (string, error)
}
