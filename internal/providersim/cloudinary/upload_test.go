package cloudinary

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The guide's own curl: a file, api_key, timestamp and signature, and nothing else.
func TestGuideCall(t *testing.T) {
	s := open(t, nil)
	content := picture(t, 40, 30)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	a := s.send(sending{
		path: "/image/upload", unsigned: true, file: content, name: "photo.png",
		params: map[string]string{
			"api_key": testKey, "timestamp": now, "signature": sign("timestamp="+now, testSecret, "sha1"),
		},
	})
	a.want(t, 200, map[string]any{
		"resource_type": "image", "type": "upload", "format": "png", "width": 40, "height": 30, "bytes": len(content),
		"etag": md5Hex(content), "original_filename": "photo", "access_mode": "public", "placeholder": false, "overwritten": nil,
		"existing": nil, "done": nil, "api_key": testKey, "tags": []any{},
	})
	publicID, _ := a.body["public_id"].(string)
	if len(publicID) != 20 {
		t.Errorf("public_id %q is not 20 characters", publicID)
	}
	want := s.url + "/" + testCloud + "/image/upload/v" + a.body["version"].(interface{ String() string }).String() + "/" + publicID + ".png"
	if a.body["secure_url"] != want {
		t.Errorf("secure_url %v, want %v", a.body["secure_url"], want)
	}
	if len(a.Header.Get("X-Request-Id")) != 32 {
		t.Errorf("X-Request-Id %q", a.Header.Get("X-Request-Id"))
	}
}

func TestResourceType(t *testing.T) {
	film := append([]byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"), bytesOf(2000)...)
	sound := append([]byte("RIFF\x00\x08\x00\x00WAVEfmt "), bytesOf(2000)...)
	tests := map[string]struct {
		path, field, name string
		content           []byte
		resourceType      string
		format            any
	}{
		"a film under auto is a video":               {"/auto/upload", "", "a", film, "video", "mp4"},
		"a sound counts as video":                    {"/auto/upload", "", "a", sound, "video", "wav"},
		"a PDF counts as image":                      {"/auto/upload", "", "a", []byte("%PDF-1.7\n"), "image", "pdf"},
		"anything else is raw and has no format":     {"/auto/upload", "", "a.bin", bytesOf(2000), "raw", nil},
		"the name speaks for bytes that say nothing": {"/auto/upload", "", "a.png", bytesOf(2000), "image", nil},
		"the field beats what the bytes are":         {"/auto/upload", "raw", "a", film, "raw", nil},
		"the path beats the field":                   {"/video/upload", "raw", "a", film, "video", "mp4"},
		"without a type it is auto":                  {"/upload", "", "a", film, "video", "mp4"},
		"a chunk route takes whole files":            {"/video/upload_chunked", "", "a", film, "video", "mp4"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			p := sending{path: tt.path, file: tt.content, name: tt.name, params: map[string]string{}}
			if tt.field != "" {
				p.params["resource_type"] = tt.field
			}
			if tt.format == nil && tt.resourceType == "image" {
				s.send(p).want(t, 400, nil) // an image by its name alone
				return
			}
			s.send(p).want(t, 200, map[string]any{"resource_type": tt.resourceType, "format": tt.format})
		})
	}
}

func TestPublicID(t *testing.T) {
	s := open(t, nil)
	tests := map[string]struct {
		path   string
		params map[string]string
		want   string // a prefix when it ends in *
	}{
		"is what was asked for":                      {"/raw/upload", map[string]string{"public_id": "a/b c.txt"}, "a/b c.txt"},
		"goes into the folder":                       {"/raw/upload", map[string]string{"public_id": "b.txt", "folder": "a"}, "a/b.txt"},
		"is made of the file name":                   {"/raw/upload", map[string]string{"use_filename": "true", "unique_filename": "false"}, "père___fils_(1).txt"},
		"is made of the file name and something new": {"/raw/upload", map[string]string{"use_filename": "1"}, "père___fils_(1)_*"},
		"is made of the name that overrides":         {"/raw/upload", map[string]string{"use_filename": "1", "unique_filename": "0", "filename_override": "x.md"}, "x.md"},
		"at the longest has 255 characters":          {"/raw/upload", map[string]string{"public_id": strings.Repeat("é", 255)}, strings.Repeat("é", 255)},
		"is refused with 256":                        {"/raw/upload", map[string]string{"public_id": strings.Repeat("é", 256)}, ""},
		"is refused with a question mark":            {"/raw/upload", map[string]string{"public_id": "a?"}, ""},
		"is refused with a per cent sign":            {"/raw/upload", map[string]string{"public_id": "a%20b"}, ""},
		"is refused with a slash in front":           {"/raw/upload", map[string]string{"public_id": "/a"}, ""},
		"is refused with a space at the end":         {"/raw/upload", map[string]string{"public_id": "a "}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := s.send(sending{path: tt.path, params: tt.params, file: []byte("x"), name: "père & fils (1).txt"})
			if tt.want == "" {
				a.want(t, 400, nil)
				return
			}
			a.want(t, 200, nil)
			got := a.body["public_id"].(string)
			if prefix, ok := strings.CutSuffix(tt.want, "*"); got != tt.want && !(ok && strings.HasPrefix(got, prefix)) {
				t.Errorf("public_id %q, want %q", got, tt.want)
			}
			if back := s.get(a.body["secure_url"].(string)); string(back.raw) != "x" {
				t.Errorf("%s answers %d", a.body["secure_url"], back.StatusCode)
			}
		})
	}
}

func TestSamePublicIDAgain(t *testing.T) {
	s := open(t, nil)
	send := func(content, overwrite string) answered {
		return s.send(sending{
			path: "/raw/upload", params: map[string]string{"public_id": "a", "overwrite": overwrite}, file: []byte(content), name: "a",
		})
	}
	first := send("one", "true")
	first.want(t, 200, map[string]any{"overwritten": nil, "existing": nil})

	second := send("two!", "true")
	second.want(t, 200, map[string]any{"overwritten": true, "asset_id": first.body["asset_id"], "bytes": 4, "etag": md5Hex([]byte("two!"))})
	if second.body["version"].(interface{ String() string }).String() <= first.body["version"].(interface{ String() string }).String() {
		t.Errorf("version %v does not follow %v", second.body["version"], first.body["version"])
	}

	third := send("three", "false")
	third.want(t, 200, map[string]any{
		"existing": true, "overwritten": nil, "version": second.body["version"], "etag": second.body["etag"], "asset_id": first.body["asset_id"],
	})
	if back := s.get(s.url + "/" + testCloud + "/raw/upload/a"); string(back.raw) != "two!" {
		t.Errorf("delivered %q", back.raw)
	}
}

func TestIdentity(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/raw/upload", "/video/upload"} {
		for _, kind := range []string{"upload", "private", "authenticated"} {
			s.send(sending{path: path, params: map[string]string{"public_id": "a", "type": kind}, file: []byte(path + kind), name: "a"}).
				want(t, 200, map[string]any{"overwritten": nil, "type": kind})
		}
	}
	if n := s.Inventory().Count; n != 6 {
		t.Errorf("%d assets, want 6", n)
	}
	s.send(sending{path: "/image/destroy", params: map[string]string{"public_id": "a"}}).want(t, 200, map[string]any{"result": "not found"})
	s.send(sending{path: "/raw/destroy", params: map[string]string{"public_id": "a", "type": "private"}}).want(t, 200, map[string]any{"result": "ok"})
	s.send(sending{path: "/raw/explicit", params: map[string]string{"public_id": "a", "type": "private"}}).want(t, 404, nil)
	s.send(sending{path: "/raw/explicit", params: map[string]string{"public_id": "a", "type": "upload", "tags": "x,y", "context": `k=v\|w|l=m`}}).
		want(t, 200, map[string]any{"etag": md5Hex([]byte("/raw/uploadupload")), "tags": []any{"x", "y"}, "context": map[string]any{"custom": map[string]any{"k": "v|w", "l": "m"}}})
	s.send(sending{path: "/raw/rename", params: map[string]string{"from_public_id": "a", "to_public_id": "b"}}).want(t, 200, map[string]any{"public_id": "b"})
	s.send(sending{path: "/raw/rename", params: map[string]string{"from_public_id": "a", "to_public_id": "c"}}).want(t, 404, nil)
}

func TestSizes(t *testing.T) {
	s := open(t, func(st *Settings) { st.Limits, st.MaxRequest = FreePlan, 12<<20 })
	tests := map[string]struct {
		path    string
		size    int
		status  int
		message string
	}{
		"nothing is refused":                      {"/raw/upload", 0, 400, "Empty file"},
		"the plan's limit is taken":               {"/raw/upload", 10 << 20, 200, ""},
		"a byte over the plan's limit is refused": {"/raw/upload", 10<<20 + 1, 400, "File size too large. Got 10485761. Maximum is 10485760. Upgrade your plan to enjoy higher limits"},
		"the limit is the resource type's own":    {"/video/upload", 10<<20 + 1, 200, ""},
		"one request has a limit too":             {"/video/upload", 12<<20 + 1, 413, "Request entity too large"},
		"and that is told by Content-Length":      {"/video/upload", 14 << 20, 413, "Request entity too large"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := s.send(sending{path: tt.path, file: make([]byte, tt.size), name: "a"})
			a.want(t, tt.status, nil)
			if a.message() != tt.message {
				t.Errorf("message %q, want %q", a.message(), tt.message)
			}
		})
	}
}

func TestAuthentication(t *testing.T) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	valid := sign("timestamp="+now, testSecret, "sha1")
	tests := map[string]struct {
		send    sending
		status  int
		message string
	}{
		"Basic credentials":              {sending{basic: true}, 200, ""},
		"a signature by SHA-256":         {sending{unsigned: true, params: map[string]string{"api_key": testKey, "timestamp": now, "signature": sign("timestamp="+now, testSecret, "sha256")}}, 200, ""},
		"no signature":                   {sending{unsigned: true, params: map[string]string{"api_key": testKey, "timestamp": now}}, 400, "Missing required parameter - signature"},
		"no timestamp":                   {sending{unsigned: true, params: map[string]string{"api_key": testKey, "signature": sign("", testSecret, "sha1")}}, 400, "Missing required parameter - timestamp"},
		"a parameter that is not signed": {sending{unsigned: true, params: map[string]string{"api_key": testKey, "timestamp": now, "signature": valid, "tags": "x"}}, 401, "Invalid Signature " + valid + ". String to sign - 'tags=x&timestamp=" + now + "'."},
		"an old timestamp":               {sending{params: map[string]string{"timestamp": "1712841818"}}, 400, "Stale request - reported time is 2024-04-11 13:23:38 +0000 which is more than 1 hour ago"},
		"a key that is no number":        {sending{unsigned: true, params: map[string]string{"api_key": "x", "signature": "y"}}, 400, "Upload preset must be specified when using unsigned upload"},
		"a preset":                       {sending{unsigned: true, params: map[string]string{"upload_preset": "open"}}, 200, ""},
		"an unknown preset":              {sending{unsigned: true, params: map[string]string{"upload_preset": "none"}}, 400, "Upload preset not found"},
		"more than an unsigned one may":  {sending{unsigned: true, params: map[string]string{"upload_preset": "open", "overwrite": "true"}}, 400, "overwrite parameter is not allowed when using unsigned upload"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(st *Settings) { st.Presets = map[string]Preset{"open": {"folder": "in"}} })
			tt.send.path, tt.send.file, tt.send.name = "/raw/upload", []byte("x"), "a"
			a := s.send(tt.send)
			a.want(t, tt.status, nil)
			if a.message() != tt.message {
				t.Errorf("message %q, want %q", a.message(), tt.message)
			}
		})
	}
}

func TestSignatureAgesByTheVirtualClock(t *testing.T) {
	s := open(t, nil)
	now := strconv.FormatInt(s.controls.Clock.Now().Unix(), 10)
	p := sending{path: "/raw/upload", file: []byte("x"), name: "a", params: map[string]string{"timestamp": now}}
	s.send(p).want(t, 200, nil)
	s.controls.Clock.Advance(59 * time.Minute)
	s.send(p).want(t, 200, nil)
	s.controls.Clock.Advance(2 * time.Minute)
	s.send(p).want(t, 400, nil)
}

func TestForms(t *testing.T) {
	s := open(t, nil)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/film.txt" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte("from afar"))
	}))
	defer source.Close()
	data := "data:text/plain;base64," + base64.StdEncoding.EncodeToString([]byte("in words"))
	urlencoded := func(file string) string { return url.Values{"file": {file}, "tags[]": {"a", "b"}}.Encode() }
	tests := map[string]struct {
		contentType, body string
		status            int
		want              string // content, else message
	}{
		"a data URI, urlencoded":          {"application/x-www-form-urlencoded", urlencoded(data), 200, "in words"},
		"urlencoded without saying so":    {"", urlencoded(data), 200, "in words"},
		"a data URI as JSON":              {"application/json", `{"file":"` + data + `","tags":["a","b"]}`, 200, "in words"},
		"a remote file":                   {"application/x-www-form-urlencoded", urlencoded(source.URL + "/film.txt"), 200, "from afar"},
		"a remote file that is not there": {"application/x-www-form-urlencoded", urlencoded(source.URL + "/none"), 400, "Error in loading " + source.URL + "/none - 404 Not Found"},
		"a malformed data URI":            {"application/x-www-form-urlencoded", urlencoded("data:text/plain;base64,!!!"), 400, "Invalid data URI"},
		"multipart as Node ends it":       {"multipart/form-data; boundary=b", part("file", "hello") + part("tags[]", "a") + part("tags[]", "b") + "--b--", 200, "hello"},
		"parameters after the file":       {"multipart/form-data; boundary=b", part("file", "hello") + part("tags", "a,b") + "--b--\r\n", 200, "hello"},
		"a data URI, multipart":           {"multipart/form-data; boundary=b", strings.Replace(part("file", data), `; filename="père.txt"`, "", 1) + part("tags", "a,b") + "--b--", 200, "in words"},
		"multipart without its end":       {"multipart/form-data; boundary=b", part("tags", "a,b") + strings.TrimSuffix(part("file", "hello"), "\r\n"), 400, "Invalid multipart body"},
		"multipart without a boundary":    {"multipart/form-data", part("file", "hello") + "--b--", 400, "Invalid multipart body"},
		"broken JSON":                     {"application/json", `{"file":`, 400, "Invalid request body"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := s.request(http.MethodPost, "/v1_1/"+testCloud+"/raw/upload?public_id="+url.QueryEscape(name), strings.NewReader(tt.body))
			req.Header.Set("Content-Type", tt.contentType)
			if tt.contentType == "" {
				delete(req.Header, "Content-Type")
			}
			req.SetBasicAuth(testKey, testSecret)
			a := s.do(req)
			a.want(t, tt.status, nil)
			if tt.status != 200 {
				if a.message() != tt.want {
					t.Errorf("message %q, want %q", a.message(), tt.want)
				}
				return
			}
			a.want(t, 200, map[string]any{"public_id": name, "tags": []any{"a", "b"}, "etag": md5Hex([]byte(tt.want))})
		})
	}
}

// part is one part of a multipart body whose boundary is b; Node writes names as Latin-1.
func part(name, value string) string {
	file := ""
	if name == "file" {
		file = `; filename="père.txt"`
	}
	return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"" + file + "\r\n\r\n" + value + "\r\n"
}

func TestFileNameInLatin1(t *testing.T) {
	s := open(t, nil)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "p\xe8re.txt")
	if err != nil {
		t.Fatal(err)
	}
	part.Write([]byte("x"))
	form.Close()
	req := s.request(http.MethodPost, "/v1_1/"+testCloud+"/raw/upload", &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.SetBasicAuth(testKey, testSecret)
	s.do(req).want(t, 200, map[string]any{"original_filename": "père"})
}
