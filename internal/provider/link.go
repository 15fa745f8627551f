package provider

import (
	"errors"
	"time"

	"slipway/internal/upload"
)

// Linker makes the addresses of one account's files out of what is stored of them. It asks nobody and
// reads no clock.
type Linker interface {
	// Link is where the file is at the time now, or its picture by t where t is not zero; ErrNoPicture
	// is for what has none.
	Link(a upload.Asset, t Transform, now time.Time) (Link, error)

	// Thumbnail is where a small picture of the file is, or ErrNoPicture.
	Thumbnail(a upload.Asset, now time.Time) (Link, error)
}

// Link is an address that the world can fetch.
type Link struct {
	URL    string
	Signed bool // whoever has it can open the file, so it belongs into no log and no cache
}

// Transform is a picture of a file in another size; zero is the file as it is.
type Transform struct {
	Width, Height int // pixels, not both 0; with Contain, one that is 0 follows from the other
	Fit           Fit
}

// Fit is how a picture takes its place in a box.
type Fit string

const (
	Contain Fit = "contain" // all of the picture within the box, never enlarged
	Cover   Fit = "cover"   // all of the box filled, and what juts out cut off
)

// ErrNoPicture says that a provider makes no pictures of this file.
var ErrNoPicture = errors.New("there are no pictures of this file")
