package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNoPrintShowsASecret(t *testing.T) {
	c := mustLoad(t, Options{Environ: []string{
		"DATABASE_URL=postgres://me:s3cret@db-pooler.example/app?sslmode=require&password=s3cret&sslpassword=s3cret", "DATABASE_DIRECT_URL=host=db password=s3cret",
		"AUTH_JWT_SECRET=s3cret" + jwtSecret, "UPLOADCARE_PUBLIC_KEY=pub", "UPLOADCARE_SECRET_KEY=s3cret", "UPLOADCARE_CDN_BASE=http://me:s3cret@127.0.0.1:1",
		"CLOUDINARY_URL=cloudinary://key:s3cret@cloud",
	}})
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("settings", "config", c, "secret", c.Auth.JWTSecret)
	for way, text := range map[string]string{
		"%v": fmt.Sprintf("%v", c.Auth), "%+v": fmt.Sprintf("%+v", c.Database), "%#v": fmt.Sprintf("%#v", c.Cloudinary), "%q": fmt.Sprintf("%q", c.Uploadcare.SecretKey),
		"%x": fmt.Sprintf("%x", c.Auth.JWTSecret), "log": log.String(), "redacted": fmt.Sprint(c.Redacted()),
	} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("%s shows a secret: %s", way, text)
		}
	}
	if bytes.Contains(asJSON, []byte(`"s3cret`)) {
		t.Errorf("JSON shows a secret: %s", asJSON)
	}
}

func TestRedactedShowsTheRest(t *testing.T) {
	c := mustLoad(t, Options{Environ: []string{"DATABASE_URL=" + neon, "UPLOADCARE_PUBLIC_KEY=pub", "UPLOADCARE_SECRET_KEY=s3cret", "ALLOWED_ORIGINS=https://a.example https://b.example"}})
	got := fmt.Sprint(c.Redacted())
	for _, want := range []string{
		"DATABASE_URL=postgresql://neondb_owner:xxxxx@ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
		"DATABASE_URL_UNPOOLED=postgresql://neondb_owner:xxxxx@ep-cool-darkness-123456.us-east-2.", "UPLOADCARE_SECRET_KEY=***", "UPLOADCARE_PUBLIC_KEY=pub",
		"PORT=3000", "MAX_UPLOAD_BYTES=10 GiB", "STAGING_RETENTION=168h0m0s", "PROVIDERS=uploadcare", "ALLOWED_ORIGINS=https://a.example,https://b.example", "LOG_LEVEL=INFO", "PUBLIC_FILES=false",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if strings.Contains(got, "CLOUDINARY_API_SECRET") {
		t.Errorf("what is empty is shown: %s", got)
	}
}
