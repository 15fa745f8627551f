package cloudinary

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	hookTries = 4                // one, and three more when it is not answered 200
	hookTime  = 30 * time.Second // for one try
)

// hooks sends notifications behind the answers.
type hooks struct {
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	sent   sync.WaitGroup
}

func newHooks(client *http.Client) *hooks {
	h := &hooks{client: client}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Close gives up what is not sent yet.
func (h *hooks) Close() {
	h.cancel()
	h.sent.Wait()
}

// notice is one notification; it is signed anew for each try.
type notice struct {
	url   string
	body  []byte
	first time.Duration // before the first try
	gap   time.Duration // before the second; twice and three times that before the others
	sign  func(body string) (timestamp int64, signature string)
}

func (h *hooks) send(n notice) {
	h.sent.Go(func() {
		for try := range hookTries {
			wait := n.first
			if try > 0 {
				wait = time.Duration(try) * n.gap
			}
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(wait):
			}
			if h.try(n) {
				return
			}
		}
		slog.Warn("cloudinary simulator: notification given up", "url", n.url)
	})
}

func (h *hooks) try(n notice) bool {
	ctx, cancel := context.WithTimeout(h.ctx, hookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(n.body))
	if err != nil {
		return false
	}
	timestamp, signature := n.sign(string(n.body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Cld-Timestamp", strconv.FormatInt(timestamp, 10))
	req.Header.Set("X-Cld-Signature", signature)
	resp, err := h.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return err == nil && resp.StatusCode == http.StatusOK
}

// notification is what every webhook body has ("Webhook notifications").
type notification struct {
	NotificationType string         `json:"notification_type"`
	Timestamp        string         `json:"timestamp"`
	RequestID        string         `json:"request_id"`
	Context          map[string]any `json:"notification_context"`
	SignatureKey     string         `json:"signature_key"`
}

func (s *Sim) newNotification(kind string) notification {
	now := s.controls.Clock.Now().Format(time.RFC3339)
	return notification{
		NotificationType: kind, Timestamp: now, RequestID: hexID(), SignatureKey: s.key,
		Context: map[string]any{
			"triggered_at": now, "triggered_by": map[string]string{"source": "api", "id": s.key},
		},
	}
}

// notifyUpload tells url, or the account's own, of a stored asset.
func (s *Sim) notifyUpload(url string, v view, after time.Duration) {
	v.Signature, v.APIKey, v.Done = "", "", false
	s.notify(url, struct {
		notification
		view
	}{s.newNotification("upload"), v}, after)
}

func (s *Sim) notifyDelete(url string, id identity) {
	s.notify(url, struct {
		notification
		Resources []identity `json:"resources"`
	}{s.newNotification("delete"), []identity{id}}, 0)
}

func (s *Sim) notify(url string, body any, after time.Duration) {
	settings := s.Settings()
	if url == "" {
		url = settings.NotificationURL
	}
	if url == "" {
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		slog.Error("cloudinary simulator: notification", "err", err)
		return
	}
	s.hooks.send(notice{
		url: url, body: text, first: after, gap: time.Duration(settings.HookDelay),
		sign: func(body string) (int64, string) {
			now := s.controls.Clock.Now().Unix()
			return now, signNotification(body, now, s.secret, settings.algorithm())
		},
	})
}
