package cloudinary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/providersim"
	simulator "slipway/internal/providersim/cloudinary"
	"slipway/internal/upload"
)

// TestEveryRowOfTheTable has the simulator give each answer to the adapter, in Cloudinary's form and as something
// before it would, and demands that no row is left out.
func TestEveryRowOfTheTable(t *testing.T) {
	const passes = provider.Transient
	tests := map[int]struct{ upload, admin, page provider.Verdict }{
		301: {passes, passes, passes},
		400: {provider.Reject, provider.Reject, passes},
		401: {provider.Denied, provider.Denied, passes},
		402: {provider.Account, provider.Account, passes},
		403: {provider.Denied, provider.Denied, passes},
		404: {provider.Reject, provider.Reject, passes},
		408: {passes, passes, passes},
		409: {provider.Reject, provider.Reject, passes},
		413: {provider.Reject, provider.Reject, provider.Reject},
		420: {provider.Throttled, provider.Spent, provider.Throttled},
		422: {provider.Reject, provider.Reject, passes},
		423: {passes, passes, passes},
		429: {provider.Throttled, provider.Spent, provider.Throttled},
		500: {passes, passes, passes},
		502: {passes, passes, passes},
		503: {passes, passes, passes},
		520: {passes, passes, passes},
	}
	for status := range verdicts {
		if _, ok := tests[status]; !ok {
			t.Errorf("the row of %d is not tried", status)
		}
	}

	controls := providersim.NewControls()
	settings := simulator.DefaultSettings()
	settings.MinChunk = 99
	sim, err := simulator.New(simulator.Options{Dir: t.TempDir(), CloudName: "demo", APIKey: "key", APISecret: "secret", Settings: &settings, Controls: controls})
	if err != nil {
		t.Fatal(err)
	}
	server, err := providersim.Listen("127.0.0.1:0", sim.Handler())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := errors.Join(server.Close(), sim.Close()); err != nil {
			t.Error(err)
		}
	})
	p, err := New(Options{CloudName: "demo", APIKey: "key", APISecret: "secret", UploadPrefix: server.URL, ChunkSize: 100, Settle: time.Millisecond, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	src := provider.Source{Key: "inst/1", FileName: "a", ResourceType: upload.Raw, Size: 150, Body: bytes.NewReader(make([]byte, 150))}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := p.Begin(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	push := func() error { _, err := p.PushPart(ctx, s, src, 0, nil); return err }
	ask := func() error {
		_, err := p.resource(ctx, target{PublicID: "inst/1", ResourceType: upload.Raw, Type: "upload"})
		return err
	}

	for status, want := range tests {
		for _, tt := range []struct {
			by   string
			call func() error
			body string
			want provider.Verdict
		}{
			{"an upload", push, `{"error":{"message":"No"}}`, want.upload},
			{"the Admin API", ask, `{"error":{"message":"No"}}`, want.admin},
			{"a page", push, `<html>No</html>`, want.page},
		} {
			t.Run(fmt.Sprintf("%d for %s", status, tt.by), func(t *testing.T) {
				controls.Faults.Clear()
				if err := controls.Faults.Add(providersim.Rule{Times: 1, Action: providersim.Answer, Status: status, Body: tt.body, Header: map[string]string{"Retry-After": "7"}}); err != nil {
					t.Fatal(err)
				}
				var e *provider.Error
				if err := tt.call(); !errors.As(err, &e) || e.Verdict != tt.want || e.Status != status {
					t.Errorf("%v, want %s", err, tt.want)
				}
				if waits := tt.want == provider.Throttled || tt.want == provider.Spent; e != nil && waits != (e.RetryAfter == 7*time.Second) {
					t.Errorf("to be asked again after %s", e.RetryAfter)
				}
			})
		}
	}
}
