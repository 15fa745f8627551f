// Package provider is what a push needs from a service that stores files.
package provider

import (
	"context"
	"io"
	"time"

	"slipway/internal/upload"
)

// Capabilities are fixed facts of a provider and of the account's plan; the pipeline plans with
// them and never asks for a name.
type Capabilities struct {
	// MaxSize is the most bytes the account's plan takes in one file, by resource type; "" is
	// for types that are not listed. Zero or absent means no limit is known.
	MaxSize map[upload.ResourceType]int64 `json:"max_size,omitempty"`
	// Parallel is how many parts of one session may be on their way at once; 1 means strictly in order.
	Parallel int `json:"parallel"`
	// NeedsCommit says that a pushed asset dies by itself unless Commit is called, so its id can be
	// recorded before it becomes lasting.
	NeedsCommit bool `json:"needs_commit"`
	// MaxTags, MaxMetadata are what one file may carry.
	MaxTags     int `json:"max_tags"`
	MaxMetadata int `json:"max_metadata"`
}

// Limit is the most bytes the account takes in a file of this type; 0 means no limit is known.
func (c Capabilities) Limit(rt upload.ResourceType) int64 {
	if n, ok := c.MaxSize[rt]; ok {
		return n
	}
	return c.MaxSize[""]
}

// Source is one staged file on its way to a provider. It is the same in every attempt.
type Source struct {
	UploadID     upload.ID
	Key          string // names the asset where the provider lets us choose: "<installation>/<upload id>"
	FileName     string
	ContentType  string
	ResourceType upload.ResourceType
	Size         int64
	CRC32C       uint32
	Tags         []string
	Metadata     map[string]string
	Body         io.ReaderAt // safe at once from several goroutines
}

// Session is what must be remembered to go on with a push elsewhere. It is written to the ledger
// before the first byte is sent and never changes afterwards.
type Session struct {
	ID        string    // the provider's: Uploadcare's file uuid, Cloudinary's X-Unique-Upload-Id; "" where there is none
	PartSize  int64     // bytes in every part but the last
	Parts     int       // ceil(size / PartSize), at least 1
	ExpiresAt time.Time // zero: does not
	// LastPartCompletes says that the answer to the last part is the asset: there is no Complete,
	// and before that part is sent the ledger says so, for its answer may be lost.
	LastPartCompletes bool
	State             []byte // JSON of the adapter's own, opaque to everybody else
}

// Range is the place of part n (from 0) in a file of size bytes.
func (s Session) Range(n int, size int64) (offset, length int64) {
	offset = int64(n) * s.PartSize
	return offset, min(s.PartSize, size-offset)
}

// Part is a part that the provider has acknowledged, as the ledger keeps it.
type Part struct {
	Number int    // from 0
	Size   int64  // bytes
	CRC32C uint32 // of the bytes as they were sent
	ETag   string
	// Carry is what the next part needs where parts go in order (Cloudinary: the state of the
	// running MD5 after this part); at most 256 bytes.
	Carry []byte
	// Asset is set by the part that completes a session with LastPartCompletes.
	Asset *upload.Asset
}

// Provider sends files to one account of one service. Every method is safe for concurrent use,
// obeys its context, streams, and returns an *Error when the provider was the cause.
type Provider interface {
	// Name is "uploadcare" or "cloudinary"; it is the word in JSON, in the database and in queues.
	Name() string

	// Capabilities returns what is known of the account; after Check has succeeded its plan's limits too.
	Capabilities() Capabilities

	// Check asks whether the credentials are good and reads the plan's limits. It changes nothing
	// at the provider. An Error with Account means that nothing can be sent until an operator acts;
	// none has Denied.
	Check(ctx context.Context) error

	// Begin opens a session. Whatever it leaves behind when its answer is lost is harmless.
	Begin(ctx context.Context, src Source) (Session, error)

	// PushPart sends part n of src. before holds the parts of the session acknowledged so far, in
	// order of number. On nil the part is the provider's and is recorded before it counts; on an
	// error it may be sent again. Safe at once for different n where Capabilities.Parallel > 1.
	PushPart(ctx context.Context, s Session, src Source, n int, before []Part) (Part, error)

	// Complete turns a session whose parts were all acknowledged into an asset. It may be called
	// again when its answer was lost. An Error with SessionLost means: begin again.
	Complete(ctx context.Context, s Session, src Source, parts []Part) (upload.Asset, error)

	// Lookup asks what became of a session whose completion has no known outcome. It returns nil
	// when the provider does not have the asset or cannot be asked, and then sending again is
	// right. An asset that is returned holds exactly the bytes of src.
	Lookup(ctx context.Context, s Session, src Source, parts []Part) (*upload.Asset, error)

	// Commit makes the asset lasting and returns it with its final URL; doing it twice is
	// harmless. An Error with SessionLost means that the asset is gone: begin again.
	Commit(ctx context.Context, src Source, a upload.Asset) (upload.Asset, error)

	// Delete removes the asset, stored or not; an asset that is not there is no error.
	Delete(ctx context.Context, a upload.Asset) error
}
