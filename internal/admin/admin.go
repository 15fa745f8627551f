// Package admin shows River's jobs to whoever looks after the service, on a listener of its own.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"riverqueue.com/riverui"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Jobs is where River's own pages begin.
const Jobs = "/admin/jobs/"

const (
	maxHead = 32 << 10 // bytes
	maxBody = 1 << 20  // bytes; the pages send lists of jobs' numbers

	asking  = 10 * time.Second // for a request to come
	keyTime = 5 * time.Second  // for finding out who asks
	ending  = 2 * time.Second  // for answers on their way when the process ends

	// pagePolicy lets River's pages load what they bring. Their diagrams set styles of elements.
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

	challenge = `Basic realm="slipway admin", charset="UTF-8"`
)

// Server is the listener's side of it.
type Server struct {
	http  *http.Server
	pages *riverui.Handler
	log   *slog.Logger
}

// New returns a server of the jobs in queue. Who is let in has a key of scope admin; where keys is nil,
// whoever reaches the listener by a name of this machine.
func New(queue *postgres.Queue, keys *auth.Authenticator, log *slog.Logger) (*Server, error) {
	pages, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(queue, nil), Prefix: strings.TrimSuffix(Jobs, "/"), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("the pages of jobs: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(Jobs, http.MaxBytesHandler(pages, maxBody))
	mux.Handle("GET /{$}", http.RedirectHandler(Jobs, http.StatusSeeOther))
	allowed := allowedIn(keys, log)
	if keys == nil {
		allowed = onlyThisMachine
	}
	return &Server{pages: pages, log: log, http: &http.Server{
		Handler:           secured(allowed(http.NewCrossOriginProtection().Handler(mux))),
		ReadHeaderTimeout: asking, ReadTimeout: asking, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHead, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}, nil
}

// Serve answers on ln until ctx ends. An error means that ln failed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := s.pages.Start(ctx); err != nil {
		return fmt.Errorf("the pages of jobs: %w", err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ending)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close() // what still runs reads, or is a change that River has made or not
		}
	})
	err := s.http.Serve(ln)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the admin pages on %s: %w", ln.Addr(), err)
}

// secured sets what browsers are to hold to.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// onlyThisMachine keeps out names of other sites that resolve to this machine.
func onlyThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "Only this machine is served here.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowedIn asks for a key of scope admin: as the password of HTTP Basic, which browsers ask for, or as Bearer.
func allowedIn(keys *auth.Authenticator, log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown := r.Header.Get("Authorization")
			if _, password, ok := r.BasicAuth(); ok {
				shown = "Bearer " + password
			}
			ctx, cancel := context.WithTimeout(r.Context(), keyTime)
			defer cancel()
			who, err := keys.Identify(ctx, auth.Shown{Authorization: shown})
			var coded *upload.Error
			switch {
			case err == nil && who.By == auth.ByKey && who.Anyone:
				if r.Method != http.MethodGet && r.Method != http.MethodHead {
					log.Info("admin request", "method", r.Method, "api_key", who.KeyPrefix)
				}
				next.ServeHTTP(w, r)
			case errors.As(err, &coded) && coded.Code == upload.Unavailable:
				http.Error(w, coded.Message, http.StatusServiceUnavailable)
			case err == nil && who.By == auth.ByKey:
				http.Error(w, "This key has not the scope admin.", http.StatusForbidden)
			default:
				w.Header().Set("WWW-Authenticate", challenge)
				http.Error(w, "Send an API key of scope admin as the password; any name will do.", http.StatusUnauthorized)
			}
		})
	}
}
