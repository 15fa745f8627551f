package uploadcare

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/uploadcare/uploadcare-go/ucare"
	"github.com/uploadcare/uploadcare-go/webhook"

	"slipway/internal/provider"
)

var _ provider.Subscriber = (*Provider)(nil)

// News implements provider.Subscriber. That a file was stored is Slipway's own doing, and every notification
// counts as an operation.
func (p *Provider) News() []string {
	return []string{webhook.EventFileUploaded, "file.info_updated", "file.deleted"}
}

// hook is a webhook of the REST API, without the times that the SDK's own type cannot always read.
type hook struct {
	ID       int64  `json:"id"`
	Event    string `json:"event"`
	Target   string `json:"target_url"`
	IsActive bool   `json:"is_active"`
	Version  string `json:"version"`
	Secret   string `json:"signing_secret"`
}

// Subscriptions implements provider.Subscriber.
func (p *Provider) Subscriptions(ctx context.Context, secret string) ([]provider.Subscription, error) {
	var hooks []hook
	if err := p.webhooks(ctx, "list webhooks", http.MethodGet, "/webhooks/", nil, &hooks); err != nil {
		return nil, err
	}
	var all []provider.Subscription
	for _, h := range hooks {
		all = append(all, provider.Subscription{ID: strconv.FormatInt(h.ID, 10), Event: h.Event, URL: h.Target, Sound: h.IsActive && h.Secret == secret})
	}
	return all, nil
}

// Subscribe implements provider.Subscriber.
func (p *Provider) Subscribe(ctx context.Context, s provider.Subscription, secret string) error {
	params := webhook.Params{TargetURL: &s.URL, Event: &s.Event, SigningSecret: &secret, IsActive: ucare.Bool(true)}
	method, path := http.MethodPost, "/webhooks/"
	if s.ID != "" {
		method, path = http.MethodPut, "/webhooks/"+s.ID+"/"
	}
	var h hook
	if err := p.webhooks(ctx, "subscribe", method, path, params, &h); err != nil {
		return err
	}
	if h.Event != s.Event || h.Target != s.URL || !h.IsActive {
		return unusable("subscribe", fmt.Errorf("webhook %d is for %s and active is %t", h.ID, h.Event, h.IsActive))
	}
	return nil
}

func (p *Provider) webhooks(ctx context.Context, op, method, path string, params ucare.ReqEncoder, out any) error {
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	req, err := p.sdk.NewRequest(call, restHost, method, path, params)
	if err == nil {
		err = p.sdk.Do(req, out)
	}
	if err != nil {
		return p.failed(ctx, op, err)
	}
	return nil
}
