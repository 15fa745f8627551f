package push_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

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
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

const mib = 1 << 20

// yard is everything around the worker: a database, staging, ingest and both providers' simulators.
type yard struct {
	pool    *pgxpool.Pool
	staging *dir.Store
	path    string // of staging
	ingest  *ingest.Ingest

	uploadcare *simuploadcare.Running
	cloudinary *simcloudinary.Sim
	cloudURL   string
	controls   map[string]*providersim.Controls

	// What the workers that are started from now on are given.
	settings push.Settings
	line     http.RoundTripper // to the providers; nil: their own
	tune     func(*uploadcare.Options, *cloudinary.Options)
	only     string // one provider; "": both
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{
		path: t.TempDir(),
		controls: map[string]*providersim.Controls{
			"uploadcare": providersim.NewControls(), "cloudinary": providersim.NewControls(),
		},
		settings: push.Settings{
			Installation: "slipway-test", Owner: "test", FilesInFlight: 2, PartsInFlight: 2, KeepFailed: time.Hour,
			Backoff: func(int) time.Duration { return 20 * time.Millisecond }, Rest: 50 * time.Millisecond, Poll: 50 * time.Millisecond,
			Settle: 200 * time.Millisecond,
		},
	}
	var err error
	if y.pool, err = postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(y.pool.Close)
	queue, err := postgres.NewQueue(y.pool, postgres.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	if y.staging, err = dir.New(y.path, dir.Options{}); err != nil {
		t.Fatal(err)
	}
	y.ingest = &ingest.Ingest{
		Pool: y.pool, Queue: queue, Staging: y.staging, Log: slog.New(slog.DiscardHandler),
		Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "uploadcare",
		MaxBytes: 1 << 30, MaxAttempts: 3, DeliverWithin: time.Hour,
	}
	y.uploadcare, err = simuploadcare.Start(simuploadcare.Options{
		Dir: t.TempDir(), PublicKey: "demopublickey", SecretKey: "demosecretkey", Controls: y.controls["uploadcare"],
	}, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = y.uploadcare.Close() })
	y.cloudinary, err = simcloudinary.New(simcloudinary.Options{
		Dir: t.TempDir(), CloudName: "demo", APIKey: "key", APISecret: "secret", Controls: y.controls["cloudinary"],
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := providersim.Listen("127.0.0.1:0", y.cloudinary.Handler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(); _ = y.cloudinary.Close() })
	y.cloudURL = server.URL
	return y
}

// worker starts a worker; stop hands back what it is doing.
func (y *yard) worker(t *testing.T) (stop func()) {
	t.Helper()
	forUploadcare := uploadcare.Options{
		PublicKey: "demopublickey", SecretKey: "demosecretkey",
		UploadBase: y.uploadcare.URL, RESTBase: y.uploadcare.URL, CDNBase: y.uploadcare.URL, VerifyReadback: true, PartSize: 5 * mib, Transport: y.line,
	}
	forCloudinary := cloudinary.Options{CloudName: "demo", APIKey: "key", APISecret: "secret", UploadPrefix: y.cloudURL, ChunkSize: 6 * mib, Settle: time.Millisecond, Transport: y.line}
	if y.tune != nil {
		y.tune(&forUploadcare, &forCloudinary)
	}
	u, err := uploadcare.New(forUploadcare)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cloudinary.New(forCloudinary)
	if err != nil {
		t.Fatal(err)
	}
	providers := slices.DeleteFunc([]provider.Provider{u, c}, func(p provider.Provider) bool { return y.only != "" && y.only != p.Name() })
	s, err := push.Start(t.Context(), y.pool, postgres.DefaultNames, y.staging, providers, y.settings, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// accept takes a file in.
func (y *yard) accept(t *testing.T, providerName string, content []byte) upload.Upload {
	t.Helper()
	s, err := y.ingest.Receive(t.Context(), ingest.Request{User: "alice", Length: -1}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	u, err := y.ingest.Accept(t.Context(), ingest.Request{User: "ann", Provider: providerName, FileName: "père & fils (1).bin", Metadata: map[string]string{"album": "7"}, Tags: []string{"trip"}}, s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// await returns the upload once ok is true of it.
func (y *yard) await(t *testing.T, id upload.ID, what string, ok func(upload.Upload) bool) upload.Upload {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := postgres.UploadOf(t.Context(), y.pool, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(u) {
			return u
		}
		if time.Now().After(deadline) {
			t.Fatalf("upload did not become %s: it is %s, attempt %d, %d of %d bytes pushed, error %v", what, u.Status, u.Attempt, u.Pushed, u.Size, u.Error)
		}
		<-tick.C
	}
}

func (y *yard) awaitStatus(t *testing.T, id upload.ID, want upload.Status) upload.Upload {
	t.Helper()
	return y.await(t, id, string(want), func(u upload.Upload) bool { return u.Status == want })
}

func (y *yard) fault(t *testing.T, providerName string, r providersim.Rule) {
	t.Helper()
	if err := y.controls[providerName].Faults.Add(r); err != nil {
		t.Fatal(err)
	}
}

// lasting is what a provider keeps: the MD5 of each asset.
func (y *yard) lasting(t *testing.T, providerName string) []string {
	t.Helper()
	var sums []string
	if providerName == "cloudinary" {
		for _, f := range y.cloudinary.Inventory().Files {
			sums = append(sums, f.ETag)
		}
		return sums
	}
	files, err := y.uploadcare.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Stored && !f.Removed {
			sums = append(sums, f.MD5)
		}
	}
	return sums
}

// delivered checks that the provider keeps exactly one asset, with the right bytes.
func (y *yard) delivered(t *testing.T, providerName string, content []byte) {
	t.Helper()
	got, want := y.lasting(t, providerName), sumOf(content)
	if len(got) != 1 || got[0] != want {
		t.Errorf("%s keeps %v, want exactly %s", providerName, got, want)
	}
}

func sumOf(content []byte) string {
	s := md5.Sum(content)
	return hex.EncodeToString(s[:])
}

// random is content that no two tests share.
func random(size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}
