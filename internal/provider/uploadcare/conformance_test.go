package uploadcare_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/provider"
	"slipway/internal/provider/providertest"
	"slipway/internal/provider/uploadcare"
	"slipway/internal/provider/uploadcare/sign"
	simulator "slipway/internal/providersim/uploadcare"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	publicKey = "canary-public-key"
	secretKey = "canary-secret-key"
	cdnSecret = "63616e617279" // "canary" in hex

	mib = 1 << 20
)

// project is a project at a simulator of its own.
func project(t *testing.T) (*simulator.Running, uploadcare.Options) {
	t.Helper()
	return projectWith(t, simulator.Config{SignedUploads: true})
}

func projectWith(t *testing.T, config simulator.Config) (*simulator.Running, uploadcare.Options) {
	t.Helper()
	sim, err := simulator.Start(simulator.Options{
		Dir: t.TempDir(), PublicKey: publicKey, SecretKey: secretKey, Config: config,
	}, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey,
		UploadBase: sim.URL, RESTBase: sim.URL, CDNBase: sim.URL,
		VerifyReadback: true, PartSize: 5 * mib,
	}
}

func open(t *testing.T, o uploadcare.Options) *uploadcare.Provider {
	t.Helper()
	p, err := uploadcare.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func callOf(r *http.Request) providertest.Call {
	switch path := r.URL.Path; {
	case path == "/multipart/start/":
		return providertest.Begin
	case path == "/multipart/complete/":
		return providertest.Complete
	case path == "/base/" || r.Method == http.MethodPut && r.URL.Query().Has("partNumber"):
		return providertest.Part
	case path == "/info/":
		return providertest.Lookup
	case path == "/project/":
		return providertest.Check
	case r.Method == http.MethodDelete:
		return providertest.Delete
	case strings.HasSuffix(path, "/storage/"):
		return providertest.Commit
	}
	return providertest.Readback
}

func TestConformance(t *testing.T) {
	t.Run("in public", func(t *testing.T) { conforms(t, simulator.Config{SignedUploads: true}, "") })
	t.Run("by signed links", func(t *testing.T) {
		conforms(t, simulator.Config{SignedUploads: true, SecureDelivery: true, DeliverySecret: cdnSecret}, cdnSecret)
	})
}

func conforms(t *testing.T, config simulator.Config, secret string) {
	providertest.Run(t, func(t *testing.T) providertest.Fixture {
		sim, opts := projectWith(t, config)
		opts.CDNSecret = secret
		return providertest.Fixture{
			New: func(net http.RoundTripper) provider.Provider {
				opts := opts
				opts.Transport = net
				return open(t, opts)
			},
			WrongKeys: func(net http.RoundTripper) provider.Provider {
				opts := opts
				opts.PublicKey, opts.SecretKey, opts.Transport = "canary-wrong-key", "canary-wrong-secret", net
				return open(t, opts)
			},
			CallOf: callOf,
			Small: providertest.File{Size: 40_000, Calls: []providertest.Call{
				providertest.Part, providertest.Lookup, providertest.Readback, providertest.Commit,
			}},
			Large: providertest.File{Size: 11*mib + 7, Calls: []providertest.Call{
				providertest.Begin, providertest.Part, providertest.Complete, providertest.Commit,
			}},
			Sizes:    []int64{1, 10*mib - 1, 10 * mib, 10*mib + 1, 15 * mib, 15*mib + 1},
			Lasting:  func() ([]providertest.Stored, error) { return stored(sim) },
			Links:    sign.Links{Base: sim.URL, Secret: secret, TTL: time.Minute},
			Signed:   secret != "",
			Refusals: refusals(),
			Secrets:  []string{"canary", "X-Amz", "signature=", cdnSecret, "token=", "hmac="},
		}
	})
}

func stored(sim *simulator.Running) ([]providertest.Stored, error) {
	files, err := sim.Inventory()
	if err != nil {
		return nil, err
	}
	var list []providertest.Stored
	for _, f := range files {
		if f.Stored && !f.Removed {
			list = append(list, providertest.Stored{ID: f.UUID, Size: f.Size, MD5: f.MD5})
		}
	}
	return list, nil
}

type refusal providertest.Refusal

func refusals() []providertest.Refusal {
	plain := func(status int, text string) providertest.Answer {
		return providertest.Answer{Status: status, Body: text, Header: map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "Retry-After": "7",
		}}
	}
	coded := func(status, code, text string) providertest.Answer {
		return providertest.Answer{
			Status: 200, Header: map[string]string{"Content-Type": "application/json", "Retry-After": "7"},
			Body: `{"error":{"status_code":` + status + `,"content":"` + text + `","error_code":"` + code + `"}}`,
		}
	}
	detail := func(status int, text string) providertest.Answer {
		return providertest.Answer{
			Status: status, Body: `{"detail":"` + text + `"}`,
			Header: map[string]string{"Content-Type": "application/vnd.uploadcare-v0.7+json", "Retry-After": "7"},
		}
	}
	s3 := func(status int, code string) providertest.Answer {
		return providertest.Answer{
			Status: status, Header: map[string]string{"Content-Type": "application/xml"},
			Body: `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><StringToSign>canary</StringToSign></Error>`,
		}
	}
	const small, large = false, true
	var list []providertest.Refusal
	for _, r := range []refusal{
		{"a throttled post waits", small, providertest.Part, coded("429", "RequestThrottledError", "Request was throttled."), provider.Throttled},
		{"a throttled start waits, in plain text too", large, providertest.Begin, plain(429, "Request was throttled."), provider.Throttled},
		{"a throttled complete waits", large, providertest.Complete, coded("429", "RequestThrottledError", "Request was throttled."), provider.Throttled},
		{"a throttled store waits", large, providertest.Commit, detail(429, "Request was throttled. Expected available in 7 seconds."), provider.Throttled},

		{"an infected file is refused", small, providertest.Part, coded("400", "FileInfectedError", "The file is infected by EICAR virus."), provider.Reject},
		{"a forbidden type is refused when it is complete", large, providertest.Complete, coded("400", "FileTypeForbiddenError", "Uploading of these file types is not allowed."), provider.Reject},
		{"a file above the plan is refused", large, providertest.Begin, coded("400", "MultipartFileSizeLimitExceededError", "File size exceeds project limit."), provider.Reject},
		{"a file above the plan is refused, in plain text too", large, providertest.Begin, plain(400, "File size exceeds project limit."), provider.Reject},
		{"a request above 100 MB is refused", small, providertest.Part, plain(413, "The size of the request is too large."), provider.Reject},

		{"an unknown key asks for a check", large, providertest.Begin, coded("403", "ProjectPublicKeyInvalidError", "pub_key is invalid."), provider.Denied},
		{"a removed project asks for a check, and its key is not told", large, providertest.Begin, coded("403", "ProjectPublicKeyRemovedError", "Project "+publicKey+" is marked as removed."), provider.Denied},
		{"an unpaid account is the account's", small, providertest.Part, coded("403", "AccountUnpaidError", "Account has been blocked for non payment."), provider.Account},
		{"a spent account is the account's", small, providertest.Part, coded("403", "AccountLimitsExceededError", "Account has reached its limits."), provider.Account},
		{"a blocked account is the account's", large, providertest.Begin, coded("403", "AccountBlockedError", "Account has been blocked."), provider.Account},
		{"a refusal without a code asks for a check", small, providertest.Part, plain(403, "Account has reached its limits."), provider.Denied},
		{"a wrong REST signature asks for a check", large, providertest.Commit, detail(401, "Invalid signature. Please check your Secret key."), provider.Denied},
		{"an ended API version asks for a check", large, providertest.Commit, detail(406, "Incorrect Accept header provided."), provider.Denied},

		{"an expired part address loses the session", large, providertest.Part, s3(403, "AccessDenied"), provider.SessionLost},
		{"a spent part address loses the session", large, providertest.Part, s3(404, "NoSuchUpload"), provider.SessionLost},
		{"missing bytes lose the session", large, providertest.Complete, coded("400", "MultipartUploadSizeTooSmallError", "File size mismatch. Not all parts uploaded?"), provider.SessionLost},
		{"wrong parts lose the session", large, providertest.Complete, coded("400", "MultipartFileCompletionFailedError", "Can not complete upload. Wrong parts size?"), provider.SessionLost},
		{"an unknown session is lost", large, providertest.Complete, coded("404", "MultipartFileNotFoundError", "File is not found."), provider.SessionLost},
		{"a file that has gone is lost", small, providertest.Commit, detail(404, "Not found."), provider.SessionLost},

		{"a busy part storage waits", large, providertest.Part, providertest.Answer{
			Status: 503, Header: map[string]string{"Retry-After": "7"}, Body: `<Error><Code>SlowDown</Code></Error>`,
		}, provider.Throttled},
		{"a stalled part passes", large, providertest.Part, s3(400, "RequestTimeout"), provider.Transient},
		{"a firewall's page passes", large, providertest.Begin, providertest.Answer{Status: 403, Body: "<html>blocked</html>"}, provider.Transient},
		{"a page that is not the store passes", small, providertest.Commit, providertest.Answer{Status: 404, Body: "<html>not found</html>"}, provider.Transient},
		{"a complete refused without a code is asked about", large, providertest.Complete, plain(400, "Something new."), provider.Unknown},
	} {
		list = append(list, providertest.Refusal(r))
	}
	return list
}
