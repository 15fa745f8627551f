package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
)

// limitsView is what a user may send; what is null has no limit.
type limitsView struct {
	ingest.Limits
	Left leftView `json:"left"`
}

// leftView is what the user's quotas leave at the moment.
type leftView struct {
	StagedBytes *int64 `json:"staged_bytes"`
	StoredBytes *int64 `json:"stored_bytes"`
	Uploads     *int64 `json:"uploads"`   // until midnight, UTC
	Receiving   *int64 `json:"receiving"` // files at the same time
}

// limits answers with what the caller may send.
func (a *API) limits(c *fiber.Ctx) error {
	var v limitsView
	var u postgres.Usage
	err := a.asUser(user(c), noUpload, func(ctx context.Context, tx pgx.Tx) (err error) {
		if v.Limits, err = a.Ingest.Limits(ctx, a.limitOf(c), caller(c).Provider); err == nil {
			u, err = a.Quotas.Usage(ctx, tx, user(c))
		}
		return err
	})
	if err != nil {
		return err
	}
	v.Left = leftView{
		StagedBytes: left(u.Limits.StagedBytes, u.Staged.Bytes+u.Receiving.Bytes),
		StoredBytes: left(u.Limits.StoredBytes, u.Stored.Bytes+u.Pending.Bytes+u.Receiving.Bytes),
		Uploads:     left(u.Limits.Uploads, u.Uploads+u.Receiving.Files),
		Receiving:   left(u.Limits.Receiving, u.Receiving.Files),
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	c.Set(fiber.HeaderETag, tag)
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	if known, _ := copyOf(c, tag); known {
		return c.SendStatus(http.StatusNotModified)
	}
	return answer(c, http.StatusOK, v)
}

func left(limit *int64, used int64) *int64 {
	if limit == nil {
		return nil
	}
	n := max(0, *limit-used)
	return &n
}
