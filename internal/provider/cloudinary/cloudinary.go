// Package cloudinary sends files to one Cloudinary account.
package cloudinary

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	sdk "github.com/cloudinary/cloudinary-go/v2"
	"github.com/cloudinary/cloudinary-go/v2/api"
	"github.com/cloudinary/cloudinary-go/v2/api/admin"
	"github.com/cloudinary/cloudinary-go/v2/api/uploader"
	"github.com/cloudinary/cloudinary-go/v2/config"
	"github.com/cloudinary/cloudinary-go/v2/logger"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/upload"
)

// Name is the word for this provider in JSON, in the database and in queues.
const Name = "cloudinary"

const (
	// defaultChunk is the chunk size of Cloudinary's own SDKs.
	defaultChunk = 20_000_000
	// maxRequest is the most file bytes in one request. The service refuses a request above
	// 100 MB (Upload guide); the form around the file may hold 2 MB of context.
	maxRequest = 96_000_000

	// maxTags is from the guide "Tags", read February 2026; maxMetadata are the pairs of the
	// context parameter (Upload API reference).
	maxTags     = 1000
	maxMetadata = 1000

	// usageTTL is for how long the plan's limits are believed before Check reads them again; the
	// Admin API allows 500 calls an hour on the free plan.
	usageTTL = time.Hour
)

// Options are an account and the way to it.
type Options struct {
	CloudName string
	APIKey    string
	APISecret string
	// UploadPrefix is the address of the API; "" is https://api.cloudinary.com.
	UploadPrefix string
	// DeliveryBase begins the addresses of assets; "" is https://res.cloudinary.com.
	DeliveryBase string
	// SignatureAlgorithm is sign.SHA1 or sign.SHA256; "" is SHA1.
	SignatureAlgorithm string
	// Authenticated sends files so that the world can fetch them only by signed addresses.
	Authenticated bool
	// ChunkSize is the bytes in every chunk but the last; 0 is 20,000,000. Cloudinary takes more
	// than 5 MiB and at most 100 MB (support article "Guidelines for self-implementing chunked upload").
	ChunkSize int64
	// PartsFrom is the size in bytes above which a file of a type goes in chunks, where it is
	// not ChunkSize.
	PartsFrom map[upload.ResourceType]int64
	// Settle is how long a large file may still be assembled after its last answer was lost,
	// before it counts as missing; 0 is 2 s.
	Settle time.Duration
	// CallTimeout is what a request gets beside the time of its bytes; 0 is 30 s. One without a file gets twice as
	// much, and the last of a file, upon which the service puts it together, five times.
	CallTimeout time.Duration
	// Transport carries the requests; nil is one of our own.
	Transport http.RoundTripper
}

// Provider is one Cloudinary account.
type Provider struct {
	opt   Options
	key   sign.Key
	sdk   *sdk.Cloudinary
	line  *line
	http  *http.Client
	usage atomic.Pointer[usage]
}

var _ provider.Provider = (*Provider)(nil)

// usage is what the account's plan allows, as it was read at.
type usage struct {
	at      time.Time
	maxSize map[upload.ResourceType]int64
}

// New returns the provider for the account of opt. It asks nothing of Cloudinary.
func New(opt Options) (*Provider, error) {
	if opt.UploadPrefix == "" {
		opt.UploadPrefix = "https://api.cloudinary.com"
	}
	if opt.ChunkSize == 0 {
		opt.ChunkSize = defaultChunk
	}
	if opt.Settle == 0 {
		opt.Settle = 2 * time.Second
	}
	if opt.CallTimeout == 0 {
		opt.CallTimeout = 30 * time.Second
	}
	if err := opt.check(); err != nil {
		return nil, fmt.Errorf("cloudinary: %w", err)
	}
	line := newLine(opt.Transport, opt.APIKey, opt.APISecret)
	client := http.Client{Transport: line}

	cld, err := sdk.NewFromConfiguration(config.Configuration{
		Cloud: config.Cloud{
			CloudName: opt.CloudName, APIKey: opt.APIKey, APISecret: opt.APISecret,
			SignatureAlgorithm: opt.SignatureAlgorithm,
		},
		API: config.API{UploadPrefix: opt.UploadPrefix, Timeout: max(1, int64(2*opt.CallTimeout/time.Second))},
	})
	if err != nil {
		return nil, fmt.Errorf("cloudinary: %w", err)
	}
	cld.Logger.SetLevel(logger.NONE) // it prints to the standard logger, answers and all
	cld.Upload.Client, cld.Admin.Client = client, client
	return &Provider{
		opt:  opt,
		key:  sign.Key{Secret: opt.APISecret, Algorithm: opt.SignatureAlgorithm},
		sdk:  cld,
		line: line,
		http: &client,
	}, nil
}

func (o Options) check() error {
	if o.CloudName == "" || o.APIKey == "" || o.APISecret == "" {
		return errors.New("cloud name, API key and API secret are all needed")
	}
	switch o.SignatureAlgorithm {
	case "", sign.SHA1, sign.SHA256:
	default:
		return fmt.Errorf("signature algorithm %q is neither %s nor %s", o.SignatureAlgorithm, sign.SHA1, sign.SHA256)
	}
	if o.ChunkSize < 1 || o.ChunkSize > maxRequest {
		return fmt.Errorf("chunk size %d is not between 1 and %d", o.ChunkSize, maxRequest)
	}
	for rt, n := range o.PartsFrom {
		if n > maxRequest {
			return fmt.Errorf("%s files of %d bytes do not fit one request of %d", rt, n, maxRequest)
		}
	}
	return nil
}

// Name is "cloudinary".
func (p *Provider) Name() string { return Name }

// Capabilities are one chunk at a time, and the plan's limits as of the last Check.
func (p *Provider) Capabilities() provider.Capabilities {
	c := provider.Capabilities{Parallel: 1, MaxTags: maxTags, MaxMetadata: maxMetadata}
	if u := p.usage.Load(); u != nil {
		c.MaxSize = maps.Clone(u.maxSize)
	}
	return c
}

// Check asks with the account's keys whether they are good, and at most once an hour what its plan allows.
func (p *Provider) Check(ctx context.Context) error {
	err := p.check(ctx)
	var e *provider.Error
	if errors.As(err, &e) && e.Verdict == provider.Denied {
		e.Verdict = provider.Account
	}
	return err
}

func (p *Provider) check(ctx context.Context) error {
	ping, err := ask(ctx, "check", func() (*admin.PingResult, error) { return p.sdk.Admin.Ping(ctx) })
	if err != nil {
		return err
	}
	if err := p.line.refused("check", ping.Error.Message); err != nil {
		return err
	}
	if ping.Status != "ok" {
		return unreadable("check", fmt.Errorf("the ping says %q", ping.Status))
	}
	if u := p.usage.Load(); u != nil && time.Since(u.at) < usageTTL {
		return nil
	}
	plan, err := ask(ctx, "check", func() (*admin.UsageResult, error) { return p.sdk.Admin.Usage(ctx, admin.UsageParams{}) })
	if err != nil {
		return err
	}
	if err := p.line.refused("check", plan.Error.Message); err != nil {
		return err
	}
	p.usage.Store(&usage{at: time.Now(), maxSize: map[upload.ResourceType]int64{
		upload.Image: int64(plan.MediaLimits.ImageMaxSizeBytes),
		upload.Video: int64(plan.MediaLimits.VideoMaxSizeBytes),
		upload.Raw:   int64(plan.MediaLimits.RawMaxSizeBytes),
	}})
	return nil
}

// Commit returns a as it is: what Cloudinary has stored is lasting.
func (p *Provider) Commit(_ context.Context, _ provider.Source, a upload.Asset) (upload.Asset, error) {
	return a, nil
}

// Delete destroys the asset and its copies in the CDN. An asset without an address, which would tell its
// type, may be of any that we send.
func (p *Provider) Delete(ctx context.Context, a upload.Asset) error {
	if kind := sign.Type(a.URL); kind != "" {
		return p.destroy(ctx, a, kind)
	}
	return errors.Join(p.destroy(ctx, a, deliveryType), p.destroy(ctx, a, authenticated))
}

func (p *Provider) destroy(ctx context.Context, a upload.Asset, kind string) error {
	gone, err := ask(ctx, "delete", func() (*uploader.DestroyResult, error) {
		return p.sdk.Upload.Destroy(ctx, uploader.DestroyParams{
			PublicID: a.ID, ResourceType: string(a.ResourceType), Type: kind, Invalidate: api.Bool(true),
		})
	})
	if err != nil {
		return err
	}
	if err := p.line.refused("delete", gone.Error.Message); err != nil {
		return err
	}
	switch gone.Result {
	case "ok", "not found":
		return nil
	}
	return &provider.Error{Provider: Name, Op: "delete", Status: http.StatusOK, Message: fmt.Sprintf("Cloudinary answered %q.", p.line.clean(gone.Result))}
}
