package cloudinary

import (
	"log/slog"
	"net/http"
	"time"

	"slipway/internal/providersim"
)

// serveControl answers the control routes of this simulator; the common ones are answered
// before it.
//
//	GET  /_sim/config  the settings; POST changes those it names, and does what forget_partials asks
//	GET  /_sim/files   every asset there is
func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request, path []string) {
	switch {
	case len(path) == 1 && path[0] == "config":
		s.configure(w, r)
	case len(path) == 1 && path[0] == "files" && r.Method == http.MethodGet:
		providersim.WriteControl(w, s.Inventory())
	default:
		http.NotFound(w, r)
	}
}

// configuration is the body of /_sim/config.
type configuration struct {
	Settings
	DeliveryBase   *string `json:"delivery_base,omitempty"`
	ForgetPartials bool    `json:"forget_partials,omitempty"` // lose every unfinished chunked upload, once
}

func (s *Sim) configure(w http.ResponseWriter, r *http.Request) {
	ask := configuration{Settings: s.Settings()}
	if r.Method == http.MethodPost {
		ask.Presets, ask.MetadataFields = nil, nil
		if !providersim.ReadControl(w, r, &ask) {
			return
		}
		if ask.Presets == nil {
			ask.Presets = s.Settings().Presets
		}
		if ask.MetadataFields == nil {
			ask.MetadataFields = s.Settings().MetadataFields
		}
		s.Set(ask.Settings)
		if ask.DeliveryBase != nil {
			s.SetDeliveryBase(*ask.DeliveryBase)
		}
		if ask.ForgetPartials {
			if err := s.ForgetPartials(); err != nil {
				slog.Error("cloudinary simulator", "err", err)
				http.Error(w, "partials could not be removed", http.StatusInternalServerError)
				return
			}
		}
	}
	base := s.deliveryBase(r)
	providersim.WriteControl(w, configuration{Settings: s.Settings(), DeliveryBase: &base})
}

// ForgetPartials loses every unfinished chunked upload, as the service does in its own time.
func (s *Sim) ForgetPartials() error {
	return s.partials.forget(s.controls.Clock.Now().Add(time.Nanosecond))
}

// File is one asset in the inventory.
type File struct {
	AssetID      string    `json:"asset_id"`
	PublicID     string    `json:"public_id"`
	ResourceType string    `json:"resource_type"`
	Type         string    `json:"type"`
	Bytes        int64     `json:"bytes"`
	ETag         string    `json:"etag"`
	Version      int64     `json:"version"`
	CreatedAt    time.Time `json:"created_at"`
}

// Inventory is what the cloud holds.
type Inventory struct {
	Count    int    `json:"count"`
	Bytes    int64  `json:"bytes"`
	Partials int    `json:"partials"` // unfinished chunked uploads
	Files    []File `json:"files"`    // newest first
}

// Inventory lists every asset, those that are still pending included.
func (s *Sim) Inventory() Inventory {
	inv := Inventory{Partials: s.partials.rows.Len(), Files: []File{}}
	for _, a := range s.assets.list(endOfTime, func(asset) bool { return true }) {
		inv.Count++
		inv.Bytes += a.Bytes
		inv.Files = append(inv.Files, File{
			AssetID: a.AssetID, PublicID: a.PublicID, ResourceType: a.ResourceType, Type: a.Type,
			Bytes: a.Bytes, ETag: a.ETag, Version: a.Version, CreatedAt: a.CreatedAt,
		})
	}
	return inv
}

var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
