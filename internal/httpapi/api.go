package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// API are the routes, and what stands behind them. Its fields are set before Mount.
type API struct {
	Auth    *auth.Authenticator
	Cursors *Cursors
	Ingest  *ingest.Ingest
	Quotas  *quota.Quotas
	Pool    *pgxpool.Pool
	Hub     *events.Hub
	Feed    *events.Feed

	// Links make the addresses of files, by provider.
	Links    map[string]provider.Linker
	Delivery string // "public" or "signed", for who looks after the service

	Direct   Direct   // what browsers send straight to a provider
	Webhooks Webhooks // what providers tell by themselves

	UnfinishedTTL time.Duration // of an upload to which nobody adds; 0: a day

	UploadWait  time.Duration // of POST /upload for the provider, unless the client says otherwise
	PublicFiles bool          // the content of a file is anybody's who knows its upload

	Page    *Page // at /; nil: one without a script
	NoPages bool  // browsers are answered as programs are

	server    *Server
	looks     *looks
	resumable *ingest.Resumable
}

const (
	// queryTime is for what a request asks of the database, or writes to it, in one go.
	queryTime = 10 * time.Second
	// recordTime is for making an upload of a staged file. It is longer than the outage that is sat out.
	recordTime = 15 * time.Second
)

// Mount adds the routes to s, before it serves.
func (s *Server) Mount(a *API) {
	a.server, a.looks = s, &looks{running: map[lookKey]*look{}, next: map[lookKey]*look{}}
	app := s.app
	app.Get("/readyz", a.readyz)
	app.Post("/v1/tokens", a.vouching, a.createToken)

	if !a.NoPages {
		app.Get("/", a.front, a.forPeople, a.reading, a.home)
		app.Get("/uploads/:id", a.forPeople, a.reading, a.uploadPage)
		if a.Page != nil {
			app.Get("/assets/*", a.asset)
		}
	}

	app.Post("/upload", a.forPeople, a.sending, a.upload)
	app.Post("/v1/uploads", a.sending, a.createUpload)
	app.Get("/v1/uploads", a.reading, a.listUploads)
	app.Get("/v1/uploads/:id", a.reading, a.getUpload)
	app.Get("/v1/uploads/:id/events", a.reading, a.uploadEvents)
	app.Get("/v1/events", a.reading, a.userEvents)
	app.Post(retryAllPath, a.authenticated, a.retryUploads)
	app.Post("/v1/uploads/:id/retry", a.forPeople, a.authenticated, a.retryUpload)
	app.Post("/v1/uploads/:id/cancel", a.forPeople, a.authenticated, a.cancelUpload)
	app.Delete("/v1/uploads/:id", a.authenticated, a.deleteUpload)

	a.mountTus(app)

	app.Get("/generate-signature", a.authenticated, a.generateSignature)
	app.Post("/generate-signature", a.authenticated, a.signForWidget)
	app.Get("/v1/direct/uploadcare", a.authenticated, a.directUploadcare)
	app.Post("/save-metadata", a.authenticated, a.saveMetadata)

	app.Post("/webhooks/uploadcare", a.uploadcareWebhook)
	app.Post("/webhooks/cloudinary", a.cloudinaryWebhook)

	app.Get("/v1/usage", a.reading, a.usage)
	app.Get("/v1/limits", a.reading, a.limits)

	app.Get("/v1/files", a.reading, a.listFiles)
	app.Get("/v1/files/:id", a.reading, a.getFile)
	app.Delete("/v1/files/:id", a.authenticated, a.deleteFile)
	app.Get("/v1/files/:id/content", a.publicContent, a.reading, a.fileContent)
}

// uploadID returns the id in the path, for the access log too, or NotFound.
func uploadID(c *fiber.Ctx) (upload.ID, error) {
	id, err := upload.ParseID(strings.Clone(c.Params("id")))
	if err == nil {
		c.Locals(uploadKey{}, id)
	}
	return id, err
}

// asUser changes the database for one user. Errors are coded: NotFound, with the message that is given, for
// what is not there or not theirs, and Unavailable.
func (a *API) asUser(user, notFound string, ask func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	err := postgres.AsUser(ctx, a.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error { return ask(ctx, tx) })
	return databaseError(err, notFound)
}

// readAs asks the database what one user may see. Errors are as asUser's.
func (a *API) readAs(user, notFound string, ask func(context.Context, postgres.Querier) error) error {
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	r, err := postgres.ReadAs(a.Pool, postgres.Claims{Subject: user})
	if err == nil {
		err = ask(ctx, r)
	}
	return databaseError(err, notFound)
}

// databaseError says what an error of the database means to the client. What has a code already knows
// more: a commit without an answer names the upload that may be there.
func databaseError(err error, notFound string) error {
	var coded *upload.Error
	switch {
	case errors.As(err, &coded):
	case errors.Is(err, postgres.ErrNoUpload):
		return &upload.Error{Code: upload.NotFound, Message: notFound}
	case err != nil && (postgres.Unreachable(err) || errors.Is(err, context.DeadlineExceeded)):
		return &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: err, Message: "The service cannot reach its database at the moment; try again."}
	case errors.Is(err, context.Canceled):
		return errDraining()
	}
	return err
}

const (
	noUpload = "There is no upload with this id."
	noFileID = "There is no file with this id."
)

func (a *API) find(user string, id upload.ID) (u upload.Upload, err error) {
	err = a.readAs(user, noUpload, func(ctx context.Context, db postgres.Querier) error {
		u, err = postgres.GetUpload(ctx, db, user, id)
		return err
	})
	return u, err
}

// base is what absolute links begin with.
func (a *API) base(c *fiber.Ctx) string {
	if a.server.opts.PublicURL != "" {
		return a.server.opts.PublicURL
	}
	return c.BaseURL()
}

// answer sends v as JSON. Names are not escaped as HTML would need it: nothing here is HTML, and people read it.
func answer(c *fiber.Ctx, status int, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Status(status).Send(text.Bytes())
}
