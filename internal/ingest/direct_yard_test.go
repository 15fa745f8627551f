package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/png"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/httpapi"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/uploadcare"
	"slipway/internal/providersim"
	simcloudinary "slipway/internal/providersim/cloudinary"
	simuploadcare "slipway/internal/providersim/uploadcare"
	"slipway/internal/push"
	"slipway/internal/staging/dir"
	"slipway/internal/sweep"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

const (
	jwtSecret    = "thirty-two bytes are what HS256 asks for"
	installation = "slipway-test"
	patience     = 20 * time.Second // after which a test gives up

	cloud, apiKey, apiSecret = "demo", "key", "secret"
	publicKey, secretKey     = "demopublickey", "demosecretkey"
)

// must returns what a call has given that may not fail.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// shore is the API, a database and both providers' simulators, with a worker where one is started.
type shore struct {
	pool       *pgxpool.Pool
	queue      *postgres.Queue
	staging    *dir.Store
	uploadcare *simuploadcare.Running
	cloudinary *simcloudinary.Sim
	cloudURL   string
	controls   map[string]*providersim.Controls
	url        string
}

// open starts a shore whose API waits for a claim's end as long as the tests do, unless change says otherwise.
func open(t *testing.T, change func(*httpapi.API)) *shore {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := &shore{controls: map[string]*providersim.Controls{"uploadcare": providersim.NewControls(), "cloudinary": providersim.NewControls()}}
	databaseURL := postgrestest.New(t)
	s.pool = must[*pgxpool.Pool](t)(postgres.Open(t.Context(), postgres.Options{URL: databaseURL}))
	t.Cleanup(s.pool.Close)
	s.queue = must[*postgres.Queue](t)(postgres.NewQueue(s.pool, postgres.DefaultNames))
	s.staging = must[*dir.Store](t)(dir.New(t.TempDir(), dir.Options{}))

	s.uploadcare = must[*simuploadcare.Running](t)(simuploadcare.Start(simuploadcare.Options{
		Dir: t.TempDir(), PublicKey: publicKey, SecretKey: secretKey, Controls: s.controls["uploadcare"],
		Config: simuploadcare.Config{SignedUploads: true, Autostore: true},
	}, "127.0.0.1:0", "127.0.0.1:0"))
	t.Cleanup(func() { _ = s.uploadcare.Close() })
	s.cloudinary = must[*simcloudinary.Sim](t)(simcloudinary.New(simcloudinary.Options{
		Dir: t.TempDir(), CloudName: cloud, APIKey: apiKey, APISecret: apiSecret, Controls: s.controls["cloudinary"],
	}))
	sim := must[*providersim.Server](t)(providersim.Listen("127.0.0.1:0", s.cloudinary.Handler()))
	t.Cleanup(func() { _ = sim.Close(); _ = s.cloudinary.Close() })
	s.cloudURL = sim.URL

	hub := events.NewHub(databaseURL, postgres.DefaultNames, log)
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	t.Cleanup(func() { stop(); parts.Wait() })
	parts.Go(func() { hub.Run(ctx) })
	a := &httpapi.API{
		Auth: auth.New(auth.Options{Secret: jwtSecret}), Cursors: must[*httpapi.Cursors](t)(httpapi.NewCursors([]byte(jwtSecret), installation)), Pool: s.pool, Hub: hub, UploadWait: patience,
		Ingest: &ingest.Ingest{
			Pool: s.pool, Queue: s.queue, Staging: s.staging, Log: log, Providers: []string{"uploadcare", "cloudinary"},
			DefaultProvider: "uploadcare", MaxAttempts: 10, DeliverWithin: time.Hour,
		},
		Direct: httpapi.Direct{
			Claims:     &ingest.Direct{Pool: s.pool, Queue: s.queue, Installation: installation, MaxAttempts: 10, VerifyWithin: 24 * time.Hour},
			Cloudinary: &httpapi.CloudinaryAccount{CloudName: cloud, APIKey: apiKey, Secret: apiSecret, UploadPrefix: s.cloudURL},
			Uploadcare: &httpapi.UploadcareAccount{PublicKey: publicKey, SecretKey: secretKey, UploadBase: s.uploadcare.URL},
		},
	}
	if change != nil {
		change(a)
	}
	server := httpapi.New(httpapi.Options{Log: log, DrainTimeout: 3 * time.Second})
	server.Mount(a)
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	parts.Go(func() {
		if err := server.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	s.url = "http://" + ln.Addr().String()
	return s
}

// worker starts a worker and its sweep; stop ends both.
func (s *shore) worker(t *testing.T) (stop func()) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	u := must[*uploadcare.Provider](t)(uploadcare.New(uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey, UploadBase: s.uploadcare.URL, RESTBase: s.uploadcare.URL, CDNBase: s.uploadcare.URL,
	}))
	c := must[*cloudinary.Provider](t)(cloudinary.New(cloudinary.Options{
		CloudName: cloud, APIKey: apiKey, APISecret: apiSecret, UploadPrefix: s.cloudURL, DeliveryBase: s.cloudURL, Settle: time.Millisecond,
	}))
	service := must[*push.Service](t)(push.Start(t.Context(), s.pool, postgres.DefaultNames, s.staging, []provider.Provider{u, c}, push.Settings{
		Installation: installation, Owner: "test", FilesInFlight: 2, PartsInFlight: 2, KeepFailed: time.Hour,
		Backoff: func(int) time.Duration { return 20 * time.Millisecond }, Rest: 50 * time.Millisecond, Poll: 50 * time.Millisecond,
	}, log))
	sweeper := sweep.Sweeper{
		Pool: s.pool, Queue: s.queue, Staging: s.staging, LeaseTTL: push.LeaseTTL, KeepFailed: time.Hour, Log: log,
		ReapEvery: time.Second, TidyEvery: 50 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	var sweeping sync.WaitGroup
	sweeping.Go(func() { sweeper.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		sweeping.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := service.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// reply is an answer's status and its JSON.
type reply struct {
	status int
	body   map[string]any
	header http.Header
}

func (r reply) text(name string) string {
	s, _ := r.body[name].(string)
	return s
}

// do asks the API as a user.
func (s *shore) do(t *testing.T, user, method, path string, body any, headers ...string) reply {
	t.Helper()
	token := must[string](t)(jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(jwtSecret)))
	var text io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		text = strings.NewReader(b)
	default:
		text = bytes.NewReader(must[[]byte](t)(json.Marshal(b)))
	}
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, s.url+path, text))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return answered(t, req)
}

func answered(t *testing.T, req *http.Request) reply {
	t.Helper()
	client := &http.Client{Timeout: 2 * patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp := must[*http.Response](t)(client.Do(req))
	defer resp.Body.Close()
	text := must[[]byte](t)(io.ReadAll(resp.Body))
	r := reply{status: resp.StatusCode, header: resp.Header}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&r.body); err != nil {
		t.Fatalf("%s %s: %d %s", req.Method, req.URL.Path, resp.StatusCode, text)
	}
	return r
}

// ok is a reply that must have this status.
func ok(t *testing.T, r reply, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("got %d %v, want %d", r.status, r.body, status)
	}
	return r
}

// signature asks for a signature.
func (s *shore) signature(t *testing.T, user, query string) reply {
	t.Helper()
	return ok(t, s.do(t, user, "GET", "/generate-signature"+query, nil), http.StatusOK)
}

// sent sends a file and fields to an address of a provider's, as a browser does.
func sent(t *testing.T, address string, fields map[string]string, name string, content []byte) reply {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	part := must[io.Writer](t)(w.CreateFormFile("file", name))
	part.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", address, &form))
	req.Header.Set("Content-Type", w.FormDataContentType())
	return ok(t, answered(t, req), http.StatusOK)
}

// sendAs sends a picture to Cloudinary with the guide's three fields, signed for the user.
func (s *shore) sendAs(t *testing.T, user string) reply {
	t.Helper()
	sig := s.signature(t, user, "")
	return sent(t, sig.text("upload_url"), map[string]string{
		"api_key": sig.text("api_key"), "timestamp": sig.body["timestamp"].(json.Number).String(), "signature": sig.text("signature"),
	}, "test-image.png", picture(t))
}

// sendReserved sends what a reservation was made for, with its fields.
func sendReserved(t *testing.T, reservation reply, name string, content []byte) reply {
	t.Helper()
	fields := map[string]string{}
	for k, v := range reservation.body["fields"].(map[string]any) {
		fields[k] = v.(string)
	}
	return sent(t, reservation.text("upload_url"), fields, name, content)
}

// three are the guide's members of an upload answer, and others that are named.
func three(answer reply, more ...string) map[string]any {
	claim := map[string]any{}
	for _, name := range append([]string{"public_id", "secure_url", "resource_type"}, more...) {
		claim[name] = answer.body[name]
	}
	return claim
}

func with(claim map[string]any, name string, value any) map[string]any {
	claim[name] = value
	return claim
}

func (s *shore) save(t *testing.T, user string, claim any, headers ...string) reply {
	t.Helper()
	return s.do(t, user, "POST", "/save-metadata", claim, headers...)
}

// upload is an upload as the API shows it to its owner.
func (s *shore) upload(t *testing.T, user, id string) reply {
	t.Helper()
	return ok(t, s.do(t, user, "GET", "/v1/uploads/"+id, nil), http.StatusOK)
}

// await asks for an upload until ok is true of it.
func (s *shore) await(t *testing.T, user, id, what string, is func(reply) bool) reply {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		u := s.upload(t, user, id)
		if is(u) {
			return u
		}
		if time.Now().After(deadline) {
			t.Fatalf("the upload did not become %s: %v", what, u.body)
		}
		<-tick.C
	}
}

func (s *shore) awaitStatus(t *testing.T, user, id string, want upload.Status) reply {
	t.Helper()
	return s.await(t, user, id, string(want), func(u reply) bool { return u.text("status") == string(want) })
}

// guideRow is what the guide's SELECT finds of a user's images.
type guideRow struct {
	ID           int
	PublicID     string
	MediaURL     string
	ResourceType string
	UserID       string
	At           time.Time
}

func (s *shore) guideRows(t *testing.T, user, resourceType string) []guideRow {
	t.Helper()
	var rows []guideRow
	found, err := s.pool.Query(t.Context(), `
		SELECT id, public_id, media_url, resource_type, user_id, upload_timestamp
		FROM cloudinary_files
		WHERE user_id = $1 AND resource_type = $2`, user, resourceType)
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var r guideRow
		if err := found.Scan(&r.ID, &r.PublicID, &r.MediaURL, &r.ResourceType, &r.UserID, &r.At); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func (s *shore) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (s *shore) fault(t *testing.T, name string, r providersim.Rule) {
	t.Helper()
	if err := s.controls[name].Faults.Add(r); err != nil {
		t.Fatal(err)
	}
}

// asked counts the look-ups of the Admin API.
func (s *shore) asked() int {
	return len(s.controls["cloudinary"].Requests.Find("", regexp.MustCompile("/resources/")))
}

// picture is a PNG of 3 by 2 pixels that no two tests share.
func picture(t *testing.T) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(rand.Uint32())
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type (
	simFile   = simuploadcare.File
	simConfig = simuploadcare.Config
)
