package api

import (
	"testing"

	"slipway/internal/config"
	"slipway/internal/process"
)

func TestBrowsersAreSentWhereTheyReachTheProviders(t *testing.T) {
	const inside, outside = "http://providers.internal:3001", "https://providers.example.com"
	var c config.Config
	c.Delivery.Providers = []string{"uploadcare", "cloudinary"}
	c.Uploadcare.UploadBase, c.Cloudinary.UploadPrefix = inside, inside
	d := direct(&c, &process.Base{}, nil)
	if d.Uploadcare.UploadBase != inside || d.Cloudinary.UploadPrefix != inside {
		t.Errorf("without an address of their own they are sent to %s and %s, want %s", d.Uploadcare.UploadBase, d.Cloudinary.UploadPrefix, inside)
	}
	c.Uploadcare.PublicUploadBase, c.Cloudinary.PublicUploadPrefix = outside, outside
	d = direct(&c, &process.Base{}, nil)
	if d.Uploadcare.UploadBase != outside || d.Cloudinary.UploadPrefix != outside {
		t.Errorf("they are sent to %s and %s, want %s", d.Uploadcare.UploadBase, d.Cloudinary.UploadPrefix, outside)
	}
}
