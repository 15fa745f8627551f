package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/process"
	"slipway/internal/provider"
)

// Subscribe has every provider tell the API at address what happens to its assets, and tells whether it
// found no fault. Doing it twice changes nothing.
func Subscribe(ctx context.Context, c *config.Config, address string, report func(Finding)) (sound bool) {
	e := &exam{Options: Options{Config: c, Report: report, Webhooks: true, URL: address}, http: &http.Client{Timeout: reachTime}}
	defer e.http.CloseIdleConnections()
	e.webhooks(ctx)
	return e.faults == 0
}

// webhooks subscribes to what the providers tell.
func (e *exam) webhooks(ctx context.Context) {
	const part = "webhooks"
	address := strings.TrimRight(e.URL, "/")
	if address == "" && !e.faulty("PUBLIC_URL") {
		address = e.Config.HTTP.PublicURL
	}
	at, err := url.Parse(address)
	switch {
	case address == "":
		e.fail(part, "set PUBLIC_URL, or name the address with --url", "it is not known where the providers reach this API")
		return
	case err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "":
		e.fail(part, "give one such as https://media.example.com", "%q is no address", address)
		return
	}
	for _, name := range e.Config.Delivery.Providers {
		if e.faultyAccount(name) {
			continue
		}
		one := *e.Config
		one.Delivery.Providers = []string{name}
		opened, err := process.Providers(&one)
		if err != nil {
			continue // that is told elsewhere
		}
		for _, p := range opened {
			e.subscribe(ctx, p, at.JoinPath("webhooks", name))
		}
	}
}

// subscribe has one provider send its news to an address.
func (e *exam) subscribe(ctx context.Context, p provider.Provider, to *url.URL) {
	name, secret := p.Name(), ""
	if name == "uploadcare" {
		if secret = e.Config.Uploadcare.WebhookSecret.Reveal(); secret == "" {
			e.fail(name, "make one with `openssl rand -hex 16`, set it for the API, and run this again",
				"UPLOADCARE_WEBHOOK_SECRET is not set, and notifications that are not signed are not taken")
			return
		}
	}
	s, ok := p.(provider.Subscriber)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	have, err := s.Subscriptions(ctx, secret)
	if err != nil {
		e.unsubscribed(p, err)
		return
	}
	for _, event := range s.News() {
		if err := e.subscribeTo(ctx, s, have, provider.Subscription{Event: event, URL: to.String()}, name, secret); err != nil {
			e.unsubscribed(p, err)
			return
		}
	}
	for _, h := range have {
		if h.URL != to.String() {
			e.ok(name, "%s also goes to %s, which is left as it is", h.Event, withoutQuery(h.URL))
		} else if !slices.Contains(s.News(), h.Event) {
			e.ok(name, "%s goes to %s, too", h.Event, to)
		}
	}
	e.awaited(ctx, name, to)
}

func (e *exam) subscribeTo(ctx context.Context, s provider.Subscriber, have []provider.Subscription, want provider.Subscription, name, secret string) error {
	i := slices.IndexFunc(have, func(h provider.Subscription) bool {
		return h.URL == want.URL && (h.Event == want.Event || h.Event == "all")
	})
	said := "%s goes to %s from now on"
	switch {
	case i >= 0 && have[i].Sound:
		e.ok(name, "%s goes to %s", want.Event, want.URL)
		return nil
	case i >= 0:
		want.ID, want.Event = have[i].ID, have[i].Event
		said = "%s goes to %s again, as it should"
	}
	err := s.Subscribe(ctx, want, secret)
	if err == nil {
		e.ok(name, said, want.Event, want.URL)
	}
	return err
}

func (e *exam) unsubscribed(p provider.Provider, err error) {
	var refused *provider.Error
	if errors.As(err, &refused) && (refused.Verdict == provider.Account || refused.Verdict == provider.Denied) {
		e.fail(p.Name(), "see whether the keys are right, and whether the account's plan has webhooks; all goes on without them, only later", "it does not let us subscribe: %v", reason(err))
		return
	}
	e.fail(p.Name(), "see to it that this machine may reach it, and run this again", "its subscriptions are not as they should be: %v", reason(err))
}

// awaited finds out whether notifications would be taken where they are sent.
func (e *exam) awaited(ctx context.Context, name string, to *url.URL) {
	if loopback(to.Hostname()) && !loopback(e.base(name)) {
		e.fail(name, "give the address that the world reaches, or open a tunnel to this machine and name that with --url",
			"it cannot reach %s, which is this machine's own", to)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader("{}"))
	if err != nil {
		e.fail(name, "name another with --url", "%s cannot be asked: %v", to, err)
		return
	}
	resp, err := e.http.Do(req)
	if err != nil {
		e.warn(name, "start the API, or see to the proxy in front of it", "%s does not answer: %v", to, reason(err))
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusUnauthorized: // as it should, for this was not signed
		e.ok(name, "%s takes what is signed, and nothing else", to)
	case http.StatusNotFound:
		e.fail(name, "start the API with the same settings as this command", "%s takes no notifications", to)
	default:
		e.warn(name, "see to what stands in front of the API", "%s answers %s to what is not signed, and 401 was expected", to, resp.Status)
	}
}

// base is the host that a provider's API is at, "" for its own.
func (e *exam) base(name string) string {
	address := e.Config.Cloudinary.UploadPrefix
	if name == "uploadcare" {
		address = e.Config.Uploadcare.RESTBase
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// withoutQuery is another program's address without what may be a secret in it.
func withoutQuery(address string) string {
	before, _, _ := strings.Cut(address, "?")
	u, err := url.Parse(before)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Redacted()
}
