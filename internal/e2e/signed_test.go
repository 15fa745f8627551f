package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// status is what a URL answers by itself, and where it leads.
func status(t *testing.T, url string) (code int, to string) {
	t.Helper()
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}

func wantStatus(t *testing.T, what, url string, want int) {
	t.Helper()
	if got, _ := status(t, url); got != want {
		t.Errorf("%s answers %d, want %d: %s", what, got, want, url)
	}
}

// changed is a URL with another character in the middle of its signature.
func changed(url, before string) string {
	at := strings.Index(url, before) + len(before) + 2
	c := "0"
	if url[at] == '0' {
		c = "1"
	}
	return url[:at] + c + url[at+1:]
}

// picture makes a small PNG.
func picture(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "p.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, image.NewGray(image.Rect(0, 0, 40, 30))), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatOpenOnlyToSignedLinks(t *testing.T) {
	t.Parallel()
	env := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(env, []byte("DELIVERY=signed\nSIGNED_URL_TTL=5m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stacks := map[string]struct {
		args []string
		ttl  string // of a link to Uploadcare
	}{"by a flag": {[]string{"--signed"}, "1h"}, "by a file": {[]string{"--env-file", env}, "5m"}}
	for name, stack := range stacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dev(t, stack.args...)
			t.Run("the Upload Widget", func(t *testing.T) { opensOnlySignedFromTheWidget(t, s) })
			t.Run("uploadcare", func(t *testing.T) {
				link := opensOnlySigned(t, s, "uploadcare", "SELECT file_url FROM uploadcare_files", http.StatusForbidden, "~hmac=")
				post(t, s.sim+"/_sim/uploadcare/clock", map[string]any{"advance": stack.ttl})
				wantStatus(t, "a link after its time", link, http.StatusForbidden)
			})
			t.Run("cloudinary", func(t *testing.T) {
				link := opensOnlySigned(t, s, "cloudinary", "SELECT media_url FROM cloudinary_files", http.StatusUnauthorized, "/s--")
				post(t, s.sim+"/_sim/cloudinary/clock", map[string]any{"advance": "1000h"})
				wantStatus(t, "a link that does not expire", link, http.StatusOK)
			})
		})
	}
}

// opensOnlySignedFromTheWidget does what the widget does with the parameters that are signed for it.
func opensOnlySignedFromTheWidget(t *testing.T, s *stack) {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	signed := func(params string) (answer struct{ Signature, Detail string }) {
		t.Helper()
		curl(t, &answer, "-X", "POST", s.url+"/generate-signature", "-H", "Content-Type: application/json", "-d", `{"paramsToSign":{"timestamp":`+at+params+`}}`)
		return answer
	}
	if refused := signed(""); refused.Signature != "" || !strings.Contains(refused.Detail, "authenticated") {
		t.Errorf("for a file that everybody could open it answers %+v", refused)
	}
	var stored cloudinaryAnswer
	curl(t, &stored, "-X", "POST", s.env["CLOUDINARY_UPLOAD_PREFIX"]+"/v1_1/"+s.env["CLOUDINARY_CLOUD_NAME"]+"/image/upload", "-F", "file=@"+picture(t),
		"-F", "api_key="+s.env["CLOUDINARY_API_KEY"], "-F", "timestamp="+at, "-F", "type=authenticated", "-F", "signature="+signed(`,"type":"authenticated"`).Signature)
	body, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	var saved struct{ ID string }
	curl(t, &saved, "-X", "POST", s.url+"/save-metadata", "-H", "Content-Type: application/json", "-d", string(body))
	if done := s.awaitStatus(t, time.Minute, saved.ID, "completed"); done.Asset.ID != stored.PublicID {
		t.Errorf("%+v was saved, want %s", done.Asset, stored.PublicID)
	}
	_, link := status(t, s.url+"/v1/files/"+saved.ID+"/content")
	wantStatus(t, "a signed link", link, http.StatusOK)
	wantStatus(t, "one that was changed", changed(link, "/s--"), http.StatusUnauthorized)
}

// opensOnlySigned sends files to a provider that answers refused to whoever reads them without a signature,
// which stands behind before, and returns a link that opens one.
func opensOnlySigned(t *testing.T, s *stack, provider, stored string, refused int, before string) (link string) {
	t.Helper()
	path, sum := file(t, "a.mp4", 12*mib) // in parts to Uploadcare
	var u uploadView
	curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
	done := s.awaitStatus(t, time.Minute, u.ID, "completed")
	content := s.url + "/v1/files/" + u.ID + "/content"
	if done.Asset.URL != content || sumAt(t, content) != sum {
		t.Errorf("%s does not lead to the file", done.Asset.URL)
	}
	conn, err := pgx.Connect(t.Context(), s.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var plain string
	if err := conn.QueryRow(t.Context(), stored).Scan(&plain); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "the stored address", plain, refused)
	_, link = status(t, content)
	wantStatus(t, "a signed link", link, http.StatusOK)
	wantStatus(t, "one that was changed", changed(link, before), refused)

	var answer struct{ ID, FileURL string }
	curl(t, &answer, "-X", "POST", s.url+"/upload", "-F", "file=@"+picture(t), "-F", "provider="+provider)
	wantStatus(t, "the guide's fileUrl", answer.FileURL, http.StatusOK)
	var f struct {
		ThumbnailURL string `json:"thumbnail_url"`
	}
	getJSON(t, s.url+"/v1/files/"+answer.ID, &f)
	wantStatus(t, "a thumbnail", f.ThumbnailURL, http.StatusOK)
	_, small := status(t, s.url+"/v1/files/"+answer.ID+"/content?transform=width:300,height:30,fit:cover")
	wantStatus(t, "a picture", small, http.StatusOK)
	wantStatus(t, "a larger one by its signature", strings.NewReplacer("300x30", "3000x30", "w_300", "w_3000").Replace(small), refused)
	return link
}
