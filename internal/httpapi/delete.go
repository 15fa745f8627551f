package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// deletionView says how far the deletion of a file has come.
type deletionView struct {
	ID     string        `json:"id"`
	Status upload.Status `json:"status"` // deleting, or deleted
	Links  deletionLinks `json:"links"`
}

type deletionLinks struct {
	Upload *string `json:"upload"` // where its end can be awaited; null for a file from before Slipway
}

// deleteFile lets a file go: from the caller's lists at once, and from its provider by a worker, which asks
// until the provider says that it is gone. Only then does the guide's row go. Twice is harmless.
func (a *API) deleteFile(c *fiber.Ctx) error {
	id, err := fileParam(c)
	if err != nil {
		return err
	}
	v := deletionView{ID: strings.Clone(c.Params("id")), Status: upload.Deleting}
	err = a.asUser(user(c), noFileID, func(ctx context.Context, tx pgx.Tx) error {
		if id.upload == "" {
			return postgres.DeleteFileRow(ctx, tx, a.Ingest.Queue, user(c), id.provider, id.row)
		}
		u, err := postgres.DeleteFile(ctx, tx, a.Ingest.Queue, user(c), id.upload)
		v.Status = u.Status
		return err
	})
	if err != nil {
		return err
	}
	if id.upload != "" {
		path := uploadPath(id.upload)
		v.Links.Upload = &path
		c.Location(a.base(c) + path)
	}
	return answer(c, http.StatusAccepted, v)
}

// deleteUpload ends an upload for good, wherever it is: what there is of it here and at its provider goes, and
// only its history stays. Twice is harmless.
func (a *API) deleteUpload(c *fiber.Ctx) error { return a.endUpload(c, postgres.DeleteUpload) }
