package browser

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/postgres"
	"slipway/internal/process/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // one per process, for ever
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within 10 s of its server
	)
}

const jwtSecret = "a key of the test's own, of more than 32 bytes"

// TestThePagesInTheFrontendDocument uses each page of docs/frontend.md, taken from there as it is, from
// another origin than the API's.
func TestThePagesInTheFrontendDocument(t *testing.T) {
	stack := devStack(t)
	site := httptest.NewUnstartedServer(nil)
	origin := "http://" + site.Listener.Addr().String()
	limit := map[string]string{"MAX_UPLOAD_BYTES": "4MiB"}
	signedIn := map[string]string{"DEV_USER": "", "AUTH_JWT_SECRET": jwtSecret, "ALLOWED_ORIGINS": origin}
	maps.Copy(signedIn, limit)

	b := backend{pages: t.TempDir(), api: serve(t, stack, signedIn), key: apiKey(t, stack)}
	site.Config.Handler = b.handler()
	site.Start()
	defer site.Close()
	t.Log(Run(t, "frontend.mjs",
		"DOCUMENT="+filepath.Join("..", "..", "docs", "frontend.md"), "PAGES="+b.pages, "SITE="+origin,
		"API="+b.api, "DEV_API="+serve(t, stack, limit), "SIM="+stack.Env["UPLOADCARE_UPLOAD_BASE"]))
}

// backend is what the pages call their own. It knows by a cookie who is signed in.
type backend struct {
	pages string // the folder that they are in
	api   string
	key   string // its API key
}

func (b backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(b.pages)))
	mux.HandleFunc("GET /{folder}/form.html", func(w http.ResponseWriter, r *http.Request) {
		b.answer(w, r, func(user string) (string, error) {
			page, err := fs.ReadFile(os.DirFS(b.pages), r.PathValue("folder")+"/form.html")
			if err != nil || user == "" {
				return strings.ReplaceAll(string(page), "UPLOAD_TOKEN", ""), err
			}
			token, err := b.uploadToken(r.Context(), user)
			return strings.ReplaceAll(string(page), "UPLOAD_TOKEN", token), err
		})
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		b.answer(w, r, func(user string) (string, error) {
			if user == "" {
				return "", errors.New("nobody is signed in")
			}
			return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
				Subject: user, ExpiresAt: jwt.NewNumericDate(time.Now().Add(5 * time.Minute)),
			}).SignedString([]byte(jwtSecret))
		})
	})
	return mux
}

// answer sends what there is for the user who is signed in, "" if nobody is.
func (b backend) answer(w http.ResponseWriter, r *http.Request, text func(user string) (string, error)) {
	user := ""
	if c, err := r.Cookie("user"); err == nil {
		user = c.Value
	}
	body, err := text(user)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, body) // a page that has left is none of its concern
}

// uploadToken asks for one as the document says.
func (b backend) uploadToken(ctx context.Context, user string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api+"/v1/tokens", strings.NewReader(`{"user_id":"`+user+`"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Token, err
}

// apiKey makes a key for the backend.
func apiKey(t *testing.T, stack devstack.Stack) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), stack.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	secret, key := auth.NewKey("the pages' backend", []string{auth.ActScope})
	if _, err := postgres.InsertKey(t.Context(), conn, key, 0); err != nil {
		t.Fatal(err)
	}
	return secret
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
