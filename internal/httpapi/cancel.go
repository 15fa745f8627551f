package httpapi

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// cancelUpload ends an upload that is on its way. Whoever sends it is told to stop, and what was sent is
// removed by a worker. Twice is harmless.
func (a *API) cancelUpload(c *fiber.Ctx) error { return a.endUpload(c, postgres.CancelUpload) }

func (a *API) endUpload(c *fiber.Ctx, end func(context.Context, pgx.Tx, *postgres.Queue, string, upload.ID) (upload.Upload, error)) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	var u upload.Upload
	err = a.asUser(user(c), noUpload, func(ctx context.Context, tx pgx.Tx) error {
		u, err = end(ctx, tx, a.Ingest.Queue, user(c), id)
		return err
	})
	if err != nil {
		return err
	}
	return a.answerChanged(c, u)
}

// answerChanged answers who has changed an upload: a person with its page, anybody else with what it is now.
func (a *API) answerChanged(c *fiber.Ctx, u upload.Upload) error {
	if a.prefersPage(c) {
		return c.Redirect(pagePath(u.ID), http.StatusSeeOther)
	}
	base := a.base(c)
	c.Location(base + uploadPath(u.ID))
	setRetryAfter(c, u)
	return answer(c, http.StatusAccepted, a.viewUpload(u, base))
}
