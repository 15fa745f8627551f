package sign

import (
	"errors"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

const cloud = "https://res.cloudinary.com/demo/"

func linked(l Links, a upload.Asset, t provider.Transform) (provider.Link, error) {
	return l.Link(a, t, time.Time{})
}

// The golden table of the neutral names; Uploadcare's sign has its own of the same transforms.
func TestLinksToPictures(t *testing.T) {
	box := provider.Transform{Width: 300, Height: 200, Fit: provider.Contain}
	tests := map[string]struct {
		url, contentType string
		transform        provider.Transform
		want             string // "" is none
	}{
		"within a box":                        {"image/upload/v1/f/a.png", "image/png", box, "image/upload/c_limit,w_300,h_200/f_auto,q_auto/v1/f/a.png"},
		"of a width":                          {"image/upload/v1/f/a.png", "image/png", provider.Transform{Width: 300, Fit: provider.Contain}, "image/upload/c_limit,w_300/f_auto,q_auto/v1/f/a.png"},
		"of a height":                         {"image/upload/v1/f/a.png", "image/png", provider.Transform{Height: 200, Fit: provider.Contain}, "image/upload/c_limit,h_200/f_auto,q_auto/v1/f/a.png"},
		"that fills a box":                    {"image/upload/v1/f/a.png", "image/png", provider.Transform{Width: 300, Height: 200, Fit: provider.Cover}, "image/upload/c_fill,w_300,h_200/f_auto,q_auto/v1/f/a.png"},
		"of an image whose type is not known": {"image/upload/v1/a", "", box, "image/upload/c_limit,w_300,h_200/f_auto,q_auto/v1/a"},
		"of a PDF is of its first page":       {"image/upload/v1/a.pdf", "application/pdf", box, "image/upload/pg_1,c_limit,w_300,h_200/v1/a.jpg"},
		"of a PDF by its name":                {"image/upload/v1/a.PDF", "", box, "image/upload/pg_1,c_limit,w_300,h_200/v1/a.jpg"},
		"of a video is of its first frame":    {"video/upload/v1/a.mp4", "video/mp4", box, "video/upload/so_0,c_limit,w_300,h_200/v1/a.jpg"},
		"of a video by its place":             {"video/upload/v1/a.mp4", "", box, "video/upload/so_0,c_limit,w_300,h_200/v1/a.jpg"},
		"after what was done to it":           {"image/upload/e_grayscale/v1/a.png", "image/png", box, "image/upload/c_limit,w_300,h_200/f_auto,q_auto/e_grayscale/v1/a.png"},
		"there is none of sound":              {"video/upload/v1/a.mp3", "audio/mpeg", box, ""},
		"there is none of sound by its name":  {"video/upload/v1/a.mp3", "", box, ""},
		"there is none of other files":        {"raw/upload/v1/a.zip", "application/zip", box, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := linked(Links{}, upload.Asset{ID: "a", URL: cloud + tt.url, ContentType: tt.contentType}, tt.transform)
			switch {
			case tt.want == "" && !errors.Is(err, provider.ErrNoPicture):
				t.Errorf("got %+v, %v, want none", got, err)
			case tt.want != "" && (err != nil || got != provider.Link{URL: cloud + tt.want}):
				t.Errorf("got %+v, %v, want %s", got, err, tt.want)
			}
		})
	}
	if got, err := linked(Links{}, upload.Asset{URL: "https://example.com/a.png"}, box); !errors.Is(err, provider.ErrNoPicture) {
		t.Errorf("at a foreign host: %+v, %v, want none", got, err)
	}
}

func TestThumbnail(t *testing.T) {
	tests := map[string]struct{ url, contentType, want string }{
		"of an image":                     {cloud + "image/upload/v1/folder/a.png", "image/png", cloud + "image/upload/c_fill,w_300,h_300/v1/folder/a.jpg"},
		"of an image whose type is lost":  {cloud + "image/upload/v1/a", "", cloud + "image/upload/c_fill,w_300,h_300/v1/a.jpg"},
		"of a folder with a dot":          {cloud + "image/upload/v1/a.b/c", "", cloud + "image/upload/c_fill,w_300,h_300/v1/a.b/c.jpg"},
		"of a PDF is its first page":      {cloud + "image/upload/v1/a.pdf", "application/pdf", cloud + "image/upload/pg_1,c_fill,w_300,h_300/v1/a.jpg"},
		"of a video is its first frame":   {cloud + "video/upload/v1/a.mp4", "video/mp4", cloud + "video/upload/so_0,c_fill,w_300,h_300/v1/a.jpg"},
		"there is none of sound":          {cloud + "video/upload/v1/a.mp3", "audio/mpeg", ""},
		"there is none of other files":    {cloud + "raw/upload/v1/a.zip", "application/zip", ""},
		"there is none at a foreign host": {"https://example.com/a.png", "image/png", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Links{}.Thumbnail(upload.Asset{URL: tt.url, ContentType: tt.contentType}, time.Time{})
			if got.URL != tt.want || got.Signed || tt.want == "" != errors.Is(err, provider.ErrNoPicture) {
				t.Errorf("got %+v, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestSignedLinks(t *testing.T) {
	l := Links{Key: Key{Secret: "abcd"}}
	signed := func(path string) string { return l.Key.Delivery(path) + "/" }
	tests := map[string]struct{ id, url, want string }{
		"cover the id and its extension":     {"f/a", "image/authenticated/v7/f/a.png", "image/authenticated/" + signed("f/a.png") + "v7/f/a.png"},
		"are made anew":                      {"f/a", "image/authenticated/s--AAAAAAAA--/v7/f/a.png", "image/authenticated/" + signed("f/a.png") + "v7/f/a.png"},
		"need no version":                    {"f/a", "image/private/f/a.png", "image/private/" + signed("f/a.png") + "f/a.png"},
		"cover an id as it is, not escaped":  {"père", "image/authenticated/v7/p%C3%A8re.png", "image/authenticated/" + signed("père.png") + "v7/p%C3%A8re.png"},
		"take an id's extension for its own": {"a.zip", "raw/authenticated/v7/a.zip", "raw/authenticated/" + signed("a.zip") + "v7/a.zip"},
		"are for no other asset":             {"mine", "image/authenticated/v7/yours.png", "image/authenticated/v7/yours.png"},
		"are for no other raw asset":         {"a", "raw/authenticated/v7/a.zip", "raw/authenticated/v7/a.zip"},
		"are for no path that hides another": {"a", "image/authenticated/v7/b%2Fa.png", "image/authenticated/v7/b%2Fa.png"},
		"are for no folder of another":       {"a", "image/authenticated/yours/v7/a.png", "image/authenticated/yours/v7/a.png"},
		"are not needed by public assets":    {"a", "image/upload/v7/a.png", "image/upload/v7/a.png"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := linked(l, upload.Asset{ID: tt.id, URL: cloud + tt.url}, provider.Transform{})
			if err != nil || got.URL != cloud+tt.want || got.Signed != strings.Contains(tt.want, "s--") {
				t.Errorf("got %+v, %v, want %s", got, err, cloud+tt.want)
			}
		})
	}

	t.Run("of a picture cover its size", func(t *testing.T) {
		a := upload.Asset{ID: "a", URL: cloud + "image/authenticated/v7/a.png", ContentType: "image/png"}
		got, err := linked(l, a, provider.Transform{Width: 300, Fit: provider.Contain})
		want := cloud + "image/authenticated/" + signed("c_limit,w_300/f_auto,q_auto/a.png") + "c_limit,w_300/f_auto,q_auto/v7/a.png"
		if err != nil || got != (provider.Link{URL: want, Signed: true}) {
			t.Errorf("got %+v, %v, want %s", got, err, want)
		}
	})
	t.Run("of a thumbnail too", func(t *testing.T) {
		got, err := l.Thumbnail(upload.Asset{ID: "a", URL: cloud + "image/authenticated/v7/a.png", ContentType: "image/png"}, time.Time{})
		want := cloud + "image/authenticated/" + signed("c_fill,w_300,h_300/a.jpg") + "c_fill,w_300,h_300/v7/a.jpg"
		if err != nil || got != (provider.Link{URL: want, Signed: true}) {
			t.Errorf("got %+v, %v, want %s", got, err, want)
		}
	})
	t.Run("need a secret", func(t *testing.T) {
		a := upload.Asset{ID: "a", URL: cloud + "image/authenticated/v7/a.png"}
		if got, err := linked(Links{}, a, provider.Transform{}); err != nil || got != (provider.Link{URL: a.URL}) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestPlain(t *testing.T) {
	for address, want := range map[string]struct{ plain, kind string }{
		cloud + "image/authenticated/s--iDy_JeBq--/v7/f/a.png":                       {cloud + "image/authenticated/v7/f/a.png", "authenticated"},
		cloud + "raw/private/s--rSONCRLG4ccXuDWJFo2tesw1VRfC94bD--/v7/a.zip":         {cloud + "raw/private/v7/a.zip", "private"},
		cloud + "image/upload/v7/a.png":                                              {cloud + "image/upload/v7/a.png", "upload"},
		"https://demo-res.cloudinary.com/video/authenticated/s--iDy_JeBq--/v7/a.mp4": {"https://demo-res.cloudinary.com/video/authenticated/v7/a.mp4", "authenticated"},
		"https://example.com/a.png":                                                  {"https://example.com/a.png", ""},
	} {
		if got := Plain(address); got != want.plain || Type(address) != want.kind {
			t.Errorf("Plain(%s) = %s of type %q, want %s of %q", address, got, Type(address), want.plain, want.kind)
		}
	}
}
