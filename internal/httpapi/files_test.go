package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"slipway/internal/upload"
)

func TestTheListOfFiles(t *testing.T) {
	s := open(t, nil)
	s.exec(t, `
		INSERT INTO public.uploadcare_files (file_id, file_url, user_id, upload_timestamp)
		SELECT 'u' || n, 'https://ucarecdn.com/' || n || '/', 'alice', CASE WHEN n % 10 = 0 THEN NULL ELSE timestamptz '2026-01-01' END
		FROM generate_series(1, 30) n`)
	s.exec(t, `
		INSERT INTO public.cloudinary_files (public_id, media_url, resource_type, user_id, upload_timestamp)
		SELECT 'c' || n, 'https://res.cloudinary.com/demo/image/upload/v1/c' || n || '.png', CASE WHEN n % 2 = 0 THEN 'image' ELSE 'video' END, 'alice', '2026-01-01'
		FROM generate_series(1, 25) n`)
	s.exec(t, `INSERT INTO public.uploadcare_files (file_id, file_url, user_id) VALUES ('b', 'https://ucarecdn.com/b/', 'bob')`)
	u := s.put(t, "film.mp4")
	s.complete(t, u.ID)

	all := walk(t, s, "/v1/files?limit=100", "files")
	if len(all) != 56 || all[0] != string(u.ID) || all[1] != "uploadcare-30" && all[1] != "uploadcare-29" {
		t.Fatalf("%d files: %v", len(all), all)
	}
	if last := all[len(all)-3:]; !slices.Equal(last, []string{"uploadcare-30", "uploadcare-20", "uploadcare-10"}) {
		t.Errorf("the last are %v, want those without a time", last)
	}
	for _, limit := range []int{1, 7, 20, 55} {
		if got := walk(t, s, fmt.Sprint("/v1/files?limit=", limit), "files"); !slices.Equal(got, all) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, all)
		}
	}
	if got := walk(t, s, "/v1/files?limit=4&provider=cloudinary", "files"); len(got) != 25 || !strings.HasPrefix(got[24], "cloudinary-") {
		t.Errorf("of Cloudinary: %v", got)
	}
	if got := walk(t, s, "/v1/files?limit=4&resource_type=image", "files"); len(got) != 12 {
		t.Errorf("images: %v", got)
	}
	if got := walk(t, s, "/v1/files?resource_type=raw", "files"); !slices.Equal(got, []string{string(u.ID)}) {
		t.Errorf("raw: %v", got)
	}
}

func TestAFile(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	self := "/v1/files/" + string(u.ID)
	wantCode(t, s.do(t, "GET", self, nil), 404, upload.NotFound)
	to := s.complete(t, u.ID)
	f := into[fileView](t, s.do(t, "GET", self, nil), 200)
	if f.ID != string(u.ID) || *f.UploadID != u.ID || f.URL != to || *f.Size != 5 || f.Links.Self != self || f.Links.Content != self+"/content" || *f.Links.Upload != u.Links.Self {
		t.Errorf("got %+v", f)
	}

	s.exec(t, `
		INSERT INTO public.cloudinary_files (id, public_id, media_url, resource_type, user_id, upload_timestamp)
		VALUES (7, 'old', 'https://res.cloudinary.com/demo/image/upload/v1/old.png', 'image', 'alice', NULL)`)
	r := s.do(t, "GET", "/v1/files/cloudinary-7", nil)
	want := `{"id":"cloudinary-7","upload_id":null,"provider":"cloudinary","asset_id":"old","url":"https://res.cloudinary.com/demo/image/upload/v1/old.png",` +
		`"thumbnail_url":"https://res.cloudinary.com/demo/image/upload/c_fill,w_300,h_300/v1/old.jpg","resource_type":"image","file_name":null,"content_type":null,` +
		`"size":null,"version":null,"format":null,"width":null,"height":null,"tags":[],"uploaded_at":null,"deletion":null,` +
		`"links":{"self":"/v1/files/cloudinary-7","content":"/v1/files/cloudinary-7/content","upload":null}}` + "\n"
	if r.text != want {
		t.Errorf("got  %s\nwant %s", r.text, want)
	}
	if r := s.do(t, "GET", "/v1/files/cloudinary-7/content", nil); r.StatusCode != 302 || r.Header.Get("Location") != "https://res.cloudinary.com/demo/image/upload/v1/old.png" {
		t.Errorf("got %d to %s", r.StatusCode, r.Header.Get("Location"))
	}
}

func TestContent(t *testing.T) {
	for name, public := range map[string]bool{"for its owner": false, "for everybody": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(a *API, _ *Options) { a.PublicFiles = public })
			u := s.put(t, "film.mp4")
			path := "/v1/files/" + string(u.ID) + "/content"
			who := as(t, "alice")
			if public {
				who = as(t, "")
			} else {
				wantCode(t, s.do(t, "GET", path, nil, as(t, "")), 401, upload.Unauthorized)
				wantCode(t, s.do(t, "GET", path, nil, as(t, "bob")), 404, upload.NotFound)
			}
			r := s.do(t, "GET", path, nil, who)
			wantCode(t, r, 404, upload.NotReady)
			if !r.problem(t).Retryable || r.Header.Get("Retry-After") == "" {
				t.Errorf("not told when to come back: %s", r.text)
			}
			to := s.complete(t, u.ID)
			if r := s.do(t, "GET", path, nil, who); r.StatusCode != 302 || r.Header.Get("Location") != to {
				t.Errorf("got %d to %q, want 302 to %s", r.StatusCode, r.Header.Get("Location"), to)
			}
			s.change(t, u.ID, `status = 'failed', asset = NULL`)
			if r := s.do(t, "GET", path, nil, who); r.StatusCode != 404 || r.problem(t).Retryable {
				t.Errorf("of a failed upload: %d %s", r.StatusCode, r.text)
			}
			wantCode(t, s.do(t, "GET", "/v1/files/"+string(upload.NewID())+"/content", nil, who), 404, upload.NotFound)
			wantCode(t, s.do(t, "GET", "/v1/files/uploadcare-1/content", nil, as(t, "")), 401, upload.Unauthorized)
		})
	}
}
