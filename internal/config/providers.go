package config

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const (
	uploadcare = "uploadcare"
	cloudinary = "cloudinary"
)

// credential is one of the settings without which a provider cannot be asked.
type credential struct{ variable, value, remedy string }

// account is a provider and what it needs.
type account struct {
	provider    string
	credentials []credential
}

// begun tells whether any of it is set.
func (a account) begun() bool {
	return slices.ContainsFunc(a.credentials, func(c credential) bool { return c.value != "" })
}

// accounts are those of all providers; the first is preferred.
func (c *Config) accounts() []account {
	const (
		uploadcareKeys = "copy it from your project in the Uploadcare dashboard, section API Keys"
		cloudinaryKeys = "copy it from your Cloudinary account's settings, Product Environment Credentials"
	)
	return []account{
		{uploadcare, []credential{
			{"UPLOADCARE_PUBLIC_KEY", c.Uploadcare.PublicKey, uploadcareKeys},
			{"UPLOADCARE_SECRET_KEY", c.Uploadcare.SecretKey.Reveal(), uploadcareKeys + ", beside the public key; that one alone can upload, but neither store nor delete"},
		}},
		{cloudinary, []credential{
			{"CLOUDINARY_CLOUD_NAME", c.Cloudinary.CloudName, cloudinaryKeys},
			{"CLOUDINARY_API_KEY", c.Cloudinary.APIKey, cloudinaryKeys},
			{"CLOUDINARY_API_SECRET", c.Cloudinary.APISecret.Reveal(), cloudinaryKeys},
		}},
	}
}

// checkProviders finds out which providers there are.
func (c *Config) checkProviders(need Need, faults *Faults) {
	c.readCloudinaryURL(faults)
	faults.base("UPLOADCARE_UPLOAD_BASE", &c.Uploadcare.UploadBase)
	faults.base("UPLOADCARE_PUBLIC_UPLOAD_BASE", &c.Uploadcare.PublicUploadBase)
	faults.base("UPLOADCARE_REST_BASE", &c.Uploadcare.RESTBase)
	faults.base("UPLOADCARE_CDN_BASE", &c.Uploadcare.CDNBase)
	faults.base("CLOUDINARY_UPLOAD_PREFIX", &c.Cloudinary.UploadPrefix)
	faults.base("CLOUDINARY_PUBLIC_UPLOAD_PREFIX", &c.Cloudinary.PublicUploadPrefix)
	faults.base("CLOUDINARY_DELIVERY_BASE", &c.Cloudinary.DeliveryBase)
	if e := c.Uploadcare.PartETag; e != "md5" && e != "ignore" {
		faults.add("UPLOADCARE_PART_ETAG", fmt.Sprintf("is %q", e), "give md5 or ignore")
	}

	if !isHex(c.Uploadcare.CDNSecret.Reveal()) {
		faults.add("UPLOADCARE_CDN_SECRET", "is not hexadecimal", signingSecret)
	}

	if len(c.Uploadcare.WebhookSecret) > maxSigningSecret {
		faults.add("UPLOADCARE_WEBHOOK_SECRET", fmt.Sprintf("has more than %d characters, which Uploadcare does not take", maxSigningSecret), "make one with: openssl rand -hex 16")
	}

	d := &c.Delivery
	named, known := d.Providers, []string(nil)
	d.Providers = nil
	for _, a := range c.accounts() {
		known = append(known, a.provider)
		if slices.Contains(named, a.provider) || len(named) == 0 && a.begun() {
			d.Providers = append(d.Providers, a.provider)
			if need&(NeedAPI|NeedWorker) != 0 {
				faults.account(a)
				c.checkSigned(a.provider, faults)
			}
		}
	}
	for _, name := range named {
		if !slices.Contains(known, name) {
			faults.add("PROVIDERS", fmt.Sprintf("names %q", name), "give one or more of "+strings.Join(known, ","))
		}
	}
	switch {
	case len(d.Providers) == 0:
		if need&(NeedAPI|NeedWorker) != 0 {
			faults.add("PROVIDERS", "are none: no credentials are set",
				"set UPLOADCARE_PUBLIC_KEY and UPLOADCARE_SECRET_KEY, or CLOUDINARY_CLOUD_NAME, CLOUDINARY_API_KEY and CLOUDINARY_API_SECRET")
		}
	case d.DefaultProvider == "":
		d.DefaultProvider = d.Providers[0]
	case !slices.Contains(d.Providers, d.DefaultProvider):
		faults.add("DEFAULT_PROVIDER", fmt.Sprintf("is %q", d.DefaultProvider), "give one of "+strings.Join(d.Providers, ","))
	}
}

// maxSigningSecret is the longest that a webhook may have (REST API reference, "Create webhook").
const maxSigningSecret = 32

const signingSecret = "copy it from your project in the Uploadcare dashboard, Settings, Delivery, CDN domain names, Enable signed URLs"

// checkSigned notes what signed links to a provider lack. Cloudinary's are signed by its API secret.
func (c *Config) checkSigned(provider string, faults *Faults) {
	if provider != uploadcare || !c.Links.Signed() {
		return
	}
	if c.Uploadcare.CDNSecret == "" {
		faults.add("UPLOADCARE_CDN_SECRET", "is not set, and DELIVERY is signed", signingSecret+"; or set DELIVERY=public")
	}
	if c.Uploadcare.CDNBase == "" {
		faults.add("UPLOADCARE_CDN_BASE", "is not set, and DELIVERY is signed",
			"give the project's secure subdomain, which is at the same place, or the CNAME that demands signatures; or set DELIVERY=public")
	}
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

// account notes what a lacks.
func (f *Faults) account(a account) {
	for _, cr := range a.credentials {
		if cr.value == "" {
			f.add(cr.variable, "is not set", cr.remedy)
		}
		f.placeholder(cr.variable, cr.value, cr.remedy)
	}
}

// readCloudinaryURL takes from CLOUDINARY_URL what is not set by itself.
func (c *Config) readCloudinaryURL(faults *Faults) {
	const name, spell = "CLOUDINARY_URL", "give it as cloudinary://API_KEY:API_SECRET@CLOUD_NAME"
	if c.Cloudinary.URL == "" {
		return
	}
	u, err := url.Parse(c.Cloudinary.URL.Reveal())
	if err != nil || u.Scheme != "cloudinary" || u.Host == "" || u.User == nil {
		faults.add(name, "is not understood", spell)
		return
	}
	secret, _ := u.User.Password()
	for _, part := range []struct {
		variable string
		to       *string
		value    string
	}{
		{"CLOUDINARY_CLOUD_NAME", &c.Cloudinary.CloudName, u.Host},
		{"CLOUDINARY_API_KEY", &c.Cloudinary.APIKey, u.User.Username()},
		{"CLOUDINARY_API_SECRET", (*string)(&c.Cloudinary.APISecret), secret},
		{"CLOUDINARY_UPLOAD_PREFIX", &c.Cloudinary.UploadPrefix, u.Query().Get("upload_prefix")},
	} {
		if *part.to == "" {
			*part.to = part.value
		} else if part.value != "" && part.value != *part.to {
			faults.add(name, "says something else than "+part.variable, "unset one of them")
		}
	}
}
