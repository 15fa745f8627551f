package browser

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"slipway/internal/auth"
	"slipway/internal/devstack"
	"slipway/internal/postgres"
)

const jwtSecret = "a key of the test's own, of more than 32 bytes"

// TestThePagesInTheFrontendDocument uses each page of docs/frontend.md, taken from there as it is, from
// another origin than the API's.
func TestThePagesInTheFrontendDocument(t *testing.T) {
	stack := devStack(t, "api")
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
