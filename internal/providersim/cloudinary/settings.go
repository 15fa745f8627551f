package cloudinary

import "time"

// Settings are the account's plan, the rules that the documents leave open, and faults that
// only this service knows. /_sim/config shows and changes them.
type Settings struct {
	Limits     Limits `json:"limits"`
	MaxRequest int64  `json:"max_request"` // bytes of file in one request; more is 413
	MinChunk   int64  `json:"min_chunk"`   // bytes that every chunk but the last must exceed
	AdminQuota int    `json:"admin_quota"` // Admin calls an hour

	SHA256         bool              `json:"sha256"`          // the account takes and makes no SHA-1 signatures
	Presets        map[string]Preset `json:"presets"`         // unsigned upload presets, by name
	MetadataFields []string          `json:"metadata_fields"` // external ids of structured metadata

	PartialTTL Duration `json:"partial_ttl"` // life of an unfinished chunked upload
	InOrder    bool     `json:"in_order"`    // a chunk must begin where the ones before it end
	AutoSniffs bool     `json:"auto_sniffs"` // under /auto/ the bytes decide, not the field resource_type

	WrongETags int      `json:"wrong_etags"` // so many next assets are stored with an etag not their MD5
	Pending    int      `json:"pending"`     // so many next uploads are answered status:pending
	PendingFor Duration `json:"pending_for"` // how long a pending upload stays invisible

	HookDelay Duration `json:"hook_delay"` // between tries of a notification: this, twice this, thrice, on the simulator's clock
}

// hookWaits are the waits before the further tries of a notification.
func (st Settings) hookWaits() []time.Duration {
	gap := time.Duration(st.HookDelay)
	return []time.Duration{gap, 2 * gap, 3 * gap}
}

// Limits are the most bytes that one asset may have, by resource type.
type Limits struct {
	Image int64 `json:"image"`
	Video int64 `json:"video"`
	Raw   int64 `json:"raw"`
}

// Preset holds the parameters of an unsigned upload preset.
type Preset map[string]string

// FreePlan has the limits of a free account.
var FreePlan = Limits{Image: 10 << 20, Video: 100 << 20, Raw: 10 << 20}

// DefaultSettings is a large account: 20 GB in one asset (the most that is taken without
// async=true), the request and chunk limits of the Upload guide, and the Admin quota of a
// free account.
func DefaultSettings() Settings {
	return Settings{
		Limits:     Limits{Image: 20e9, Video: 20e9, Raw: 20e9},
		MaxRequest: 100e6,
		MinChunk:   5 << 20,
		AdminQuota: 500,
		PartialTTL: Duration(24 * time.Hour),
		HookDelay:  Duration(3 * time.Minute),
	}
}

// Of is the limit for a resource type, in bytes.
func (l Limits) Of(resourceType string) int64 {
	switch resourceType {
	case "image":
		return l.Image
	case "video":
		return l.Video
	default:
		return l.Raw
	}
}

// Duration is written as text, such as "24h".
type Duration time.Duration

func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}
