package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/provider"
	cloudinary "slipway/internal/provider/cloudinary/sign"
	uploadcare "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/staging"
	"slipway/internal/staging/dir"
	"slipway/internal/upload"
)

const (
	mib       = 1 << 20
	jwtSecret = "thirty-two bytes are what HS256 asks for"
)

// site is the API on a database and a staging folder of its own. No worker stands behind it.
type site struct {
	*running
	api    *API
	pool   *pgxpool.Pool
	folder string // of staging
	url    string
	client *http.Client // of alice's, which follows no redirect
}

// open starts a site that takes files of at most 1 MiB and waits for no worker, unless change says otherwise.
func open(t testing.TB, change func(*API, *Options)) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	databaseURL := postgrestest.New(t)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: databaseURL})
	must(t, err)
	t.Cleanup(pool.Close)
	queue, err := postgres.NewQueue(pool, postgres.DefaultNames)
	must(t, err)
	folder := t.TempDir()
	store, err := dir.New(folder, dir.Options{})
	must(t, err)
	must(t, store.Claim(t.Context(), "slipway-test"))

	hub := events.NewHub(databaseURL, postgres.DefaultNames, log)
	hub.DB = pool
	feed := events.NewFeed(hub, pool, log)
	keys := auth.NewKeys(pool, log)
	listening, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { hub.Run(listening) })
	parts.Go(func() { feed.Run(listening) })
	parts.Go(func() { keys.Run(listening) })
	t.Cleanup(func() { stop(); parts.Wait() })

	tokens, err := auth.NewTokens([]byte(jwtSecret), "slipway-test")
	must(t, err)
	cursors, err := NewCursors([]byte(jwtSecret), "slipway-test")
	must(t, err)
	a := &API{
		Cursors: cursors,
		Auth:    auth.New(auth.Options{Secret: jwtSecret, Keys: keys, Tokens: tokens}),
		Ingest: &ingest.Ingest{
			Pool: pool, Queue: queue, Staging: store, Log: log,
			Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "uploadcare",
			MaxBytes: mib, MaxAttempts: 10, DeliverWithin: time.Hour,
		},
		Pool: pool, Hub: hub, Feed: feed,
		Links: map[string]provider.Linker{"uploadcare": uploadcare.Links{}, "cloudinary": cloudinary.Links{}},
	}
	var o Options
	if change != nil {
		change(a, &o)
	}
	s := &site{api: a, pool: pool, folder: folder}
	s.running = run(t, o, func(server *Server) { server.Mount(a) })
	s.url = "http://" + s.addr
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{
		Transport: transport, Timeout: 3 * patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tokenOf is what a user brings.
func tokenOf(t testing.TB, user string) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	must(t, err)
	return signed
}

// do sends a request, alice's unless its headers, "Name: value", say otherwise.
func (s *site) do(t testing.TB, method, path string, body io.Reader, headers ...string) reply {
	t.Helper()
	r, err := s.send(t, method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (s *site) send(t testing.TB, method, path string, body io.Reader, headers ...string) (reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, "alice"))
	req.Header.Set("Accept", "application/json") // and no stream without end
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	text, err := io.ReadAll(resp.Body)
	return reply{resp, string(text)}, errors.Join(err, resp.Body.Close())
}

// as is the header with which another user asks; "" is nobody.
func as(t testing.TB, user string) string {
	if user == "" {
		return "Authorization: "
	}
	return "Authorization: Bearer " + tokenOf(t, user)
}

// apiKey is a server's key with scopes.
func (s *site) apiKey(t testing.TB, scopes ...string) string {
	t.Helper()
	secret, key := auth.NewKey("test", scopes)
	_, err := postgres.InsertKey(t.Context(), s.pool, key, 0)
	must(t, err)
	return secret
}

// uploadToken is what a server hands to its user.
func (s *site) uploadToken(t testing.TB, g auth.Grant) string {
	t.Helper()
	r := s.do(t, "POST", "/v1/tokens", strings.NewReader(fmt.Sprintf(`{"user_id":%q,"max_bytes":%d,"provider":%q}`, g.User, g.MaxBytes, g.Provider)),
		"Authorization: Bearer "+s.apiKey(t, auth.ActScope))
	return into[tokenAnswer](t, r, http.StatusOK).Token
}

// into reads a reply with this status as JSON.
func into[T any](t testing.TB, r reply, status int) T {
	t.Helper()
	var v T
	if r.StatusCode != status {
		t.Fatalf("got %d %s, want %d", r.StatusCode, r.text, status)
	}
	if err := json.Unmarshal([]byte(r.text), &v); err != nil {
		t.Fatalf("%s: %v", r.text, err)
	}
	return v
}

// put uploads a small file and returns what the answer says.
func (s *site) put(t testing.TB, name string, headers ...string) uploadView {
	t.Helper()
	r := s.do(t, "POST", "/v1/uploads?file_name="+name, strings.NewReader("hello"), headers...)
	return into[uploadView](t, r, http.StatusAccepted)
}

// outgoing is a multipart form on its way.
type outgoing struct {
	text  bytes.Buffer
	parts *multipart.Writer
}

func newForm() *outgoing {
	f := &outgoing{}
	f.parts = multipart.NewWriter(&f.text)
	return f
}

func (f *outgoing) field(name, value string) *outgoing {
	if err := f.parts.WriteField(name, value); err != nil {
		panic(err)
	}
	return f
}

func (f *outgoing) file(name, content string) *outgoing { return f.fileIn("file", name, content) }

func (f *outgoing) fileIn(field, name, content string) *outgoing {
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", fmt.Sprintf(`form-data; name="%s"; filename="%s"`, field, name))
	w, err := f.parts.CreatePart(h)
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err != nil {
		panic(err)
	}
	return f
}

// end returns the form's bytes and the header that frames them.
func (f *outgoing) end() (io.Reader, string) {
	if err := f.parts.Close(); err != nil {
		panic(err)
	}
	return &f.text, "Content-Type: " + f.parts.FormDataContentType()
}

func (s *site) post(t testing.TB, path string, f *outgoing, headers ...string) reply {
	t.Helper()
	body, kind := f.end()
	return s.do(t, "POST", path, body, append([]string{kind}, headers...)...)
}

// complete does to an upload what a worker does, and tells whoever waits.
func (s *site) complete(t testing.TB, id upload.ID) (assetURL string) {
	t.Helper()
	assetURL = "https://cdn.example/" + string(id) + "/"
	s.exec(t, `
		INSERT INTO public.uploadcare_files (file_id, file_url, user_id, upload_id, file_name, content_type, size)
		SELECT id, $2, user_id, id, file_name, content_type, size FROM slipway.uploads WHERE id = $1`, id, assetURL)
	s.change(t, id, fmt.Sprintf(`status = 'completed', completed_at = now(), progress = 1, pushed_bytes = size,
		asset = '{"id":"%s","url":"%s","size":5}'`, id, assetURL))
	return assetURL
}

// change alters an upload's row and announces it.
func (s *site) change(t testing.TB, id upload.ID, set string) {
	t.Helper()
	s.exec(t, `UPDATE slipway.uploads SET version = version + 1, `+set+` WHERE id = $1`, id)
	s.exec(t, `SELECT pg_notify('slipway_events', $1 || ' 1')`, id)
}

func (s *site) exec(t testing.TB, sql string, a ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.pool.Exec(ctx, sql, a...)
	must(t, err)
}

func (s *site) count(t testing.TB, table string) (n int) {
	t.Helper()
	must(t, s.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// staged returns the ids of the files in staging.
func (s *site) staged(t testing.TB) (ids []string) {
	t.Helper()
	must(t, filepath.WalkDir(s.folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if _, notID := upload.ParseID(d.Name()); notID == nil {
				ids = append(ids, d.Name())
			}
		}
		return err
	}))
	return ids
}

// wantNoTrace checks that nothing was kept.
func (s *site) wantNoTrace(t testing.TB) {
	t.Helper()
	if ids := s.staged(t); len(ids) > 0 {
		t.Errorf("staging holds %v", ids)
	}
	for _, table := range []string{"slipway.uploads", "slipway.upload_events", "slipway.river_job"} {
		if n := s.count(t, table); n > 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}

// full is a store without room.
type full struct{ staging.Store }

func (full) Free(context.Context) (int64, error) { return 0, nil }

// logged is a log that a test reads while the server writes it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
