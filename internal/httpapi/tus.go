package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
	"github.com/valyala/fasthttp"

	"slipway/internal/auth"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// tus 1.0.0 (tus.io/protocols/resumable-upload, read November 2026), thin over ingest.Resumable.

const (
	tusPath       = "/v1/tus/"
	tusVersion    = "1.0.0"
	tusExtensions = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation"
	tusChecksums  = "sha1,sha256,crc32c"
	tusMIME       = "application/offset+octet-stream"

	// defaultUnfinished is how long an upload is kept to which nobody adds.
	defaultUnfinished = 24 * time.Hour
)

func (a *API) mountTus(app *fiber.App) {
	if a.UnfinishedTTL == 0 {
		a.UnfinishedTTL = defaultUnfinished
	}
	a.resumable = ingest.NewResumable(a.Ingest, a.Hub, a.UnfinishedTTL)
	of := func(h fiber.Handler) []fiber.Handler { return []fiber.Handler{a.speakTus, a.sendingTus, h} }
	app.Options(tusPath, a.tusOptions)
	app.Options(tusPath+":id", a.tusOptions)
	app.Post(tusPath, of(a.tusCreate)...)
	app.Head(tusPath+":id", of(a.tusHead)...)
	app.Patch(tusPath+":id", of(a.tusPatch)...)
	app.Delete(tusPath+":id", of(a.tusDelete)...)
}

// underTus stands below the router, where the answers pass that no route of ours makes: each names the version. The
// actual method of a request is ignored where X-HTTP-Method-Override names one (tus 1.0.0, section of that name).
func underTus(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !bytes.HasPrefix(ctx.URI().PathOriginal(), []byte(strings.TrimSuffix(tusPath, "/"))) {
			next(ctx)
			return
		}
		h := &ctx.Request.Header
		if method := h.Peek("X-HTTP-Method-Override"); len(method) > 0 {
			actual := string(h.Method()) // whoever did not send a HEAD waits for a body
			h.SetMethodBytes(method)
			next(ctx)
			h.SetMethod(actual)
		} else {
			next(ctx)
		}
		ctx.Response.Header.Set(headerTusResumable, tusVersion)
	}
}

// speakTus names the status resource of an upload, and has errors told as tus clients take them.
func (a *API) speakTus(c *fiber.Ctx) error {
	if id, err := upload.ParseID(c.Params("id")); err == nil {
		setStatusLink(c, id)
	}
	if err := c.Next(); err != nil {
		return a.tusError(c, err)
	}
	return nil
}

func setStatusLink(c *fiber.Ctx, id upload.ID) {
	c.Set(fiber.HeaderLink, "<"+uploadPath(id)+`>; rel="status"`)
}

// sendingTus lets through whoever may upload, in a version that is spoken here.
func (a *API) sendingTus(c *fiber.Ctx) error {
	s, err := a.shown(c)
	if err == nil {
		err = a.identify(c, s, auth.Send)
	}
	if err != nil {
		return challenge(c, s, err)
	}
	if c.Get(headerTusResumable) != tusVersion {
		c.Set(headerTusVersion, tusVersion)
		return &upload.Error{Code: upload.UnsupportedVersion, FixableBy: upload.ByYou,
			Message: fmt.Sprintf("The header %s is to be %s.", headerTusResumable, tusVersion)}
	}
	return c.Next()
}

// passing are codes of what passes by itself. Of an upload that is there clients are told 423: at others they
// give up, or begin again with the first byte.
var passing = []upload.Code{
	upload.Unavailable, upload.Draining, upload.Internal, upload.StagingUnreachable, upload.CutBody, upload.SlowBody,
}

// goesOn tells whether an upload goes on that was made by a request whose bytes this happened to: the client sends them again.
func goesOn(code upload.Code) bool {
	return slices.Contains(passing, code) || code == upload.DigestMismatch || code == upload.Interrupted || code == upload.Locked
}

// bodyLength is how many bytes the request declares that it has, -1 for what comes in chunks.
func bodyLength(c *fiber.Ctx) int64 { return c.Context().UserValue(wireKey{}).(*wire).declared }

func errNotTusMIME() error {
	return &upload.Error{Code: upload.UnsupportedMedia, FixableBy: upload.ByYou, Message: "The Content-Type is to be " + tusMIME + "."}
}

func errTooMany(sent, most int64) error {
	return &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByYou, Message: fmt.Sprintf("The request has %d bytes; the upload can take %d more.", sent, most)}
}

// tusError is an error as tus clients are told it.
func (a *API) tusError(c *fiber.Ctx, err error) error {
	e := coded(err)
	o := outcomes[e.Code]
	if e.Code == upload.NotFound {
		c.Response().Header.Del(fiber.HeaderLink)
	}
	switch {
	case e.Code == upload.DigestMismatch:
		return &upload.Error{Code: upload.ChecksumMismatch, Retryable: true, UploadID: e.UploadID,
			Message: "The bytes do not have the checksum that was sent with them, and were not kept. Send them again."}
	case c.Params("id") == "":
		return err
	case slices.Contains(passing, e.Code), c.Method() == http.MethodHead && (o.status >= 500 || o.status == http.StatusTooManyRequests):
		if o.status == http.StatusInternalServerError {
			a.server.opts.Log.Error("a tus request failed", "request_id", requestID(c.Context()), "upload_id", e.UploadID, "err", err)
		}
		if o.retryAfter > 0 {
			c.Set(fiber.HeaderRetryAfter, strconv.Itoa(o.retryAfter))
		}
		return &upload.Error{Code: upload.Locked, Retryable: true, Message: e.Message, UploadID: e.UploadID, Cause: err}
	}
	return err
}

// tusOptions tells what is spoken here, to anybody.
func (a *API) tusOptions(c *fiber.Ctx) error {
	c.Set(headerTusVersion, tusVersion)
	c.Set("Tus-Extension", tusExtensions)
	c.Set("Tus-Checksum-Algorithm", tusChecksums)
	if a.Ingest.MaxBytes > 0 {
		c.Set("Tus-Max-Size", strconv.FormatInt(a.Ingest.MaxBytes, 10))
	}
	return c.SendStatus(http.StatusNoContent)
}

// tusCreate makes an upload: of a file that is to come, or has begun to with the request; of a part of one; or
// of such parts.
func (a *API) tusCreate(c *fiber.Ctx) error {
	r, err := tusRequest(c)
	if err != nil {
		return err
	}
	partial, pieces, err := concatOf(c)
	if err != nil {
		return err
	}
	said := postgres.TusSaid{Metadata: headerOf(c, headerUploadMetadata), Concat: headerOf(c, headerUploadConcat)}
	if pieces != nil {
		return a.tusJoin(c, r, pieces, said)
	}
	if r.Length, err = declaredLength(c); err != nil {
		return err
	}
	if r, err = a.requested(c, r); err != nil {
		return err
	}
	sent := bodyLength(c)
	switch {
	case sent != 0 && bodyType(c) != tusMIME:
		return errNotTusMIME()
	case r.Length >= 0 && sent > r.Length:
		return errTooMany(sent, r.Length)
	}
	key, made, err := a.claim(c, ingest.Call{Provider: r.Provider, FileName: r.FileName, Source: said.Concat, Length: r.Length})
	switch {
	case err != nil:
		return err
	case made != nil:
		return a.tusMade(c, made.ID)
	}
	r.Key = key
	ctx, cancel := context.WithTimeout(a.server.cutting, recordTime)
	defer cancel()
	u, err := a.resumable.Begin(ctx, r, partial, said)
	if err != nil {
		return databaseError(err, noUpload)
	}
	c.Locals(uploadKey{}, u.ID)
	c.Location(tusPath + string(u.ID))
	setStatusLink(c, u.ID)
	got := &postgres.Reception{Upload: u, Partial: partial}
	if sent != 0 {
		if got, err = a.extend(c, u.ID, ingest.Chunk{Length: -1}); err != nil {
			if !goesOn(coded(err).Code) {
				return err
			}
			got.Upload.Status, got.ExpiresAt = upload.Receiving, u.ExpiresAt
		}
		c.Set(headerUploadOffset, strconv.FormatInt(got.Received, 10))
	}
	setExpires(c, got)
	c.Status(http.StatusCreated)
	return nil
}

// tusJoin makes an upload of partial ones.
func (a *API) tusJoin(c *fiber.Ctx, r ingest.Request, pieces []upload.ID, said postgres.TusSaid) error {
	if len(c.Request().Header.PeekAll(headerUploadLength)) > 0 {
		return invalidTus("A final upload is as long as its parts; leave out %s.", headerUploadLength)
	}
	r, err := a.requested(c, r)
	if err != nil {
		return err
	}
	key, made, err := a.claim(c, ingest.Call{Provider: r.Provider, FileName: r.FileName, Source: said.Concat})
	switch {
	case err != nil:
		return err
	case made != nil:
		return a.tusMade(c, made.ID)
	}
	r.Key = key
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	u, err := a.resumable.Join(ctx, r, pieces, said)
	if err != nil {
		return databaseError(err, noUpload)
	}
	c.Locals(uploadKey{}, u.ID)
	c.Location(tusPath + string(u.ID))
	setStatusLink(c, u.ID)
	c.Status(http.StatusCreated)
	return nil
}

// tusMade answers whoever makes an upload again by the same key: where it is, and how far it has come.
func (a *API) tusMade(c *fiber.Ctx, id upload.ID) error {
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	r, err := a.resumable.Look(ctx, user(c), id)
	if err != nil {
		return databaseError(err, noUpload)
	}
	c.Location(tusPath + string(id))
	setStatusLink(c, id)
	c.Set(headerUploadOffset, strconv.FormatInt(r.Received, 10))
	setExpires(c, &r)
	c.Status(http.StatusCreated)
	return nil
}

// tusHead tells how far an upload has come.
func (a *API) tusHead(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	said, err := a.tusSaid(user(c), id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	r, err := a.resumable.Look(ctx, user(c), id)
	if err != nil {
		return databaseError(err, noUpload)
	}
	c.Set(headerUploadOffset, strconv.FormatInt(r.Received, 10))
	if r.Size > 0 {
		c.Set(headerUploadLength, strconv.FormatInt(r.Size, 10))
	} else {
		c.Set(headerUploadDeferLength, "1")
	}
	if said.Metadata != "" {
		c.Set(headerUploadMetadata, said.Metadata)
	}
	if said.Concat != "" {
		c.Set(headerUploadConcat, said.Concat)
	}
	setExpires(c, &r)
	return nil
}

// tusSaid is what the upload's maker has said of it; an upload that came in by another way is none here.
func (a *API) tusSaid(user string, id upload.ID) (said postgres.TusSaid, err error) {
	err = a.readAs(user, noUpload, func(ctx context.Context, db postgres.Querier) error {
		said, err = postgres.GetTus(ctx, db, user, id)
		return err
	})
	return said, err
}

// tusPatch adds to an upload.
func (a *API) tusPatch(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	said, err := a.tusSaid(user(c), id)
	if err != nil {
		return err
	}
	if isFinal(said.Concat) {
		return &upload.Error{Code: upload.Forbidden, FixableBy: upload.ByYou, UploadID: id, Message: "The upload was made of parts; nothing can be added to it."}
	}
	if bodyType(c) != tusMIME {
		return errNotTusMIME()
	}
	chunk, err := a.chunkOf(c)
	if err != nil {
		return err
	}
	r, err := a.extend(c, id, chunk)
	if err != nil {
		return err
	}
	c.Set(headerUploadOffset, strconv.FormatInt(r.Received, 10))
	setExpires(c, r)
	return c.SendStatus(http.StatusNoContent)
}

// chunkOf is what the headers say of the bytes that a request adds.
func (a *API) chunkOf(c *fiber.Ctx) (chunk ingest.Chunk, err error) {
	chunk.Length = -1
	if chunk.Offset, err = wholeNumber(c, headerUploadOffset); err != nil {
		return chunk, err
	}
	if len(c.Request().Header.PeekAll(headerUploadLength)) > 0 {
		if chunk.Length, err = wholeNumber(c, headerUploadLength); err != nil {
			return chunk, err
		}
		if limit := a.limitOf(c); chunk.Length > limit {
			return chunk, tooLarge(limit)
		}
	}
	return chunk, nil
}

// extend adds the request's body to an upload.
func (a *API) extend(c *fiber.Ctx, id upload.ID, chunk ingest.Chunk) (*postgres.Reception, error) {
	if err := plainEncoding(c); err != nil {
		return nil, err
	}
	digest, declared, err := checksumOf(c)
	if err != nil {
		return nil, err
	}
	length := bodyLength(c)
	chunk.Most, chunk.Whole, chunk.Empty = a.limitOf(c), declared, length == 0
	chunk.Open = func(most int64) (io.Reader, func(error), error) {
		if length > most {
			return nil, nil, errTooMany(length, most)
		}
		body, err := a.server.openBody(c, most)
		if err != nil {
			return nil, nil, err
		}
		return ingest.Declared(body, digest), body.stop, nil
	}
	r, err := a.resumable.Append(c.UserContext(), user(c), id, chunk)
	return r, databaseError(err, noUpload)
}

// tusDelete ends an upload, wherever it is. Whoever may only send may end only what has not come in yet.
func (a *API) tusDelete(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	if _, err := a.tusSaid(user(c), id); err != nil {
		return err
	}
	err = a.asUser(user(c), noUpload, func(ctx context.Context, tx pgx.Tx) error {
		u, err := postgres.GetUpload(ctx, tx, user(c), id)
		switch {
		case err != nil:
			return err
		case u.Status == upload.Receiving:
			_, err = postgres.CancelUpload(ctx, tx, a.Ingest.Queue, user(c), id)
		case u.Status == upload.Canceled, u.Status == upload.Expired, u.Status == upload.Deleting, u.Status == upload.Deleted:
			return &upload.Error{Code: upload.Gone, UploadID: id, Message: "The upload has ended already."}
		case !caller(c).May(auth.Change):
			return beyond(c, "What was sent to say who is asking is not good for ending an upload that has come in.")
		default:
			_, err = postgres.DeleteUpload(ctx, tx, a.Ingest.Queue, user(c), id)
		}
		return err
	})
	if err != nil {
		return err
	}
	a.resumable.Forget(id)
	return c.SendStatus(http.StatusNoContent)
}

// setExpires says until when an upload is kept to which nobody adds.
func setExpires(c *fiber.Ctx, r *postgres.Reception) {
	if r.Status == upload.Receiving && r.ExpiresAt != nil {
		c.Set(headerUploadExpires, r.ExpiresAt.UTC().Format(http.TimeFormat))
	}
}
