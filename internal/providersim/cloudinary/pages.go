package cloudinary

import (
	"net/http"
	"strings"
)

// pageHeaders are what a page may send to the Upload API; Authorization is not among them. They are those
// of the service's own preflight answers, as client code and issues of cloudinary_js cite them.
var pageHeaders = []string{
	"Cache-Control", "Content-Disposition", "Content-MD5", "Content-Range", "Content-Type", "DPR", "Viewport-Width",
	"X-CSRF-Token", "X-Prototype-Version", "X-Requested-With", "X-Unique-Upload-Id",
}

// openToPages lets a page of any origin use the answer (CORS). On true it has answered the
// browser's preflight.
func openToPages(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "X-Cld-Error")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS, POST, PUT")
	h.Set("Access-Control-Allow-Headers", strings.Join(pageHeaders, ", "))
	w.WriteHeader(http.StatusOK)
	return true
}
