package cloudinary_test

import (
	"net/http"
	"net/http/httptest"
	"path"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/provider/providertest"
	simulator "slipway/internal/providersim/cloudinary"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	cloudName = "demo"
	apiKey    = "112233445566778"
	apiSecret = "s3cr3t-of-the-account"

	// minChunk stands for the service's 5 MiB, which every chunk but the last must exceed.
	minChunk  = 64 << 10
	chunkSize = minChunk + 1
)

// cloud is an account at a simulator of its own.
func cloud(t *testing.T) (*simulator.Sim, cloudinary.Options) {
	t.Helper()
	settings := simulator.DefaultSettings()
	settings.MinChunk = minChunk
	settings.AdminQuota = 10_000
	sim, err := simulator.New(simulator.Options{
		Dir: t.TempDir(), CloudName: cloudName, APIKey: apiKey, APISecret: apiSecret, Settings: &settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(func() {
		server.Close()
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return sim, cloudinary.Options{
		CloudName: cloudName, APIKey: apiKey, APISecret: apiSecret,
		UploadPrefix: server.URL, ChunkSize: chunkSize, Settle: time.Millisecond,
	}
}

func open(t *testing.T, opt cloudinary.Options) *cloudinary.Provider {
	t.Helper()
	p, err := cloudinary.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func callOf(r *http.Request) providertest.Call {
	switch path.Base(r.URL.Path) {
	case "upload":
		return providertest.Part
	case "destroy":
		return providertest.Delete
	case "ping", "usage":
		return providertest.Check
	}
	return providertest.Lookup
}

func TestConformance(t *testing.T) {
	t.Run("in public", func(t *testing.T) { conforms(t, false) })
	t.Run("by signed links", func(t *testing.T) { conforms(t, true) })
}

func conforms(t *testing.T, authenticated bool) {
	providertest.Run(t, func(t *testing.T) providertest.Fixture {
		sim, opt := cloud(t)
		opt.Authenticated = authenticated
		return providertest.Fixture{
			New: func(net http.RoundTripper) provider.Provider {
				opt.Transport = net
				return open(t, opt)
			},
			WrongKeys: func(net http.RoundTripper) provider.Provider {
				wrong := opt
				wrong.APISecret, wrong.Transport = "a-secret-that-was-changed", net
				return open(t, wrong)
			},
			CallOf: callOf,
			Small:  providertest.File{Size: 40_000, Calls: []providertest.Call{providertest.Part}},
			Large:  providertest.File{Size: 3*chunkSize + 11, Calls: []providertest.Call{providertest.Part}},
			Sizes:  []int64{1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 2*chunkSize + 1},
			Lasting: func() ([]providertest.Stored, error) {
				var list []providertest.Stored
				for _, f := range sim.Inventory().Files {
					list = append(list, providertest.Stored{ID: f.PublicID, Size: f.Bytes, MD5: f.ETag})
				}
				return list, nil
			},
			Links:    sign.Links{Key: sign.Key{Secret: apiSecret}},
			Signed:   authenticated,
			Refusals: refusals(),
			Secrets:  []string{apiSecret, "a-secret-that-was-changed", apiKey, "signature=", "api_key="},
		}
	})
}

func refusals() []providertest.Refusal {
	json := func(status int, message string) providertest.Answer {
		return providertest.Answer{
			Status: status, Body: `{"error":{"message":"` + message + `"}}`,
			Header: map[string]string{"Content-Type": "application/json", "X-Cld-Error": message, "Retry-After": "7"},
		}
	}
	html := func(status int) providertest.Answer {
		return providertest.Answer{
			Status: status, Body: "<html><h1>No</h1></html>",
			Header: map[string]string{"Content-Type": "text/html", "Retry-After": "7"},
		}
	}
	inHeader := providertest.Answer{Status: 400, Header: map[string]string{"X-Cld-Error": "Invalid image file"}}

	var list []providertest.Refusal
	for _, r := range []struct {
		name   string
		answer providertest.Answer
		want   provider.Verdict
	}{
		{"a spent rate waits", json(420, "Rate Limit Exceeded. Limit of 500 api operations reached."), provider.Throttled},
		{"too many requests wait", json(429, "Too many requests"), provider.Throttled},
		{"an edge that throttles waits", html(429), provider.Throttled},
		{"a file that is no image is refused", json(400, "Invalid image file"), provider.Reject},
		{"a reason in the header alone counts", inHeader, provider.Reject},
		{"a file above the plan is refused", json(400, "File size too large. Got 40000. Maximum is 10000."), provider.Reject},
		{"a request above 100 MB is refused, in HTML too", html(413), provider.Reject},
		{"a wrong signature asks for a check", json(401, "Invalid Signature 0123456789012345678901234567890123456789."), provider.Denied},
		{"an unknown cloud asks for a check", json(401, "Invalid cloud_name demo"), provider.Denied},
		{"a feature that is off asks for a check", json(403, "Not enabled for this account"), provider.Denied},
		{"an unpaid account is the account's", json(402, "Payment required"), provider.Account},
		{"an edge's refusal passes", html(403), provider.Unknown},
		{"an asset that is processed is asked about", json(423, "Resource is locked"), provider.Unknown},
	} {
		list = append(list, providertest.Refusal{Name: r.name, Call: providertest.Part, Answer: r.answer, Want: r.want})
	}
	return list
}
