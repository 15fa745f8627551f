package cloudinary

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
)

// maxReceivers is how many addresses a cloud tells of one type of event (Admin API reference,
// "triggers").
const maxReceivers = 30

// eventTypes are what a trigger can be for, as the reference and the SDKs list them. Those
// without a constant never happen here.
var eventTypes = []string{
	"all", typeUpload, typeDelete, typeEager, typeRename, typeTagsChanged, typeContextChanged, typeMetadataChanged,
	typeAccessChanged, "resource_display_name_changed", "bulk_refresh_auto_fetch", "create_folder", "delete_by_token",
	"delete_folder", "error", "explode", "generate_archive", "info", "invalidate_custom_cdn", "moderation",
	"moderation_summary", "move", "move_or_rename_asset_folder", "multi", "proof_status_changed", "publish",
	"related_assets", "report", "restore_asset_version", "sprite",
}

// trigger tells one address of one type of event, for the whole cloud.
type trigger struct {
	ID         string `json:"id"`
	ProductID  string `json:"product_environment_id"`
	URI        string `json:"uri"`
	URIType    string `json:"uri_type"`
	EventType  string `json:"event_type"`
	Additive   bool   `json:"additive"` // also of what names a notification_url of its own
	AuthScheme string `json:"auth_scheme"`
	CreatedAt  string `json:"created_at"`
	UpdatedAt  string `json:"updated_at"`
}

// listTriggers are the triggers, oldest first.
func (s *Sim) listTriggers() []trigger {
	list := []trigger{}
	for _, t := range s.triggers.All() {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b trigger) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// receivers are the addresses that are told of an event: the request's own, else those of
// the cloud, else both where the cloud's are additive.
func (s *Sim) receivers(eventType, own string) []string {
	var urls []string
	if own != "" {
		urls = append(urls, own)
	}
	for _, t := range s.listTriggers() {
		concerned := t.EventType == "all" || t.EventType == eventType
		if concerned && (own == "" || t.Additive) && !slices.Contains(urls, t.URI) {
			urls = append(urls, t.URI)
		}
	}
	return urls
}

// answerTriggers answers /triggers of the Admin API. Error texts are not documented.
func (s *Sim) answerTriggers(method string, f *form, id []string) (any, error) {
	s.triggering.Lock() // over a look and the change that depends on it
	defer s.triggering.Unlock()
	if len(id) == 0 {
		switch method {
		case http.MethodGet:
			return map[string][]trigger{"triggers": s.listTriggers()}, nil
		case http.MethodPost:
			return s.putTrigger(f, trigger{ID: hexID(), ProductID: s.productID(), URIType: "webhook", AuthScheme: "default"})
		}
		return nil, fail(http.StatusNotFound, "Not found")
	}
	t, ok := s.triggers.Get(id[0])
	switch {
	case !ok || len(id) > 1:
		return nil, fail(http.StatusNotFound, "Trigger not found - "+id[0])
	case method == http.MethodPut:
		return s.putTrigger(f, t)
	case method == http.MethodDelete:
		return map[string]string{"message": "deleted"}, s.triggers.Delete(t.ID)
	}
	return nil, fail(http.StatusNotFound, "Not found")
}

// putTrigger keeps a trigger with what the form says of it.
func (s *Sim) putTrigger(f *form, t trigger) (any, error) {
	t.URI = cmp.Or(f.get("new_uri"), f.get("uri"), t.URI)
	t.EventType = cmp.Or(f.get("event_type"), t.EventType)
	t.Additive = f.flag("additive", t.Additive)
	t.AuthScheme = cmp.Or(f.get("auth_scheme"), t.AuthScheme)
	if err := s.checkTrigger(f, t); err != nil {
		return nil, err
	}
	t.UpdatedAt = s.controls.Clock.Now().Format("2006-01-02T15:04:05.000Z07:00")
	t.CreatedAt = cmp.Or(t.CreatedAt, t.UpdatedAt)
	return t, s.triggers.Put(t.ID, t)
}

func (s *Sim) checkTrigger(f *form, t trigger) error {
	uri, err := url.Parse(t.URI)
	switch {
	case t.URI == "":
		return missing("uri")
	case err != nil || uri.Scheme != "http" && uri.Scheme != "https" || uri.Host == "":
		return fail(http.StatusBadRequest, "Invalid uri "+t.URI)
	case t.EventType == "":
		return missing("event_type")
	case !slices.Contains(eventTypes, t.EventType):
		return fail(http.StatusBadRequest, "Invalid event_type "+t.EventType)
	case t.AuthScheme != "default" && t.AuthScheme != "legacy_hmac":
		return fail(http.StatusBadRequest, "auth_scheme "+t.AuthScheme+" is not simulated")
	case f.get("filter") != "" || f.get("payload_template") != "":
		return fail(http.StatusBadRequest, "filter and payload_template are not simulated")
	}
	receivers := 0
	for _, other := range s.listTriggers() {
		switch {
		case other.ID == t.ID || other.EventType != t.EventType:
		case other.URI == t.URI:
			return fail(http.StatusConflict, "Trigger already exists")
		default:
			receivers++
		}
	}
	if receivers >= maxReceivers {
		return fail(http.StatusBadRequest, "Too many triggers of this event_type")
	}
	return nil
}

// productID is the cloud's own, always the same.
func (s *Sim) productID() string {
	sum := md5.Sum([]byte(s.cloud))
	return hex.EncodeToString(sum[:])
}
