package cloudinary

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// adminPaths are what the Admin API's paths begin with.
var adminPaths = []string{"resources", "ping", "triggers", "usage"}

// quota counts the Admin calls of the running hour.
type quota struct {
	mu   sync.Mutex
	hour time.Time
	used int
}

// take counts one call; left is negative when there was none to take.
func (q *quota) take(now time.Time, limit int) (left int, reset time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if hour := now.Truncate(time.Hour); !hour.Equal(q.hour) {
		q.hour, q.used = hour, 0
	}
	reset = q.hour.Add(time.Hour)
	if q.used >= limit {
		return -1, reset
	}
	q.used++
	return limit - q.used, reset
}

// admin answers the Admin API: Basic credentials only, every answer with the state of the
// hourly quota (Admin API reference, "Usage limits").
func (s *Sim) admin(w http.ResponseWriter, r *http.Request, path []string) {
	if err := s.basic(r); err != nil {
		writeError(w, err)
		return
	}
	limit := s.Settings().AdminQuota
	left, reset := s.quota.take(s.controls.Clock.Now(), limit)
	h := w.Header()
	h.Set("X-FeatureRateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-FeatureRateLimit-Remaining", strconv.Itoa(max(left, 0)))
	h.Set("X-FeatureRateLimit-Reset", reset.Format(http.TimeFormat))
	if left < 0 {
		writeError(w, fail(420, fmt.Sprintf("Rate Limit Exceeded. Limit of %d api operations reached. Try again on %s",
			limit, reset.Format("2006-01-02 15:04:05 UTC"))))
		return
	}
	answer, err := s.adminAnswer(r, path)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Sim) adminAnswer(r *http.Request, path []string) (any, error) {
	f, err := s.receive(r)
	if err != nil {
		return nil, err
	}
	get, del := r.Method == http.MethodGet, r.Method == http.MethodDelete
	rest := path[1:]
	switch {
	case path[0] == "ping" && get:
		return map[string]string{"status": "ok"}, nil
	case path[0] == "usage" && get:
		return s.usage(), nil
	case path[0] == "triggers":
		return s.answerTriggers(r.Method, f, rest)
	case path[0] != "resources":
	case len(rest) == 0 && get:
		return map[string][]string{"resource_types": resourceTypes}, nil
	case len(rest) == 1 && get && !slices.Contains(resourceTypes, rest[0]):
		return s.resourceByID(r, f, rest[0])
	case len(rest) <= 2 && get:
		return s.listResources(r, f, rest)
	case len(rest) == 2 && del:
		return s.deleteResources(f, rest[0], rest[1])
	case len(rest) > 2 && get:
		id := identity{ResourceType: rest[0], Type: rest[1], PublicID: strings.Join(rest[2:], "/")}
		a, ok := s.assets.get(id, s.controls.Clock.Now())
		if !ok {
			return nil, notFound(id.PublicID)
		}
		return s.resource(r, f, a), nil
	}
	return nil, fail(http.StatusNotFound, "Not found")
}

// resource is an asset as the Admin API shows it alone.
type resource struct {
	view
	Backup      bool              `json:"backup"`
	LastUpdated map[string]string `json:"last_updated"`
	Derived     []derived         `json:"derived"`
	NextCursor  *string           `json:"next_cursor"`
}

// resource shows the etag only when media_metadata (image_metadata) is asked for.
func (s *Sim) resource(r *http.Request, f *form, a asset) resource {
	v := s.listed(r, a)
	v.ETag = ""
	if f.flag("media_metadata", false) || f.flag("image_metadata", false) {
		v.ETag = a.ETag
	}
	return resource{
		view:        v,
		LastUpdated: map[string]string{"updated_at": a.UpdatedAt.Format(time.RFC3339)},
		Derived:     []derived{},
	}
}

// listed is an asset as the Admin API shows it among others.
func (s *Sim) listed(r *http.Request, a asset) view {
	v := s.view(r, a)
	v.Signature, v.APIKey, v.ETag, v.OriginalFilename = "", "", "", ""
	return v
}

func (s *Sim) resourceByID(r *http.Request, f *form, assetID string) (any, error) {
	a, ok := s.assets.byAssetID(assetID, s.controls.Clock.Now())
	if !ok {
		return nil, notFound(assetID)
	}
	return s.resource(r, f, a), nil
}

// Page sizes of a listing (Admin API reference, "Get resources").
const (
	defaultPage = 10
	maxPage     = 500
	maxIDs      = 100
)

type page struct {
	Resources  []view `json:"resources"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// listResources lists one resource type, newest first; the cursor is the last asset shown.
func (s *Sim) listResources(r *http.Request, f *form, path []string) (any, error) {
	want := identity{ResourceType: path[0], Type: f.get("type")}
	if len(path) == 2 {
		want.Type = path[1]
	}
	ids := f.list("public_ids")
	if len(ids) > maxIDs {
		return nil, fail(http.StatusBadRequest, fmt.Sprintf("Too many public_ids, at most %d", maxIDs))
	}
	size := defaultPage
	if len(ids) > 0 {
		size = maxIDs
	}
	if text := f.get("max_results"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fail(http.StatusBadRequest, "Invalid value for parameter max_results: "+text)
		}
		size = min(n, maxPage)
	}
	after, err := base64.RawURLEncoding.DecodeString(f.get("next_cursor"))
	if err != nil {
		return nil, fail(http.StatusBadRequest, "Invalid value for parameter next_cursor")
	}
	found := s.assets.list(s.controls.Clock.Now(), func(a asset) bool {
		return a.ResourceType == want.ResourceType && (want.Type == "" || a.Type == want.Type) &&
			strings.HasPrefix(a.PublicID, f.get("prefix")) && (len(ids) == 0 || slices.Contains(ids, a.PublicID))
	})
	if f.get("direction") == "asc" || f.get("direction") == "1" {
		slices.Reverse(found)
	}
	if len(after) > 0 {
		last := slices.IndexFunc(found, func(a asset) bool { return a.AssetID == string(after) })
		if last < 0 {
			return nil, fail(http.StatusBadRequest, "Invalid value for parameter next_cursor")
		}
		found = found[last+1:]
	}
	p := page{Resources: []view{}}
	if len(found) > size {
		found = found[:size]
		p.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(found[size-1].AssetID))
	}
	for _, a := range found {
		v := s.listed(r, a)
		if !f.flag("tags", false) {
			v.Tags = nil
		}
		if !f.flag("context", false) {
			v.Context = nil
		}
		p.Resources = append(p.Resources, v)
	}
	return p, nil
}

type deletion struct {
	Deleted map[string]string         `json:"deleted"`
	Counts  map[string]map[string]int `json:"deleted_counts"`
	Partial bool                      `json:"partial"`
}

// deleteResources deletes by public_ids, by prefix, or all of a resource type and type.
func (s *Sim) deleteResources(f *form, resourceType, deliveryType string) (any, error) {
	ids := f.list("public_ids")
	switch prefix, all := f.list("prefix"), f.flag("all", false); {
	case len(ids) > maxIDs:
		return nil, fail(http.StatusBadRequest, fmt.Sprintf("Too many public_ids, at most %d", maxIDs))
	case len(ids) == 0 && len(prefix) == 0 && !all:
		return nil, missing("public_ids")
	case len(ids) == 0:
		for _, a := range s.assets.list(s.controls.Clock.Now(), func(a asset) bool {
			return a.ResourceType == resourceType && a.Type == deliveryType &&
				(all || slices.ContainsFunc(prefix, func(p string) bool { return strings.HasPrefix(a.PublicID, p) }))
		}) {
			ids = append(ids, a.PublicID)
		}
	}
	done := deletion{Deleted: map[string]string{}, Counts: map[string]map[string]int{}}
	var gone []asset
	for _, publicID := range ids {
		a, found, err := s.assets.remove(identity{resourceType, deliveryType, publicID})
		if err != nil {
			return nil, err
		}
		done.Deleted[publicID] = "not_found"
		count := map[string]int{"original": 0, "derived": 0}
		if found {
			done.Deleted[publicID] = "deleted"
			count["original"] = 1
			gone = append(gone, a)
		}
		done.Counts[publicID] = count
	}
	s.notifyDelete(f.get("notification_url"), gone...)
	return done, nil
}

// usage reports the plan; what Slipway and others read of it is media_limits.
func (s *Sim) usage() any {
	settings, now := s.Settings(), s.controls.Clock.Now()
	var stored int64
	all := s.assets.list(now, func(asset) bool { return true })
	for _, a := range all {
		stored += a.Bytes
	}
	return map[string]any{
		"plan":              "Simulated",
		"last_updated":      now.Format(time.DateOnly),
		"date_requested":    now.Format(time.RFC3339),
		"transformations":   map[string]any{"usage": 0, "credits_usage": 0.0},
		"objects":           map[string]any{"usage": len(all)},
		"bandwidth":         map[string]any{"usage": 0, "credits_usage": 0.0},
		"storage":           map[string]any{"usage": stored, "credits_usage": 0.0},
		"credits":           map[string]any{"usage": 0.0, "limit": 25.0, "used_percent": 0.0},
		"resources":         len(all),
		"derived_resources": 0,
		"media_limits": map[string]int64{
			"image_max_size_bytes": settings.Limits.Image,
			"video_max_size_bytes": settings.Limits.Video,
			"raw_max_size_bytes":   settings.Limits.Raw,
			"image_max_px":         25_000_000,
			"asset_max_total_px":   50_000_000,
		},
	}
}
