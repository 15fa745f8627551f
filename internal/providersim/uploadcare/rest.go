package uploadcare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	restType = "application/vnd.uploadcare-v0.7+json" // exactly: clients refuse a charset
	// restTime is the form of the time stamps; the Go SDK cannot read another zone than Z.
	restTime = "2006-01-02T15:04:05.000000Z"
	// maxRESTBody bounds a REST request's body, in bytes, and maxBatch the files named in one.
	maxRESTBody = 1 << 20
	maxBatch    = 100
)

// restError is an error answer of the REST API: {"detail": …}.
type restError struct {
	Status     int
	Detail     string
	RetryAfter int // seconds, with 429
}

func (e *restError) Error() string { return e.Detail }

var errNotFound = &restError{Status: 404, Detail: "Not found."}

// restCall is an authenticated request with its body.
type restCall struct {
	*http.Request
	body []byte
}

// restAnswer is a status with a JSON body, or without one when nil.
type restAnswer struct {
	status int
	body   any
}

// restRoutes serves the REST API, version 0.7.
func (s *Sim) restRoutes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h func(restCall) (restAnswer, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := s.restCall(w, r, h)
			if err != nil {
				writeRESTError(w, err)
				return
			}
			if answer.body == nil {
				w.WriteHeader(answer.status)
				return
			}
			writeJSON(w, answer.status, restType, answer.body)
		})
	}
	route("GET /files/{$}", s.list)
	route("PUT /files/storage/{$}", s.batch(s.store))
	route("DELETE /files/storage/{$}", s.batch(s.remove))
	route("GET /files/{uuid}/{$}", s.show)
	route("PUT /files/{uuid}/storage/{$}", s.one(s.store))
	route("DELETE /files/{uuid}/storage/{$}", s.one(s.remove))
	route("GET /files/{uuid}/metadata/{$}", s.metadata)
	route("GET /files/{uuid}/metadata/{key}/{$}", s.metadataValue)
	route("PUT /files/{uuid}/metadata/{key}/{$}", s.putMetadata)
	route("DELETE /files/{uuid}/metadata/{key}/{$}", s.deleteMetadata)
	route("GET /project/{$}", s.project)
	s.webhookRoutes(route)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !hasMethod(mux, r) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<!DOCTYPE html><html><body><h1>Not Found</h1></body></html>")
			return
		}
		_, err := s.restCall(w, r, func(c restCall) (restAnswer, error) {
			return restAnswer{}, &restError{Status: 405, Detail: fmt.Sprintf("Method \"%s\" not allowed.", c.Method)}
		})
		writeRESTError(w, err)
	})
	return mux
}

// hasMethod is whether the path of a request that mux has no route for takes another method.
func hasMethod(mux *http.ServeMux, r *http.Request) bool {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" {
			return true
		}
	}
	return false
}

// restCall checks version, credentials and throttling before h.
func (s *Sim) restCall(w http.ResponseWriter, r *http.Request, h func(restCall) (restAnswer, error)) (restAnswer, error) {
	if err := s.checkVersion(r.Header.Get("Accept")); err != nil {
		return restAnswer{}, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRESTBody))
	if err != nil {
		return restAnswer{}, &restError{Status: 400, Detail: "Request body can not be read."}
	}
	if err := s.authenticate(r, body); err != nil {
		return restAnswer{}, err
	}
	if e := s.throttle(); e != nil {
		return restAnswer{}, &restError{
			Status: 429, RetryAfter: e.RetryAfter,
			Detail: fmt.Sprintf("Request was throttled. Expected available in %d seconds.", e.RetryAfter),
		}
	}
	return h(restCall{r, body})
}

func (s *Sim) checkVersion(accept string) error {
	version, ok := strings.CutPrefix(accept, "application/vnd.uploadcare-v")
	version, ok2 := strings.CutSuffix(version, "+json")
	old := version == "0.5" || version == "0.6"
	if ok && ok2 && (version == "0.7" || old && s.Config().OldVersions) {
		return nil
	}
	return &restError{Status: 406, Detail: "Incorrect Accept header provided. Make sure to specify API version. Refer to REST API docs for details."}
}

// writeRESTError answers with the error's detail. What is not a restError is the simulator's
// own trouble, told in X-Sim-Error.
func writeRESTError(w http.ResponseWriter, err error) {
	var e *restError
	if !errors.As(err, &e) {
		w.Header().Set("X-Sim-Error", strconv.Quote(err.Error()))
		e = &restError{Status: 500, Detail: "Internal error."}
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	writeJSON(w, e.Status, restType, map[string]string{"detail": e.Detail})
}

// known is whether REST still knows the file.
func (s *Sim) known(a Asset, ok bool) bool {
	return ok && !(a.Expired && s.Config().ExpiredIs404)
}

func (s *Sim) show(c restCall) (restAnswer, error) {
	a, ok := s.asset(c.PathValue("uuid"))
	if !s.known(a, ok) {
		return restAnswer{}, errNotFound
	}
	return restAnswer{http.StatusOK, c.view(s, a)}, nil
}

// view shows a file as the request asks for it.
func (c restCall) view(s *Sim, a Asset) restView {
	v := s.restView(apiBase(c.Request), a)
	if strings.Contains(c.URL.Query().Get("include"), "appdata") {
		v.AppData = &struct{}{}
	}
	return v
}

// one answers with a file that change was made to.
func (s *Sim) one(change func(id string) (Asset, bool, error)) func(restCall) (restAnswer, error) {
	return func(c restCall) (restAnswer, error) {
		a, ok, err := change(c.PathValue("uuid"))
		if err != nil {
			return restAnswer{}, err
		}
		if !s.known(a, ok) {
			return restAnswer{}, errNotFound
		}
		return restAnswer{http.StatusOK, c.view(s, a)}, nil
	}
}

// batch makes a change to up to 100 files; what it cannot be made to is a problem, not an error.
func (s *Sim) batch(change func(id string) (Asset, bool, error)) func(restCall) (restAnswer, error) {
	return func(c restCall) (restAnswer, error) {
		var ids []string
		if err := json.Unmarshal(c.body, &ids); err != nil {
			return restAnswer{}, &restError{Status: 400, Detail: "Expected list of UUIDs"}
		}
		if len(ids) == 0 {
			return restAnswer{}, &restError{Status: 400, Detail: "List of UUIDs can not be empty"}
		}
		if len(ids) > maxBatch {
			return restAnswer{}, &restError{Status: 400, Detail: fmt.Sprintf("Maximum UUIDs per request is exceeded. The limit is %d", maxBatch)}
		}
		problems, result := map[string]string{}, []restView{}
		for _, id := range ids {
			if !isUUID(id) {
				problems[id] = "Invalid"
				continue
			}
			a, ok, err := change(id)
			if err != nil {
				return restAnswer{}, err
			}
			if !s.known(a, ok) {
				problems[id] = "Missing in the project"
				continue
			}
			result = append(result, c.view(s, a))
		}
		return restAnswer{http.StatusOK, map[string]any{"status": "ok", "problems": problems, "result": result}}, nil
	}
}

func (s *Sim) project(restCall) (restAnswer, error) {
	return restAnswer{http.StatusOK, map[string]any{
		"name": "Simulated project", "pub_key": s.publicKey,
		"autostore_enabled": s.Config().Autostore, "collaborators": []any{},
	}}, nil
}

func (s *Sim) metadata(c restCall) (restAnswer, error) {
	a, ok := s.asset(c.PathValue("uuid"))
	if !s.known(a, ok) {
		return restAnswer{}, errNotFound
	}
	return restAnswer{http.StatusOK, notNil(a.Metadata)}, nil
}

func (s *Sim) metadataValue(c restCall) (restAnswer, error) {
	a, ok := s.asset(c.PathValue("uuid"))
	value, has := a.Metadata[c.PathValue("key")]
	if !s.known(a, ok) || !has {
		return restAnswer{}, errNotFound
	}
	return restAnswer{http.StatusOK, value}, nil
}

func (s *Sim) putMetadata(c restCall) (restAnswer, error) {
	key := c.PathValue("key")
	var value string
	if err := json.Unmarshal(c.body, &value); err != nil || value == "" || len([]rune(value)) > maxMetadataValue {
		return restAnswer{}, &restError{Status: 400, Detail: "Invalid metadata value."}
	}
	if !metadataKey.MatchString(key) {
		return restAnswer{}, &restError{Status: 400, Detail: "Invalid metadata key."}
	}
	status := http.StatusOK
	err := s.changeMetadata(c.PathValue("uuid"), func(metadata map[string]string) error {
		if _, has := metadata[key]; !has {
			status = http.StatusCreated
			if len(metadata) == maxMetadataKeys {
				return &restError{Status: 400, Detail: "Too many metadata keys."}
			}
		}
		metadata[key] = value
		return nil
	})
	return restAnswer{status, value}, err
}

func (s *Sim) deleteMetadata(c restCall) (restAnswer, error) {
	key := c.PathValue("key")
	err := s.changeMetadata(c.PathValue("uuid"), func(metadata map[string]string) error {
		if _, has := metadata[key]; !has {
			return errNotFound
		}
		delete(metadata, key)
		return nil
	})
	return restAnswer{status: http.StatusNoContent}, err
}

// changeMetadata changes a file's metadata and tells of it.
func (s *Sim) changeMetadata(id string, change func(metadata map[string]string) error) error {
	var before map[string]string
	a, ok, err := s.assets.Update(id, func(a *Asset) error {
		before = notNil(a.Metadata)
		a.Metadata = maps.Clone(before)
		return change(a.Metadata)
	})
	switch {
	case err != nil:
		return err
	case !ok:
		return errNotFound
	}
	return s.notify(fileInfoUpdated, a, byAPI(), &previousValues{before})
}

// restView is the file object of REST 0.7.
type restView struct {
	UUID             string            `json:"uuid"`
	URL              string            `json:"url"`
	OriginalFileURL  *string           `json:"original_file_url"`
	OriginalFilename string            `json:"original_filename"`
	Size             int64             `json:"size"`
	MimeType         string            `json:"mime_type"`
	IsImage          bool              `json:"is_image"`
	IsReady          bool              `json:"is_ready"`
	Uploaded         string            `json:"datetime_uploaded"`
	Stored           *string           `json:"datetime_stored"`
	Removed          *string           `json:"datetime_removed"`
	Variations       map[string]string `json:"variations"`
	ContentInfo      *contentInfo      `json:"content_info"`
	Metadata         map[string]string `json:"metadata"`
	Tags             []string          `json:"tags"`
	AppData          *struct{}         `json:"appdata,omitempty"` // only when asked for
}

// restView shows a file whose API is found at base.
func (s *Sim) restView(base string, a Asset) restView {
	v := restView{
		UUID: a.UUID, URL: base + "/files/" + a.UUID + "/", OriginalFilename: a.Name, Size: a.Size,
		MimeType: a.MimeType, IsImage: a.Image != nil, IsReady: a.readyAt(s.Controls.Clock.Now()),
		Uploaded: a.Uploaded.Format(restTime), Stored: stamp(a.Stored), Removed: stamp(a.Removed),
		ContentInfo: a.contentInfo(), Metadata: notNil(a.Metadata), Tags: append([]string{}, a.Tags...),
	}
	if a.Removed == nil {
		link := s.cdnURL(a)
		v.OriginalFileURL = &link
	}
	return v
}

// cdnURL is where the CDN has the file, or had it.
func (s *Sim) cdnURL(a Asset) string { return s.base().CDN + "/" + a.UUID + "/" + safeName(a.Name) }

func stamp(t *time.Time) *string {
	if t == nil {
		return nil
	}
	text := t.Format(restTime)
	return &text
}

// apiBase is the address that the client used; one that kept the service's own Host through a
// rewriting transport is told the service's own address.
func apiBase(r *http.Request) string {
	if strings.HasSuffix(r.Host, ".uploadcare.com") {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
