package push_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// TestOneFlippedBitIsNeverDelivered damages one byte of a file wherever it is on its way, again and again.
func TestOneFlippedBitIsNeverDelivered(t *testing.T) {
	const part = 64 * kib
	shapes := []struct {
		provider string
		size     int
		name     string
	}{
		{"uploadcare", 2*part - 1, "in one post"},
		{"uploadcare", 4*part + part/2, "in parts"},
		{"cloudinary", part, "in one request"},
		{"cloudinary", 4*part + part/2, "in chunks"},
	}
	places := map[string]struct {
		damage func(t *testing.T, y *yard, u upload.Upload)
		line   func() http.RoundTripper
		code   upload.Code
	}{
		"in staging, the first": {damage: inStaging(func(int64) int64 { return 0 }), code: upload.StagingCorrupted},
		"in staging, the midst": {damage: inStaging(func(size int64) int64 { return size / 2 }), code: upload.StagingCorrupted},
		"in staging, the last":  {damage: inStaging(func(size int64) int64 { return size - 1 }), code: upload.StagingCorrupted},
		"in staging, cut off": {damage: func(t *testing.T, y *yard, u upload.Upload) {
			if err := os.Truncate(stagedPath(t, y.path, u.ID), u.Size-1); err != nil {
				t.Fatal(err)
			}
		}, code: upload.StagingCorrupted},
		"on the wire": {line: func() http.RoundTripper { return noisy() }, code: upload.IntegrityMismatch},
		"at the provider": {damage: func(t *testing.T, y *yard, u upload.Upload) {
			y.fault(t, u.Provider, providersim.Rule{Path: "^/base/|partNumber=|/upload$", Action: providersim.Corrupt})
		}, code: upload.IntegrityMismatch},
		"at the provider, once it has the bytes": {damage: func(t *testing.T, y *yard, u upload.Upload) {
			settings := y.cloudinary.Settings()
			settings.WrongETags = 100
			y.cloudinary.Set(settings)
			y.fault(t, "uploadcare", providersim.Rule{Path: "partNumber=3", Action: providersim.Amend, Header: map[string]string{"ETag": `"00000000000000000000000000000000"`}})
			y.fault(t, "uploadcare", providersim.Rule{Method: http.MethodGet, Path: "^/[0-9a-f-]{36}/", Action: providersim.Amend, Body: string(random(int(u.Size)))})
		}, code: upload.IntegrityMismatch},
	}
	for place, tt := range places {
		for _, shape := range shapes {
			t.Run(fmt.Sprintf("%s, %s to %s", place, shape.name, shape.provider), func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				y.small(t, part, 10*time.Second)
				content := random(shape.size)
				u := y.accept(t, shape.provider, content)
				if tt.damage != nil {
					tt.damage(t, y, u)
				}
				if tt.line != nil {
					y.line = tt.line()
				}
				y.worker(t)
				failed := y.await(t, u.ID, "failed", func(u upload.Upload) bool { return u.Status.Final() })
				if failed.Status != upload.Failed || failed.Error.Code != tt.code {
					t.Errorf("%s with %+v, want it failed with %s", failed.Status, failed.Error, tt.code)
				}
				if got := y.lasting(t, shape.provider); shape.provider == "uploadcare" && len(got) > 0 {
					t.Errorf("uploadcare keeps %v", got)
				}
			})
		}
	}
}

func inStaging(at func(size int64) int64) func(*testing.T, *yard, upload.Upload) {
	return func(t *testing.T, y *yard, u upload.Upload) { flip(t, stagedPath(t, y.path, u.ID), at(u.Size)) }
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// noisy is a line that turns a bit amid every long stretch of bytes: of files, that is.
func noisy() http.RoundTripper {
	dial := &net.Dialer{}
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial.DialContext(ctx, network, address)
			return noisyConn{conn}, err
		},
	}
}

type noisyConn struct{ net.Conn }

func (c noisyConn) Write(p []byte) (int, error) {
	const long = 8 * kib
	if len(p) < long {
		return c.Conn.Write(p)
	}
	hurt := slices.Clone(p)
	hurt[len(hurt)/2] ^= 1
	return c.Conn.Write(hurt)
}
