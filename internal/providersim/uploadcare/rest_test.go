package uploadcare

import (
	"bytes"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// blobNames are what a simulator in dir keeps on disk.
func blobNames(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"blobs/[A-Z0-9]*", "blobs/partial/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

func simple() http.Header {
	return http.Header{
		"Accept":        {"application/vnd.uploadcare-v0.7+json"},
		"Authorization": {"Uploadcare.Simple " + testPublicKey + ":" + testSecretKey},
	}
}

type shown struct {
	Stored  *time.Time `json:"datetime_stored"`
	Removed *time.Time `json:"datetime_removed"`
	Ready   bool       `json:"is_ready"`
}

func TestUnstoredFilesVanishAfterADay(t *testing.T) {
	dir := t.TempDir()
	sim := begin(t, dir, Config{})
	kept := putFile(t, sim, []byte("kept"), url.Values{"UPLOADCARE_STORE": {"0"}})
	left := putFile(t, sim, []byte("left"), url.Values{"UPLOADCARE_STORE": {"0"}})
	sim.Controls.Clock.Advance(unstoredLife - time.Minute)
	decode[shown](t, do(t, http.MethodPut, sim.URL+"/files/"+kept+"/storage/", simple(), nil))
	if got := get(t, sim.URL+"/"+left+"/"); string(got) != "left" {
		t.Errorf("the CDN brought %q", got)
	}

	sim.Controls.Clock.Advance(2 * time.Minute)
	for _, address := range []string{sim.URL + "/" + left + "/", sim.URL + "/info/?pub_key=" + testPublicKey + "&file_id=" + left} {
		if a := do(t, http.MethodGet, address, nil, nil); a.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", address, a.StatusCode)
		}
	}
	file := decode[shown](t, do(t, http.MethodPut, sim.URL+"/files/"+left+"/storage/", simple(), nil))
	if file.Stored != nil || file.Removed == nil {
		t.Errorf("an expired file was stored: %+v", file)
	}
	if err := sim.Configure(func(c *Config) { c.ExpiredIs404 = true }); err != nil {
		t.Fatal(err)
	}
	if a := do(t, http.MethodGet, sim.URL+"/files/"+left+"/", simple(), nil); a.StatusCode != 404 {
		t.Errorf("with expired_is_404: %d", a.StatusCode)
	}

	sim.Controls.Clock.Advance(time.Hour)
	if got := get(t, sim.URL+"/"+kept+"/"); string(got) != "kept" {
		t.Errorf("the CDN brought %q", got)
	}
	if names := blobNames(t, dir); len(names) != 1 {
		t.Errorf("%d blobs left, want the stored file's one", len(names))
	}
	files, err := sim.Inventory()
	if err != nil || len(files) != 2 || !files[0].Stored || !files[1].Expired || files[1].MD5 != md5Hex([]byte("left")) {
		t.Errorf("inventory %+v, %v", files, err)
	}
}

func TestStoreModes(t *testing.T) {
	for name, tt := range map[string]struct {
		mode      url.Values
		autostore bool
		stored    bool
	}{
		"0 is never stored":             {url.Values{"UPLOADCARE_STORE": {"0"}}, true, false},
		"1 is stored":                   {url.Values{"UPLOADCARE_STORE": {"1"}}, true, true},
		"auto is what the project says": {url.Values{"UPLOADCARE_STORE": {"auto"}}, true, true},
		"auto is off":                   {url.Values{"UPLOADCARE_STORE": {"auto"}}, false, false},
		"nothing is auto":               {nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), Config{Autostore: tt.autostore})
			id := putFile(t, sim, []byte("x"), tt.mode)
			if file := decode[shown](t, do(t, http.MethodGet, sim.URL+"/files/"+id+"/", simple(), nil)); (file.Stored != nil) != tt.stored {
				t.Errorf("stored %v, want %v", file.Stored, tt.stored)
			}
		})
	}
}

func TestFilesBecomeReady(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{ReadyDelayMS: 60_000})
	later := putFile(t, sim, []byte("x"), nil)
	if err := sim.Configure(func(c *Config) { c.ReadyDelayMS = -1 }); err != nil {
		t.Fatal(err)
	}
	never := putFile(t, sim, []byte("x"), nil)
	ready := func(id string) bool {
		return decode[shown](t, do(t, http.MethodGet, sim.URL+"/info/?pub_key="+testPublicKey+"&file_id="+id, nil, nil)).Ready
	}
	if ready(later) || ready(never) {
		t.Error("ready at once")
	}
	sim.Controls.Clock.Advance(time.Minute)
	if !ready(later) || ready(never) {
		t.Errorf("after a minute: %v and %v, want true and false", ready(later), ready(never))
	}
}

func TestRESTRefuses(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	with := func(name, value string) http.Header {
		h := simple()
		h.Set(name, value)
		return h
	}
	tests := map[string]struct {
		method, path string
		header       http.Header
		status       int
		detail       string
	}{
		"an old version":     {"GET", "/project/", with("Accept", "application/vnd.uploadcare-v0.5+json"), 406, "Incorrect Accept header provided. Make sure to specify API version. Refer to REST API docs for details."},
		"no credentials":     {"GET", "/project/", with("Authorization", ""), 401, "Incorrect authentication credentials."},
		"an unknown key":     {"GET", "/project/", with("Authorization", "Uploadcare.Simple x:y"), 401, "Public key x not found."},
		"a wrong secret":     {"GET", "/project/", with("Authorization", "Uploadcare.Simple "+testPublicKey+":y"), 401, "Incorrect authentication credentials."},
		"a request undated":  {"GET", "/project/", with("Authorization", "Uploadcare "+testPublicKey+":y"), 401, "Incorrect authentication credentials."},
		"an unknown file":    {"GET", "/files/21975c81-7f57-4c7a-aef9-acfe28779f78/", simple(), 404, "Not found."},
		"what is no uuid":    {"PUT", "/files/x/storage/", simple(), 404, "Not found."},
		"another method":     {"POST", "/files/", simple(), 405, `Method "POST" not allowed.`},
		"a batch of nothing": {"PUT", "/files/storage/", simple(), 400, "Expected list of UUIDs"},
		"a strange limit":    {"GET", "/files/?limit=0", simple(), 400, "limit is invalid."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := do(t, tt.method, sim.URL+tt.path, tt.header, nil)
			if want := `{"detail":` + strconv.Quote(tt.detail) + "}\n"; a.StatusCode != tt.status || string(a.body) != want || a.Header.Get("Content-Type") != restType {
				t.Errorf("%d %s %s, want %d %s", a.StatusCode, a.Header.Get("Content-Type"), a.body, tt.status, want)
			}
		})
	}
	if a := do(t, http.MethodGet, sim.URL+"/nowhere/", simple(), nil); a.StatusCode != 404 || !bytes.HasPrefix(a.body, []byte("<!DOCTYPE html>")) {
		t.Errorf("an unroutable path: %d %s", a.StatusCode, a.body)
	}
}

func TestSignedRequestsMustBeFreshAndWhole(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	signed := func(at time.Time, header, sign string) int {
		date := at.UTC().Format(http.TimeFormat)
		h := simple()
		h.Set(header, date)
		h.Set("Authorization", "Uploadcare "+testPublicKey+":"+requestSignature(testSecretKey, "GET", nil, "", date, sign))
		return do(t, http.MethodGet, sim.URL+"/files/?limit=2", h, nil).StatusCode
	}
	now := time.Now()
	for name, tt := range map[string]struct {
		at     time.Time
		header string
		uri    string
		want   int
	}{
		"dated by Date":              {now, "Date", "/files/?limit=2", 200},
		"dated by X-Uploadcare-Date": {now, "X-Uploadcare-Date", "/files/?limit=2", 200},
		"another query":              {now, "Date", "/files/?limit=3", 401},
		"16 minutes old":             {now.Add(-16 * time.Minute), "Date", "/files/?limit=2", 401},
		"16 minutes ahead":           {now.Add(16 * time.Minute), "Date", "/files/?limit=2", 401},
	} {
		t.Run(name, func(t *testing.T) {
			if got := signed(tt.at, tt.header, tt.uri); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	sim.Controls.Clock.Advance(48 * time.Hour)
	if got := signed(time.Now(), "Date", "/files/?limit=2"); got != 200 {
		t.Errorf("after the simulator's clock was moved: %d, want 200", got)
	}
	if err := sim.Configure(func(c *Config) { c.ClockSkewSecs = 1200 }); err != nil {
		t.Fatal(err)
	}
	if got := signed(time.Now(), "Date", "/files/?limit=2"); got != 401 {
		t.Errorf("with a service 20 minutes ahead: %d, want 401", got)
	}
}

func TestSignaturesAreTheDocumentedOnes(t *testing.T) {
	if got, want := uploadSignature("YOUR_SECRET_KEY", "1678361640"), "93b69d086a487fbdfc36172b96a5d7f5afa7cb209e43e5f25890bc037e638584"; got != want {
		t.Errorf("upload signature %s, want %s", got, want)
	}
	got := requestSignature("demosecretkey", "PUT", nil, "application/json", "Mon, 05 Nov 2018 13:14:41 GMT", "/files/21975c81-7f57-4c7a-aef9-acfe28779f78/storage/")
	if want := "a77a90b8479335d6095b58ba1c5b2fe9c1c065fc"; got != want {
		t.Errorf("request signature %s, want %s", got, want)
	}
}

func TestPartETagsAreTheRecordedOnes(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	for want, data := range map[string][]byte{
		"7d7a6dd7e37454c6a82992eabe7a4613": bytes.Repeat([]byte("0"), 5_242_880),
		"ada56ca8c6d0f019b2007a56ec017e99": bytes.Repeat([]byte("1"), 514_240),
	} {
		up := begun(t, sim, make([]byte, 11_000_000))
		if a := do(t, http.MethodPut, up.Parts[0], nil, bytes.NewReader(data)); a.Header.Get("ETag") != `"`+want+`"` {
			t.Errorf("%d × %q: ETag %s, want %s", len(data), data[0], a.Header.Get("ETag"), want)
		}
	}
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"IMG-0412_123.JPG":       "IMG0412_123.JPG",
		"image.png.jpeg":         "imagepng.jpeg",
		"père & fils (1).mp4":    "prefils1.mp4",
		"no extension":           "noextension",
		"日本.mp4":                 "file.mp4",
		"../../etc/passwd\x00.x": "etcpasswd.x",
	} {
		if got := safeName(name); got != want {
			t.Errorf("safeName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestCDNDeliversOriginals(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	id := putFile(t, sim, []byte("0123456789"), nil)
	for path, want := range map[string]string{
		"/":                                "0123456789",
		"/x.bin":                           "0123456789",
		"/-/preview/300x300/-/inline/yes/": "0123456789",
	} {
		if got := get(t, sim.URL+"/"+id+path); string(got) != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	a := do(t, http.MethodGet, sim.URL+"/"+id+"/", http.Header{"Range": {"bytes=2-4"}}, nil)
	if a.StatusCode != 206 || string(a.body) != "234" || a.Header.Get("Content-Type") != "application/octet-stream" ||
		a.Header.Get("ETag") != `"`+md5Hex([]byte("0123456789"))+`"` || a.Header.Get("Content-Disposition") != "attachment; filename=x.bin" {
		t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
	}
	if a := do(t, http.MethodGet, sim.URL+"/21975c81-7f57-4c7a-aef9-acfe28779f78/", nil, nil); a.StatusCode != 404 {
		t.Errorf("an unknown file: %d", a.StatusCode)
	}
}

func TestConfigIsChangedOverHTTP(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{Autostore: true})
	for body, want := range map[string]int{
		`{"max_file_size":5}`:  200,
		`{"account":"broke"}`:  400,
		`{"max_file_sise":5}`:  400,
		`{"max_file_size":-1}`: 400,
	} {
		if a := do(t, http.MethodPost, sim.URL+"/_sim/config", nil, bytes.NewReader([]byte(body))); a.StatusCode != want {
			t.Errorf("POST %s: %d %s", body, a.StatusCode, a.body)
		}
	}
	if c := sim.Config(); c != (Config{Autostore: true, MaxFileSize: 5}) {
		t.Errorf("config %+v", c)
	}
}
