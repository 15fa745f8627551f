// Package api runs the process that answers HTTP.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"slipway/internal/admin"
	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/events"
	"slipway/internal/httpapi"
	"slipway/internal/ingest"
	"slipway/internal/process"
	"slipway/internal/quota"
)

// Options say how the API runs.
type Options struct {
	Config   *config.Config
	Log      *slog.Logger
	Listener net.Listener // nil: listen where Config says
	Admin    net.Listener // of the admin pages; nil: where Config says, if it does
	Dev      bool         // serve this machine only, and any page from it
	Ready    func()       // called once requests are answered; nil is fine
}

// Run answers until ctx ends; then it lets what is running come to its end, and returns.
func Run(ctx context.Context, o Options) error {
	c, log := o.Config, o.Log
	base, err := process.Open(ctx, c, c.Database.URL, "slipway-api", log)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to stop before it had begun
	}
	if err != nil {
		return err
	}
	defer base.Pool.Close()
	ln := o.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", c.HTTP.Address()); err != nil {
			return fmt.Errorf("listen: %w", config.PortTaken(err, "PORT", c.HTTP.Port))
		}
	}
	if c.Auth.DevUser != "" {
		log.Warn("whoever brings no token is taken for DEV_USER", "user", c.Auth.DevUser)
	}

	var secret []byte
	if err := process.Await(ctx, log, func() (err error) {
		secret, err = sharedSecret(ctx, c, base)
		return err
	}); err != nil {
		return err
	}
	adminListener := o.Admin
	if adminListener == nil && c.AdminPort != 0 {
		if adminListener, err = net.Listen("tcp", c.AdminAddress()); err != nil {
			return fmt.Errorf("listen: %w", config.PortTaken(err, "ADMIN_PORT", c.AdminPort))
		}
	}
	who, err := authenticator(c, base, secret, log)
	if err != nil {
		return err
	}
	cursors, err := httpapi.NewCursors(secret, base.Installation.ID)
	if err != nil {
		return err
	}

	hub := events.NewHub(c.Database.DirectURL.Reveal(), base.Names, log)
	hub.DB = base.Pool
	feed := events.NewFeed(hub, base.Pool, log)
	server := httpapi.New(httpapi.Options{
		Log:            log,
		AllowedOrigins: c.HTTP.AllowedOrigins,
		Cookies:        c.Auth.Cookie != "",
		Dev:            o.Dev || c.Auth.DevUser != "" && c.HTTP.Loopback(),
		PublicURL:      c.HTTP.PublicURL,
		TrustedProxies: c.HTTP.TrustedProxies,
		DrainTimeout:   c.DrainTimeout,
	})
	most, err := process.MaxBytes(c, base)
	if err != nil {
		return err
	}
	imports, err := process.Imports(c)
	if err != nil {
		return err
	}
	shown, err := page(c, log)
	if err != nil {
		return err
	}
	quotas := process.Quotas(c, base, log)
	defer quotas.Close()
	server.Mount(&httpapi.API{
		Auth: who, Cursors: cursors,
		Ingest: &ingest.Ingest{
			Pool: base.Pool, Queue: base.Queue, Staging: base.Staging, Quotas: quotas, Log: log,
			Providers: c.Delivery.Providers, DefaultProvider: c.Delivery.DefaultProvider,
			MaxBytes: most, Rules: process.Rules(c), ProviderRules: process.ProviderRules(c),
			MaxAttempts: c.Delivery.MaxAttempts, DeliverWithin: c.Delivery.Deadline, Imports: imports,
			KeyTTL: c.HTTP.KeyTTL,
		},
		Quotas:        quotas,
		Direct:        direct(c, base, quotas),
		Webhooks:      webhooks(c),
		Pool:          base.Pool,
		Hub:           hub,
		Feed:          feed,
		UnfinishedTTL: c.Staging.UnfinishedTTL,
		Links:         process.Links(c),
		Delivery:      c.Links.Delivery,
		UploadWait:    c.HTTP.UploadWait,
		PublicFiles:   c.HTTP.PublicFiles,
		Page:          shown,
		NoPages:       !c.HTTP.Web,
	})

	// The hub outlives ctx: whoever waits for news is answered by the drain.
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { hub.Run(listening) })
	parts.Go(func() { feed.Run(listening) })
	if who.KeySet != nil {
		parts.Go(func() { who.KeySet.Run(listening) })
	}
	if who.Keys != nil {
		parts.Go(func() { who.Keys.Run(listening) })
	}
	defer parts.Wait()
	defer stop()

	if adminListener != nil {
		pages, err := adminPages(c, base, who, log)
		if err != nil {
			return errors.Join(err, adminListener.Close())
		}
		parts.Go(func() {
			if err := pages.Serve(listening, adminListener); err != nil {
				log.Error("the admin pages are not served any more", "error", err)
			}
		})
	}

	log.Info("api is ready", "address", ln.Addr().String())
	if o.Ready != nil {
		o.Ready()
	}
	return server.Serve(ctx, ln)
}

// adminPages are River's, for who has a key of scope admin.
func adminPages(c *config.Config, base *process.Base, who *auth.Authenticator, log *slog.Logger) (*admin.Server, error) {
	if c.OpenAdmin() {
		who = nil
	}
	return admin.New(base.Queue, who, log.With("part", "admin"))
}

// direct is what browsers may send straight to the providers, by the settings.
func direct(c *config.Config, base *process.Base, quotas *quota.Quotas) httpapi.Direct {
	var d httpapi.Direct
	if c.Delivery.DirectUploads == "off" {
		return d
	}
	d.Claims = &ingest.Direct{
		Pool: base.Pool, Queue: base.Queue, Quotas: quotas, Installation: base.Installation.ID, Strict: c.Delivery.DirectUploads == "strict",
		MaxAttempts: c.Delivery.MaxAttempts, VerifyWithin: c.Delivery.Deadline,
	}
	if slices.Contains(c.Delivery.Providers, "cloudinary") {
		d.Cloudinary = &httpapi.CloudinaryAccount{
			CloudName: c.Cloudinary.CloudName, APIKey: c.Cloudinary.APIKey, Secret: c.Cloudinary.APISecret.Reveal(),
			UploadPrefix: cmp.Or(c.Cloudinary.PublicUploadPrefix, c.Cloudinary.UploadPrefix),
		}
		if c.Links.Signed() {
			d.Cloudinary.Type = "authenticated"
		}
	}
	if slices.Contains(c.Delivery.Providers, "uploadcare") {
		d.Uploadcare = &httpapi.UploadcareAccount{
			PublicKey: c.Uploadcare.PublicKey, SecretKey: c.Uploadcare.SecretKey.Reveal(),
			UploadBase: cmp.Or(c.Uploadcare.PublicUploadBase, c.Uploadcare.UploadBase),
		}
	}
	return d
}

// webhooks are the secrets of the providers' notifications, by the settings.
func webhooks(c *config.Config) httpapi.Webhooks {
	var w httpapi.Webhooks
	if slices.Contains(c.Delivery.Providers, "uploadcare") {
		w.Uploadcare = c.Uploadcare.WebhookSecret.Reveal()
	}
	if slices.Contains(c.Delivery.Providers, "cloudinary") {
		w.Cloudinary = cmp.Or(c.Cloudinary.WebhookSecret, c.Cloudinary.APISecret).Reveal()
	}
	return w
}
