package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	neon        = "postgresql://neondb_owner:npg_S3cr$et@ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require"
	neonDirect  = "postgresql://neondb_owner:npg_S3cr$et@ep-cool-darkness-123456.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require"
	jwtSecret   = "0123456789abcdef0123456789abcdef"
	tokenSecret = "fedcba9876543210fedcba9876543210"
)

// filled puts what a reader of the guides has into the file that they print.
func filled(t *testing.T, guide string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", guide))
	if err != nil {
		t.Fatal(err)
	}
	return write(t, strings.NewReplacer(
		"your_uploadcare_public_key", "demopublickey",
		"your_uploadcare_secret_key", "demosecretkey",
		"your_cloudinary_cloud_name", "demo-cloud",
		"your_cloudinary_api_key", "123456789012345",
		"your_cloudinary_api_secret", "abcdEFGH-ijkl_mnop",
		"your_neon_database_connection_string", neon,
	).Replace(string(b)))
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, o Options) *Config {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheGuidesOwnFilesWork(t *testing.T) {
	tests := map[string]struct{ provider, id, secret string }{
		"uploadcare-python.env": {"uploadcare", "demopublickey", "demosecretkey"},
		"cloudinary.env":        {"cloudinary", "demo-cloud", "abcdEFGH-ijkl_mnop"},
	}
	for guide, tt := range tests {
		t.Run(guide, func(t *testing.T) {
			c := mustLoad(t, Options{DotEnv: filled(t, guide), Need: NeedAPI | NeedWorker, Environ: []string{"DEV_USER=user_123", "HOST=127.0.0.1"}})
			if got := c.Database.URL.Reveal(); got != neon {
				t.Errorf("DATABASE_URL = %q, want all of %q", got, neon)
			}
			if got := c.Database.DirectURL.Reveal(); got != neonDirect || c.Database.DirectFrom != "DATABASE_URL without -pooler" {
				t.Errorf("direct URL = %q from %s, want %q", got, c.Database.DirectFrom, neonDirect)
			}
			if !slices.Equal(c.Delivery.Providers, []string{tt.provider}) || c.Delivery.DefaultProvider != tt.provider {
				t.Errorf("providers = %q, %q, want %s", c.Delivery.Providers, c.Delivery.DefaultProvider, tt.provider)
			}
			if id := c.Uploadcare.PublicKey + c.Cloudinary.CloudName; id != tt.id {
				t.Errorf("account = %q, want %q", id, tt.id)
			}
			if secret := c.Uploadcare.SecretKey.Reveal() + c.Cloudinary.APISecret.Reveal(); secret != tt.secret {
				t.Errorf("secret = %q, want %q", secret, tt.secret)
			}
		})
	}
}

func TestTheGuidesFilesNeedWhatTheyLeaveOut(t *testing.T) {
	tests := map[string]struct {
		dotEnv string
		want   []string
	}{
		"no secret key, and nobody may ask": {filled(t, "uploadcare-javascript.env"), []string{
			"AUTH_JWT_SECRET is not set, and neither are AUTH_JWKS_URL and DEV_USER",
			"UPLOADCARE_SECRET_KEY is not set; copy it from your project in the Uploadcare dashboard, section API Keys",
		}},
		"placeholders are no values": {"testdata/cloudinary.env", []string{
			"AUTH_JWT_SECRET is not set",
			"DATABASE_URL is still the guide's placeholder; copy the connection string",
			"CLOUDINARY_CLOUD_NAME is still",
			"CLOUDINARY_API_KEY is still",
			"CLOUDINARY_API_SECRET is still the guide's placeholder; copy it from your Cloudinary account's settings",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { wantFaults(t, Options{DotEnv: tt.dotEnv, Need: NeedAPI}, tt.want...) })
	}
}

// wantFaults loads and compares the beginning of each line of the error, in any order.
func wantFaults(t *testing.T, o Options, want ...string) {
	t.Helper()
	_, err := Load(o)
	lines := []string{}
	if err != nil {
		lines = strings.Split(err.Error(), "\n")
	}
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.EqualFunc(lines, want, strings.HasPrefix) {
		t.Errorf("faults are\n%s\nwant lines that begin with\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, Options{})
	want := &Config{
		HTTP:         HTTP{Port: 3000, Web: true, UploadWait: 10 * time.Second, KeyTTL: 24 * time.Hour, MaxUploadBytes: 10 << 30},
		Auth:         Auth{UserClaim: "sub", APIKeys: "on"},
		Database:     Database{Schema: "slipway", GuideSchema: "public", MaxConns: 10, HistoryRetention: 90 * 24 * time.Hour, DirectFrom: "DATABASE_URL"},
		Staging:      Staging{Dir: "./staging", Reserve: 1 << 30, Retention: 7 * 24 * time.Hour, TrashTTL: 7 * 24 * time.Hour, UnfinishedTTL: 24 * time.Hour},
		Imports:      Imports{On: true, Files: 16, Deadline: 24 * time.Hour},
		Delivery:     Delivery{MaxAttempts: 10, Files: 4, PartsPerFile: 4, Deadline: 7 * 24 * time.Hour, DirectUploads: "on"},
		Links:        Links{Delivery: "public", TTL: time.Hour},
		Uploadcare:   Uploadcare{PartETag: "md5"},
		WorkerPort:   3003,
		AdminHost:    "127.0.0.1",
		DrainTimeout: 25 * time.Second,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults are %+v, want %+v", c, want)
	}
	if got := c.HTTP.Address(); got != ":3000" {
		t.Errorf("address = %q, want every interface", got)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	c := mustLoad(t, Options{Need: NeedAPI | NeedWorker, Environ: []string{
		"HOST=::1", "PORT=8080", "WORKER_PORT=8081", "ADMIN_HOST=::1", "ADMIN_PORT=8082", "PUBLIC_URL=https://media.example.com/", "ALLOWED_ORIGINS=https://a.example, http://localhost:5173/",
		"TRUSTED_PROXIES=10.0.0.7 172.16.0.0/12", "PUBLIC_FILES=on", "LOGIN_URL=/login?app=files", "UPLOAD_WAIT=0s", "IDEMPOTENCY_TTL=2h", "MAX_UPLOAD_BYTES=500MB",
		"ALLOWED_TYPES=Image/*,!image/svg+xml,video/mp4", "MAX_BYTES_BY_TYPE=image/*=20MB, video/mp4=2GB", "UPLOADCARE_ALLOWED_TYPES=image/*", "CLOUDINARY_MAX_BYTES_BY_TYPE=image/gif=1MiB",
		"DRAIN_TIMEOUT=1m30s", "LOG_LEVEL=debug",
		"AUTH_JWT_SECRET=" + jwtSecret, "AUTH_JWKS_URL=https://auth.example.com/jwks", "AUTH_ISSUER=https://auth.example.com", "AUTH_AUDIENCE=files,media", "AUTH_USER_CLAIM=uid",
		"AUTH_COOKIE=session", "AUTH_USER_HEADER=X-User", "AUTH_API_KEYS=off", "AUTH_TOKEN_SECRET=" + tokenSecret, "DEV_USER=user_123", "INSECURE_DEV=1",
		"DATABASE_URL=" + neon, "DATABASE_URL_UNPOOLED=postgres://direct/db", "DATABASE_SCHEMA=files", "GUIDE_SCHEMA=app", "DATABASE_MAX_CONNS=20", "HISTORY_RETENTION=30d",
		"QUOTA_STAGED_BYTES=5GiB", "QUOTA_STORED_BYTES=50GB", "QUOTA_UPLOADS_PER_DAY=1000", "QUOTA_CONCURRENT_UPLOADS=8", "QUOTA_REQUESTS_PER_MINUTE=600",
		"STAGING_DIR=/var/lib/slipway", "STAGING_RESERVE=512MiB", "STAGING_BUDGET=20GB", "STAGING_RETENTION=1d12h", "TRASH_RETENTION=12h", "UNFINISHED_TTL=2h",
		"IMPORT=off", "IMPORT_PRIVATE_NETWORKS=10.0.0.0/8,192.168.1.7/32", "IMPORT_CONCURRENCY=3", "IMPORT_DEADLINE=2h",
		"PROVIDERS=cloudinary,uploadcare", "DEFAULT_PROVIDER=cloudinary", "MAX_ATTEMPTS=3", "PUSH_CONCURRENCY=8", "PUSH_PARTS=2", "DELIVERY_DEADLINE=48h", "VERIFY_READBACK=yes", "DIRECT_UPLOADS=strict", "SCAN_COMMAND=sh -c true",
		"DELIVERY=signed", "SIGNED_URL_TTL=5m", "UPLOADCARE_CDN_SECRET=00ff",
		"UPLOADCARE_PUBLIC_KEY=pub", "UPLOADCARE_SECRET_KEY=sec", "UPLOADCARE_UPLOAD_BASE=http://127.0.0.1:3001/u/", "UPLOADCARE_REST_BASE=http://127.0.0.1:3001/r",
		"UPLOADCARE_CDN_BASE=http://127.0.0.1:3001/c", "UPLOADCARE_MAX_FILE_SIZE=1048576", "UPLOADCARE_PART_ETAG=ignore",
		"CLOUDINARY_CLOUD_NAME=cloud", "CLOUDINARY_API_KEY=key", "CLOUDINARY_API_SECRET=secret", "CLOUDINARY_UPLOAD_PREFIX=http://127.0.0.1:3001", "CLOUDINARY_DELIVERY_BASE=http://127.0.0.1:3001/d",
	}})
	want := &Config{
		HTTP: HTTP{Host: "::1", Port: 8080, PublicURL: "https://media.example.com", AllowedOrigins: []string{"https://a.example", "http://localhost:5173"},
			TrustedProxies: []string{"10.0.0.7", "172.16.0.0/12"}, PublicFiles: true, Web: true, LoginURL: "/login?app=files", MaxUploadBytes: 500e6, KeyTTL: 2 * time.Hour,
			AllowedTypes: []string{"image/*", "!image/svg+xml", "video/mp4"}, MaxBytesByType: TypeSizes{{"image/*", 20e6}, {"video/mp4", 2e9}}},
		Auth: Auth{JWTSecret: jwtSecret, JWKSURL: "https://auth.example.com/jwks", Issuer: "https://auth.example.com", Audience: []string{"files", "media"}, UserClaim: "uid",
			Cookie: "session", UserHeader: "X-User", APIKeys: "off", TokenSecret: tokenSecret, DevUser: "user_123", InsecureDev: true},
		Quotas:   Quotas{StagedBytes: 5 << 30, StoredBytes: 50e9, Uploads: 1000, Receiving: 8, Requests: 600},
		Database: Database{URL: neon, DirectURL: "postgres://direct/db", DirectFrom: "DATABASE_URL_UNPOOLED", Schema: "files", GuideSchema: "app", MaxConns: 20, HistoryRetention: 30 * 24 * time.Hour},
		Staging:  Staging{Dir: "/var/lib/slipway", Reserve: 512 << 20, Budget: 20e9, Retention: 36 * time.Hour, TrashTTL: 12 * time.Hour, UnfinishedTTL: 2 * time.Hour},
		Imports:  Imports{On: false, PrivateNetworks: []string{"10.0.0.0/8", "192.168.1.7/32"}, Files: 3, Deadline: 2 * time.Hour},
		Delivery: Delivery{Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "cloudinary", MaxAttempts: 3, Files: 8, PartsPerFile: 2, Deadline: 48 * time.Hour, VerifyReadback: true, DirectUploads: "strict", ScanCommand: "sh -c true"},
		Links:    Links{Delivery: "signed", TTL: 5 * time.Minute},
		Uploadcare: Uploadcare{PublicKey: "pub", SecretKey: "sec", UploadBase: "http://127.0.0.1:3001/u", RESTBase: "http://127.0.0.1:3001/r",
			CDNBase: "http://127.0.0.1:3001/c", CDNSecret: "00ff", MaxFileSize: 1 << 20, PartETag: "ignore", AllowedTypes: []string{"image/*"}},
		Cloudinary: Cloudinary{CloudName: "cloud", APIKey: "key", APISecret: "secret", UploadPrefix: "http://127.0.0.1:3001", DeliveryBase: "http://127.0.0.1:3001/d",
			MaxBytesByType: TypeSizes{{"image/gif", 1 << 20}}},
		WorkerPort:   8081,
		AdminHost:    "::1",
		AdminPort:    8082,
		DrainTimeout: 90 * time.Second,
		LogLevel:     slog.LevelDebug,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("settings are %+v, want %+v", c, want)
	}
	if got := c.HTTP.Address(); got != "[::1]:8080" {
		t.Errorf("address = %q", got)
	}
}

// Each setting that is not plain text refuses what it cannot understand, in its own name.
func TestMalformedSettingsAreNamed(t *testing.T) {
	var environ, want []string
	for s := range new(Config).settings() {
		switch s.value.(type) {
		case string, Secret, []string:
			continue
		}
		environ = append(environ, s.variable+"=~much")
		want = append(want, s.variable+` is "~much"; give `)
	}
	wantFaults(t, Options{Environ: environ}, want...)
}

func TestFaults(t *testing.T) {
	good := []string{"DATABASE_URL=postgres://db/app", "AUTH_JWT_SECRET=" + jwtSecret, "UPLOADCARE_PUBLIC_KEY=pub", "UPLOADCARE_SECRET_KEY=sec"}
	tests := map[string]struct {
		environ []string // beside good
		need    Need
		want    []string
	}{
		"nothing": {need: NeedAPI | NeedWorker},
		"a port that is none": {environ: []string{"PORT=65536", "WORKER_PORT=-1"}, want: []string{
			"PORT is 65536; give 0 to 65535.", "WORKER_PORT is -1; give 0 to 65535."}},
		"a wait beyond what proxies bear":      {environ: []string{"UPLOAD_WAIT=2m"}, want: []string{"UPLOAD_WAIT is 2m0s; give 0s to 55s."}},
		"no size at all":                       {environ: []string{"MAX_UPLOAD_BYTES=0"}, want: []string{"MAX_UPLOAD_BYTES is 0; give 1 to"}},
		"a type that no file has":              {environ: []string{"ALLOWED_TYPES=image/*,video/mp5", "CLOUDINARY_MAX_BYTES_BY_TYPE=*=1MB"}, want: []string{`ALLOWED_TYPES has "video/mp5", which no file is by its content; give types`, `CLOUDINARY_MAX_BYTES_BY_TYPE has "*", which`}},
		"a type of no size":                    {environ: []string{"MAX_BYTES_BY_TYPE=image/*=0"}, want: []string{`MAX_BYTES_BY_TYPE is "image/*=0"; give sizes by type`}},
		"a key that is forgotten at once":      {environ: []string{"IDEMPOTENCY_TTL=0s"}, want: []string{"IDEMPOTENCY_TTL is 0s; give 1m0s to"}},
		"a negative size":                      {environ: []string{"STAGING_RESERVE=-1GiB"}, want: []string{`STAGING_RESERVE is "-1GiB"; give a size`}},
		"a scanner that is not there":          {environ: []string{"SCAN_COMMAND=no-such-scanner -"}, need: NeedWorker, want: []string{`SCAN_COMMAND names "no-such-scanner", which is no program here; install it`}},
		"a scanner is the worker's":            {environ: []string{"SCAN_COMMAND=no-such-scanner -"}, need: NeedAPI},
		"a size beyond all bounds":             {environ: []string{"STAGING_RESERVE=9EB"}, want: []string{`STAGING_RESERVE is "9EB"; give a size`}},
		"a negative duration":                  {environ: []string{"STAGING_RETENTION=-7d"}, want: []string{`STAGING_RETENTION is "-7d"; give a duration`}},
		"days with a fraction":                 {environ: []string{"STAGING_RETENTION=1.5d"}, want: []string{`STAGING_RETENTION is "1.5d"; give a duration`}},
		"a network that is none":               {environ: []string{"IMPORT_PRIVATE_NETWORKS=10.0.0.0/8,intranet"}, want: []string{`IMPORT_PRIVATE_NETWORKS has "intranet", which is no network; give networks such as 10.20.0.0/16`}},
		"all private networks":                 {environ: []string{"IMPORT_PRIVATE_NETWORKS=on"}},
		"no private network":                   {environ: []string{"IMPORT_PRIVATE_NETWORKS=off"}},
		"no attempt":                           {environ: []string{"MAX_ATTEMPTS=0"}, want: []string{"MAX_ATTEMPTS is 0; give 1 to 1000."}},
		"a host name":                          {environ: []string{"HOST=example.com"}, want: []string{`HOST is "example.com", which is no address; give 127.0.0.1`}},
		"a public URL that is a path":          {environ: []string{"PUBLIC_URL=/files"}, want: []string{"PUBLIC_URL is not the address of a server; give one such as"}},
		"an origin with a path":                {environ: []string{"ALLOWED_ORIGINS=https://a.example/app"}, want: []string{`ALLOWED_ORIGINS has "https://a.example/app", which is no origin`}},
		"a sign-in that is no page":            {environ: []string{"LOGIN_URL=javascript:alert(1)"}, want: []string{`LOGIN_URL is "javascript:alert(1)", which is no page; give the address at which your users sign in`}},
		"a sign-in of no host":                 {environ: []string{"LOGIN_URL=https:///login"}, want: []string{`LOGIN_URL is "https:///login", which is no page`}},
		"a sign-in on whatever host":           {environ: []string{"LOGIN_URL=//evil.example/login"}, want: []string{`LOGIN_URL is "//evil.example/login", which is no page`}},
		"a sign-in on another host":            {environ: []string{`LOGIN_URL=/\evil.example/login`}, want: []string{`LOGIN_URL is "/\\evil.example/login", which is no page`}},
		"a sign-in beside the page":            {environ: []string{"LOGIN_URL=login"}, want: []string{`LOGIN_URL is "login", which is no page`}},
		"a sign-in elsewhere":                  {environ: []string{"LOGIN_URL=https://app.example.com/#/login"}},
		"a sign-in that nobody is shown":       {environ: []string{"LOGIN_URL=/login", "WEB=off"}, want: []string{"LOGIN_URL is set, and WEB is off: nobody would be led there; unset it, or set WEB=on."}},
		"a proxy by name":                      {environ: []string{"TRUSTED_PROXIES=proxy"}, want: []string{`TRUSTED_PROXIES has "proxy", which is neither`}},
		"a short secret":                       {environ: []string{"AUTH_JWT_SECRET=hunter2"}, want: []string{"AUTH_JWT_SECRET has 7 bytes, and HS256 asks for 32; make one with: openssl rand"}},
		"a short secret of upload tokens":      {environ: []string{"AUTH_TOKEN_SECRET=hunter2"}, want: []string{"AUTH_TOKEN_SECRET has 7 bytes, and HS256 asks for 32; make one with: openssl rand"}},
		"keys in the clear":                    {environ: []string{"AUTH_JWKS_URL=http://auth.example.com/jwks"}, want: []string{"AUTH_JWKS_URL begins with http, and whoever is on the way could"}},
		"keys in the clear, as meant":          {environ: []string{"AUTH_JWKS_URL=http://auth/jwks", "INSECURE_DEV=1"}, need: NeedAPI},
		"keys of this machine":                 {environ: []string{"AUTH_JWKS_URL=http://127.0.0.1:9000/jwks"}, need: NeedAPI},
		"keys instead of a secret":             {environ: []string{"AUTH_JWKS_URL=https://auth.example.com/jwks", "AUTH_JWT_SECRET="}, need: NeedAPI},
		"keys in a file":                       {environ: []string{"AUTH_JWKS_URL=file:///etc/jwks.json"}, want: []string{"AUTH_JWKS_URL is no address of keys; give one such as https://"}},
		"an issuer of no tokens":               {environ: []string{"AUTH_ISSUER=https://auth.example.com", "AUTH_JWT_SECRET=", "AUTH_API_KEYS=only"}, need: NeedAPI, want: []string{"AUTH_ISSUER is set, and no tokens are taken; set AUTH_JWKS_URL or"}},
		"a cookie with nothing to check it by": {environ: []string{"AUTH_COOKIE=session", "AUTH_JWT_SECRET=", "AUTH_API_KEYS=only"}, need: NeedAPI, want: []string{"AUTH_COOKIE is set, and nothing to check the token in it with"}},
		"a cookie that is a header":            {environ: []string{"AUTH_COOKIE=session; Path=/"}, want: []string{`AUTH_COOKIE is "session; Path=/", which no cookie can be called`}},
		"a header that is none":                {environ: []string{"AUTH_USER_HEADER=X User", "TRUSTED_PROXIES=10.0.0.7"}, want: []string{`AUTH_USER_HEADER is "X User", which no header can be called`}},
		"a header that anybody may set":        {environ: []string{"AUTH_USER_HEADER=X-User"}, need: NeedAPI, want: []string{"AUTH_USER_HEADER is set, and no proxy is trusted to set it; set TRUSTED_PROXIES to"}},
		"a header, and everybody a proxy":      {environ: []string{"AUTH_USER_HEADER=X-User", "TRUSTED_PROXIES=10.0.0.7,0.0.0.0/0"}, need: NeedAPI, want: []string{"TRUSTED_PROXIES has 0.0.0.0/0, which is everybody"}},
		"a header from a proxy":                {environ: []string{"AUTH_USER_HEADER=X-User", "TRUSTED_PROXIES=10.0.0.7", "AUTH_JWT_SECRET="}, need: NeedAPI},
		"servers alone":                        {environ: []string{"AUTH_API_KEYS=only", "AUTH_JWT_SECRET="}, need: NeedAPI},
		"servers alone, and users":             {environ: []string{"AUTH_API_KEYS=only"}, need: NeedAPI, want: []string{"AUTH_API_KEYS is only, and users may ask by other settings; set it to on"}},
		"admin pages that nobody may see":      {environ: []string{"ADMIN_PORT=3002", "AUTH_API_KEYS=off"}, need: NeedAPI, want: []string{"ADMIN_PORT is set, and AUTH_API_KEYS is off: nobody could come in; set AUTH_API_KEYS to on"}},
		"admin pages in development":           {environ: []string{"ADMIN_PORT=3002", "AUTH_API_KEYS=off", "DEV_USER=u", "HOST=127.0.0.1"}, need: NeedAPI},
		"admin pages nowhere":                  {environ: []string{"ADMIN_HOST=nowhere"}, want: []string{`ADMIN_HOST is "nowhere", which is no address`}},
		"servers sometimes":                    {environ: []string{"AUTH_API_KEYS=maybe"}, want: []string{`AUTH_API_KEYS is "maybe"; give on, off, or only`}},
		"a schema that wants quotes":           {environ: []string{"DATABASE_SCHEMA=My-Files", "GUIDE_SCHEMA=pg_temp"}, want: []string{`DATABASE_SCHEMA is "My-Files"`, `GUIDE_SCHEMA is "pg_temp"`}},
		"one connection":                       {environ: []string{"DATABASE_MAX_CONNS=1"}, want: []string{"DATABASE_MAX_CONNS is 1; give 2 to"}},
		"a provider that is not known":         {environ: []string{"PROVIDERS=uploadcare,dropbox"}, want: []string{`PROVIDERS names "dropbox"; give one or more of uploadcare,cloudinary.`}},
		"a default that is not among them":     {environ: []string{"DEFAULT_PROVIDER=cloudinary"}, need: NeedAPI, want: []string{`DEFAULT_PROVIDER is "cloudinary"; give one of uploadcare.`}},
		"a provider without its credentials":   {environ: []string{"PROVIDERS=cloudinary"}, need: NeedWorker, want: []string{"CLOUDINARY_CLOUD_NAME is not set", "CLOUDINARY_API_KEY is not set", "CLOUDINARY_API_SECRET is not set; copy it from"}},
		"half of another's credentials":        {environ: []string{"CLOUDINARY_API_KEY=key"}, need: NeedWorker, want: []string{"CLOUDINARY_CLOUD_NAME is not set", "CLOUDINARY_API_SECRET is not set"}},
		"half of what is not among providers":  {environ: []string{"CLOUDINARY_API_KEY=key", "PROVIDERS=uploadcare"}, need: NeedWorker},
		"an ETag rule that is not known":       {environ: []string{"UPLOADCARE_PART_ETAG=sha1"}, want: []string{`UPLOADCARE_PART_ETAG is "sha1"; give md5 or ignore.`}},
		"a base that is no address":            {environ: []string{"UPLOADCARE_CDN_BASE=ucarecdn.com"}, want: []string{"UPLOADCARE_CDN_BASE is not the address of a server"}},
		"a user for everybody":                 {environ: []string{"DEV_USER=user_123"}, need: NeedAPI, want: []string{`DEV_USER is set, and everybody who reaches this server would be "user_123"; set HOST=127.0.0.1, or INSECURE_DEV=1`}},
		"a user for everybody on this machine": {environ: []string{"DEV_USER=user_123", "HOST=localhost"}, need: NeedAPI},
		"a user for everybody, as meant":       {environ: []string{"DEV_USER=user_123", "INSECURE_DEV=on"}, need: NeedAPI},
		"a user for everybody is no worker's":  {environ: []string{"DEV_USER=user_123"}, need: NeedWorker},
		"nobody who may ask":                   {environ: []string{"AUTH_JWT_SECRET="}, need: NeedAPI, want: []string{"AUTH_JWT_SECRET is not set, and neither are AUTH_JWKS_URL and DEV_USER: nobody could ask for anything; set AUTH_JWKS_URL to"}},
		"a delivery that is not known":         {environ: []string{"DELIVERY=private"}, want: []string{`DELIVERY is "private"; give public or signed.`}},
		"links that live too long":             {environ: []string{"SIGNED_URL_TTL=8d"}, want: []string{"SIGNED_URL_TTL is 192h0m0s; give 1m0s to 168h0m0s."}},
		"a signing secret that is none":        {environ: []string{"UPLOADCARE_CDN_SECRET=canary"}, want: []string{"UPLOADCARE_CDN_SECRET is not hexadecimal; copy it from your project"}},
		"signed delivery without a secret": {environ: []string{"DELIVERY=signed"}, need: NeedAPI, want: []string{
			"UPLOADCARE_CDN_SECRET is not set, and DELIVERY is signed; copy it from your project in the Uploadcare dashboard, Settings, Delivery",
			"UPLOADCARE_CDN_BASE is not set, and DELIVERY is signed; give the project's secure subdomain"}},
		"signed delivery by Cloudinary alone": {need: NeedWorker, environ: []string{
			"DELIVERY=signed", "UPLOADCARE_PUBLIC_KEY=", "UPLOADCARE_SECRET_KEY=", "CLOUDINARY_URL=cloudinary://key:secret@cloud"}},
		"a worker needs nobody who asks":       {environ: []string{"AUTH_JWT_SECRET="}, need: NeedWorker},
		"no database":                          {environ: []string{"DATABASE_URL="}, need: NeedDatabase, want: []string{"DATABASE_URL is not set; copy the connection string from the dashboard of your Neon project, button Connect."}},
		"no provider":                          {environ: []string{"UPLOADCARE_PUBLIC_KEY=", "UPLOADCARE_SECRET_KEY="}, need: NeedAPI, want: []string{"PROVIDERS are none: no credentials are set; set UPLOADCARE_PUBLIC_KEY and"}},
		"a migration needs the database alone": {environ: []string{"UPLOADCARE_PUBLIC_KEY=", "AUTH_JWT_SECRET="}, need: NeedDatabase},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, Options{Environ: append(slices.Clone(good), tt.environ...), Need: tt.need}, tt.want...)
		})
	}
}

func TestSettingsAreThereBesideFaults(t *testing.T) {
	c, err := Load(Options{Environ: []string{"PORT=x", "WORKER_PORT=4000", "STAGING_DIR=/data"}, Need: NeedAPI})
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 4 {
		t.Fatalf("faults = %v, want those of PORT, the database, the user and the providers", err)
	}
	if want := (Fault{"PORT", `is "x"`, "give a whole number"}); faults[0] != want {
		t.Errorf("first fault = %+v, want %+v", faults[0], want)
	}
	if c.WorkerPort != 4000 || c.Staging.Dir != "/data" {
		t.Errorf("settings = %+v, want those that are understood", c)
	}
}

func TestConnectionStrings(t *testing.T) {
	tests := map[string]struct {
		environ string
		direct  string
		from    string
		fault   string
	}{
		"a pooler has a direct host beside it": {environ: "DATABASE_URL=" + neon, direct: neonDirect, from: "DATABASE_URL without -pooler"},
		"also in the other form":               {environ: "DATABASE_URL=host=ep-x-pooler.aws.neon.tech dbname=neondb", direct: "host=ep-x.aws.neon.tech dbname=neondb", from: "DATABASE_URL without -pooler"},
		"a direct one serves for both":         {environ: "DATABASE_URL=" + neonDirect, direct: neonDirect, from: "DATABASE_URL"},
		"a second one is direct":               {environ: "DATABASE_URL=" + neon + "\nDATABASE_URL_UNPOOLED=postgres://a/b", direct: "postgres://a/b", from: "DATABASE_URL_UNPOOLED"},
		"by its other name too":                {environ: "DATABASE_URL=" + neon + "\nDATABASE_DIRECT_URL=postgres://a/b", direct: "postgres://a/b", from: "DATABASE_DIRECT_URL"},
		"a direct one that is pooled":          {environ: "DATABASE_URL=" + neon + "\nDATABASE_URL_UNPOOLED=" + neon, fault: "DATABASE_URL_UNPOOLED leads to a pooler, ep-cool"},
		"the whole command":                    {environ: "DATABASE_URL=psql '" + neon + "'", fault: "DATABASE_URL has more in it than the connection string; begin it with postgresql://"},
		"quotes that nobody took away":         {environ: "DATABASE_URL='" + neon + "'", fault: "DATABASE_URL has more in it"},
		"another database":                     {environ: "DATABASE_URL=mysql://root:S3cr$et@db/app", fault: "DATABASE_URL is a URL of mysql, not of postgresql; copy"},
		"a password that breaks the URL":       {environ: "DATABASE_URL=postgres://me:S3cr$et/100%@db/app", fault: "DATABASE_URL cannot be read as a URL; write @, :, / and # in the password as"},
		"a parameter that is not known":        {environ: "DATABASE_URL=postgres://me:S3cr$et@db/app?sslmode=maybe", fault: "DATABASE_URL is no connection string of Postgres: sslmode is invalid"},
		"no connection string at all":          {environ: "DATABASE_URL=npg_S3cr$et", fault: "DATABASE_URL is no connection string of Postgres; copy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := Load(Options{Environ: strings.Split(tt.environ, "\n"), Need: NeedDatabase})
			if tt.fault != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.fault) || strings.Contains(err.Error(), "S3cr$et") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("fault = %v, want one that begins with %q, without the password", err, tt.fault)
				}
				return
			}
			if err != nil || c.Database.DirectURL.Reveal() != tt.direct || c.Database.DirectFrom != tt.from {
				t.Errorf("direct = %q from %q, %v, want %q from %q", c.Database.DirectURL.Reveal(), c.Database.DirectFrom, err, tt.direct, tt.from)
			}
		})
	}
}

func TestCloudinaryURL(t *testing.T) {
	c := mustLoad(t, Options{Environ: []string{"CLOUDINARY_URL=cloudinary://key:s3cret@cloud?upload_prefix=http://127.0.0.1:3001", "CLOUDINARY_API_KEY=key"}})
	want := Cloudinary{CloudName: "cloud", APIKey: "key", APISecret: "s3cret", UploadPrefix: "http://127.0.0.1:3001", URL: c.Cloudinary.URL}
	if !reflect.DeepEqual(c.Cloudinary, want) || c.Delivery.DefaultProvider != "cloudinary" {
		t.Errorf("cloudinary = %+v, want %+v", c.Cloudinary, want)
	}
	for environ, want := range map[string]string{
		"CLOUDINARY_URL=https://cloudinary.com":                                  "CLOUDINARY_URL is not understood; give it as cloudinary://",
		"CLOUDINARY_URL=cloudinary://key:s3cret@cloud\nCLOUDINARY_CLOUD_NAME=an": "CLOUDINARY_URL says something else than CLOUDINARY_CLOUD_NAME; unset one of them.",
	} {
		wantFaults(t, Options{Environ: strings.Split(environ, "\n")}, want)
	}
}

func TestPortTaken(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = net.Listen("tcp", first.Addr().String())
	err = PortTaken(fmt.Errorf("api: %w", err), "PORT", 3000)
	if want := "PORT names port 3000, where something is listening already; stop that, or give another port, such as PORT=3010."; err.Error() != want {
		t.Errorf("error = %q, want %q", err, want)
	}
	other := errors.New("permission denied")
	if got := PortTaken(other, "PORT", 80); !errors.Is(got, other) {
		t.Errorf("error = %v, want it as it was", got)
	}
	if got := PortTaken(nil, "PORT", 80); got != nil {
		t.Errorf("error = %v, want none", got)
	}
}
