package uploadcare

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"slipway/internal/providersim"
)

// Options are what a simulator is made from.
type Options struct {
	Dir       string // everything is kept here
	PublicKey string
	SecretKey string
	Config    Config
	Controls  *providersim.Controls // nil makes new ones
}

// Bases are the addresses that clients are told, without a slash at the end.
type Bases struct {
	Parts string // of PartsHandler
	CDN   string // of Handler, as a CDN
}

// Sim is one Uploadcare project with the services around it.
type Sim struct {
	Controls *providersim.Controls

	publicKey, secretKey string

	files    *providersim.Files
	assets   *providersim.Table[Asset]   // by uuid
	sessions *providersim.Table[Session] // by uuid
	parts    *providersim.Table[part]    // by partKey
	hooks    *providersim.Table[webhook] // by id

	mu    sync.Mutex // held over a change to more than one row
	swept time.Time  // of the simulator's clock

	configMu sync.Mutex
	config   Config
	bases    Bases

	fetching *fetches
}

// New opens the simulator that is kept in o.Dir, or begins one.
func New(o Options) (*Sim, error) {
	if o.Controls == nil {
		o.Controls = providersim.NewControls()
	}
	if err := o.Config.check(); err != nil {
		return nil, err
	}
	s := &Sim{
		Controls: o.Controls, config: o.Config,
		publicKey: o.PublicKey, secretKey: o.SecretKey,
		fetching: newFetches(),
	}
	var err error
	if s.files, err = providersim.OpenFiles(filepath.Join(o.Dir, "blobs")); err != nil {
		return nil, err
	}
	if s.assets, err = providersim.OpenTable[Asset](filepath.Join(o.Dir, "assets.jsonl")); err != nil {
		return nil, err
	}
	if s.sessions, err = providersim.OpenTable[Session](filepath.Join(o.Dir, "sessions.jsonl")); err != nil {
		return nil, err
	}
	if s.parts, err = providersim.OpenTable[part](filepath.Join(o.Dir, "parts.jsonl")); err != nil {
		return nil, err
	}
	if s.hooks, err = providersim.OpenTable[webhook](filepath.Join(o.Dir, "webhooks.jsonl")); err != nil {
		return nil, err
	}
	return s, s.files.RemoveUnless(s.named())
}

// named are the blobs that a record speaks of.
func (s *Sim) named() map[string]bool {
	names := map[string]bool{}
	for _, a := range s.assets.All() {
		for _, b := range a.Blobs {
			names[b.Name] = true
		}
	}
	for _, p := range s.parts.All() {
		names[p.Blob.Name] = true
	}
	return names
}

// SetBases tells where the handlers can be reached; part URLs are made with it.
func (s *Sim) SetBases(b Bases) {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	s.bases = b
}

func (s *Sim) base() Bases {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	return s.bases
}

// Close ends what runs in the background and closes the records. Handlers must have returned.
func (s *Sim) Close() error {
	s.fetching.end()
	s.Controls.Notices.Close()
	return errors.Join(s.assets.Close(), s.sessions.Close(), s.parts.Close(), s.hooks.Close())
}

// Handler serves the Upload API, the REST API, the CDN and the control routes.
func (s *Sim) Handler() http.Handler {
	upload, rest := s.uploadRoutes(), s.restRoutes()
	control := http.NewServeMux()
	control.HandleFunc("/_sim/config", s.serveConfig)
	control.HandleFunc("GET /_sim/files", s.serveFiles)
	control.HandleFunc("GET /_sim/sessions", s.serveSessions)

	return s.Controls.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.sweep(); err != nil {
			writeUploadError(w, r, err)
			return
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch first {
		case "_sim":
			control.ServeHTTP(w, r)
		case "base", "multipart", "info", "from_url":
			upload.ServeHTTP(w, r)
		default:
			if isUUID(first) {
				s.serveCDN(w, r)
				return
			}
			rest.ServeHTTP(w, r)
		}
	}))
}

// Running is a simulator on two listeners of its own.
type Running struct {
	*Sim
	URL      string // of Handler: both APIs and the CDN
	PartsURL string // of PartsHandler

	api, parts *providersim.Server
}

// Start opens a simulator and listens on both addresses until Close.
func Start(o Options, addr, partsAddr string) (*Running, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	api, err := providersim.Listen(addr, s.Handler())
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	parts, err := providersim.Listen(partsAddr, s.PartsHandler())
	if err != nil {
		return nil, errors.Join(err, api.Close(), s.Close())
	}
	s.SetBases(Bases{Parts: parts.URL, CDN: api.URL})
	return &Running{Sim: s, URL: api.URL, PartsURL: parts.URL, api: api, parts: parts}, nil
}

// Close cuts every connection and closes the simulator; what it keeps stays on disk.
func (r *Running) Close() error {
	return errors.Join(r.api.Close(), r.parts.Close(), r.Sim.Close())
}

// isUUID is whether id is a uuid as the service writes it.
func isUUID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
