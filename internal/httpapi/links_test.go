package httpapi

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	cloudinary "slipway/internal/provider/cloudinary/sign"
	uploadcare "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

const (
	deliverySecret = "73636b61519adede42191efe1e73f02a67c7b692e3765f90c250c230be095211"
	fileUUID       = "52da3bfc-7cd8-4861-8b05-126fef7a6994"
)

// signs makes a site's links signed.
func signs(a *API, _ *Options) {
	a.Delivery = "signed"
	a.Links = map[string]provider.Linker{
		"uploadcare": uploadcare.Links{Base: "https://secure.example", Secret: deliverySecret, TTL: time.Hour},
		"cloudinary": cloudinary.Links{Key: cloudinary.Key{Secret: "abcd"}},
	}
}

// have puts one file of each kind into the guide tables and returns the paths of their contents.
func (s *site) have(t *testing.T) map[string]string {
	t.Helper()
	s.exec(t, `
		INSERT INTO public.uploadcare_files (id, file_id, file_url, user_id, content_type)
		VALUES (1, $1, $2, 'alice', 'image/png'), (2, '62da3bfc-7cd8-4861-8b05-126fef7a6994', 'https://ucarecdn.com/62da3bfc-7cd8-4861-8b05-126fef7a6994/', 'alice', 'application/zip')`,
		fileUUID, "https://ucarecdn.com/"+fileUUID+"/")
	s.exec(t, `
		INSERT INTO public.cloudinary_files (id, public_id, media_url, resource_type, user_id)
		VALUES (1, 'a', 'https://res.cloudinary.com/demo/image/authenticated/v7/a.png', 'image', 'alice'),
		       (2, 'b', 'https://res.cloudinary.com/demo/image/upload/v7/b.png', 'image', 'alice'),
		       (3, 'c.zip', 'https://res.cloudinary.com/demo/raw/authenticated/v7/c.zip', 'raw', 'alice')`)
	return map[string]string{
		"an image": "/v1/files/uploadcare-1/content", "a ZIP": "/v1/files/uploadcare-2/content",
		"an authenticated image": "/v1/files/cloudinary-1/content", "an image from before": "/v1/files/cloudinary-2/content", "a raw file": "/v1/files/cloudinary-3/content",
	}
}

func TestTransform(t *testing.T) {
	s := open(t, nil)
	paths := s.have(t)
	image := paths["an image"]
	at := "https://ucarecdn.com/" + fileUUID + "/"
	for query, want := range map[string]string{
		"width:300,height:200":                          at + "-/preview/300x200/-/format/auto/-/quality/smart/",
		"height:200,fit:contain,width:300":              at + "-/preview/300x200/-/format/auto/-/quality/smart/",
		"width:300":                                     at + "-/stretch/off/-/resize/300x/-/format/auto/-/quality/smart/",
		"width:3000,height:1,fit:cover":                 at + "-/scale_crop/3000x1/center/-/format/auto/-/quality/smart/",
		url.QueryEscape("width:300,height:1,fit:cover"): at + "-/scale_crop/300x1/center/-/format/auto/-/quality/smart/",
	} {
		if r := s.do(t, "GET", image+"?transform="+query, nil); r.StatusCode != 302 || r.Header.Get("Location") != want {
			t.Errorf("%s: got %d to %s, want %s", query, r.StatusCode, r.Header.Get("Location"), want)
		}
	}
	for query, says := range map[string]string{
		"":                                "which is none of width, height and fit",
		"fit:cover":                       "neither width nor height",
		"width:300,fit:cover":             "needs both width and height",
		"width:300,fit:fill":              "neither contain nor cover",
		"width:0":                         "which are 1 to 3000",
		"width:3001":                      "which are 1 to 3000",
		"width:-1":                        "which are 1 to 3000",
		"width:%2B5":                      "which are 1 to 3000",
		"width:05":                        "which are 1 to 3000",
		"width:3e2":                       "which are 1 to 3000",
		"width":                           "which are 1 to 3000",
		"width:300,width:300":             `has "width" twice`,
		"width:300,":                      "which is none of width, height and fit",
		"w_300,c_fill":                    "which is none of width, height and fit",
		"-/preview/300x300/":              "which is none of width, height and fit",
		"width:300/../../x":               "which are 1 to 3000",
		"width:300,Height:300":            "which is none of width, height and fit",
		strings.Repeat("x", 200) + ":300": "which is none of width, height and fit",
	} {
		r := s.do(t, "GET", image+"?transform="+query, nil)
		wantCode(t, r, 422, upload.InvalidParameter)
		if d := r.problem(t).Detail; !strings.Contains(d, says) || len(d) > 200 {
			t.Errorf("%q: %s, want %q in it", query, d, says)
		}
	}
	for _, path := range []string{paths["a ZIP"], paths["a raw file"]} {
		r := s.do(t, "GET", path+"?transform=width:300", nil)
		wantCode(t, r, 422, upload.InvalidParameter)
		if d := r.problem(t).Detail; !strings.Contains(d, "makes no pictures of this file") {
			t.Errorf("%s: %s", path, d)
		}
	}
	wantCode(t, s.do(t, "GET", image+"?transform=width:300", nil, as(t, "bob")), 404, upload.NotFound)
}

func TestSignedDelivery(t *testing.T) {
	log := &logged{}
	s := open(t, func(a *API, o *Options) {
		signs(a, o)
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	paths := s.have(t)

	t.Run("leads to signed addresses that nobody keeps", func(t *testing.T) {
		for name, want := range map[string]string{
			"an image":               "https://secure.example/" + fileUUID + "/?token=exp=",
			"an authenticated image": "https://res.cloudinary.com/demo/image/authenticated/s--",
			"a raw file":             "https://res.cloudinary.com/demo/raw/authenticated/s--",
		} {
			r := s.do(t, "GET", paths[name], nil)
			if to := r.Header.Get("Location"); r.StatusCode != 302 || !strings.HasPrefix(to, want) || r.Header.Get("Cache-Control") != "private, no-store" {
				t.Errorf("%s: got %d to %s, %s", name, r.StatusCode, to, r.Header.Get("Cache-Control"))
			}
		}
	})
	t.Run("leaves public what was so before", func(t *testing.T) {
		r := s.do(t, "GET", paths["an image from before"], nil)
		if to := r.Header.Get("Location"); to != "https://res.cloudinary.com/demo/image/upload/v7/b.png" || r.Header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("got %d to %s, %s", r.StatusCode, to, r.Header.Get("Cache-Control"))
		}
	})
	t.Run("signs pictures too", func(t *testing.T) {
		path := "/" + fileUUID + "/-/scale_crop/30x20/center/-/format/auto/-/quality/smart/"
		r := s.do(t, "GET", paths["an image"]+"?transform=width:30,height:20,fit:cover", nil)
		if to := r.Header.Get("Location"); !strings.HasPrefix(to, "https://secure.example"+path+"?token=exp=") || !strings.Contains(to, "~acl="+path+"~hmac=") {
			t.Errorf("got %d to %s", r.StatusCode, to)
		}
	})
	t.Run("shows in files", func(t *testing.T) {
		one := s.do(t, "GET", "/v1/files/uploadcare-1", nil)
		f := into[fileView](t, one, 200)
		if !strings.Contains(f.URL, "?token=") || !strings.Contains(*f.ThumbnailURL, "/-/preview/300x300/") || !strings.Contains(*f.ThumbnailURL, "?token=") {
			t.Errorf("got %s", one.text)
		}
		all := s.do(t, "GET", "/v1/files", nil)
		for _, r := range []reply{one, all} {
			if got := r.Header.Get("Cache-Control"); got != "private, no-store" {
				t.Errorf("Cache-Control %s", got)
			}
		}
		if n := strings.Count(all.text, "?token="); n != 3 { // the image, its thumbnail, the ZIP
			t.Errorf("%d signed links to Uploadcare in %s", n, all.text)
		}
	})
	t.Run("gives an upload an address that stays", func(t *testing.T) {
		u := s.put(t, "a.png")
		s.change(t, u.ID, `status = 'completed', completed_at = now(), progress = 1, pushed_bytes = size,
			asset = '{"id":"`+fileUUID+`","url":"https://ucarecdn.com/`+fileUUID+`/","size":5}'`)
		first, second := s.do(t, "GET", u.Links.Self, nil), s.do(t, "GET", u.Links.Self, nil)
		v := into[uploadView](t, first, 200)
		if v.Asset.URL != s.url+"/v1/files/"+string(u.ID)+"/content" || first.text != second.text || first.Header.Get("ETag") != second.Header.Get("ETag") {
			t.Errorf("got %s\nthen %s", first.text, second.text)
		}
		page := s.do(t, "GET", "/uploads/"+string(u.ID), nil)
		if !strings.Contains(page.text, "https://secure.example/"+fileUUID+"/?token=exp=") || !strings.Contains(page.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("the page does not lead to the file: %s", page.text)
		}
	})
	t.Run("answers the guides' call with a link that opens", func(t *testing.T) {
		s.deliver(t, `status = 'completed', completed_at = now(), progress = 1, pushed_bytes = size,
			asset = '{"id":"`+fileUUID+`","url":"https://ucarecdn.com/`+fileUUID+`/","size":5}'`)
		r := s.post(t, "/upload", newForm().file("a.png", "hello"), "Prefer: wait=20")
		if a := into[guideAnswer](t, r, http.StatusOK); !strings.HasPrefix(a.FileURL, "https://secure.example/"+fileUUID+"/?token=exp=") {
			t.Errorf("got %s", r.text)
		}
	})
	t.Run("is told to who looks after the service", func(t *testing.T) {
		if r := into[readiness](t, s.do(t, "GET", "/readyz?verbose", nil), 200); r.Delivery != "signed" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("keeps links out of the log", func(t *testing.T) {
		if text := log.String(); strings.Contains(text, "token=") || strings.Contains(text, "s--") || strings.Contains(text, deliverySecret) {
			t.Errorf("the log has %s", text)
		}
	})
}
