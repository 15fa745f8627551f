package devstack

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"slipway/internal/providersim"
	"slipway/internal/providersim/cloudinary"
	"slipway/internal/providersim/uploadcare"
)

// Accounts that the simulators know. They are secrets of nothing.
const (
	simPublicKey  = "slipwaysimulatedkey"
	simSecretKey  = "slipway-simulated-secret"
	simCloudName  = "slipway-sim"
	simAPIKey     = "123456789012345"
	simAPISecret  = "slipway-simulated-api-secret"
	simHookSecret = "slipway-simulated-hook-secret"
	simCDNSecret  = "736c69707761792d73696d756c61746564" // hex, as Uploadcare's are
)

// Simulators are both providers on one listener.
type Simulators struct {
	Uploadcare *uploadcare.Sim
	Cloudinary *cloudinary.Sim
	URL        string

	server *providersim.Server
}

// SimulatorOptions say where simulators run and what they tell their clients.
type SimulatorOptions struct {
	Dir       string // keeps their files
	Address   string // host:port to listen on
	PublicURL string // what delivery URLs begin with; "": the address
	PartsURL  string // what part URLs begin with; "": the address under another name
	Signed    bool   // Uploadcare refuses whoever reads a file without a signature; Cloudinary does by the file

	Around func(http.Handler) http.Handler // sees every request first; nil is fine
}

// StartSimulators opens both providers and answers until Close. Control routes are under
// /_sim/uploadcare/ and /_sim/cloudinary/.
func StartSimulators(o SimulatorOptions) (*Simulators, error) {
	u, err := uploadcare.New(uploadcare.Options{
		Dir: filepath.Join(o.Dir, "uploadcare"), PublicKey: simPublicKey, SecretKey: simSecretKey,
		Config: uploadcare.Config{SecureDelivery: o.Signed, DeliverySecret: simCDNSecret},
	})
	if err != nil {
		return nil, fmt.Errorf("uploadcare simulator: %w", err)
	}
	c, err := cloudinary.New(cloudinary.Options{Dir: filepath.Join(o.Dir, "cloudinary"), CloudName: simCloudName, APIKey: simAPIKey, APISecret: simAPISecret})
	if err != nil {
		return nil, fmt.Errorf("cloudinary simulator: %w", err)
	}
	s := &Simulators{Uploadcare: u, Cloudinary: c}
	handler := s.handler()
	if o.Around != nil {
		handler = o.Around(handler)
	}
	if s.server, err = providersim.Listen(o.Address, handler); err != nil {
		return nil, errors.Join(fmt.Errorf("simulators: %w", err), u.Close(), c.Close())
	}
	s.URL = s.server.URL
	public, parts := s.URL, strings.Replace(s.URL, "//127.0.0.1:", "//localhost:", 1)
	if o.PublicURL != "" {
		public = o.PublicURL
	}
	if o.PartsURL != "" {
		parts = o.PartsURL
	}
	u.SetBases(uploadcare.Bases{Parts: parts, CDN: public})
	c.SetDeliveryBase(public)
	return s, nil
}

// Close cuts every connection; what was stored stays on disk.
func (s *Simulators) Close() error {
	return errors.Join(s.server.Close(), s.Uploadcare.Close(), s.Cloudinary.Close())
}

// handler tells the providers apart by what their paths look like. It routes by hand, for a ServeMux
// redirects paths that it would write otherwise, which a signed request does not survive.
func (s *Simulators) handler() http.Handler {
	u, parts, c := s.Uploadcare.Handler(), s.Uploadcare.PartsHandler(), s.Cloudinary.Handler()
	uploadcareControls, cloudinaryControls := under("/uploadcare", u), under("/cloudinary", c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/_sim/uploadcare/"):
			uploadcareControls.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/_sim/cloudinary/"):
			cloudinaryControls.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/v1_1/"), strings.HasPrefix(path, "/"+simCloudName+"/"):
			c.ServeHTTP(w, r)
		case r.URL.Query().Has("X-Amz-Signature"):
			parts.ServeHTTP(w, r)
		default:
			u.ServeHTTP(w, r)
		}
	})
}

// under serves /_sim<name>/… as the simulator's own /_sim/….
func under(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r2 := r.Clone(r.Context())
		r2.URL.Path = "/_sim" + strings.TrimPrefix(r.URL.Path, "/_sim"+name)
		r2.URL.RawPath = ""
		h.ServeHTTP(w, r2)
	})
}
