package providersim

import (
	"net/http"
	"time"
)

// Delivery is how a CDN shows an asset.
type Delivery struct {
	Blobs       []Blob
	ContentType string
	ETag        string // without quotes
	Modified    time.Time
}

// Serve answers a GET or HEAD with the asset, Range and conditional requests included
// (RFC 9110 §13, §14). Any page may read it, as from the real CDNs.
func (f *Files) Serve(w http.ResponseWriter, r *http.Request, d Delivery) {
	content := f.Open(d.Blobs...)
	defer content.Close()
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Content-Type", d.ContentType)
	h.Set("ETag", `"`+d.ETag+`"`)
	http.ServeContent(w, r, "", d.Modified, content)
}
