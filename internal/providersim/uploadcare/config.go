package uploadcare

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"slipway/internal/providersim"
)

// Config are the project's settings and the service's moods. The zero value is a project
// without limits, with auto-store off, on a good day.
type Config struct {
	SignedUploads bool  `json:"signed_uploads"` // signature and expire are demanded
	Autostore     bool  `json:"autostore"`      // what store mode auto means; off also refuses mode 1
	MaxFileSize   int64 `json:"max_file_size"`  // bytes, the project's limit; 0 is none
	MinMultipart  int64 `json:"min_multipart"`  // bytes, the smallest upload in parts; 0 is the service's 10 MiB
	MinPart       int64 `json:"min_part"`       // bytes in each part but the last; 0 is the service's 5 MiB

	SecureDelivery bool   `json:"secure_delivery"` // the CDN demands a token
	DeliverySecret string `json:"delivery_secret"` // that tokens are signed with, in hex

	Account      string `json:"account"`       // "", or why uploads are refused: blocked, limits, unpaid
	ThrottleNext int    `json:"throttle_next"` // API requests that are still to be answered 429
	RetryAfter   int    `json:"retry_after"`   // seconds, told with each of them; 0 is 1

	ReadyDelayMS  int64 `json:"ready_delay_ms"` // how long is_ready stays false, on the simulator's clock; negative is for ever
	ExpiredIs404  bool  `json:"expired_is_404"` // REST forgets an expired file instead of showing it removed
	OldVersions   bool  `json:"old_versions"`   // REST 0.5 and 0.6 are answered (as 0.7) instead of 406
	ClockSkewSecs int64 `json:"clock_skew_s"`   // how far the service is ahead of its clients' Date and expire

	NoWebhooks   bool  `json:"no_webhooks"`    // the plan has none
	WebhookTries int   `json:"webhook_tries"`  // of one notification that is not answered 2xx; 0 is 1, for none more are documented
	WebhookGapMS int64 `json:"webhook_gap_ms"` // between them, on the simulator's clock
}

func (c Config) check() error {
	if c.Account != "" && accountErrors[c.Account] == nil {
		return fmt.Errorf("account is not one of blocked, limits, unpaid: %q", c.Account)
	}
	if secret, err := hex.DecodeString(c.DeliverySecret); err != nil || c.SecureDelivery && len(secret) == 0 {
		return errors.New("secure_delivery needs delivery_secret, which is hexadecimal")
	}
	if c.MaxFileSize < 0 || c.MinMultipart < 0 || c.MinPart < 0 || c.ThrottleNext < 0 || c.RetryAfter < 0 || c.WebhookTries < 0 {
		return errors.New("max_file_size, min_multipart, min_part, throttle_next, retry_after and webhook_tries are not negative")
	}
	return nil
}

// hookWaits are the waits before the further tries of a notification.
func (c Config) hookWaits() []time.Duration {
	return slices.Repeat([]time.Duration{time.Duration(c.WebhookGapMS) * time.Millisecond}, max(0, c.WebhookTries-1))
}

// Config is the present configuration.
func (s *Sim) Config() Config {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	return s.config
}

// Configure changes the configuration by f, with no other change in between.
func (s *Sim) Configure(f func(*Config)) error {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	c := s.config
	f(&c)
	if err := c.check(); err != nil {
		return err
	}
	s.config = c
	return nil
}

// throttle is the 429 that the next API request is due, or nil.
func (s *Sim) throttle() *refusal {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	if s.config.ThrottleNext == 0 {
		return nil
	}
	s.config.ThrottleNext--
	return throttled(max(1, s.config.RetryAfter))
}

// clientTime is what a client's clock shows when it is right.
func (s *Sim) clientTime() time.Time {
	return time.Now().Add(time.Duration(s.Config().ClockSkewSecs) * time.Second)
}

// serveConfig shows the configuration on GET; POST changes the members it names.
func (s *Sim) serveConfig(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		c := s.Config()
		if !providersim.ReadControl(w, r, &c) {
			return
		}
		if err := s.Configure(func(now *Config) { *now = c }); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	providersim.WriteControl(w, s.Config())
}
