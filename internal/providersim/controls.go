package providersim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxControlBody bounds what a control route reads, in bytes.
const maxControlBody = 1 << 20

// Controls are the switches of one simulator; all its listeners share them.
type Controls struct {
	Clock    *Clock
	Faults   *Faults
	Requests *Requests
	Line     *Line
	Notices  *Notices
}

// NewControls returns controls with the true time, a fast line and no faults.
func NewControls() *Controls {
	clock := NewClock()
	return &Controls{Clock: clock, Faults: NewFaults(), Requests: NewRequests(), Line: NewLine(), Notices: NewNotices(clock)}
}

// Handler serves next under these controls, and the control routes beside it. A web page of
// another origin is refused on every /_sim/ route.
func (c *Controls) Handler(next http.Handler) http.Handler {
	control := http.NewServeMux()
	control.Handle("/_sim/clock", c.Clock)
	control.Handle("/_sim/faults", c.Faults)
	control.Handle("/_sim/requests", c.Requests)
	control.Handle("/_sim/line", c.Line)
	control.Handle("/_sim/notices", c.Notices)
	control.HandleFunc("POST /_sim/notices/release", c.Notices.serveRelease)
	control.Handle("/", next)
	service := c.Requests.Wrap(c.Line.Wrap(c.Faults.Wrap(next)))

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, "/_sim/"):
			service.ServeHTTP(w, r)
		case foreignOrigin(r):
			http.Error(w, "control routes are not for web pages of another origin", http.StatusForbidden)
		default:
			control.ServeHTTP(w, r)
		}
	})
}

func foreignOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// ReadControl decodes the JSON body of a control request into v. On false it has answered 400.
func ReadControl(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxControlBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		http.Error(w, "control body: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// readRules decodes one rule or an array of them. On false it has answered 400.
func readRules[T any](w http.ResponseWriter, r *http.Request) ([]T, bool) {
	var body json.RawMessage
	if !ReadControl(w, r, &body) {
		return nil, false
	}
	if body[0] != '[' {
		body = slices.Concat([]byte{'['}, body, []byte{']'})
	}
	var rules []T
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rules); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return rules, true
}

// WriteControl answers a control request with v as indented JSON.
func WriteControl(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // an error is a client that has left
}

// methodNotAllowed answers 405 and names the methods there are.
func methodNotAllowed(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
}
