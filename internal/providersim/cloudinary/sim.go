// Package cloudinary behaves like Cloudinary's Upload API, Admin API and delivery on one local
// handler, so that the official clients cannot tell it from the service.
//
// Protocol rules come from the Upload API reference, the Upload guide ("Chunked asset
// upload"), "Generating authentication signatures", "Webhook notifications", the Admin API
// reference, and the live tests of the official SDKs, all read November 2026. Where these are
// silent the simulator guesses, and a field of [Settings] turns the guess.
package cloudinary

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"slipway/internal/providersim"
)

// Options is what a simulator is made of; Dir and the three names are required.
type Options struct {
	Dir       string // bytes and records rest here and outlive the process
	CloudName string
	APIKey    string
	APISecret string

	// DeliveryBase begins every url and secure_url, as https://res.cloudinary.com does. When
	// it is empty, the host that was asked is used.
	DeliveryBase string

	Settings *Settings             // nil: DefaultSettings
	Controls *providersim.Controls // nil: controls of its own
}

// Sim is one Cloudinary product environment ("cloud").
type Sim struct {
	cloud, key, secret string

	controls *providersim.Controls
	files    *providersim.Files
	assets   *library
	partials *partials
	quota    quota
	client   *http.Client // fetches remote files

	triggering sync.Mutex
	triggers   *providersim.Table[trigger]

	mu       sync.Mutex
	settings Settings
	base     string
}

// New opens the cloud that rests in o.Dir, or begins an empty one there.
func New(o Options) (*Sim, error) {
	if o.Dir == "" || o.CloudName == "" || o.APIKey == "" || o.APISecret == "" {
		return nil, errors.New("cloudinary simulator: folder, cloud name, key and secret are required")
	}
	if o.Controls == nil {
		o.Controls = providersim.NewControls()
	}
	settings := DefaultSettings()
	if o.Settings != nil {
		settings = *o.Settings
	}
	files, err := providersim.OpenFiles(filepath.Join(o.Dir, "blobs"))
	if err != nil {
		return nil, fmt.Errorf("cloudinary simulator: %w", err)
	}
	assets, err := openLibrary(filepath.Join(o.Dir, "assets.log"), files)
	if err != nil {
		return nil, fmt.Errorf("cloudinary simulator: %w", err)
	}
	parts, err := openPartials(filepath.Join(o.Dir, "partials.log"), files)
	if err != nil {
		return nil, fmt.Errorf("cloudinary simulator: %w", errors.Join(err, assets.Close()))
	}
	triggers, err := providersim.OpenTable[trigger](filepath.Join(o.Dir, "triggers.log"))
	if err != nil {
		return nil, fmt.Errorf("cloudinary simulator: %w", errors.Join(err, parts.Close(), assets.Close()))
	}
	return &Sim{
		cloud: o.CloudName, key: o.APIKey, secret: o.APISecret,
		controls: o.Controls, files: files, assets: assets, partials: parts, triggers: triggers,
		client:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		settings: settings, base: strings.TrimSuffix(o.DeliveryBase, "/"),
	}, nil
}

// Handler serves the API under /v1_1/, delivery under /<cloud>/, and control under /_sim/.
func (s *Sim) Handler() http.Handler { return s.controls.Handler(http.HandlerFunc(s.serve)) }

// Close ends what runs behind the answers and closes the records; requests fail from here on.
func (s *Sim) Close() error {
	s.controls.Notices.Close()
	return errors.Join(s.partials.Close(), s.assets.Close(), s.triggers.Close())
}

// SetDeliveryBase changes what urls begin with, once the address of a listener is known.
func (s *Sim) SetDeliveryBase(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = strings.TrimSuffix(base, "/")
}

// Settings returns the rules of this moment.
func (s *Sim) Settings() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// Set replaces the rules.
func (s *Sim) Set(settings Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = settings
}

// deliveryBase is what the urls in the answer to r begin with.
func (s *Sim) deliveryBase(r *http.Request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != "" {
		return s.base
	}
	return "http://" + r.Host
}

func (s *Sim) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Request-Id", hexID())
	path, err := segments(r.URL)
	switch {
	case err != nil:
		writeError(w, fail(http.StatusBadRequest, "Invalid path"))
	case path[0] == "_sim":
		s.serveControl(w, r, path[1:])
	case path[0] == "v1_1" && len(path) > 2:
		s.serveAPI(w, r, path[1], path[2:])
	default:
		s.deliver(w, r, path)
	}
}

// segments are the decoded segments of a path; a slash that was escaped stays inside its own.
func segments(u *url.URL) ([]string, error) {
	path := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, p := range path {
		decoded, err := url.PathUnescape(p)
		if err != nil {
			return nil, err
		}
		path[i] = decoded
	}
	return path, nil
}

// resourceTypes are the kinds of asset there are, as they stand in paths and answers.
var resourceTypes = []string{"image", "raw", "video"}

// action answers one call of the Upload API, whose path names a resource type or auto.
type action func(s *Sim, r *http.Request, f *form, pathType string) (any, error)

// actions are the calls there are, by their name behind the resource type.
var actions = map[string]action{
	"upload":         (*Sim).upload,
	"upload_chunked": (*Sim).upload,
	"destroy":        (*Sim).destroy,
	"explicit":       (*Sim).explicit,
	"rename":         (*Sim).rename,
}

func (s *Sim) serveAPI(w http.ResponseWriter, r *http.Request, cloud string, path []string) {
	if cloud != s.cloud {
		s.drain(r)
		writeError(w, fail(http.StatusUnauthorized, "Invalid cloud_name "+cloud))
		return
	}
	if slices.Contains(adminPaths, path[0]) {
		s.admin(w, r, path)
		return
	}
	pathType, name := "auto", path[0]
	if len(path) == 2 {
		pathType, name = path[0], path[1]
	}
	do, ok := actions[name]
	if ok && openToPages(w, r) {
		return
	}
	switch {
	case !ok || len(path) > 2 || pathType != "auto" && !slices.Contains(resourceTypes, pathType):
		writeError(w, fail(http.StatusNotFound, "Not found"))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, fail(http.StatusMethodNotAllowed, "Method not allowed"))
	default:
		answer, err := s.act(r, pathType, do)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// act reads the whole request, then asks who sent it, as the service does: parameters may
// come after the file.
func (s *Sim) act(r *http.Request, pathType string, do action) (any, error) {
	f, err := s.receive(r)
	if err != nil {
		s.drain(r)
		return nil, err
	}
	var answer any
	if err = s.authenticate(r, f); err == nil {
		answer, err = do(s, r, f, pathType)
	}
	return answer, errors.Join(err, s.files.Remove(f.spare()...))
}

// drain reads what is left of a body that is refused, so that the refusal is not lost in the
// reset of the connection. A client that is gone, or sends far too much, is let go.
func (s *Sim) drain(r *http.Request) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 2*s.Settings().MaxRequest))
}

// hexID is 32 random hex digits, the form of asset, version and request ids.
func hexID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
