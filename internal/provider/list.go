package provider

import (
	"context"
	"strings"
	"time"

	"slipway/internal/upload"
)

// Listed is an asset as its account's inventory has it.
type Listed struct {
	Asset  upload.Asset // its identity, size and address
	Key    string       // of the Source that it proves to be made of; "" where there is no telling
	MadeAt time.Time    // by the provider's clock
}

// Upload is the upload that an asset was made of, if the installation has made it.
func (l Listed) Upload(installation string) (id upload.ID, ours bool) {
	rest, ours := strings.CutPrefix(l.Key, installation+"/")
	if !ours || installation == "" {
		return "", false
	}
	id, err := upload.ParseID(rest)
	return id, err == nil
}

// Lister tells what an account has.
type Lister interface {
	// List calls page with the lasting assets of the account, batch by batch, and returns the error that page ends it
	// with. Where we choose the names these are only those that begin with the installation's; elsewhere all of the
	// account's, whoever has sent them.
	List(ctx context.Context, installation string, page func([]Listed) error) error

	// Absent returns those of the assets that the account does not have.
	Absent(ctx context.Context, assets []upload.Asset) ([]upload.Asset, error)
}
