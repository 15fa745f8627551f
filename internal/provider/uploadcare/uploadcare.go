// Package uploadcare sends files to one Uploadcare project.
//
// The official SDK configures, authenticates and makes the small calls. Bytes go by our own
// streaming requests, and one RoundTripper (wire.go) under both turns every answer that is not a
// success into a *provider.Error: left alone, the SDK takes some failures for success.
//
// A file below 10 MiB is posted in one piece; it has no id before its answer arrives. A larger
// one goes in parts, in any order and at once, into a session whose uuid is known before the first
// byte. Both are uploaded unstored, which Uploadcare removes after 24 hours; Commit stores them. So
// whatever a crash leaves behind disappears by itself.
package uploadcare

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/uploadcare/uploadcare-go/file"
	"github.com/uploadcare/uploadcare-go/project"
	"github.com/uploadcare/uploadcare-go/ucare"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

const name = "uploadcare"

// readTTL is for how long an address is signed that we read from ourselves: until the read has begun, by
// clocks that may differ.
const readTTL = 10 * time.Minute

// The SDK addresses only these two hosts; wire sends what goes there to the configured bases.
const (
	uploadHost = "upload.uploadcare.com"
	restHost   = "api.uploadcare.com"
)

// Options configure a Provider. Zero values of all but the keys stand for the defaults named here.
type Options struct {
	PublicKey string
	SecretKey string

	UploadBase string // https://upload.uploadcare.com
	RESTBase   string // https://api.uploadcare.com
	CDNBase    string // https://<prefix of the public key>.ucarecd.net
	CDNSecret  string // in hex, signs what is read from CDNBase; "" where that is open to everybody

	// PartETag is "md5" (default: a part's ETag that looks like an MD5 must be the part's) or "ignore".
	PartETag string
	// VerifyReadback fetches a file that went in one piece from the CDN before it is stored, and
	// compares its bytes.
	VerifyReadback bool

	Parallel int   // parts of one file at once; 4
	MaxSize  int64 // bytes in one file, by the account's plan, which the API does not tell; 0 is unknown
	PartSize int64 // bytes, at least 5 MiB; 0 chooses by the file's size
	// PartsFrom is the size from which a file goes in parts: 10 MiB, and what is smaller Uploadcare refuses. Only a
	// simulator may be told to take less, and then smaller parts as well.
	PartsFrom int64

	CallTimeout  time.Duration // of a call without a file's bytes, and what one with them gets beside MinRate; 60 s
	ReadyTimeout time.Duration // how long a file may take to become ready once it is complete; 10 min
	MinRate      int64         // bytes a second below which a request with bytes is given up; 64 KiB

	// Transport carries all requests; one over HTTP/1.1 with timeouts of its own by default.
	Transport http.RoundTripper
}

// Provider is one Uploadcare project.
type Provider struct {
	opts  Options
	http  *http.Client
	sdk   ucare.Client
	files file.Service
	cdn   string // without a trailing slash
	links sign.Links
}

// New returns the project that o's keys belong to, or an error that names every wrong option. It asks nobody.
func New(o Options) (*Provider, error) {
	o.UploadBase = cmp.Or(o.UploadBase, "https://"+uploadHost)
	o.RESTBase = cmp.Or(o.RESTBase, "https://"+restHost)
	o.CDNBase = cmp.Or(o.CDNBase, "https://"+sign.CDNHost(o.PublicKey))
	o.PartETag = cmp.Or(o.PartETag, "md5")
	o.Parallel = cmp.Or(o.Parallel, 4)
	o.CallTimeout = cmp.Or(o.CallTimeout, time.Minute)
	o.ReadyTimeout = cmp.Or(o.ReadyTimeout, 10*time.Minute)
	o.MinRate = cmp.Or(o.MinRate, 64<<10)
	o.PartsFrom = cmp.Or(o.PartsFrom, partsFrom)
	if o.Transport == nil {
		o.Transport = newTransport(o)
	}

	uploadBase, uploadErr := base("upload base", o.UploadBase)
	restBase, restErr := base("REST base", o.RESTBase)
	cdnBase, cdnErr := base("CDN base", o.CDNBase)
	if err := errors.Join(o.check(), uploadErr, restErr, cdnErr); err != nil {
		return nil, fmt.Errorf("uploadcare: %w", err)
	}

	p := &Provider{opts: o, cdn: cdnBase.String()}
	p.links = sign.Links{Base: p.cdn, Secret: o.CDNSecret, TTL: readTTL}
	p.http = &http.Client{
		Transport: &wire{
			next:  o.Transport,
			bases: map[string]*url.URL{uploadHost: uploadBase, restHost: restBase},
			keys:  []string{o.SecretKey, o.PublicKey},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var err error
	p.sdk, err = ucare.NewClient(
		ucare.APICreds{PublicKey: o.PublicKey, SecretKey: o.SecretKey},
		&ucare.Config{HTTPClient: p.http, APIVersion: "v0.7", SignBasedAuthentication: true})
	if err != nil {
		return nil, err
	}
	p.files = file.NewService(p.sdk)
	return p, nil
}

func (o Options) check() error {
	var errs []error
	if o.PublicKey == "" || o.SecretKey == "" {
		errs = append(errs, errors.New("public and secret key are both needed"))
	}
	if o.PartETag != "md5" && o.PartETag != "ignore" {
		errs = append(errs, fmt.Errorf("part ETag is %q, want md5 or ignore", o.PartETag))
	}
	if o.PartsFrom >= partsFrom && o.PartSize != 0 && o.PartSize < minPart {
		errs = append(errs, fmt.Errorf("part size is %d bytes, at least %d are needed", o.PartSize, minPart))
	}
	if _, err := hex.DecodeString(o.CDNSecret); err != nil {
		errs = append(errs, errors.New("the CDN secret is not hexadecimal"))
	}
	if o.PartsFrom < 1 || o.Parallel < 1 || o.MaxSize < 0 || o.CallTimeout < 0 || o.ReadyTimeout < 0 || o.MinRate < 0 {
		errs = append(errs, errors.New("no number may be negative"))
	}
	return errors.Join(errs...)
}

// base parses an address. The two APIs sign paths, so it has none of its own but for a slash.
func base(what, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("%s must be like https://host, without a path", what)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// newTransport speaks HTTP/1.1 only: parts that go at once shall each have a connection, instead of
// sharing the window of one.
func newTransport(o Options) *http.Transport {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: o.CallTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8 * o.Parallel,
		WriteBufferSize:       64 << 10,
		DisableCompression:    true,
		Protocols:             new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return name }

// Capabilities implements provider.Provider.
func (p *Provider) Capabilities() provider.Capabilities {
	c := provider.Capabilities{
		Parallel:    p.opts.Parallel,
		NeedsCommit: true,
		MaxTags:     maxTags,
		MaxMetadata: maxMetadata,
	}
	if p.opts.MaxSize > 0 {
		c.MaxSize = map[upload.ResourceType]int64{"": p.opts.MaxSize}
	}
	return c
}

// Check asks for the project that the keys belong to.
func (p *Provider) Check(ctx context.Context) error {
	const op = "check"
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	info, err := project.NewService(p.sdk).Info(call)
	if err != nil {
		return judgedAnew(p.failed(ctx, op, err), provider.Denied, provider.Account)
	}
	if info.PubKey == "" {
		return unusable(op, nil)
	}
	return nil
}
