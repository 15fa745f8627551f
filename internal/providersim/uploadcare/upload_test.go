package uploadcare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"slipway/internal/providersim"
)

var encoded = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}

// post sends an urlencoded form to the Upload API.
func post(t *testing.T, sim *Running, path string, fields url.Values) answer {
	t.Helper()
	return do(t, http.MethodPost, sim.URL+path, encoded, strings.NewReader(fields.Encode()))
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil || a.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body)
	}
	return v
}

// putFile uploads a file directly and returns its uuid.
func putFile(t *testing.T, sim *Running, data []byte, fields url.Values) string {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "x.bin")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	w.WriteField("UPLOADCARE_PUB_KEY", testPublicKey)
	for name, values := range fields {
		w.WriteField(name, values[0])
	}
	w.Close()
	a := do(t, http.MethodPost, sim.URL+"/base/", http.Header{"Content-Type": {w.FormDataContentType()}}, &body)
	return decode[map[string]string](t, a)["file"]
}

type started struct {
	UUID  string
	Parts []string
}

func startFields(size int) url.Values {
	return url.Values{
		"UPLOADCARE_PUB_KEY": {testPublicKey}, "filename": {"père & fils.mp4"},
		"size": {fmt.Sprint(size)}, "content_type": {"video/mp4"},
	}
}

// begun starts a multipart upload of data in parts of 5 MiB.
func begun(t *testing.T, sim *Running, data []byte) started {
	t.Helper()
	return decode[started](t, post(t, sim, "/multipart/start/", startFields(len(data))))
}

// putPart sends part n, from 1, of data.
func (s started) putPart(t *testing.T, n int, data []byte) answer {
	t.Helper()
	first := (n - 1) * minPart
	return do(t, http.MethodPut, s.Parts[n-1], nil, bytes.NewReader(data[first:min(first+minPart, len(data))]))
}

func (s started) complete(t *testing.T, sim *Running) answer {
	t.Helper()
	return post(t, sim, "/multipart/complete/", url.Values{"UPLOADCARE_PUB_KEY": {testPublicKey}, "uuid": {s.UUID}})
}

func TestRefusals(t *testing.T) {
	with := func(base url.Values, name, value string) url.Values {
		changed := url.Values{}
		for k, v := range base {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	key := url.Values{"UPLOADCARE_PUB_KEY": {testPublicKey}}
	fields := startFields(20_000_000)
	tests := map[string]struct {
		config Config
		path   string
		fields url.Values
		status int
		text   string
	}{
		"no key":                    {Config{}, "/base/", nil, 403, "UPLOADCARE_PUB_KEY is required."},
		"another key":               {Config{}, "/base/", with(key, "UPLOADCARE_PUB_KEY", "x"), 403, "UPLOADCARE_PUB_KEY is invalid."},
		"no file":                   {Config{}, "/base/", key, 400, "Request does not contain files."},
		"account in debt":           {Config{Account: "unpaid"}, "/base/", key, 403, "Account has been blocked for non payment."},
		"throttled":                 {Config{ThrottleNext: 1, RetryAfter: 7}, "/base/", key, 429, "Request was throttled."},
		"no signature":              {Config{SignedUploads: true}, "/base/", key, 400, "`signature` is required."},
		"no expire":                 {Config{SignedUploads: true}, "/base/", with(key, "signature", "x"), 400, "`expire` is required."},
		"store mode 1 while off":    {Config{}, "/multipart/start/", with(fields, "UPLOADCARE_STORE", "1"), 403, "Autostore is disabled."},
		"no name":                   {Config{}, "/multipart/start/", with(fields, "filename", ""), 400, "filename is required."},
		"size no number":            {Config{}, "/multipart/start/", with(fields, "size", "big"), 400, "size should be integer."},
		"size for direct":           {Config{}, "/multipart/start/", with(fields, "size", "10485759"), 400, "File size can not be less than 10485760 bytes. Please use direct upload instead of multipart."},
		"size over project's limit": {Config{MaxFileSize: 15_000_000}, "/multipart/start/", fields, 400, "File size exceeds project limit."},
		"part size under 5 MiB":     {Config{}, "/multipart/start/", with(fields, "part_size", "5242879"), 400, "Part size can not be less than 5242880 bytes."},
		"more than 10000 parts":     {Config{}, "/multipart/start/", with(fields, "size", "52428800001"), 400, "Part size can not be less than 5242880 bytes."},
		"empty metadata":            {Config{}, "/multipart/start/", with(fields, "metadata[a]", ""), 400, "Metadata value can not be empty."},
		"long metadata":             {Config{}, "/multipart/start/", with(fields, "metadata[a]", strings.Repeat("x", 513)), 400, "Metadata value is too long."},
		"null character":            {Config{}, "/multipart/start/", with(fields, "filename", "a\x00"), 400, "Null characters are not allowed."},
		"no uuid":                   {Config{}, "/multipart/complete/", key, 400, "uuid is required."},
		"unknown uuid":              {Config{}, "/multipart/complete/", with(key, "uuid", "x"), 404, "File is not found."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), tt.config)
			a := post(t, sim, tt.path, tt.fields)
			if a.StatusCode != tt.status || string(a.body) != tt.text || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%d %s %s, want %d %s", a.StatusCode, a.Header.Get("Content-Type"), a.body, tt.status, tt.text)
			}
			if tt.status == 429 && a.Header.Get("Retry-After") != "7" {
				t.Errorf("Retry-After %q, want 7", a.Header.Get("Retry-After"))
			}
			if err := sim.Configure(func(c *Config) { *c = tt.config }); err != nil {
				t.Fatal(err)
			}
			a = post(t, sim, tt.path+"?jsonerrors=1", tt.fields)
			told := decode[struct {
				Error struct {
					StatusCode int `json:"status_code"`
					Content    string
					ErrorCode  string `json:"error_code"`
				}
			}](t, a).Error
			if a.StatusCode != 200 || told.StatusCode != tt.status || told.Content != tt.text || told.ErrorCode == "" {
				t.Errorf("as JSON: %d %s", a.StatusCode, a.body)
			}
		})
	}
}

func TestARefusedDirectUploadLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	sim := begin(t, dir, Config{MaxFileSize: 10})
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "x.bin")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(content(11))
	cut := body.Len()
	w.WriteField("UPLOADCARE_PUB_KEY", testPublicKey)
	w.Close()
	header := http.Header{"Content-Type": {w.FormDataContentType()}}
	if a := do(t, http.MethodPost, sim.URL+"/base/", header, bytes.NewReader(body.Bytes())); string(a.body) != "File is too large." {
		t.Errorf("too large: %d %s", a.StatusCode, a.body)
	}
	if a := do(t, http.MethodPost, sim.URL+"/base/", header, bytes.NewReader(body.Bytes()[:cut])); string(a.body) != "HTTP POST request parsing failed." {
		t.Errorf("cut: %d %s", a.StatusCode, a.body)
	}
	tooMuch := io.MultiReader(bytes.NewReader(body.Bytes()[:cut]), io.LimitReader(endless{}, maxDirect))
	if a := do(t, http.MethodPost, sim.URL+"/base/", header, tooMuch); a.StatusCode != 413 {
		t.Errorf("over 100 MB: %d %s", a.StatusCode, a.body)
	}
	if files, err := sim.Inventory(); err != nil || len(files) != 0 {
		t.Errorf("kept %+v, %v", files, err)
	}
	if names := blobNames(t, dir); len(names) != 0 {
		t.Errorf("blobs left: %v", names)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestMultipartUploadIsPutTogetherFromItsParts(t *testing.T) {
	dir := t.TempDir()
	sim := begin(t, dir, Config{})
	data := content(12_000_000)
	up := begun(t, sim, data)
	if len(up.Parts) != 3 || !strings.HasPrefix(up.Parts[0], sim.PartsURL+"/"+up.UUID+"/prefils.mp4?") {
		t.Fatalf("%d parts, the first at %s", len(up.Parts), up.Parts[0])
	}
	for _, n := range []int{3, 1} {
		if a := up.putPart(t, n, data); a.StatusCode != 200 || len(a.body) != 0 {
			t.Fatalf("part %d: %d %s", n, a.StatusCode, a.body)
		}
	}
	if a := up.complete(t, sim); a.StatusCode != 400 || string(a.body) != "File size mismatch. Not all parts uploaded?" {
		t.Errorf("without part 2: %d %s", a.StatusCode, a.body)
	}
	wrong := bytes.Repeat([]byte{1}, len(data))
	if a := up.putPart(t, 2, wrong); a.Header.Get("ETag") != `"`+md5Hex(wrong[:minPart])+`"` {
		t.Errorf("ETag %s", a.Header.Get("ETag"))
	}
	up.putPart(t, 2, data) // in place of the one before

	a := up.complete(t, sim)
	view := decode[uploadView](t, a)
	if view.UUID != up.UUID || view.Size != 12_000_000 || view.IsStored || !view.IsReady || view.MimeType != "video/mp4" {
		t.Errorf("completed: %s", a.body)
	}
	if a := up.complete(t, sim); a.StatusCode != 400 || string(a.body) != "File is already uploaded." {
		t.Errorf("completed again: %d %s", a.StatusCode, a.body)
	}
	if a := up.putPart(t, 1, data); a.StatusCode != 404 || !strings.Contains(string(a.body), "<Code>NoSuchUpload</Code>") {
		t.Errorf("a part too late: %d %s", a.StatusCode, a.body)
	}
	files, err := sim.Inventory()
	if err != nil || len(files) != 1 || files[0].MD5 != md5Hex(data) {
		t.Errorf("kept %+v, %v", files, err)
	}
	if names := blobNames(t, dir); len(names) != 3 {
		t.Errorf("%d blobs for 3 parts", len(names))
	}
}

func TestPartsMustBeAsPromised(t *testing.T) {
	for name, tt := range map[string]struct {
		second int // bytes in part 2 of 3, which is to have 5 MiB
		third  int // bytes in part 3, which is to have 1 MiB
		text   string
	}{
		"too many bytes":               {minPart + 1, 1 << 20, "Uploaded size is more than expected."},
		"the right sum of wrong parts": {minPart + 1, 1<<20 - 1, "Can not complete upload. Wrong parts size?"},
	} {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), Config{})
			up := begun(t, sim, make([]byte, 11<<20))
			for i, size := range []int{minPart, tt.second, tt.third} {
				do(t, http.MethodPut, up.Parts[i], nil, bytes.NewReader(make([]byte, size)))
			}
			if a := up.complete(t, sim); a.StatusCode != 400 || string(a.body) != tt.text {
				t.Errorf("%d %s, want %s", a.StatusCode, a.body, tt.text)
			}
		})
	}
}

func TestPartStorageRefuses(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	data := content(11_000_000)
	up := begun(t, sim, data)
	tests := map[string]struct {
		method, address string
		body            io.Reader
		status          int
		code            string
	}{
		"another part number":   {"PUT", strings.Replace(up.Parts[0], "partNumber=1", "partNumber=2", 1), strings.NewReader("x"), 403, "SignatureDoesNotMatch"},
		"a longer life":         {"PUT", strings.Replace(up.Parts[0], "Expires=86400", "Expires=864000", 1), strings.NewReader("x"), 403, "SignatureDoesNotMatch"},
		"a body without length": {"PUT", up.Parts[0], struct{ io.Reader }{strings.NewReader("x")}, 411, "MissingContentLength"},
		"another method":        {"POST", up.Parts[0], strings.NewReader("x"), 405, "MethodNotAllowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := do(t, tt.method, tt.address, nil, tt.body)
			if a.StatusCode != tt.status || !strings.Contains(string(a.body), "<Code>"+tt.code+"</Code>") || a.Header.Get("Content-Type") != "application/xml" {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.body, tt.status, tt.code)
			}
		})
	}
	if parts := sim.Sessions()[0].Parts; len(parts) != 0 {
		t.Errorf("parts arrived: %+v", parts)
	}
}

func TestPartURLsDieAfterADay(t *testing.T) {
	dir := t.TempDir()
	sim := begin(t, dir, Config{})
	data := content(11_000_000)
	up := begun(t, sim, data)
	sim.Controls.Clock.Advance(sessionLife - time.Minute)
	if a := up.putPart(t, 1, data); a.StatusCode != 200 {
		t.Errorf("in time: %d %s", a.StatusCode, a.body)
	}
	sim.Controls.Clock.Advance(2 * time.Minute)
	if a := up.putPart(t, 2, data); a.StatusCode != 403 || !strings.Contains(string(a.body), "Request has expired") {
		t.Errorf("too late: %d %s", a.StatusCode, a.body)
	}
	if a := up.complete(t, sim); a.StatusCode != 404 {
		t.Errorf("completed too late: %d %s", a.StatusCode, a.body)
	}
	sim.Controls.Clock.Advance(time.Hour)
	get(t, sim.URL+"/_sim/config") // any request sweeps
	if names := blobNames(t, dir); len(names) != 0 || len(sim.Sessions()) != 0 {
		t.Errorf("left: %v, %+v", names, sim.Sessions())
	}
}

func TestEverythingOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	sim := start(t, dir, Config{})
	data := content(11_000_000)
	small := putFile(t, sim, []byte("small"), nil)
	up := begun(t, sim, data)
	up.putPart(t, 2, data)
	partsURL := sim.PartsURL
	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}

	again := begin(t, dir, Config{})
	if got := get(t, again.URL+"/"+small+"/"); string(got) != "small" {
		t.Errorf("after the restart: %q", got)
	}
	for i, address := range up.Parts {
		up.Parts[i] = strings.Replace(address, partsURL, again.PartsURL, 1)
	}
	for _, n := range []int{1, 3} {
		if a := up.putPart(t, n, data); a.StatusCode != 200 {
			t.Fatalf("part %d: %d %s", n, a.StatusCode, a.body)
		}
	}
	if a := up.complete(t, again); a.StatusCode != 200 {
		t.Fatalf("complete: %d %s", a.StatusCode, a.body)
	}
	if got := get(t, again.URL+"/"+up.UUID+"/"); md5Hex(got) != md5Hex(data) {
		t.Errorf("after the restart: %d bytes with MD5 %s", len(got), md5Hex(got))
	}
}

func TestAnAnswerLostAfterCompleteIsRecognisable(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	data := content(11_000_000)
	up := begun(t, sim, data)
	for n := 1; n <= 3; n++ {
		up.putPart(t, n, data)
	}
	if err := sim.Controls.Faults.Add(providersim.Rule{Path: "/multipart/complete/", Action: providersim.ResetAfter, Times: 1}); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.PostForm(sim.URL+"/multipart/complete/", url.Values{"UPLOADCARE_PUB_KEY": {testPublicKey}, "uuid": {up.UUID}})
	if err == nil {
		resp.Body.Close()
		t.Fatal("the answer was not lost")
	}
	if a := up.complete(t, sim); string(a.body) != "File is already uploaded." {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
