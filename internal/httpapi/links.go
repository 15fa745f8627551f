package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// maxPixels is how wide and how high a picture may be. It is Uploadcare's limit for a picture that is no
// JPEG ("CDN operations"); Cloudinary's depends on the plan and is higher.
const maxPixels = 3000

// link is where a provider keeps an asset, or its picture by t.
func (a *API) link(name string, asset upload.Asset, t provider.Transform) (provider.Link, error) {
	l, ok := a.Links[name]
	switch {
	case ok:
		return l.Link(asset, t, time.Now())
	case t != (provider.Transform{}):
		return provider.Link{}, provider.ErrNoPicture
	}
	return provider.Link{URL: asset.URL}, nil
}

// thumbnail is where a small picture of a file is, nil for what has none.
func (a *API) thumbnail(f postgres.File) (*string, error) {
	l, ok := a.Links[f.Provider]
	if !ok {
		return nil, nil
	}
	to, err := l.Thumbnail(assetOf(f), time.Now())
	if errors.Is(err, provider.ErrNoPicture) {
		return nil, nil
	}
	return &to.URL, err
}

// assetOf is what a row of a guide table says of an asset's address.
func assetOf(f postgres.File) upload.Asset {
	a := upload.Asset{ID: f.AssetID, URL: f.URL, ResourceType: f.ResourceType}
	if f.ContentType != nil {
		a.ContentType = *f.ContentType
	}
	return a
}

// redirect leads to an asset of a provider, or to its picture. The address may change as long as the upload
// may be sent elsewhere or deleted; a signed one is the caller's alone.
func (a *API) redirect(c *fiber.Ctx, name string, asset upload.Asset, t provider.Transform) error {
	to, err := a.link(name, asset, t)
	if errors.Is(err, provider.ErrNoPicture) {
		return &upload.Error{Code: upload.InvalidParameter, FixableBy: upload.ByYou,
			Message: title(name) + " makes no pictures of this file; without transform this address leads to the file itself."}
	}
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, caching(to.Signed))
	c.Set(resourcePolicy, "cross-origin") // other sites' pages show files; whom, the provider decides, or the token
	return c.Redirect(to.URL, http.StatusFound)
}

// caching is the Cache-Control of an answer with links.
func caching(signed bool) string {
	if signed {
		return "private, no-store"
	}
	return "private, no-cache"
}

// transformIn reads ?transform=width:300,height:200,fit:cover; zero is for none.
func transformIn(c *fiber.Ctx) (t provider.Transform, err error) {
	query, err := queryOf(c)
	if err != nil || !query.Has("transform") {
		return t, err
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(query.Get("transform"), ",") {
		name, value, _ := strings.Cut(pair, ":")
		if seen[name] {
			return t, badTransform(fmt.Sprintf("has %.20q twice", name))
		}
		seen[name] = true
		switch name {
		case "width":
			t.Width, err = pixels(value)
		case "height":
			t.Height, err = pixels(value)
		case "fit":
			t.Fit, err = fit(value)
		default:
			err = badTransform(fmt.Sprintf("has %.20q, which is none of width, height and fit", name))
		}
		if err != nil {
			return t, err
		}
	}
	switch {
	case t.Width == 0 && t.Height == 0:
		return t, badTransform("has neither width nor height")
	case t.Fit == provider.Cover && (t.Width == 0 || t.Height == 0):
		return t, badTransform("has fit:cover, which needs both width and height")
	case t.Fit == "":
		t.Fit = provider.Contain
	}
	return t, nil
}

func pixels(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPixels || strconv.Itoa(n) != s {
		return 0, badTransform(fmt.Sprintf("has %.20q for a number of pixels, which are 1 to %d", s, maxPixels))
	}
	return n, nil
}

func fit(s string) (provider.Fit, error) {
	switch f := provider.Fit(s); f {
	case provider.Contain, provider.Cover:
		return f, nil
	}
	return "", badTransform(fmt.Sprintf("has fit:%.20q, which is neither contain nor cover", s))
}

func badTransform(what string) error {
	return &upload.Error{Code: upload.InvalidParameter, FixableBy: upload.ByYou,
		Message: "transform " + what + "; write it like transform=width:300,height:200,fit:cover."}
}
