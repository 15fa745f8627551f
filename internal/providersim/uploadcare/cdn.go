package uploadcare

import (
	"mime"
	"net/http"
	"path"
	"strings"

	"slipway/internal/providersim"
)

// serveCDN delivers an original by /<uuid>/, /<uuid>/<name>, and by any chain of operations
// (/<uuid>/-/preview/300x300/…), which change nothing here. A removed file is not found.
func (s *Sim) serveCDN(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
		return
	}
	id, rest, slash := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !slash {
		http.Redirect(w, r, path.Clean(r.URL.Path)+"/", http.StatusMovedPermanently)
		return
	}
	a, ok := s.asset(id)
	if !ok || a.Removed != nil {
		http.Error(w, "File not found", http.StatusNotFound)
		return
	}
	if a.Image == nil && !strings.Contains("/"+rest, "/-/inline/yes/") {
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.Name}))
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000")
	s.files.Serve(w, r, providersim.Delivery{
		Blobs: a.Blobs, ContentType: a.MimeType, ETag: a.ETag, Modified: a.Uploaded,
	})
}
