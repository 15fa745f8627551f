package cloudinary

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/providersim"
)

// config changes settings by the control route.
func (s *site) config(body string) answered {
	s.t.Helper()
	return s.do(s.request(http.MethodPost, "/_sim/config", strings.NewReader(body)))
}

func (s *site) sendRaw(publicID, content string) answered {
	s.t.Helper()
	return s.send(sending{path: "/raw/upload", file: []byte(content), name: "a", params: map[string]string{"public_id": publicID}})
}

func TestConfig(t *testing.T) {
	s := open(t, nil)
	s.config(`{"limits":{"raw":3},"partial_ttl":"90s","presets":{"p":{"folder":"x"}},"delivery_base":"http://cdn.test/"}`).
		want(t, 200, map[string]any{"partial_ttl": "1m30s", "min_chunk": 5 << 20, "delivery_base": "http://cdn.test"})
	s.config(`{"admin_quota":7}`).want(t, 200, map[string]any{"presets": map[string]any{"p": map[string]any{"folder": "x"}}})
	s.config(`{"unheard_of":1}`).want(t, 400, nil)
	s.sendRaw("a", "four").want(t, 400, nil)
	a := s.sendRaw("a", "abc")
	a.want(t, 200, nil)
	if got := a.body["secure_url"].(string); !strings.HasPrefix(got, "http://cdn.test/"+testCloud+"/raw/upload/v") {
		t.Errorf("secure_url %s", got)
	}
	if got := s.Settings(); got.Limits.Raw != 3 || got.Limits.Video != 20e9 || got.AdminQuota != 7 {
		t.Errorf("settings %+v", got)
	}
}

func TestWrongETag(t *testing.T) {
	s := open(t, nil)
	s.config(`{"wrong_etags":1}`).want(t, 200, nil)
	if a := s.sendRaw("a", "abc"); a.body["etag"] == md5Hex([]byte("abc")) {
		t.Error("the etag is right")
	}
	s.sendRaw("a", "abc").want(t, 200, map[string]any{"etag": md5Hex([]byte("abc"))})
}

func TestPending(t *testing.T) {
	s := open(t, nil)
	s.config(`{"pending":1,"pending_for":"1m"}`).want(t, 200, nil)
	s.sendRaw("a", "abc").want(t, 200, map[string]any{"status": "pending", "public_id": "a", "version": nil, "secure_url": nil})
	s.admin(http.MethodGet, "/resources/raw/upload/a").want(t, 404, nil)
	s.controls.Clock.Advance(time.Minute)
	s.admin(http.MethodGet, "/resources/raw/upload/a?media_metadata=1").want(t, 200, map[string]any{"etag": md5Hex([]byte("abc"))})
	s.sendRaw("b", "abc").want(t, 200, map[string]any{"status": nil, "public_id": "b"})
}

func TestInventory(t *testing.T) {
	s := open(t, nil)
	s.sendRaw("a", "abc").want(t, 200, nil)
	var inv Inventory
	if err := json.Unmarshal(s.get(s.url+"/_sim/files").raw, &inv); err != nil {
		t.Fatal(err)
	}
	if inv.Count != 1 || inv.Bytes != 3 || inv.Files[0].PublicID != "a" || inv.Files[0].ResourceType != "raw" || inv.Files[0].ETag != md5Hex([]byte("abc")) || inv.Files[0].Version == 0 {
		t.Errorf("inventory %+v", inv)
	}
}

func TestAdminQuota(t *testing.T) {
	s := open(t, func(st *Settings) { st.AdminQuota = 2 })
	for left := 1; left >= 0; left-- {
		a := s.admin(http.MethodGet, "/ping")
		a.want(t, 200, map[string]any{"status": "ok"})
		if a.Header.Get("X-FeatureRateLimit-Limit") != "2" || a.Header.Get("X-FeatureRateLimit-Remaining") != strconv.Itoa(left) {
			t.Errorf("headers %v", a.Header)
		}
	}
	a := s.admin(http.MethodGet, "/ping")
	a.want(t, 420, nil)
	reset, err := http.ParseTime(a.Header.Get("X-FeatureRateLimit-Reset"))
	if err != nil {
		t.Fatal(err)
	}
	want := "Rate Limit Exceeded. Limit of 2 api operations reached. Try again on " + reset.Format("2006-01-02 15:04:05") + " UTC"
	if a.message() != want {
		t.Errorf("message %q, want %q", a.message(), want)
	}
	s.sendRaw("a", "abc").want(t, 200, nil) // the Upload API has no quota
	s.controls.Clock.Advance(time.Hour)
	s.admin(http.MethodGet, "/ping").want(t, 200, nil)
}

func TestAdminNeedsBasic(t *testing.T) {
	s := open(t, nil)
	s.do(s.request(http.MethodGet, "/v1_1/"+testCloud+"/ping", nil)).want(t, 401, nil)
	req := s.request(http.MethodGet, "/v1_1/"+testCloud+"/ping", nil)
	req.SetBasicAuth(testKey, "wrong")
	a := s.do(req)
	a.want(t, 401, nil)
	if a.message() != "api_secret mismatch" {
		t.Errorf("message %q", a.message())
	}
}

func TestFaultsSurroundTheService(t *testing.T) {
	s := open(t, nil)
	if err := s.controls.Faults.Add(
		providersim.Rule{Path: "/upload$", Action: providersim.AnswerAfter, Status: 502, Body: "<html>", Times: 1},
	); err != nil {
		t.Fatal(err)
	}
	if a := s.sendRaw("a", "abc"); a.StatusCode != 502 {
		t.Fatalf("status %d", a.StatusCode)
	}
	s.sendRaw("a", "abc").want(t, 200, map[string]any{"overwritten": true})
	s.send(sending{path: "/raw/upload", basic: true, file: bytesOf(1000), name: "a", params: map[string]string{"public_id": "b"}}).want(t, 200, nil)
}

// A request that ends in mid-body leaves nothing behind.
func TestCutBody(t *testing.T) {
	s := open(t, nil)
	req := s.request(http.MethodPost, "/v1_1/"+testCloud+"/raw/upload", io.MultiReader(
		strings.NewReader(part("public_id", "a")+"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"),
		bytes.NewReader(bytesOf(1<<20)), errReader{},
	))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	req.SetBasicAuth(testKey, testSecret)
	if resp, err := s.http.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("a cut body was answered")
	}
	ended := func() bool {
		asked := s.controls.Requests.Find(http.MethodPost, nil)
		return len(asked) == 1 && asked[0].Ended
	}
	for end := time.Now().Add(10 * time.Second); !ended(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the request does not end")
		}
	}
	if inv := s.Inventory(); inv.Count != 0 || inv.Partials != 0 {
		t.Errorf("inventory %+v", inv)
	}
	err := filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }
