package browser

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/process/api"
)

const jwtSecret = "a key of the test's own, of more than 32 bytes"

// TestThePagesInTheFrontendDocument uses each page of docs/frontend.md, taken from there as it is, from
// another origin than the API's.
func TestThePagesInTheFrontendDocument(t *testing.T) {
	pages := t.TempDir()
	site := httptest.NewServer(backend(pages))
	defer site.Close()

	stack := devStack(t)
	limit := map[string]string{"MAX_UPLOAD_BYTES": "4MiB"}
	signedIn := map[string]string{"DEV_USER": "", "AUTH_JWT_SECRET": jwtSecret, "ALLOWED_ORIGINS": site.URL}
	maps.Copy(signedIn, limit)
	out := Run(t, "frontend.mjs",
		"DOCUMENT="+filepath.Join("..", "..", "docs", "frontend.md"), "PAGES="+pages, "SITE="+site.URL,
		"API="+serve(t, stack, signedIn), "DEV_API="+serve(t, stack, limit), "SIM="+stack.Env["UPLOADCARE_UPLOAD_BASE"])
	t.Log(out)
}

// backend is what the pages call their own: it serves them, and knows by a cookie who is signed in.
func backend(pages string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(pages)))
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		who, err := r.Cookie("user")
		if err != nil {
			http.Error(w, "nobody is signed in", http.StatusUnauthorized)
			return
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
			Subject: who.Value, ExpiresAt: jwt.NewNumericDate(time.Now().Add(5 * time.Minute)),
		}).SignedString([]byte(jwtSecret))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, token) // a page that has left is none of its concern
	})
	return mux
}

// devStack runs everything but the API, until the test ends.
func devStack(t *testing.T) devstack.Stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "slipway-browser") // not t.TempDir: Postgres runs as another user and must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ready := make(chan devstack.Stack, 1)
	ended := background(t, func(ctx context.Context) error {
		return devstack.Run(ctx, devstack.Options{
			Dir: dir, Without: []string{"api"}, Log: logger(t), Out: t.Output(), Ready: func(s devstack.Stack) { ready <- s },
		})
	})
	select {
	case s := <-ready:
		return s
	case err := <-ended:
		t.Fatalf("the stack did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the stack was not ready within a minute")
	}
	return devstack.Stack{}
}

// serve runs an API of the stack, with settings of its own, until the test ends.
func serve(t *testing.T, stack devstack.Stack, settings map[string]string) (url string) {
	t.Helper()
	env := maps.Clone(stack.Env)
	maps.Copy(env, settings)
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	cfg, err := config.Load(config.Options{Environ: environ, Need: config.NeedDatabase | config.NeedAPI})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ended := background(t, func(ctx context.Context) error {
		return api.Run(ctx, api.Options{Config: cfg, Log: logger(t), Listener: ln, Ready: func() { close(ready) }})
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the API did not start: %v", err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + port // another site than the pages' 127.0.0.1
}

// background runs f until the test ends, and tells if it ends before.
func background(t *testing.T, f func(context.Context) error) <-chan error {
	ctx, stop := context.WithCancel(context.Background())
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		err := f(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return ended
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
