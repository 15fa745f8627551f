// Package process opens what the API and the worker both stand on.
package process

import (
	"context"
	"errors"
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
	Polls        string // why nothing that the database announces arrives here; "" when it does
}

// startTolerance is how long a process waits at its start for a database that is asleep or starting.
const startTolerance = time.Minute

// Open connects to the database at url, which may lead through a pooler, and to staging. It refuses what
// does not fit together: an older schema, a copy of another database, a login that sees too little, a
// request role that sees too much, a foreign staging store. A database that goes away meanwhile is waited for.
func Open(ctx context.Context, c *config.Config, url config.Secret, name string, log *slog.Logger) (b *Base, err error) {
	err = Await(ctx, log, func() (err error) {
		b, err = open(ctx, c, url, name, log)
		return err
	})
	return b, err
}

func open(ctx context.Context, c *config.Config, url config.Secret, name string, log *slog.Logger) (b *Base, err error) {
	b = &Base{Names: Names(c)}
	options := postgres.Options{URL: url.Reveal(), MaxConns: int32(c.Database.MaxConns), Names: b.Names, AppName: name}
	options.Pooled, options.Describe = true, true // what works wherever it leads
	if b.Pool, err = postgres.Open(ctx, options); err != nil {
		return nil, err
	}
	pool := b.Pool // a failed return takes b away
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	if err := postgres.CheckSchema(ctx, b.Pool, b.Names); err != nil {
		return nil, err
	}
	if url == c.Database.DirectURL {
		if b.Polls, err = unheard(ctx, b, c, log); err != nil {
			return nil, err
		}
		options.Pooled = b.Polls != ""
	}
	keeps, err := postgres.KeepsStatements(ctx, pool)
	if err != nil {
		return nil, err
	}
	if options.Describe = !keeps; options.Describe {
		log.Warn("the pooler loses prepared statements, so none are used, which is slower",
			"remedy", "PgBouncer 1.21 or newer with max_prepared_statements, or a direct connection string")
	}
	known, err := postgres.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	pool.Close()
	pool, b.Pool = known, known
	if err := postgres.CheckWall(ctx, b.Pool); err != nil {
		return nil, err
	}
	// Who the database is, its own address says, which a pooler need not share.
	if b.Installation, err = postgres.ReadInstallation(ctx, b.Pool, c.Database.DirectURL.Reveal()); err != nil {
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

// OpenDirect is Open by the direct connection string, for who waits for what the database announces.
// Where that string does not answer although DATABASE_URL does, it is by the latter, and Polls says so.
func OpenDirect(ctx context.Context, c *config.Config, name string, log *slog.Logger) (*Base, error) {
	url := c.Database.DirectURL
	if url == c.Database.URL || answers(ctx, c, log) {
		return Open(ctx, c, url, name, log)
	}
	b, err := Open(ctx, c, c.Database.URL, name, log)
	if err != nil {
		return nil, err
	}
	b.Polls = fmt.Sprintf("%s does not answer, DATABASE_URL does", c.Database.DirectFrom)
	log.Warn("asking for jobs instead of being told", "because", b.Polls, "remedy", "mend the connection string and start again")
	return b, nil
}

// directTolerance is how long the direct connection string may be silent while the other answers.
const directTolerance = 5 * time.Second

// answers tells whether the direct connection string is to be used: it leads to the database, or what is
// wrong with it is no weather, or the other does not answer either.
func answers(ctx context.Context, c *config.Config, log *slog.Logger) bool {
	began := time.Now()
	for {
		err := ping(ctx, c.Database.DirectURL)
		if err == nil || !postgres.Unreachable(err) || ctx.Err() != nil {
			return true
		}
		if time.Since(began) > directTolerance {
			return ping(ctx, c.Database.URL) != nil
		}
		log.Warn("the database does not answer yet", "by", c.Database.DirectFrom, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// ping asks whether a connection string leads to a database.
func ping(ctx context.Context, url config.Secret) error {
	ctx, cancel := context.WithTimeout(ctx, directTolerance)
	defer cancel()
	pool, err := postgres.Open(ctx, postgres.Options{URL: url.Reveal(), Pooled: true, Describe: true, MaxConns: 1})
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.Ping(ctx)
}

// unheard tells why what the database announces does not arrive by the direct connection string, "" when it does.
func unheard(ctx context.Context, b *Base, c *config.Config, log *slog.Logger) (string, error) {
	_, err := postgres.Hear(ctx, b.Pool, c.Database.DirectURL.Reveal(), b.Names)
	if err == nil || postgres.Unreachable(err) {
		return "", err
	}
	log.Warn("what the database announces does not arrive; asking for it instead", "by", c.Database.DirectFrom, "error", err,
		"remedy", "set DATABASE_URL_UNPOOLED to a connection string that leads to Postgres itself, without a pooler")
	return "LISTEN does not work by " + c.Database.DirectFrom, nil
}

// Await repeats what a process does at its start for as long as the database is asleep or starting.
func Await(ctx context.Context, log *slog.Logger, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTolerance)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := do()
		if err == nil || !postgres.Unreachable(err) {
			return err
		}
		log.Warn("the database does not answer yet", "error", err)
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
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
