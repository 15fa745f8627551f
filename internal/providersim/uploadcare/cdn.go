package uploadcare

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"slipway/internal/providersim"
)

// serveCDN delivers an original by /<uuid>/, /<uuid>/<name>, and by any chain of operations
// (/<uuid>/-/preview/300x300/…), which change nothing here. A removed file is not found. With secure
// delivery nothing is told to who brings no token for the path.
func (s *Sim) serveCDN(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if !s.mayRead(r) {
		http.Error(w, "Forbidden", http.StatusForbidden)
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

// mayRead tells whether the CDN answers: a token is "exp=<Unix seconds>~acl=<path>~hmac=<hex>", whose path
// may end in * (Docs, "Access control with signed URLs").
func (s *Sim) mayRead(r *http.Request) bool {
	c := s.Config()
	if !c.SecureDelivery {
		return true
	}
	text, digest, _ := strings.Cut(r.URL.Query().Get("token"), "~hmac=")
	exp, acl, _ := strings.Cut(strings.TrimPrefix(text, "exp="), "~acl=")
	seconds, err := strconv.ParseInt(exp, 10, 64)
	if err != nil || !s.Controls.Clock.Now().Before(time.Unix(seconds, 0)) {
		return false
	}
	path := strings.ReplaceAll(r.URL.EscapedPath(), "~", "%7e")
	before, wildcard := strings.CutSuffix(acl, "*")
	return sameText(digest, deliverySignature(c.DeliverySecret, seconds, acl)) && (path == acl || wildcard && strings.HasPrefix(path, before))
}

// deliverySignature is the hmac of a token; a secret that is not hex signs nothing.
func deliverySignature(secret string, exp int64, acl string) string {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return ""
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "exp=%d~acl=%s", exp, acl)
	return hex.EncodeToString(h.Sum(nil))
}
