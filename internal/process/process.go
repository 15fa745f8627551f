// Package process opens what the API and the worker both stand on.
package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
	cloudinarysign "slipway/internal/provider/cloudinary/sign"
	"slipway/internal/provider/uploadcare"
	uploadcaresign "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/staging/dir"
)

// Base is a database that this program may work with, and the staging store that belongs to it.
type Base struct {
	Pool         *pgxpool.Pool
	Names        postgres.Names
	Queue        *postgres.Queue
	Installation postgres.Installation
	Staging      *dir.Store
}

// startTolerance is how long a process waits at its start for a database that is asleep or starting.
const startTolerance = time.Minute

// Open connects to the database at url and to staging, and refuses what does not fit together: an
// older schema, a copy of another database, a request role that sees too much, a foreign staging store.
func Open(ctx context.Context, c *config.Config, url config.Secret, name string, log *slog.Logger) (b *Base, err error) {
	b = &Base{Names: Names(c)}
	b.Pool, err = postgres.Open(ctx, postgres.Options{URL: url.Reveal(), MaxConns: int32(c.Database.MaxConns), Names: b.Names, AppName: name})
	if err != nil {
		return nil, err
	}
	pool := b.Pool // a failed return takes b away
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	if err := awaitSchema(ctx, b, log); err != nil {
		return nil, err
	}
	if b.Installation, err = postgres.ReadInstallation(ctx, b.Pool, url.Reveal()); err != nil {
		return nil, err
	}
	if err := postgres.CheckWall(ctx, b.Pool); err != nil {
		return nil, err
	}
	if b.Queue, err = postgres.NewQueue(b.Pool, b.Names); err != nil {
		return nil, err
	}
	if b.Staging, err = dir.New(c.Staging.Dir, dir.Options{Reserve: c.Staging.Reserve}); err != nil {
		return nil, err
	}
	if err := b.Staging.Claim(ctx, b.Installation.ID); err != nil {
		return nil, err
	}
	if err := postgres.MatchStaging(ctx, b.Pool, b.Staging.ID()); err != nil {
		return nil, err
	}
	return b, nil
}

func awaitSchema(ctx context.Context, b *Base, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, startTolerance)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := postgres.CheckSchema(ctx, b.Pool, b.Names)
		if err == nil || !postgres.Unreachable(err) {
			return err
		}
		log.Warn("the database does not answer yet", "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("the database did not answer within %s: %w", startTolerance, err)
		case <-time.After(wait):
		}
	}
}

// Names are the configured schemas.
func Names(c *config.Config) postgres.Names {
	return postgres.Names{Schema: c.Database.Schema, Guide: c.Database.GuideSchema}
}

// Providers are the accounts that the settings name.
func Providers(c *config.Config) ([]provider.Provider, error) {
	var all []provider.Provider
	for _, name := range c.Delivery.Providers {
		var p provider.Provider
		var err error
		switch name {
		case "uploadcare":
			p, err = uploadcare.New(uploadcare.Options{
				PublicKey: c.Uploadcare.PublicKey, SecretKey: c.Uploadcare.SecretKey.Reveal(),
				UploadBase: c.Uploadcare.UploadBase, RESTBase: c.Uploadcare.RESTBase, CDNBase: c.Uploadcare.CDNBase, CDNSecret: uploadcareSecret(c),
				PartETag: c.Uploadcare.PartETag, VerifyReadback: c.Delivery.VerifyReadback,
				Parallel: c.Delivery.PartsPerFile, MaxSize: c.Uploadcare.MaxFileSize,
			})
		case "cloudinary":
			p, err = cloudinary.New(cloudinary.Options{
				CloudName: c.Cloudinary.CloudName, APIKey: c.Cloudinary.APIKey, APISecret: c.Cloudinary.APISecret.Reveal(),
				UploadPrefix: c.Cloudinary.UploadPrefix, DeliveryBase: c.Cloudinary.DeliveryBase, Authenticated: c.Links.Signed(),
			})
		default:
			err = fmt.Errorf("provider %q is not known", name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Links make the addresses of files of every provider, those included that are not used any more.
func Links(c *config.Config) map[string]provider.Linker {
	return map[string]provider.Linker{
		"uploadcare": uploadcaresign.Links{Base: c.Uploadcare.CDNBase, Secret: uploadcareSecret(c), TTL: c.Links.TTL},
		"cloudinary": cloudinarysign.Links{Key: cloudinarysign.Key{Secret: c.Cloudinary.APISecret.Reveal()}},
	}
}

// uploadcareSecret signs links to Uploadcare, whose project demands that of every file or of none.
func uploadcareSecret(c *config.Config) string {
	if !c.Links.Signed() {
		return ""
	}
	return c.Uploadcare.CDNSecret.Reveal()
}

// Log is the process's logger: text for a person.
func Log(c *config.Config, w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: c.LogLevel}))
}
