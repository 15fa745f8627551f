package uploadcare

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"slipway/internal/providersim"
)

// Events that happen here ("Webhook notifications", "Event types").
const (
	fileUploaded    = "file.uploaded"
	fileStored      = "file.stored"
	fileDeleted     = "file.deleted"
	fileInfoUpdated = "file.info_updated"
)

// payload is the body of a notification, version 0.7 (REST API reference, "Create webhook",
// callbacks).
type payload struct {
	Initiator initiator       `json:"initiator"`
	Hook      publicHook      `json:"hook"`
	Data      restView        `json:"data"`
	File      string          `json:"file"`                      // its address at the CDN
	Previous  *previousValues `json:"previous_values,omitempty"` // only of file.info_updated
}

// initiator tells what made the event happen.
type initiator struct {
	Type   string          `json:"type"` // api, or system when a file's time is over
	Detail initiatorDetail `json:"detail"`
}

type initiatorDetail struct {
	RequestID *string `json:"request_id"`
	AddonName *string `json:"addon_name"`
}

// publicHook is a webhook without its secret.
type publicHook struct {
	ID        int64  `json:"id"`
	ProjectID int64  `json:"project_id"`
	PublicKey string `json:"project_pub_key"`
	Target    string `json:"target"`
	Event     string `json:"event"`
	IsActive  bool   `json:"is_active"`
	Version   string `json:"version"`
	Created   string `json:"created_at"`
	Updated   string `json:"updated_at"`
}

type previousValues struct {
	Metadata map[string]string `json:"metadata"`
}

func byAPI() initiator {
	id := newUUID()
	return initiator{Type: "api", Detail: initiatorDetail{RequestID: &id}}
}

func bySystem() initiator { return initiator{Type: "system"} }

// notify tells those who subscribed to an event of the file as it is now.
func (s *Sim) notify(event string, a Asset, by initiator, previous *previousValues) error {
	for _, h := range s.webhooks() {
		if h.Event != event || !h.IsActive {
			continue
		}
		data := s.restView(s.base().CDN, a)
		data.AppData = &struct{}{}
		body, err := json.Marshal(payload{
			Initiator: by, Data: data, File: s.cdnURL(a), Previous: previous,
			Hook: publicHook{
				ID: h.ID, ProjectID: h.Project, PublicKey: s.publicKey, Target: h.TargetURL, Event: h.Event,
				IsActive: h.IsActive, Version: h.Version, Created: h.Created, Updated: h.Updated,
			},
		})
		if err != nil {
			return err
		}
		s.Controls.Notices.Send(providersim.Notice{
			URL: h.TargetURL, Kind: event, Asset: a.UUID, Body: body, Waits: s.Config().hookWaits(),
			Sign:     func(body []byte, _ time.Time) http.Header { return hookHeader(h.SigningSecret, body) },
			Accepted: func(status int) bool { return status/100 == 2 },
		})
	}
	return nil
}

// hookHeader signs a body where there is a secret to do it with ("Signed webhooks"). No time
// is signed.
func hookHeader(secret *string, body []byte) http.Header {
	header := http.Header{}
	if secret != nil {
		mac := hmac.New(sha256.New, []byte(*secret))
		mac.Write(body)
		header.Set("X-Uc-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
	}
	return header
}
