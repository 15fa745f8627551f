package cloudinary

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/providersim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testCloud  = "harbour"
	testKey    = "874837483274837"
	testSecret = "a676b67565c6767a6767d6767f676fe1"
)

// site is a simulator on a listener of its own.
type site struct {
	*Sim
	t    *testing.T
	url  string
	dir  string
	http *http.Client
}

func open(t *testing.T, change func(*Settings)) *site {
	t.Helper()
	return reopen(t, t.TempDir(), change)
}

func reopen(t *testing.T, dir string, change func(*Settings)) *site {
	t.Helper()
	settings := DefaultSettings()
	if change != nil {
		change(&settings)
	}
	sim, err := New(Options{Dir: dir, CloudName: testCloud, APIKey: testKey, APISecret: testSecret, Settings: &settings})
	if err != nil {
		t.Fatal(err)
	}
	server, err := providersim.Listen("127.0.0.1:0", sim.Handler())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return &site{Sim: sim, t: t, url: server.URL, dir: dir, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// answered is an answer and its decoded body.
type answered struct {
	*http.Response
	body map[string]any
	raw  []byte
}

func (a answered) message() string {
	no, _ := a.body["error"].(map[string]any)
	text, _ := no["message"].(string)
	return text
}

func (s *site) do(req *http.Request) answered {
	s.t.Helper()
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answered{Response: resp, raw: raw}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&a.body); err != nil {
			s.t.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

// sending is one request of the Upload API.
type sending struct {
	path     string // after /v1_1/<cloud>; "/image/upload" when empty
	params   map[string]string
	file     []byte
	name     string
	uploadID string
	chunk    string // Content-Range
	basic    bool
	unsigned bool
}

func (s *site) send(p sending) answered {
	s.t.Helper()
	fields := map[string]string{}
	for name, value := range p.params {
		fields[name] = value
	}
	if !p.basic && !p.unsigned {
		if fields["timestamp"] == "" {
			fields["timestamp"] = strconv.FormatInt(s.controls.Clock.Now().Unix(), 10)
		}
		toSign := params{}
		for name, value := range fields {
			toSign[name] = []string{value}
		}
		fields["signature"] = sign(stringToSign(toSign, 2), testSecret, "sha1")
		fields["api_key"] = testKey
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range fields {
		if err := form.WriteField(name, value); err != nil {
			s.t.Fatal(err)
		}
	}
	if p.file != nil {
		part, err := form.CreateFormFile("file", p.name)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := part.Write(p.file); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		s.t.Fatal(err)
	}
	if p.path == "" {
		p.path = "/image/upload"
	}
	req := s.request(http.MethodPost, "/v1_1/"+testCloud+p.path, &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	if p.uploadID != "" {
		req.Header.Set("X-Unique-Upload-Id", p.uploadID)
	}
	if p.chunk != "" {
		req.Header.Set("Content-Range", p.chunk)
	}
	if p.basic {
		req.SetBasicAuth(testKey, testSecret)
	}
	return s.do(req)
}

func (s *site) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return req
}

// admin calls the Admin API.
func (s *site) admin(method, path string) answered {
	s.t.Helper()
	req := s.request(method, "/v1_1/"+testCloud+path, nil)
	req.SetBasicAuth(testKey, testSecret)
	return s.do(req)
}

func (s *site) get(address string) answered {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

// bytesOf are n bytes that look like nothing, the same for every run.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(b)
	return b
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func chunkRange(start, n, total int) string {
	return fmt.Sprintf("bytes %d-%d/%d", start, start+n-1, total)
}

// want compares one field of an answer.
func (a answered) want(t *testing.T, status int, fields map[string]any) {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, status, a.raw)
	}
	for name, want := range fields {
		if got := a.body[name]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}
