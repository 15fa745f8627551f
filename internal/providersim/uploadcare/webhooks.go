package uploadcare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const (
	projectID     = 39123 // of the one project there is
	firstHook     = 1001
	hookVersion   = "0.7" // of payloads; older ones cannot be asked for in REST 0.7
	maxTargetURL  = 255
	maxHookSecret = 32
)

// webhookEvents are what can be subscribed to (REST API reference, "Create webhook"). Nothing
// here finds viruses: file.infected never happens.
var webhookEvents = []string{fileUploaded, "file.infected", fileStored, fileDeleted, fileInfoUpdated}

// webhook is a subscription of one address to one event, as it is kept and shown.
type webhook struct {
	ID            int64   `json:"id"`
	Created       string  `json:"created"`
	Updated       string  `json:"updated"`
	Event         string  `json:"event"`
	TargetURL     string  `json:"target_url"`
	Project       int64   `json:"project"`
	IsActive      bool    `json:"is_active"`
	SigningSecret *string `json:"signing_secret"`
	Version       string  `json:"version"`
}

func (h webhook) key() string { return strconv.FormatInt(h.ID, 10) }

// webhookParams are what a request says of a webhook; nil is what it does not say, which the
// Go SDK writes as null.
type webhookParams struct {
	TargetURL     *string `json:"target_url"`
	Event         *string `json:"event"`
	IsActive      *bool   `json:"is_active"`
	SigningSecret *string `json:"signing_secret"`
	Version       *string `json:"version"`
}

var (
	errNoWebhooks   = &restError{Status: 403, Detail: "You can't use webhooks"}
	errNoTargetURL  = &restError{Status: 400, Detail: "`target_url` is missing."}
	errWebhookTaken = &restError{Status: 400, Detail: "This target URL is subscribed to this event already."}
)

// webhookRoutes are the webhooks of the REST API. Only the wording of `target_url` is missing.
// and You can't use webhooks is the service's; what other refusals say is not documented.
func (s *Sim) webhookRoutes(route func(pattern string, h func(restCall) (restAnswer, error))) {
	for pattern, h := range map[string]func(restCall) (restAnswer, error){
		"GET /webhooks/{$}":                s.listWebhooks,
		"POST /webhooks/{$}":               s.createWebhook,
		"PUT /webhooks/{id}/{$}":           s.updateWebhook,
		"DELETE /webhooks/{id}/{$}":        s.deleteWebhook,
		"DELETE /webhooks/unsubscribe/{$}": s.unsubscribe,
	} {
		route(pattern, func(c restCall) (restAnswer, error) {
			if s.Config().NoWebhooks {
				return restAnswer{}, errNoWebhooks
			}
			s.mu.Lock() // over a look and the change that depends on it
			defer s.mu.Unlock()
			return h(c)
		})
	}
}

// webhooks are the subscriptions, oldest first.
func (s *Sim) webhooks() []webhook {
	list := []webhook{}
	for _, h := range s.hooks.All() {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b webhook) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (s *Sim) listWebhooks(restCall) (restAnswer, error) {
	return restAnswer{http.StatusOK, s.webhooks()}, nil
}

func (s *Sim) createWebhook(c restCall) (restAnswer, error) {
	p, err := c.webhookParams()
	if err != nil {
		return restAnswer{}, err
	}
	now := s.Controls.Clock.Now().Format(restTime)
	h := webhook{ID: firstHook, Created: now, Project: projectID, IsActive: true, Version: hookVersion}
	if all := s.webhooks(); len(all) > 0 {
		h.ID = all[len(all)-1].ID + 1
	}
	return s.putWebhook(h, p, http.StatusCreated)
}

func (s *Sim) updateWebhook(c restCall) (restAnswer, error) {
	p, err := c.webhookParams()
	if err != nil {
		return restAnswer{}, err
	}
	h, ok := s.hooks.Get(c.PathValue("id"))
	if !ok {
		return restAnswer{}, errNotFound
	}
	return s.putWebhook(h, p, http.StatusOK)
}

// putWebhook keeps a webhook with what a request says of it.
func (s *Sim) putWebhook(h webhook, p webhookParams, status int) (restAnswer, error) {
	if err := h.set(p); err != nil {
		return restAnswer{}, err
	}
	for _, other := range s.webhooks() {
		if other.ID != h.ID && other.TargetURL == h.TargetURL && other.Event == h.Event {
			return restAnswer{}, errWebhookTaken
		}
	}
	h.Updated = s.Controls.Clock.Now().Format(restTime)
	return restAnswer{status, h}, s.hooks.Put(h.key(), h)
}

func (h *webhook) set(p webhookParams) error {
	if p.TargetURL != nil {
		h.TargetURL = *p.TargetURL
	}
	if p.Event != nil {
		h.Event = *p.Event
	}
	if p.IsActive != nil {
		h.IsActive = *p.IsActive
	}
	if p.SigningSecret != nil {
		if h.SigningSecret = p.SigningSecret; *p.SigningSecret == "" {
			h.SigningSecret = nil
		}
	}
	refuse := func(format string, args ...any) error {
		return &restError{Status: 400, Detail: fmt.Sprintf(format, args...)}
	}
	// The service takes http and https (recorded). Slipway's tests stand on loopback.
	target, err := url.Parse(h.TargetURL)
	switch {
	case h.TargetURL == "":
		return errNoTargetURL
	case err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" || len(h.TargetURL) > maxTargetURL:
		return refuse("`target_url` is invalid.")
	case h.Event == "":
		return refuse("`event` is missing.")
	case !slices.Contains(webhookEvents, h.Event):
		return refuse("`event` %q is unknown.", h.Event)
	case h.SigningSecret != nil && len(*h.SigningSecret) > maxHookSecret:
		return refuse("`signing_secret` is longer than %d characters.", maxHookSecret)
	case p.Version != nil && *p.Version != hookVersion:
		return refuse("`version` %q is unknown.", *p.Version)
	}
	return nil
}

func (s *Sim) deleteWebhook(c restCall) (restAnswer, error) {
	h, ok := s.hooks.Get(c.PathValue("id"))
	if !ok {
		return restAnswer{}, errNotFound
	}
	return restAnswer{status: http.StatusNoContent}, s.hooks.Delete(h.key())
}

// unsubscribe deletes an address's webhooks, whatever their event. One that has none is no error.
func (s *Sim) unsubscribe(c restCall) (restAnswer, error) {
	p, err := c.webhookParams()
	if err != nil {
		return restAnswer{}, err
	}
	if p.TargetURL == nil || *p.TargetURL == "" {
		return restAnswer{}, errNoTargetURL
	}
	for _, h := range s.webhooks() {
		if h.TargetURL == *p.TargetURL {
			if err := s.hooks.Delete(h.key()); err != nil {
				return restAnswer{}, err
			}
		}
	}
	return restAnswer{status: http.StatusNoContent}, nil
}

// webhookParams reads the body in either encoding: the Go and JavaScript clients send JSON,
// the reference and the Python client a form.
func (c restCall) webhookParams() (p webhookParams, err error) {
	unreadable := &restError{Status: 400, Detail: "Request body can not be read."}
	if media, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type")); media != "application/x-www-form-urlencoded" {
		if err := json.Unmarshal(c.body, &p); err != nil {
			return p, unreadable
		}
		return p, nil
	}
	values, err := url.ParseQuery(string(c.body))
	if err != nil {
		return p, unreadable
	}
	text := func(name string) *string {
		if !values.Has(name) {
			return nil
		}
		value := values.Get(name)
		return &value
	}
	p = webhookParams{TargetURL: text("target_url"), Event: text("event"), SigningSecret: text("signing_secret"), Version: text("version")}
	if text := values.Get("is_active"); text != "" {
		active, err := strconv.ParseBool(text)
		if err != nil {
			return p, unreadable
		}
		p.IsActive = &active
	}
	return p, nil
}
