package cloudinary

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"slipway/internal/providersim"
)

// Types of notification that happen here ("Webhook notifications").
const (
	typeUpload          = "upload"
	typeEager           = "eager"
	typeDelete          = "delete"
	typeRename          = "rename"
	typeTagsChanged     = "resource_tags_changed"
	typeContextChanged  = "resource_context_changed"
	typeMetadataChanged = "resource_metadata_changed"
	typeAccessChanged   = "access_control_changed"
)

// notification is what every body has.
type notification struct {
	NotificationType string              `json:"notification_type"`
	Timestamp        string              `json:"timestamp"`
	RequestID        string              `json:"request_id"`
	Context          notificationContext `json:"notification_context"`
	SignatureKey     string              `json:"signature_key"`
}

type notificationContext struct {
	TriggeredAt string      `json:"triggered_at"`
	TriggeredBy triggeredBy `json:"triggered_by"`
}

type triggeredBy struct {
	Source string `json:"source"`
	ID     string `json:"id"`
}

func (s *Sim) newNotification(kind string) notification {
	now := s.controls.Clock.Now().Format("2006-01-02T15:04:05-07:00")
	return notification{
		NotificationType: kind, Timestamp: now, RequestID: hexID(), SignatureKey: s.key,
		Context: notificationContext{TriggeredAt: now, TriggeredBy: triggeredBy{Source: "api", ID: s.key}},
	}
}

// told is an asset as bodies name it that do not show it whole.
type told struct {
	AssetID string `json:"asset_id"`
	identity
	AssetFolder string `json:"asset_folder"`
	DisplayName string `json:"display_name"`
}

func (a asset) told() told {
	return told{AssetID: a.AssetID, identity: a.identity, AssetFolder: a.AssetFolder, DisplayName: a.DisplayName}
}

// notifyUpload tells of a stored asset once it is ready, and of its derived copies where they
// were to come later.
func (s *Sim) notifyUpload(f *form, a asset, v view) {
	v.Signature, v.Done = "", false
	after := a.ReadyAt.Sub(a.UpdatedAt)
	s.notify(notice{kind: typeUpload, url: f.get("notification_url"), asset: a.PublicID, after: after}, struct {
		notification
		view
	}{s.newNotification(typeUpload), v})
	s.notifyEager(f, a, v, after)
}

func (s *Sim) notifyEager(f *form, a asset, v view, after time.Duration) {
	if v.BatchID == "" {
		return
	}
	made := slices.Clone(v.Eager)
	for i := range made {
		made[i].Status, made[i].Bytes = "complete", a.Bytes
	}
	url := f.get("eager_notification_url")
	if url == "" {
		url = f.get("notification_url")
	}
	s.notify(notice{kind: typeEager, url: url, asset: a.PublicID, after: after}, struct {
		notification
		BatchID  string    `json:"batch_id"`
		AssetID  string    `json:"asset_id"`
		PublicID string    `json:"public_id"`
		Eager    []derived `json:"eager"`
		APIKey   string    `json:"api_key"`
	}{s.newNotification(typeEager), v.BatchID, a.AssetID, a.PublicID, made, s.key})
}

func (s *Sim) notifyDelete(url string, gone ...asset) {
	if len(gone) == 0 {
		return
	}
	type deleted struct {
		told
		Version int64 `json:"version"`
	}
	resources := make([]deleted, len(gone))
	for i, a := range gone {
		resources[i] = deleted{a.told(), a.Version}
	}
	s.notify(notice{kind: typeDelete, url: url, asset: gone[0].PublicID}, struct {
		notification
		Resources []deleted `json:"resources"`
	}{s.newNotification(typeDelete), resources})
}

func (s *Sim) notifyRename(url string, from identity, a asset) {
	s.notify(notice{kind: typeRename, url: url, asset: a.PublicID}, struct {
		notification
		ResourceType string `json:"resource_type"`
		Type         string `json:"type"`
		AssetID      string `json:"asset_id"`
		AssetFolder  string `json:"asset_folder"`
		DisplayName  string `json:"display_name"`
		FromPublicID string `json:"from_public_id"`
		ToPublicID   string `json:"to_public_id"`
	}{s.newNotification(typeRename), a.ResourceType, a.Type, a.AssetID, a.AssetFolder, a.DisplayName, from.PublicID, a.PublicID})
}

// change is the body of what is told of an asset's description. Resources are a list of
// assets for some types and a map by public id for others.
type change struct {
	notification
	Source    string `json:"source"`
	Resources any    `json:"resources"`
}

// named is one entry of an asset's context.
type named struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// notifyChanges tells, type by type, what is different in an asset's description.
func (s *Sim) notifyChanges(url string, before, after asset) {
	tell := func(kind string, resources any) {
		s.notify(notice{kind: kind, url: url, asset: after.PublicID}, change{s.newNotification(kind), "api", resources})
	}
	if added, removed := without(after.Tags, before.Tags), without(before.Tags, after.Tags); len(added)+len(removed) > 0 {
		type tags struct {
			told
			Added   []string `json:"added,omitempty"`
			Removed []string `json:"removed,omitempty"`
		}
		tell(typeTagsChanged, []tags{{after.told(), added, removed}})
	}
	if !maps.Equal(before.Context, after.Context) {
		type context struct {
			told
			Added   []named `json:"added"`
			Removed []named `json:"removed"`
			Updated []named `json:"updated"`
		}
		c := context{told: after.told(), Added: []named{}, Removed: []named{}, Updated: []named{}}
		for name, value := range after.Context {
			if old, had := before.Context[name]; !had {
				c.Added = append(c.Added, named{name, value})
			} else if old != value {
				c.Updated = append(c.Updated, named{name, value})
			}
		}
		for name, value := range before.Context {
			if _, has := after.Context[name]; !has {
				c.Removed = append(c.Removed, named{name, value})
			}
		}
		tell(typeContextChanged, map[string]context{after.PublicID: c})
	}
	if !maps.Equal(before.Metadata, after.Metadata) {
		type metadata struct {
			told
			Previous map[string]string `json:"previous_metadata"`
			New      map[string]string `json:"new_metadata"`
		}
		tell(typeMetadataChanged, map[string]metadata{after.PublicID: {after.told(), before.Metadata, after.Metadata}})
	}
	if string(before.AccessControl) != string(after.AccessControl) {
		type access struct {
			told
			Previous json.RawMessage `json:"previous_access_control"`
			New      json.RawMessage `json:"new_access_control"`
		}
		tell(typeAccessChanged, []access{{after.told(), before.AccessControl, after.AccessControl}})
	}
}

// without are the items of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(item string) bool { return slices.Contains(b, item) })
}

// notice is what a notification is sent with.
type notice struct {
	kind  string
	url   string // the request's own, or ""
	asset string // public id
	after time.Duration
}

// notify sends a notification to whom it concerns. One that is not answered 200 is tried up
// to three times more.
func (s *Sim) notify(n notice, body any) {
	urls := s.receivers(n.kind, n.url)
	if len(urls) == 0 {
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		slog.Error("cloudinary simulator: notification", "err", err)
		return
	}
	settings := s.Settings()
	for _, url := range urls {
		s.controls.Notices.Send(providersim.Notice{
			URL: url, Kind: n.kind, Asset: n.asset, Body: text,
			After: n.after, Waits: settings.hookWaits(),
			Sign: func(body []byte, at time.Time) http.Header {
				return http.Header{
					"X-Cld-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
					"X-Cld-Signature": {signNotification(string(body), at.Unix(), s.secret, settings.algorithm())},
				}
			},
			Accepted: func(status int) bool { return status == http.StatusOK },
		})
	}
}
