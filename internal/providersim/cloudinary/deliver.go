package cloudinary

import (
	"errors"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/providersim"
)

var (
	versionSegment   = regexp.MustCompile(`^v\d+$`)
	signatureSegment = regexp.MustCompile(`^s--[A-Za-z0-9_-]+--$`)
	// A transformation segment is a list of parameters such as c_fill,w_300.
	transformSegment = regexp.MustCompile(`^[a-z]{1,3}_[^/]+$`)
)

// deliver serves /<cloud>/<resource_type>/<type>/[s--…--/][transformation/…][v<n>/]<id>[.ext].
// The version is not asked for, and a transformation serves the original.
func (s *Sim) deliver(w http.ResponseWriter, r *http.Request, path []string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, fail(http.StatusMethodNotAllowed, "Method not allowed"))
		return
	}
	a, err := s.delivered(path)
	if err != nil {
		refuseDelivery(w, err)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=2592000")
	s.files.Serve(w, r, providersim.Delivery{
		Blobs: a.Blobs, ContentType: a.ContentType, ETag: a.ETag, Modified: a.UpdatedAt,
	})
}

// refuseDelivery gives the reason in x-cld-error and no body, as the CDN does.
func refuseDelivery(w http.ResponseWriter, err error) {
	var no *refusal
	if !errors.As(err, &no) {
		writeError(w, err)
		return
	}
	w.Header().Set("X-Cld-Error", oneLine.Replace(no.message))
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(no.status)
}

// delivered is the asset that a delivery path names and may be shown.
func (s *Sim) delivered(path []string) (asset, error) {
	if len(path) < 4 || path[0] != s.cloud || !slices.Contains(resourceTypes, path[1]) {
		return asset{}, notFound(strings.Join(path, "/"))
	}
	rest, signature := path[3:], ""
	if signatureSegment.MatchString(rest[0]) {
		signature, rest = rest[0], rest[1:]
	}
	transformation, name := splitDelivery(rest)
	a, ok := s.find(identity{ResourceType: path[1], Type: path[2]}, name)
	if !ok {
		return asset{}, notFound(name)
	}
	needed := a.Type == "authenticated" || a.Type == "private" && transformation == ""
	if (needed || signature != "") && !s.signedFor(signature, strings.TrimPrefix(transformation+"/"+name, "/")) {
		return asset{}, fail(http.StatusUnauthorized, "Invalid or missing signature")
	}
	return a, nil
}

func (s *Sim) signedFor(signature, path string) bool {
	return signature == signDelivery(path, s.secret, "sha1") || signature == signDelivery(path, s.secret, "sha256")
}

// splitDelivery parts transformation and name at the version, or, without one, after the
// last segment that reads like a transformation.
func splitDelivery(rest []string) (transformation, name string) {
	at := slices.IndexFunc(rest, versionSegment.MatchString)
	if at >= 0 && at < len(rest)-1 {
		return strings.Join(rest[:at], "/"), strings.Join(rest[at+1:], "/")
	}
	at = 0
	for at < len(rest)-1 && transformSegment.MatchString(rest[at]) {
		at++
	}
	return strings.Join(rest[:at], "/"), strings.Join(rest[at:], "/")
}

// find takes the name with an extension and, for image and video, without.
func (s *Sim) find(id identity, name string) (asset, bool) {
	now := s.controls.Clock.Now()
	if id.ResourceType != "raw" {
		id.PublicID = strings.TrimSuffix(name, path.Ext(name))
		if a, ok := s.assets.get(id, now); ok {
			return a, true
		}
	}
	id.PublicID = name
	return s.assets.get(id, now)
}
