package cloudinary

import (
	"bytes"
	"net/http"
	"testing"
)

func TestDelivery(t *testing.T) {
	s := open(t, nil)
	content := picture(t, 300, 200)
	for _, kind := range []string{"upload", "private", "authenticated"} {
		s.send(sending{file: content, name: "a.png", params: map[string]string{"public_id": "a/père b", "type": kind}}).want(t, 200, nil)
	}
	s.send(sending{path: "/raw/upload", file: []byte("text"), name: "x", params: map[string]string{"public_id": "v1/w_1.txt"}}).want(t, 200, nil)
	signed := func(path string) string { return signDelivery(path, testSecret, "sha1") }
	const id, name = "a/p%C3%A8re%20b", "a/père b.png"
	tests := map[string]struct {
		path   string
		status int
	}{
		"by version and extension":                 {"/image/upload/v1/" + id + ".png", 200},
		"without a version":                        {"/image/upload/" + id + ".png", 200},
		"without an extension":                     {"/image/upload/v1/" + id, 200},
		"through a transformation":                 {"/image/upload/c_fill,w_300,h_300/v1/" + id + ".jpg", 200},
		"through two, without a version":           {"/image/upload/c_fill,w_300/e_grayscale/" + id + ".png", 200},
		"under an id that looks like other parts":  {"/raw/upload/v7/v1/w_1.txt", 200},
		"as another resource type":                 {"/raw/upload/v1/" + id, 404},
		"from another cloud":                       {"", 404},
		"private without a signature":              {"/image/private/v1/" + id + ".png", 401},
		"private with its signature":               {"/image/private/" + signed(name) + "/v1/" + id + ".png", 200},
		"private and transformed":                  {"/image/private/w_10/v1/" + id + ".png", 200},
		"authenticated and transformed":            {"/image/authenticated/w_10/v1/" + id + ".png", 401},
		"authenticated with its signature":         {"/image/authenticated/" + signed("w_10/"+name) + "/w_10/v1/" + id + ".png", 200},
		"with the signature of another path":       {"/image/authenticated/" + signed("w_11/"+name) + "/w_10/v1/" + id + ".png", 401},
		"with a wrong signature where none is due": {"/image/upload/" + signed("x") + "/v1/" + id + ".png", 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			address := s.url + "/" + testCloud + tt.path
			if tt.path == "" {
				address = s.url + "/other/image/upload/" + id
			}
			a := s.get(address)
			if a.StatusCode != tt.status {
				t.Fatalf("status %d, want %d (%s)", a.StatusCode, tt.status, a.Header.Get("X-Cld-Error"))
			}
			if tt.status != 200 && a.Header.Get("X-Cld-Error") == "" {
				t.Error("no reason is given")
			}
		})
	}

	t.Run("in part", func(t *testing.T) {
		req := s.request(http.MethodGet, "/"+testCloud+"/image/upload/"+id+".png", nil)
		req.Header.Set("Range", "bytes=10-19")
		a := s.do(req)
		if a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.raw, content[10:20]) {
			t.Errorf("status %d, %d bytes", a.StatusCode, len(a.raw))
		}
		if got := a.Header.Get("ETag"); got != `"`+md5Hex(content)+`"` {
			t.Errorf("ETag %s", got)
		}
		if got := a.Header.Get("Content-Type"); got != "image/png" {
			t.Errorf("Content-Type %s", got)
		}
	})
}
