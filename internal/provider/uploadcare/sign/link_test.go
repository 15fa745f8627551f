package sign

import (
	"errors"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

const (
	linkID = "52da3bfc-7cd8-4861-8b05-126fef7a6994"
	linkAt = "https://abc.ucarecd.net/" + linkID + "/"
	best   = "-/format/auto/-/quality/smart/"
)

// The golden table of the neutral names; Cloudinary's sign has its own of the same transforms.
func TestLinksToPictures(t *testing.T) {
	tests := map[string]struct {
		contentType string
		transform   provider.Transform
		want        string // behind the file's address; "" is none
	}{
		"within a box":                          {"image/png", provider.Transform{Width: 300, Height: 200, Fit: provider.Contain}, "-/preview/300x200/" + best},
		"of a width":                            {"image/png", provider.Transform{Width: 300, Fit: provider.Contain}, "-/stretch/off/-/resize/300x/" + best},
		"of a height":                           {"image/png", provider.Transform{Height: 200, Fit: provider.Contain}, "-/stretch/off/-/resize/x200/" + best},
		"that fills a box":                      {"image/png", provider.Transform{Width: 300, Height: 200, Fit: provider.Cover}, "-/scale_crop/300x200/center/" + best},
		"of what may be an image":               {"", provider.Transform{Width: 300, Height: 200, Fit: provider.Contain}, "-/preview/300x200/" + best},
		"there is none of a PDF by address":     {"application/pdf", provider.Transform{Width: 300, Fit: provider.Contain}, ""},
		"there is none of a video by address":   {"video/mp4", provider.Transform{Width: 300, Fit: provider.Contain}, ""},
		"there is none of what is no picture":   {"application/zip", provider.Transform{Width: 300, Fit: provider.Contain}, ""},
		"there is none of sound, however large": {"audio/mpeg", provider.Transform{Width: 3000, Height: 3000, Fit: provider.Cover}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Links{}.Link(upload.Asset{ID: linkID, URL: linkAt, ContentType: tt.contentType}, tt.transform, time.Time{})
			switch {
			case tt.want == "" && !errors.Is(err, provider.ErrNoPicture):
				t.Errorf("got %+v, %v, want none", got, err)
			case tt.want != "" && (err != nil || got != provider.Link{URL: linkAt + tt.want}):
				t.Errorf("got %+v, %v, want %s", got, err, linkAt+tt.want)
			}
		})
	}
}

func TestPublicLinks(t *testing.T) {
	tests := map[string]struct{ id, url, want, thumbnail string }{
		"lead where the file was stored": {linkID, linkAt, linkAt, linkAt + "-/preview/300x300/" + best},
		"keep a name":                    {linkID, linkAt + "a.png", linkAt + "a.png", linkAt + "-/preview/300x300/" + best + "a.png"},
		"keep operations":                {linkID, linkAt + "-/crop/5x5/", linkAt + "-/crop/5x5/", linkAt + "-/crop/5x5/-/preview/300x300/" + best},
		"leave what they do not know":    {"7", "https://example.com/7/", "https://example.com/7/", ""},
		"leave what another id names":    {linkID, "https://example.com/7/", "https://example.com/7/", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := upload.Asset{ID: tt.id, URL: tt.url, ContentType: "image/png"}
			if got, err := (Links{}).Link(a, provider.Transform{}, time.Time{}); err != nil || got.URL != tt.want || got.Signed {
				t.Errorf("Link = %+v, %v, want %s", got, err, tt.want)
			}
			got, err := Links{}.Thumbnail(a, time.Time{})
			if got.URL != tt.thumbnail || tt.thumbnail == "" && !errors.Is(err, provider.ErrNoPicture) {
				t.Errorf("Thumbnail = %+v, %v, want %q", got, err, tt.thumbnail)
			}
		})
	}
	if got, err := (Links{}).Thumbnail(upload.Asset{ID: linkID, URL: linkAt}, time.Time{}); !errors.Is(err, provider.ErrNoPicture) {
		t.Errorf("of what nobody knows: %+v, %v, want none", got, err)
	}
}

func TestSignedLinks(t *testing.T) {
	l := Links{Base: "https://cdn.yourdomain.com", Secret: "73636b61519adede42191efe1e73f02a67c7b692e3765f90c250c230be095211", TTL: 5 * time.Minute}
	now := time.Date(2021, 10, 12, 0, 0, 0, 0, time.UTC)
	at := l.Base + "/" + linkID + "/"

	t.Run("are those of the official Python client", func(t *testing.T) {
		want := at + "?token=exp=1633997100~acl=/" + linkID + "/~hmac=81852547d9dbd9eefd24bee2cada6eab02244b9013533bc8511511923098df72"
		got, err := l.Link(upload.Asset{ID: linkID, URL: linkAt}, provider.Transform{}, now)
		if err != nil || !got.Signed || got.URL != want {
			t.Errorf("got %+v, %v, want %s", got, err, want)
		}
	})
	t.Run("cover operations, as that client does", func(t *testing.T) {
		const path = "-/resize/640x/other/transformations/"
		want := at + path + "?token=exp=1633997100~acl=/" + linkID + "/" + path + "~hmac=a3ae2b3e3adfcb5d41ca753598e19d17264ac87d2b0b828ccdac5136e63f2f1a"
		got, err := l.Link(upload.Asset{ID: linkID, URL: linkAt + path}, provider.Transform{}, now)
		if err != nil || got.URL != want {
			t.Errorf("got %+v, %v, want %s", got, err, want)
		}
	})
	t.Run("open nothing but what a uuid names", func(t *testing.T) {
		for _, id := range []string{"*", "", "..", linkID + "/*", "52DA3BFC-7CD8-4861-8B05-126FEF7A6994"} {
			a := upload.Asset{ID: id, URL: "https://ucarecdn.com/" + id + "/"}
			if got, err := l.Link(a, provider.Transform{}, now); err != nil || got.Signed || got.URL != a.URL {
				t.Errorf("id %q: %+v, %v, want the address as it is", id, got, err)
			}
		}
	})
	t.Run("need a secret in hex, and do not tell it", func(t *testing.T) {
		bad := l
		bad.Secret = "canary"
		if got, err := bad.Link(upload.Asset{ID: linkID, URL: linkAt}, provider.Transform{}, now); err == nil || got.URL != "" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
