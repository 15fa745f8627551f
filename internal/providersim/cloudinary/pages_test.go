package cloudinary

import (
	"net/http"
	"strings"
	"testing"
)

func TestPagesMaySendFilesAndNothingElse(t *testing.T) {
	s := open(t, nil)
	for path, want := range map[string]string{"/image/upload": "*", "/ping": ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.url+"/v1_1/"+testCloud+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://app.example")
		req.Header.Set("Access-Control-Request-Headers", "authorization, x-unique-upload-id")
		a := s.do(req)
		allowed := a.Header.Get("Access-Control-Allow-Headers")
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != want || strings.Contains(allowed, "Authorization") {
			t.Errorf("%s: allows the origin %q and the headers %q; want %q, and no Authorization", path, got, allowed, want)
		}
	}
}
