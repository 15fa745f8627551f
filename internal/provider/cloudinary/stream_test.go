package cloudinary_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
)

// served is a provider whose requests handler answers, over a connection of its own making.
func served(t *testing.T, handler http.HandlerFunc) *cloudinary.Provider {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, cloudinary.Options{CloudName: cloudName, APIKey: apiKey, APISecret: apiSecret, UploadPrefix: server.URL})
}

// film is a staged file of zeros.
func film(size int64) provider.Source {
	src := source(0)
	src.Size, src.Body = size, zeros{}
	return src
}

func TestARefusalAmidTheBytesIsHeard(t *testing.T) {
	for status, want := range map[int]provider.Verdict{401: provider.Denied, 413: provider.Reject, 420: provider.Throttled, 503: provider.Transient} {
		p := served(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":{"message":"no"}}`) // a client that left sees nothing
		})
		src := film(20_000_000)
		s, _ := begun(t, p, src, 0)
		_, err := p.PushPart(within(t), s, src, 0, nil)
		if got := verdict(t, err); got != want {
			t.Errorf("%d before the body was read: %v, want %v", status, err, want)
		}
	}
}

func TestBytesStream(t *testing.T) {
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.ContentLength < 20_000_000 {
			t.Errorf("%s request with length %d", r.Proto, r.ContentLength)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"done":false}`) // a client that left sees nothing
	})
	src := film(100_000_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun(t, p, src, 4)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("80 MB took %d bytes of memory, want at most 4 MiB in all", got)
	}
}
