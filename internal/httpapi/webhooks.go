package httpapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	cloudinary "slipway/internal/provider/cloudinary/sign"
	uploadcare "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

// Webhooks are the secrets that providers sign their notifications with; "" takes none.
type Webhooks struct {
	Uploadcare string
	Cloudinary string
}

const (
	// maxWebhook bounds a notification, in bytes. The largest there are tell of some hundred assets at once.
	maxWebhook = 1 << 20

	// A notification of Cloudinary's may be as old as its own libraries take it, which its retries, some 20
	// minutes, do not come near; and as far ahead as clocks may differ.
	webhookAge   = 2 * time.Hour
	webhookAhead = 5 * time.Minute
)

// uploadcareWebhook takes a notification of Uploadcare's.
func (a *API) uploadcareWebhook(c *fiber.Ctx) error {
	if a.Webhooks.Uploadcare == "" {
		return webhooksOff("Uploadcare's notifications are not taken here: UPLOADCARE_WEBHOOK_SECRET is not set.")
	}
	body, err := a.server.readWhole(c, maxWebhook)
	if err != nil {
		return err
	}
	if !uploadcare.ValidWebhook(a.Webhooks.Uploadcare, body, c.Get("X-Uc-Signature")) {
		return badWebhook(c, "X-Uc-Signature is not what Uploadcare makes of this body with the signing secret that is set here.")
	}
	hints, err := uploadcareHints(body)
	if err != nil {
		return err
	}
	return a.takeWebhook(c, uploadcareName, body, hints)
}

// cloudinaryWebhook takes a notification of Cloudinary's.
func (a *API) cloudinaryWebhook(c *fiber.Ctx) error {
	if a.Webhooks.Cloudinary == "" {
		return webhooksOff("Cloudinary's notifications are not taken here: Cloudinary is not configured.")
	}
	body, err := a.server.readWhole(c, maxWebhook)
	if err != nil {
		return err
	}
	at := c.Get("X-Cld-Timestamp")
	if !(cloudinary.Key{Secret: a.Webhooks.Cloudinary}).ValidNotification(body, at, c.Get("X-Cld-Signature")) {
		return badWebhook(c, "X-Cld-Signature is not what Cloudinary makes of this body and X-Cld-Timestamp with the secret that is set here.")
	}
	if err := fresh(at, time.Now()); err != nil {
		return err
	}
	hints, err := cloudinaryHints(body)
	if err != nil {
		return err
	}
	return a.takeWebhook(c, cloudinaryName, body, hints)
}

func webhooksOff(says string) error {
	return &upload.Error{Code: upload.WebhooksOff, FixableBy: upload.ByOperator, Message: says}
}

func badWebhook(c *fiber.Ctx, says string) error {
	c.Set(fiber.HeaderWWWAuthenticate, `Signature realm="webhooks"`)
	return &upload.Error{Code: upload.WebhookSignature, FixableBy: upload.ByOperator, Message: says}
}

// fresh refuses what was signed too long ago, or is yet to be signed; at is in Unix seconds.
func fresh(at string, now time.Time) error {
	seconds, err := strconv.ParseInt(at, 10, 64)
	age := now.Sub(time.Unix(seconds, 0))
	if err == nil && age <= webhookAge && age >= -webhookAhead {
		return nil
	}
	return &upload.Error{Code: upload.WebhookStale, FixableBy: upload.ByOperator,
		Message: fmt.Sprintf("X-Cld-Timestamp is more than %.0f hours old, or more than %.0f minutes ahead of the clock here.", webhookAge.Hours(), webhookAhead.Minutes())}
}

// takeWebhook records a notification with the work that it calls for, once, and leaves it to the workers. The
// provider repeats what is not answered with 200.
func (a *API) takeWebhook(c *fiber.Ctx, provider string, body []byte, hints []upload.HintArgs) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	digest := sha256.Sum256(body)
	err := postgres.Once(ctx, func(ctx context.Context) error {
		return postgres.AsUser(ctx, a.Pool, postgres.Claims{}, func(tx pgx.Tx) error {
			return postgres.TakeWebhook(ctx, tx, a.Ingest.Queue, provider, digest, hints)
		})
	}, func(context.Context) (bool, error) { return false, nil }) // it is harmless when done twice
	if err != nil {
		return databaseError(err, noUpload)
	}
	return answer(c, http.StatusOK, struct {
		Success bool `json:"success"`
	}{true})
}
