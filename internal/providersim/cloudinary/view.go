package cloudinary

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// view is an asset as answers show it (Upload API reference, "Upload response").
type view struct {
	AssetID      string   `json:"asset_id"`
	PublicID     string   `json:"public_id"`
	Version      int64    `json:"version"`
	VersionID    string   `json:"version_id"`
	Signature    string   `json:"signature,omitempty"`
	Width        int      `json:"width,omitempty"`
	Height       int      `json:"height,omitempty"`
	Format       string   `json:"format,omitempty"` // none for raw
	ResourceType string   `json:"resource_type"`
	CreatedAt    string   `json:"created_at"`
	Tags         []string `json:"tags"`
	Pages        int      `json:"pages,omitempty"`
	Bytes        int64    `json:"bytes"`
	Type         string   `json:"type"`
	ETag         string   `json:"etag,omitempty"`
	Placeholder  bool     `json:"placeholder"`
	URL          string   `json:"url"`
	SecureURL    string   `json:"secure_url"`
	PlaybackURL  string   `json:"playback_url,omitempty"`

	AssetFolder      string          `json:"asset_folder"`
	DisplayName      string          `json:"display_name"`
	AccessMode       string          `json:"access_mode"`
	AccessControl    json.RawMessage `json:"access_control,omitempty"`
	Context          *custom         `json:"context,omitempty"`
	Metadata         any             `json:"metadata,omitempty"`
	OriginalFilename string          `json:"original_filename,omitempty"`
	APIKey           string          `json:"api_key,omitempty"`
	Eager            []derived       `json:"eager,omitempty"`
	BatchID          string          `json:"batch_id,omitempty"` // of copies that come later

	*footage

	Overwritten bool `json:"overwritten,omitempty"`
	Existing    bool `json:"existing,omitempty"`
	Done        bool `json:"done,omitempty"`
}

// custom is contextual metadata as answers wrap it.
type custom struct {
	Custom map[string]string `json:"custom"`
}

// footage is what a video has beside. The simulator does not look into the film.
type footage struct {
	IsAudio   bool     `json:"is_audio"`
	Duration  float64  `json:"duration"`
	FrameRate float64  `json:"frame_rate"`
	BitRate   int64    `json:"bit_rate"`
	Rotation  int      `json:"rotation"`
	Audio     struct{} `json:"audio"`
	Video     struct{} `json:"video"`
}

// derived is a transformed copy that an upload asked for.
type derived struct {
	Transformation string `json:"transformation"`
	Status         string `json:"status,omitempty"`
	Bytes          int64  `json:"bytes,omitempty"`
	Format         string `json:"format,omitempty"`
	URL            string `json:"url"`
	SecureURL      string `json:"secure_url"`
}

// view renders an asset for the Upload API.
func (s *Sim) view(r *http.Request, a asset) view {
	settings := s.Settings()
	v := view{
		AssetID: a.AssetID, PublicID: a.PublicID, Version: a.Version, VersionID: a.VersionID,
		Signature: signAnswer(a.PublicID, a.Version, s.secret, settings.algorithm()),
		Width:     a.Width, Height: a.Height, Format: a.Format, ResourceType: a.ResourceType,
		CreatedAt: a.CreatedAt.Format(time.RFC3339), Tags: a.Tags, Bytes: a.Bytes, Type: a.Type, ETag: a.ETag,
		AssetFolder: a.AssetFolder, DisplayName: a.DisplayName, AccessMode: "public", AccessControl: a.AccessControl,
		OriginalFilename: a.OriginalFilename, APIKey: s.key,
	}
	v.URL = s.url(r, a, "")
	v.SecureURL = v.URL
	if len(a.Context) > 0 {
		v.Context = &custom{a.Context}
	}
	if len(a.Metadata) > 0 {
		v.Metadata = a.Metadata
	}
	switch {
	case a.Format == "pdf":
		v.Pages = 1
	case a.ResourceType == "video":
		v.PlaybackURL = v.URL
		v.footage = &footage{IsAudio: strings.HasPrefix(a.ContentType, "audio/")}
	}
	return v
}

// algorithm is the hash that the account signs with.
func (st Settings) algorithm() string {
	if st.SHA256 {
		return "sha256"
	}
	return "sha1"
}

// url is the delivery address of an asset, through a transformation if one is named.
func (s *Sim) url(r *http.Request, a asset, transformation string) string {
	rest := a.PublicID
	if a.Format != "" {
		rest += "." + a.Format
	}
	signed := rest
	if transformation != "" {
		signed = transformation + "/" + rest
	}
	parts := []string{s.deliveryBase(r), s.cloud, a.ResourceType, a.Type}
	if a.Type == "authenticated" || a.Type == "private" && transformation == "" {
		parts = append(parts, signDelivery(signed, s.secret, s.Settings().algorithm()))
	}
	if transformation != "" {
		parts = append(parts, transformation)
	}
	parts = append(parts, "v"+strconv.FormatInt(a.Version, 10))
	for segment := range strings.SplitSeq(rest, "/") {
		parts = append(parts, url.PathEscape(segment))
	}
	return strings.Join(parts, "/")
}

// addEager adds the derived copies that the form asks for. None is really made: delivery
// serves the original.
func (s *Sim) addEager(v *view, r *http.Request, f *form, a asset) {
	chains := f.get("eager")
	if chains == "" {
		return
	}
	later := f.flag("eager_async", false)
	if later {
		v.BatchID = hexID()
	}
	for chain := range strings.SplitSeq(chains, "|") {
		d := derived{Transformation: chain, Bytes: a.Bytes, Format: a.Format, URL: s.url(r, a, chain)}
		d.SecureURL = d.URL
		if later {
			d.Status, d.Bytes = "processing", 0
		}
		v.Eager = append(v.Eager, d)
	}
}
