package uploadcare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/providersim"
	simulator "slipway/internal/providersim/uploadcare"
	"slipway/internal/upload"
)

// TestEveryRowOfTheTable has the simulator give each answer to the adapter, and demands that no row is left out.
func TestEveryRowOfTheTable(t *testing.T) {
	tests := []struct {
		side   side
		status int
		code   string
		want   provider.Verdict
	}{
		{uploadAPI, 403, "AccountBlockedError", provider.Account},
		{uploadAPI, 403, "AccountLimitsExceededError", provider.Account},
		{uploadAPI, 403, "AccountUnpaidError", provider.Account},
		{uploadAPI, 403, "AutostoreDisabledError", provider.Account},

		{uploadAPI, 403, "ProjectPublicKeyInvalidError", provider.Denied},
		{uploadAPI, 403, "ProjectPublicKeyRequiredError", provider.Denied},
		{uploadAPI, 403, "ProjectPublicKeyRemovedError", provider.Denied},
		{uploadAPI, 403, "SignatureExpirationError", provider.Denied},
		{uploadAPI, 403, "SignatureInvalidError", provider.Denied},
		{uploadAPI, 400, "SignatureRequiredError", provider.Denied},
		{uploadAPI, 400, "SignatureExpirationRequiredError", provider.Denied},
		{uploadAPI, 400, "SignatureExpirationInvalidError", provider.Denied},

		{uploadAPI, 404, "MultipartFileNotFoundError", provider.SessionLost},
		{uploadAPI, 400, "MultipartUploadSizeTooSmallError", provider.SessionLost},
		{uploadAPI, 400, "MultipartUploadSizeTooLargeError", provider.SessionLost},
		{uploadAPI, 400, "MultipartFileCompletionFailedError", provider.SessionLost},
		{uploadAPI, 400, "MultipartFileAlreadyUploadedError", provider.Unknown},
		{uploadAPI, 404, "FileNotFoundError", provider.SessionLost},

		{uploadAPI, 429, "RequestThrottledError", provider.Throttled},
		{uploadAPI, 403, "UploadFailedError", provider.Transient},
		{uploadAPI, 500, "UploadAPIError", provider.Transient},

		{uploadAPI, 400, "FileInfectedError", provider.Reject},
		{uploadAPI, 400, "FileTypeForbiddenError", provider.Reject},
		{uploadAPI, 400, "FileSizeLimitExceededError", provider.Reject},
		{uploadAPI, 413, "RequestSizeLimitExceededError", provider.Reject},
		{uploadAPI, 403, "InternalRequestForbiddenError", provider.Denied},
		{uploadAPI, 405, "MethodNotAllowedError", provider.Transient},

		{storage, 503, "SlowDown", provider.Throttled},
		{storage, 403, "AccessDenied", provider.SessionLost},
		{storage, 403, "SignatureDoesNotMatch", provider.SessionLost},
		{storage, 404, "NoSuchUpload", provider.SessionLost},
		{storage, 429, "TooManyRequests", provider.Throttled},
		{storage, 400, "RequestTimeout", provider.Transient},
		{storage, 500, "InternalError", provider.Transient},

		{cdn, 429, "", provider.Throttled},
		{cdn, 404, "", provider.Transient},
		{cdn, 503, "", provider.Transient},

		{stranger, 401, "", provider.Denied},
		{stranger, 413, "", provider.Reject},
		{stranger, 429, "", provider.Throttled},
		{stranger, 403, "", provider.Transient},
		{stranger, 502, "", provider.Transient},

		{restAPI, 400, "", provider.Transient},
		{restAPI, 401, "", provider.Denied},
		{restAPI, 402, "", provider.Account},
		{restAPI, 403, "", provider.Denied},
		{restAPI, 404, "", provider.SessionLost},
		{restAPI, 406, "", provider.Denied},
		{restAPI, 408, "", provider.Transient},
		{restAPI, 413, "", provider.Reject},
		{restAPI, 429, "", provider.Throttled},
		{restAPI, 500, "", provider.Transient},
	}
	sim, p := small(t)
	met := map[int]bool{}
	for _, tt := range tests {
		met[slices.IndexFunc(verdicts, func(r row) bool { return r.fits(tt.side, tt.status, tt.code) })] = true
		t.Run(fmt.Sprintf("%s %d %s", tt.side, tt.status, tt.code), func(t *testing.T) {
			sim.Controls.Faults.Clear()
			rule := answer(tt.side, tt.status, tt.code)
			if err := sim.Controls.Faults.Add(rule); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			e, ok := errors.AsType[*provider.Error](meet(ctx, p, tt.side))
			if !ok || e.Verdict != tt.want || e.Status != tt.status || e.Code != tt.code {
				t.Errorf("%+v, want %s", e, tt.want)
			}
			if ok && tt.want == provider.Throttled && e.RetryAfter != 7*time.Second {
				t.Errorf("to be asked again after %s, want 7s", e.RetryAfter)
			}
			if hits := sim.Controls.Faults.List()[0].Hits; hits != 1 {
				t.Errorf("it was given %d times", hits)
			}
		})
	}
	for i, r := range verdicts {
		if !met[i] {
			t.Errorf("row %d is not tried: %+v", i, r)
		}
	}
}

// small is a simulator that takes small files in parts, and a provider that sends them.
func small(t *testing.T) (*simulator.Running, *Provider) {
	t.Helper()
	sim, err := simulator.Start(simulator.Options{
		Dir: t.TempDir(), PublicKey: "public", SecretKey: "secret", Config: simulator.Config{MinMultipart: 1000, MinPart: 500},
	}, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := New(Options{
		PublicKey: "public", SecretKey: "secret", UploadBase: sim.URL, RESTBase: sim.URL, CDNBase: sim.URL,
		VerifyReadback: true, PartsFrom: 1000, PartSize: 500, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return sim, p
}

// answer is one in the form of who gives it.
func answer(from side, status int, code string) providersim.Rule {
	r := providersim.Rule{Times: 1, Action: providersim.Answer, Status: status, Header: map[string]string{"Retry-After": "7"}}
	switch from {
	case uploadAPI:
		r.Path, r.Status = "^/base/", 200
		r.Body = fmt.Sprintf(`{"error":{"status_code":%d,"content":"No.","error_code":%q}}`, status, code)
	case storage:
		r.Path, r.Body = "partNumber=", "<Error><Code>"+code+"</Code></Error>"
	case cdn:
		r.Method, r.Path, r.Body = http.MethodGet, "^/[0-9a-f-]{36}/", "<html>"
	case stranger:
		r.Path, r.Body = "^/base/", "<html><h1>No</h1></html>"
	case restAPI:
		r.Path, r.Body = "/storage/$", `{"detail":"No."}`
	}
	return r
}

// meet makes a call that is answered by that side.
func meet(ctx context.Context, p *Provider, by side) error {
	size := int64(100)
	if by == storage {
		size = 1200
	}
	src := provider.Source{UploadID: upload.NewID(), FileName: "a.bin", Size: size, Body: bytes.NewReader(make([]byte, size))}
	if by == restAPI {
		_, err := p.Commit(ctx, src, upload.Asset{ID: "0193f1c2-7c5e-4000-8000-000000000001"})
		return err
	}
	s, err := p.Begin(ctx, src)
	if err != nil {
		return err
	}
	_, err = p.PushPart(ctx, s, src, 0, nil)
	return err
}
