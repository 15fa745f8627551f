package provider

import "context"

// Subscription is one kind of news of an account that its provider sends to an address.
type Subscription struct {
	ID    string
	Event string // in the provider's words
	URL   string
	Sound bool // it is sent, and signed with the secret that was asked for as far as the provider tells
}

// Subscriber has a provider tell by itself what happens to an account's assets.
type Subscriber interface {
	// News are the events that say something of what is recorded of an asset, in the provider's words.
	News() []string

	// Subscriptions are all of the account's, other programs' included. They are to be signed with secret.
	Subscriptions(ctx context.Context, secret string) ([]Subscription, error)

	// Subscribe begins to send s.Event to s.URL, or puts right the subscription with s.ID. An Error with
	// Account means that the account's plan or its keys do not allow it.
	Subscribe(ctx context.Context, s Subscription, secret string) error
}
