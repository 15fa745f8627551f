package api

import (
	"log/slog"
	"net/url"
	"runtime/debug"

	"slipway/internal/config"
	"slipway/internal/httpapi"
	"slipway/web"
)

// page is what browsers are shown, by the settings; nil where this program was built without it.
func page(c *config.Config, log *slog.Logger) (*httpapi.Page, error) {
	built := web.Built()
	if built == nil {
		if c.HTTP.Web {
			log.Info("this program was built without its page; browsers are shown one without a script", "remedy", "make build")
		}
		return nil, nil
	}
	o := httpapi.PageOptions{LoginURL: c.HTTP.LoginURL, DevUser: c.Auth.DevUser, Cookie: c.Auth.Cookie != "", Pictures: pictures(c)}
	if info, ok := debug.ReadBuildInfo(); ok {
		o.Version = info.Main.Version
	}
	return httpapi.NewPage(built, o)
}

// pictures are the origins from which the providers send files' small pictures.
func pictures(c *config.Config) []string {
	from := origin(c.Uploadcare.CDNBase, "https://ucarecdn.com", "https://*.ucarecd.net")
	return append(from, origin(c.Cloudinary.DeliveryBase, "https://*.cloudinary.com")...)
}

// origin is that of a base address, which config has checked, or where there is none the provider's own.
func origin(base string, own ...string) []string {
	if base == "" {
		return own
	}
	u, err := url.Parse(base)
	if err != nil {
		return own
	}
	return []string{u.Scheme + "://" + u.Host}
}
