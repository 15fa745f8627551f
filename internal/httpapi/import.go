package httpapi

import (
	"cmp"
	"context"
	"maps"
	"mime"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// importRequest asks for a file that is fetched from the web.
type importRequest struct {
	URL          string            `json:"url"`
	Provider     string            `json:"provider"`
	ResourceType string            `json:"resource_type"`
	FileName     string            `json:"file_name"`
	GuideName    string            `json:"fileName"`
	Tags         []string          `json:"tags"`
	Metadata     map[string]string `json:"metadata"`
}

// asksForImport tells whether the body is JSON that says what to fetch, and not a file of that type, which has a name.
func asksForImport(c *fiber.Ctx) bool {
	kind, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	return kind == fiber.MIMEApplicationJSON && c.Get(fiber.HeaderContentDisposition) == "" && c.Query("file_name") == "" && c.Query("fileName") == ""
}

// takeImport makes an upload of an address from which a worker will fetch it.
func (a *API) takeImport(c *fiber.Ctx) (upload.Upload, error) {
	query, err := queryOf(c)
	if err != nil {
		return upload.Upload{}, err
	}
	var asked importRequest
	if err := a.readJSON(c, &asked); err != nil {
		return upload.Upload{}, err
	}
	if asked.URL == "" {
		return upload.Upload{}, &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou,
			Message: `To import a file, send {"url":"https://…"}. To upload a JSON file, give it a name, by Content-Disposition or ?file_name=, or send it in a form.`}
	}
	r := described(query, nil, -1)
	r.Provider, r.ResourceType = cmp.Or(asked.Provider, r.Provider), cmp.Or(asked.ResourceType, r.ResourceType)
	r.FileName = cmp.Or(asked.FileName, asked.GuideName)
	for _, tag := range asked.Tags {
		if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(r.Tags, tag) {
			r.Tags = append(r.Tags, tag)
		}
	}
	if r.Metadata == nil {
		r.Metadata = map[string]string{}
	}
	maps.Copy(r.Metadata, asked.Metadata)

	if r, err = a.requested(c, r); err != nil {
		return upload.Upload{}, err
	}
	key, made, err := a.claim(c, ingest.Call{Provider: r.Provider, FileName: r.FileName, Source: asked.URL})
	switch {
	case err != nil:
		return upload.Upload{}, err
	case made != nil:
		return *made, nil
	}
	r.Key = key
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	u, err := a.Ingest.Import(ctx, r, asked.URL, a.limitOf(c))
	if err == nil {
		c.Locals(uploadKey{}, u.ID)
	}
	return u, databaseError(err, noUpload)
}
