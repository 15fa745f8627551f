package upload

import "time"

// News is what a provider's notification says of an asset.
type News string

const (
	Arrived News = "arrived" // the provider has it
	Altered News = "altered" // what the provider knows of it has changed
	Removed News = "removed"
)

// HintArgs is the job that looks after an asset of which a provider's notification has told. Nothing of it
// is believed: it says whom to ask about what.
type HintArgs struct {
	Provider string `json:"provider"`
	AssetID  string `json:"asset_id"`
	News     News   `json:"news"`
	Version  int64  `json:"version,omitempty"`     // of an asset that has arrived, where assets have versions
	Sent     ID     `json:"sent_for_id,omitempty"` // the upload that its sender has named
}

// Kind names the job in River's table.
func (HintArgs) Kind() string { return "hint" }

// WebhookMemory is how long it is remembered which notifications have come, and how long a provider is asked
// about one. Uploadcare repeats one that was not taken for 72 hours, Cloudinary for some 20 minutes.
const WebhookMemory = 7 * 24 * time.Hour
