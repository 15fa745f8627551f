// Package upload holds the words of the service: an upload, its status, its asset, its errors and its jobs.
package upload

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ID names an upload: a UUIDv7 in its canonical lower-case form, so that ids sort by creation.
type ID string

// NewID returns an id that nothing else has.
func NewID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// ParseID returns s as an id, or an Error with NotFound: what is not an id names no upload.
func ParseID(s string) (ID, error) {
	if u, err := uuid.Parse(s); err != nil || u.String() != s {
		return "", &Error{Code: NotFound, Message: "There is no upload with this id."}
	}
	return ID(s), nil
}

// Upload is one file's way from its first byte to its final metadata.
type Upload struct {
	ID           ID
	UserID       string
	Status       Status
	Provider     string // "uploadcare" or "cloudinary"
	ResourceType ResourceType
	FileName     string
	ContentType  string

	Size     int64 // bytes; meaningful once the status has left receiving
	Received int64 // bytes that staging holds durably
	Pushed   int64 // bytes that the provider has acknowledged in the current session
	Progress float64
	CRC32C   uint32 // Castagnoli, of the whole file, computed while it was received

	Attempt       int
	MaxAttempts   int
	NextAttemptAt *time.Time
	DeliverBy     *time.Time // when an upload that is still not delivered is given up
	Error         *Error

	Asset *Asset

	Metadata map[string]string
	Tags     []string

	Version     int64 // changes with every field above, never with a heartbeat
	CreatedAt   time.Time
	StagedAt    *time.Time // when the bytes were durable and the upload acknowledged
	StartedAt   *time.Time
	CompletedAt *time.Time
	ExpiresAt   *time.Time
	StagedUntil *time.Time // when the bytes of a failed upload are removed from staging
	Unstaged    *time.Time // when staging let the bytes go; retry is impossible from then on

	JobID int64 // the only River row that may work on this upload
	Epoch int64 // fences older holders of the lease

	Segments []Segment // where staging has the bytes, in order; none: in one run under the upload's own id
}

// Segment is a run of an upload's bytes in staging. What its file has beyond Size is nobody's: a sender who was
// taken over, and does not know it yet, may still be writing there.
type Segment struct {
	Of     ID    `json:"of"` // the upload that it came in by: its own, or one that was joined to it
	Number int64 `json:"number"`
	Size   int64 `json:"size"` // bytes
}

// Asset is what the provider stored.
type Asset struct {
	ID           string       `json:"id"`  // Uploadcare's uuid, Cloudinary's public_id
	URL          string       `json:"url"` // where the world can fetch it
	ResourceType ResourceType `json:"resource_type,omitempty"`
	ContentType  string       `json:"content_type,omitempty"`
	Size         int64        `json:"size"`
	Width        int          `json:"width,omitempty"`
	Height       int          `json:"height,omitempty"`
	Duration     float64      `json:"duration,omitempty"` // seconds
	Format       string       `json:"format,omitempty"`
	Version      int64        `json:"version,omitempty"`
	ETag         string       `json:"etag,omitempty"` // hex MD5 where the provider gives one
}

// ResourceType is the kind of asset as Cloudinary tells them apart: audio counts as video,
// PDF as image, everything else is raw.
type ResourceType string

const (
	Image ResourceType = "image"
	Video ResourceType = "video"
	Raw   ResourceType = "raw"
)

// ParseResourceType accepts the three types, and "" or "auto" for "decide by the content".
func ParseResourceType(s string) (ResourceType, error) {
	switch rt := ResourceType(s); rt {
	case Image, Video, Raw:
		return rt, nil
	case "", "auto":
		return "", nil
	}
	return "", &Error{Code: UnknownResourceType, Message: fmt.Sprintf("resource_type %q is not known; use image, video, raw or auto.", s)}
}
