package cloudinary

import (
	"context"

	"github.com/cloudinary/cloudinary-go/v2/api/admin"

	"slipway/internal/provider"
)

var _ provider.Subscriber = (*Provider)(nil)

// News implements provider.Subscriber.
func (p *Provider) News() []string { return []string{"upload", "delete", "resource_tags_changed"} }

// Subscriptions implements provider.Subscriber with the triggers of the product environment. What they are
// signed with is the account's to choose.
func (p *Provider) Subscriptions(ctx context.Context, _ string) ([]provider.Subscription, error) {
	const op = "list triggers"
	list, err := ask(ctx, op, func() (*admin.ListTriggersResult, error) {
		return p.sdk.Admin.ListTriggers(ctx, admin.ListTriggersParams{})
	})
	if err == nil {
		err = p.line.refused(op, list.Error.Message)
	}
	if err != nil {
		return nil, err
	}
	var all []provider.Subscription
	for _, t := range list.Triggers {
		all = append(all, provider.Subscription{ID: t.ID, Event: t.EventType, URL: t.URI, Sound: t.Additive})
	}
	return all, nil
}

// Subscribe implements provider.Subscriber. The trigger is additive: it also tells of calls that name an
// address of their own.
func (p *Provider) Subscribe(ctx context.Context, s provider.Subscription, _ string) error {
	const op = "subscribe"
	if s.ID == "" {
		made, err := ask(ctx, op, func() (*admin.CreateTriggerResult, error) {
			return p.sdk.Admin.CreateTrigger(ctx, admin.CreateTriggerParams{URI: s.URL, EventType: s.Event, Additive: true})
		})
		if err == nil {
			err = p.line.refused(op, made.Error.Message)
		}
		return err
	}
	additive := true
	changed, err := ask(ctx, op, func() (*admin.UpdateTriggerResult, error) {
		return p.sdk.Admin.UpdateTrigger(ctx, admin.UpdateTriggerParams{TriggerID: s.ID, URI: s.URL, EventType: s.Event, Additive: &additive})
	})
	if err == nil {
		err = p.line.refused(op, changed.Error.Message)
	}
	return err
}
