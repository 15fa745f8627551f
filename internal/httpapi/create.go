package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// guideAnswer is what the guides' POST /upload answers.
type guideAnswer struct {
	Success   bool          `json:"success"`
	FileURL   string        `json:"fileUrl"` // the provider's once it has the file, before that one of ours that leads there
	ID        upload.ID     `json:"id"`
	Status    upload.Status `json:"status,omitempty"`
	StatusURL string        `json:"statusUrl,omitempty"`
}

// upload is the guides' call: a form, and an answer that has the file's address.
func (a *API) upload(c *fiber.Ctx) error {
	u, err := a.takeForm(c)
	if err != nil {
		return err
	}
	if a.prefersPage(c) {
		return c.Redirect(pagePath(u.ID)+pageToken(c), http.StatusSeeOther)
	}
	wait, asked := preferredWait(c)
	if !asked {
		wait = a.UploadWait
	}
	if wait > 0 {
		u = a.awaitEnd(u, wait)
	}
	switch {
	case u.Status == upload.Completed && u.Asset != nil:
		to, err := a.link(u.Provider, *u.Asset, provider.Transform{})
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderCacheControl, caching(to.Signed))
		return answer(c, http.StatusOK, guideAnswer{Success: true, FileURL: to.URL, ID: u.ID})
	case u.Status == upload.Failed && u.Error != nil:
		return &upload.Error{Code: u.Error.Code, Message: u.Error.Message, Retryable: u.Error.Retryable, UploadID: u.ID}
	}
	base := a.base(c)
	c.Location(base + uploadPath(u.ID))
	setRetryAfter(c, u)
	return answer(c, http.StatusAccepted, guideAnswer{
		Success: true, FileURL: base + contentPath(u.ID), ID: u.ID, Status: u.Status, StatusURL: base + uploadPath(u.ID),
	})
}

// createUpload takes a file as a form or as the body itself, or the address of one.
func (a *API) createUpload(c *fiber.Ctx) error {
	take := a.takeBody
	if kind, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType)); kind == fiber.MIMEMultipartForm {
		take = a.takeForm
	} else if asksForImport(c) {
		take = a.takeImport
	}
	u, err := take(c)
	if err != nil {
		return err
	}
	if wait, _ := preferredWait(c); wait > 0 {
		u = a.awaitEnd(u, wait)
	}
	status := http.StatusAccepted
	if u.Status == upload.Completed {
		status = http.StatusCreated
	}
	base := a.base(c)
	c.Location(base + uploadPath(u.ID))
	setRetryAfter(c, u)
	return answer(c, status, a.viewUpload(u, base))
}

// takeForm makes an upload of a form. Its fields count wherever they stand, and those that come before
// the file can refuse it before its bytes.
func (a *API) takeForm(c *fiber.Ctx) (upload.Upload, error) {
	query, err := queryOf(c)
	if err != nil {
		return upload.Upload{}, err
	}
	if err := plainEncoding(c); err != nil {
		return upload.Upload{}, err
	}
	atMost := max(int64(c.Request().Header.ContentLength()), 0) // bytes of the file, as far as the length of the form tells
	atLeast := int64(-1)
	if n := atMost - formOverhead; n > 0 {
		atLeast = n
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return upload.Upload{}, err
	}
	known := senderKnown(c) && key == "" // with a key, what has been made before is not refused
	if known {
		if _, err := a.admit(c, described(query, nil, atLeast)); err != nil {
			return upload.Upload{}, err
		}
		if err := a.roomFor(user(c), atLeast); err != nil {
			return upload.Upload{}, err
		}
	}

	var file filePart
	var staged *ingest.Staged
	var made *upload.Upload
	var early url.Values
	most := a.limitOf(c)
	fields, err := a.server.readForm(c, most, func(f filePart, before url.Values) error {
		early = maps.Clone(before)
		if err := a.formSender(c, before); err != nil {
			return err
		}
		r, err := a.requested(c, described(query, before, atLeast))
		if err != nil {
			return err
		}
		r.Key, made, err = a.claim(c, ingest.Call{Provider: r.Provider, FileName: cmp.Or(r.FileName, f.Name)})
		switch {
		case err != nil:
			return err
		case made != nil:
			return errMade
		case len(before) > 0 || !known:
			if r, err = a.admit(c, r); err != nil {
				r.Key.Free()
				return err
			}
		}
		if limit := a.limitOf(c); limit < most { // the form has said who sends it
			f.Reader = &fileContent{src: f.Reader, left: limit, limit: limit}
		}
		r.Longest = min(atMost, a.limitOf(c))
		r.Unfinished = true
		s, err := a.Ingest.Receive(c.UserContext(), r, f)
		if err == nil {
			file, staged = f, &s
		}
		return err
	})
	if made != nil {
		return *made, nil
	}
	var r ingest.Request
	if err == nil {
		err = tokenIsEarly(early, fields)
	}
	if err == nil {
		r, err = a.requested(c, described(query, fields, staged.Size))
	}
	if err != nil {
		if staged != nil {
			a.Ingest.Discard(*staged)
		}
		return upload.Upload{}, err
	}
	r.FileName, r.ContentType = cmp.Or(r.FileName, file.Name), file.ContentType
	return a.accept(c, r, *staged)
}

// takeBody makes an upload of a body that is the file itself.
func (a *API) takeBody(c *fiber.Ctx) (upload.Upload, error) {
	query, err := queryOf(c)
	if err != nil {
		return upload.Upload{}, err
	}
	if err := plainEncoding(c); err != nil {
		return upload.Upload{}, err
	}
	if !framed(c) {
		return upload.Upload{}, &upload.Error{Code: upload.LengthRequired, FixableBy: upload.ByYou,
			Message: `The request has no body. Send the file's bytes with a Content-Length or in chunks; with curl, write -T film.mp4 or -F "file=@film.mp4".`}
	}
	name, err := dispositionName(strings.Clone(c.Get(fiber.HeaderContentDisposition)))
	if err != nil {
		return upload.Upload{}, err
	}
	digest, err := declaredDigest(c)
	if err != nil {
		return upload.Upload{}, err
	}
	body, err := a.server.openBody(c, a.limitOf(c))
	if err != nil {
		return upload.Upload{}, err
	}
	r := described(query, nil, body.Declared())
	r.FileName, r.ContentType = cmp.Or(r.FileName, name), strings.Clone(c.Get(fiber.HeaderContentType))
	key, made, err := a.claim(c, ingest.Call{Provider: r.Provider, FileName: r.FileName, Digest: digest})
	switch {
	case err != nil:
		return upload.Upload{}, err
	case made != nil:
		return *made, nil
	}
	if r, err = a.admit(c, r); err != nil {
		key.Free()
		return upload.Upload{}, err
	}
	r.Key = key
	staged, err := a.Ingest.Receive(c.UserContext(), r, ingest.Declared(body, digest))
	if err != nil {
		return upload.Upload{}, err
	}
	return a.accept(c, r, staged)
}

// admit returns the request as the caller may make it, or refuses what nothing that may still come could
// mend. As long as no provider is named, a later field can name any of them, so that one is enough that
// takes the file; the default's refusal is told.
func (a *API) admit(c *fiber.Ctx, r ingest.Request) (ingest.Request, error) {
	r, err := a.requested(c, r)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	err = a.Ingest.Admit(ctx, r)
	if err == nil || r.Provider != "" {
		return r, databaseError(err, noUpload)
	}
	for _, p := range a.Ingest.Providers {
		named := r
		named.Provider = p
		if a.Ingest.Admit(ctx, named) == nil {
			return r, nil
		}
	}
	return r, databaseError(err, noUpload)
}

// roomFor refuses a form before its first byte where its file would find no room in staging: the room is held only
// when the file begins, and by then the client sends it.
func (a *API) roomFor(user string, atLeast int64) error {
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	return databaseError(a.Quotas.Admit(ctx, user, atLeast), noUpload)
}

// accept makes an upload of what was staged. It ends by its own deadline and not with the server: a
// commit that is broken off would leave it unknown what became of it.
func (a *API) accept(c *fiber.Ctx, r ingest.Request, s ingest.Staged) (upload.Upload, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	u, err := a.Ingest.Accept(ctx, r, s)
	if err == nil {
		c.Locals(uploadKey{}, u.ID)
	}
	return u, databaseError(err, noUpload)
}

// awaitEnd returns the upload when nothing more happens to it, or as it is when the time is over. It has
// been accepted: that the database cannot be asked now takes nothing from that.
func (a *API) awaitEnd(u upload.Upload, wait time.Duration) upload.Upload {
	latest, err := a.await(a.server.stopping, u.UserID, u.ID, wait, func(u upload.Upload) bool { return u.Status.Final() })
	if err != nil {
		a.server.opts.Log.Warn("an accepted upload cannot be waited for", "upload_id", u.ID, "err", err)
		return u
	}
	return latest
}

// limit is the most bytes in one file.
func (a *API) limit() int64 { return cmp.Or(a.Ingest.MaxBytes, math.MaxInt64-formOverhead) }

// described is what fields, and query parameters where there is no field, say of a file.
func described(query, fields url.Values, length int64) ingest.Request {
	one := func(names ...string) string {
		for _, values := range []url.Values{fields, query} {
			for _, name := range names {
				if v := values.Get(name); v != "" {
					return v
				}
			}
		}
		return ""
	}
	r := ingest.Request{
		Provider: one("provider"), ResourceType: one("resource_type"), FileName: one("file_name", "fileName"), Length: length,
	}
	for _, values := range []url.Values{query, fields} {
		for _, list := range values["tags"] {
			for tag := range strings.SplitSeq(list, ",") {
				if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(r.Tags, tag) {
					r.Tags = append(r.Tags, tag)
				}
			}
		}
		for name, value := range values {
			key, isMetadata := strings.CutPrefix(name, "metadata[")
			if key, closed := strings.CutSuffix(key, "]"); isMetadata && closed {
				if r.Metadata == nil {
					r.Metadata = map[string]string{}
				}
				r.Metadata[key] = value[len(value)-1]
			}
		}
	}
	return r
}

// plainEncoding refuses a body that is not the file's bytes as they are.
func plainEncoding(c *fiber.Ctx) error {
	if e := c.Get(fiber.HeaderContentEncoding); e != "" && !strings.EqualFold(e, "identity") {
		return &upload.Error{Code: upload.UnsupportedMedia, FixableBy: upload.ByYou,
			Message: fmt.Sprintf("The body is sent with Content-Encoding %.40q; send its bytes as they are.", e)}
	}
	return nil
}

// framed tells whether the client has said that there is a body, be it an empty one.
func framed(c *fiber.Ctx) bool {
	for line := range bytes.Lines(c.Request().Header.RawHeaders()) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte(fiber.HeaderContentLength)) || bytes.EqualFold(name, []byte(fiber.HeaderTransferEncoding)) {
			return true
		}
	}
	return false
}

// dispositionName returns the file name in a Content-Disposition header (RFC 6266), "" if there is none.
func dispositionName(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		return "", &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Cause: err,
			Message: `The header Content-Disposition cannot be read; write attachment; filename="film.mp4", and other names than ASCII as filename*=UTF-8''p%C3%A8re.mp4.`}
	}
	return params["filename"], nil
}
