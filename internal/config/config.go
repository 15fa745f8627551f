// Package config turns the environment into checked settings.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Need says which settings must be there. Those that are there are checked in any case.
type Need uint8

const (
	NeedDatabase Need = 1 << iota // to migrate
	NeedAPI
	NeedWorker
)

// Config holds every setting. Its secrets show themselves only to Reveal; as a [slog.LogValuer] it is
// fit for a log.
type Config struct {
	HTTP       HTTP
	Auth       Auth
	Quotas     Quotas
	Database   Database
	Staging    Staging
	Imports    Imports
	Delivery   Delivery
	Links      Links
	Uploadcare Uploadcare
	Cloudinary Cloudinary

	WorkerPort   int           `env:"WORKER_PORT" envDefault:"3003"` // of the worker's /livez and /readyz
	AdminHost    string        `env:"ADMIN_HOST" envDefault:"127.0.0.1"`
	AdminPort    int           `env:"ADMIN_PORT"` // of the pages for who looks after the service; 0 is nowhere
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"25s"`
	LogLevel     slog.Level    `env:"LOG_LEVEL" envDefault:"info"`
}

// HTTP is where and how requests come in.
type HTTP struct {
	Host           string        `env:"HOST"` // an address or "localhost"; "" is every interface
	Port           int           `env:"PORT" envDefault:"3000"`
	PublicURL      string        `env:"PUBLIC_URL"` // without a trailing slash; "" is whatever the request names
	AllowedOrigins []string      `env:"ALLOWED_ORIGINS"`
	TrustedProxies []string      `env:"TRUSTED_PROXIES"` // addresses and networks
	PublicFiles    bool          `env:"PUBLIC_FILES" envDefault:"off"`
	Web            bool          `env:"WEB" envDefault:"on"` // pages for browsers
	LoginURL       string        `env:"LOGIN_URL"`           // where whoever is nobody signs in for them, as an address or a path of this host
	UploadWait     time.Duration `env:"UPLOAD_WAIT" envDefault:"10s"`
	MaxUploadBytes int64         `env:"MAX_UPLOAD_BYTES" envDefault:"10GiB"`
	KeyTTL         time.Duration `env:"IDEMPOTENCY_TTL" envDefault:"24h"` // that a request's Idempotency-Key is remembered
	AllowedTypes   []string      `env:"ALLOWED_TYPES"`                    // by the content; none is every type
	MaxBytesByType TypeSizes     `env:"MAX_BYTES_BY_TYPE"`
}

// Address is what the API listens on.
func (h HTTP) Address() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// Loopback tells whether only this machine can reach the API.
func (h HTTP) Loopback() bool { return isLoopback(h.Host) }

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// AdminAddress is what the admin pages listen on.
func (c *Config) AdminAddress() string {
	return net.JoinHostPort(c.AdminHost, strconv.Itoa(c.AdminPort))
}

// OpenAdmin tells whether the admin pages ask for no key: in development, where only this machine reaches them.
func (c *Config) OpenAdmin() bool {
	return c.Auth.DevUser != "" && c.HTTP.Loopback() && isLoopback(c.AdminHost)
}

// Auth is who may ask.
type Auth struct {
	JWTSecret Secret   `env:"AUTH_JWT_SECRET"` // signs users' tokens, in HS256
	JWKSURL   string   `env:"AUTH_JWKS_URL"`   // of the public keys of those who sign them in RS256, ES256 or EdDSA
	Issuer    string   `env:"AUTH_ISSUER"`     // of the tokens; "" is any
	Audience  []string `env:"AUTH_AUDIENCE"`   // one of which they are for; none is any
	UserClaim string   `env:"AUTH_USER_CLAIM" envDefault:"sub"`

	Cookie      string `env:"AUTH_COOKIE"`      // the name of one that holds such a token
	UserHeader  string `env:"AUTH_USER_HEADER"` // in which a trusted proxy names the user
	APIKeys     string `env:"AUTH_API_KEYS" envDefault:"on"`
	TokenSecret Secret `env:"AUTH_TOKEN_SECRET"` // signs upload tokens; "" is the database's own

	DevUser     string `env:"DEV_USER"` // whom everybody counts as who brings no token
	InsecureDev bool   `env:"INSECURE_DEV" envDefault:"off"`
}

// APIKeysOff and APIKeysOnly are what Auth.APIKeys may be beside "on": no server may ask, or only those may,
// and whoever they gave an upload token.
const (
	APIKeysOff  = "off"
	APIKeysOnly = "only"
)

// Quotas are what each user may use; 0 is as much as they like.
type Quotas struct {
	StagedBytes int64 `env:"QUOTA_STAGED_BYTES"` // in staging at the same time
	StoredBytes int64 `env:"QUOTA_STORED_BYTES"` // with the providers, and on the way there
	Uploads     int   `env:"QUOTA_UPLOADS_PER_DAY"`
	Receiving   int   `env:"QUOTA_CONCURRENT_UPLOADS"`
	Requests    int   `env:"QUOTA_REQUESTS_PER_MINUTE"`
}

// Database is the way to Postgres.
type Database struct {
	URL         Secret `env:"DATABASE_URL"`          // may lead through a pooler
	DirectURL   Secret `env:"DATABASE_URL_UNPOOLED"` // leads to Postgres itself, for LISTEN and migrations
	DirectFrom  string `env:"-"`                     // where DirectURL was taken from, for the log
	Schema      string `env:"DATABASE_SCHEMA" envDefault:"slipway"`
	GuideSchema string `env:"GUIDE_SCHEMA" envDefault:"public"`   // of uploadcare_files and cloudinary_files
	MaxConns    int    `env:"DATABASE_MAX_CONNS" envDefault:"10"` // of one process

	HistoryRetention time.Duration `env:"HISTORY_RETENTION" envDefault:"90d"`
}

// Staging is where bytes rest, and for how long.
type Staging struct {
	Dir           string        `env:"STAGING_DIR" envDefault:"./staging"`
	Reserve       int64         `env:"STAGING_RESERVE" envDefault:"1GiB"` // bytes that stay free
	Budget        int64         `env:"STAGING_BUDGET"`                    // bytes that may be there at the same time, and on the way there; 0 is what the disk has
	Retention     time.Duration `env:"STAGING_RETENTION" envDefault:"7d"` // of the bytes of a failed upload
	UnfinishedTTL time.Duration `env:"UNFINISHED_TTL" envDefault:"24h"`   // of an upload that nobody goes on with
	TrashTTL      time.Duration `env:"TRASH_RETENTION" envDefault:"7d"`   // of bytes that no upload needs
}

// Imports are files that are fetched from the web.
type Imports struct {
	On              bool          `env:"IMPORT" envDefault:"on"`
	PrivateNetworks []string      `env:"IMPORT_PRIVATE_NETWORKS"`            // that files are fetched from as well, as networks; "on" is all
	Files           int           `env:"IMPORT_CONCURRENCY" envDefault:"16"` // at once, in one worker
	Deadline        time.Duration `env:"IMPORT_DEADLINE" envDefault:"24h"`   // in which a file has to have come
}

// Delivery is how staged files go to their providers.
type Delivery struct {
	Providers       []string      `env:"PROVIDERS"` // those whose credentials are complete, if none are named
	DefaultProvider string        `env:"DEFAULT_PROVIDER"`
	MaxAttempts     int           `env:"MAX_ATTEMPTS" envDefault:"10"`
	Files           int           `env:"PUSH_CONCURRENCY" envDefault:"4"` // at once, for each provider
	PartsPerFile    int           `env:"PUSH_PARTS" envDefault:"4"`       // at once, where the provider takes several
	Connections     int           `env:"PUSH_CONNECTIONS"`                // with bytes to a provider at once; 0: four for each processor
	Deadline        time.Duration `env:"DELIVERY_DEADLINE" envDefault:"7d"`
	VerifyReadback  bool          `env:"VERIFY_READBACK" envDefault:"off"`
	DirectUploads   string        `env:"DIRECT_UPLOADS" envDefault:"on"` // on, strict or off
	ScanCommand     string        `env:"SCAN_COMMAND"`                   // looks into files before they are sent; "" is none
}

// Links are how the world fetches what has been delivered.
type Links struct {
	Delivery string        `env:"DELIVERY" envDefault:"public"`   // or "signed": a file opens only to who has been given a link
	TTL      time.Duration `env:"SIGNED_URL_TTL" envDefault:"1h"` // of a link to Uploadcare; Cloudinary's do not expire
}

// Signed tells whether new files open only to signed links.
func (l Links) Signed() bool { return l.Delivery == "signed" }

// Uploadcare is the way to an Uploadcare project. A base that is "" is the service's own.
type Uploadcare struct {
	PublicKey     string `env:"UPLOADCARE_PUBLIC_KEY"`
	SecretKey     Secret `env:"UPLOADCARE_SECRET_KEY"`
	UploadBase    string `env:"UPLOADCARE_UPLOAD_BASE"`
	RESTBase      string `env:"UPLOADCARE_REST_BASE"`
	CDNBase       string `env:"UPLOADCARE_CDN_BASE"`
	CDNSecret     Secret `env:"UPLOADCARE_CDN_SECRET"`     // hex, signs links
	WebhookSecret Secret `env:"UPLOADCARE_WEBHOOK_SECRET"` // signs its notifications; without one none are taken
	MaxFileSize   int64  `env:"UPLOADCARE_MAX_FILE_SIZE"`  // the plan's, which no API tells; 0 is unknown
	PartETag      string `env:"UPLOADCARE_PART_ETAG" envDefault:"md5"`

	AllowedTypes   []string  `env:"UPLOADCARE_ALLOWED_TYPES"` // beside those for every file
	MaxBytesByType TypeSizes `env:"UPLOADCARE_MAX_BYTES_BY_TYPE"`

	PublicUploadBase string `env:"UPLOADCARE_PUBLIC_UPLOAD_BASE"` // where browsers send files; "" is UploadBase
}

// Cloudinary is the way to a Cloudinary product environment. A base that is "" is the service's own.
type Cloudinary struct {
	CloudName     string `env:"CLOUDINARY_CLOUD_NAME"`
	APIKey        string `env:"CLOUDINARY_API_KEY"`
	APISecret     Secret `env:"CLOUDINARY_API_SECRET"`
	URL           Secret `env:"CLOUDINARY_URL"` // cloudinary://key:secret@cloud, for what is not set above
	UploadPrefix  string `env:"CLOUDINARY_UPLOAD_PREFIX"`
	DeliveryBase  string `env:"CLOUDINARY_DELIVERY_BASE"`
	WebhookSecret Secret `env:"CLOUDINARY_WEBHOOK_SECRET"` // signs its notifications, where that is not APISecret

	AllowedTypes   []string  `env:"CLOUDINARY_ALLOWED_TYPES"` // beside those for every file
	MaxBytesByType TypeSizes `env:"CLOUDINARY_MAX_BYTES_BY_TYPE"`

	PublicUploadPrefix string `env:"CLOUDINARY_PUBLIC_UPLOAD_PREFIX"` // where browsers send files; "" is UploadPrefix
}
