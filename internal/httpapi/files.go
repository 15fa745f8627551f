package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// fileID names a file: by the upload that made it, or by its row in a guide table, "<provider>-<row>".
type fileID struct {
	upload   upload.ID
	provider string
	row      int64
}

func parseFileID(s string) (fileID, error) {
	if id, err := upload.ParseID(s); err == nil {
		return fileID{upload: id}, nil
	}
	provider, digits, _ := strings.Cut(s, "-")
	row, err := strconv.ParseInt(digits, 10, 32) // the guides' SERIAL
	if err != nil || strconv.FormatInt(row, 10) != digits || !slices.Contains(postgres.GuideProviders, provider) {
		return fileID{}, &upload.Error{Code: upload.NotFound, Message: noFileID}
	}
	return fileID{provider: provider, row: row}, nil
}

// fileParam returns the id in the path, for the access log too, or NotFound.
func fileParam(c *fiber.Ctx) (fileID, error) {
	id, err := parseFileID(strings.Clone(c.Params("id")))
	if id.upload != "" {
		c.Locals(uploadKey{}, id.upload)
	}
	return id, err
}

// fileList is a page of files; Next is the path of the next one.
type fileList struct {
	Files []fileView `json:"files"`
	Next  *string    `json:"next"`
}

// listFiles answers with the caller's completed assets, newest first, those from before Slipway too.
func (a *API) listFiles(c *fiber.Ctx) error {
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	f := postgres.FileFilter{}
	if f.Provider, err = providerFilter(query); err != nil {
		return err
	}
	if f.ResourceType, err = upload.ParseResourceType(query.Get("resource_type")); err != nil {
		return err
	}
	page, err := pageSize(query)
	if err != nil {
		return err
	}
	if cursor := query.Get("cursor"); cursor != "" {
		place, err := a.Cursors.open(user(c), filesPath, cursor)
		if err != nil {
			return err
		}
		if f.After, err = parseFileKey(place); err != nil {
			return err
		}
	}
	f.Limit = page + 1

	var found []postgres.File
	err = a.readAs(user(c), noFileID, func(ctx context.Context, db postgres.Querier) error {
		found, err = postgres.ListFiles(ctx, db, user(c), f)
		return err
	})
	if err != nil {
		return err
	}
	list, signed := fileList{Files: []fileView{}}, false
	if len(found) > page {
		found = found[:page]
		list.Next = a.nextPage(user(c), filesPath, query, fileKey(found[page-1]))
	}
	for _, f := range found {
		v, err := a.viewFile(f)
		if err != nil {
			return err
		}
		list.Files, signed = append(list.Files, v), signed || v.signed
	}
	c.Set(fiber.HeaderCacheControl, caching(signed))
	return answer(c, http.StatusOK, list)
}

// fileKey is the place of a file in the list: its time in microseconds, if it has one, its table and its row.
func fileKey(f postgres.File) string {
	at := ""
	if f.UploadedAt != nil {
		at = strconv.FormatInt(f.UploadedAt.UnixMicro(), 10)
	}
	return at + " " + f.Provider + " " + strconv.FormatInt(f.Row, 10)
}

func parseFileKey(place string) (*postgres.FileKey, error) {
	parts := strings.Split(place, " ")
	if len(parts) != 3 || !slices.Contains(postgres.GuideProviders, parts[1]) {
		return nil, badCursor()
	}
	key := &postgres.FileKey{Provider: parts[1]}
	if parts[0] != "" {
		micros, err := strconv.ParseInt(parts[0], 10, 64)
		if err != nil {
			return nil, badCursor()
		}
		at := time.UnixMicro(micros)
		key.UploadedAt = &at
	}
	row, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil {
		return nil, badCursor()
	}
	key.Row = row
	return key, nil
}

// getFile answers with one completed asset; of one that is being deleted, with why it is there still.
func (a *API) getFile(c *fiber.Ctx) error {
	id, err := fileParam(c)
	if err != nil {
		return err
	}
	f, err := a.findFile(user(c), id)
	var removal *removalView
	if isNotFound(err) {
		var leaving postgres.LeavingFile
		err = a.readAs(user(c), noFileID, func(ctx context.Context, db postgres.Querier) (err error) {
			leaving, err = postgres.GetLeavingFile(ctx, db, user(c), id.upload, id.provider, id.row)
			return err
		})
		f, removal = leaving.File, viewRemoval(leaving)
	}
	if err != nil {
		return err
	}
	v, err := a.viewFile(f)
	if err != nil {
		return err
	}
	v.Deletion = removal
	c.Set(fiber.HeaderCacheControl, caching(v.signed))
	return answer(c, http.StatusOK, v)
}

func (a *API) findFile(user string, id fileID) (f postgres.File, err error) {
	err = a.readAs(user, noFileID, func(ctx context.Context, db postgres.Querier) error {
		if id.upload != "" {
			f, err = postgres.GetFile(ctx, db, user, id.upload)
		} else {
			f, err = postgres.GetFileRow(ctx, db, user, id.provider, id.row)
		}
		return err
	})
	return f, err
}

// publicContent answers to anybody where files are public, for who knows an upload's id has been told it.
// Rows of the guide tables are numbered, so they stay their owner's.
func (a *API) publicContent(c *fiber.Ctx) error {
	id, err := fileParam(c)
	if err != nil || !a.PublicFiles || id.upload == "" {
		return c.Next()
	}
	t, err := transformIn(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	u, err := postgres.UploadOf(ctx, a.Pool, id.upload)
	if err == nil && (u.Status == upload.Joined || u.Status == upload.Deleted) {
		err = postgres.ErrNoUpload
	}
	if err != nil {
		return databaseError(err, noFileID)
	}
	return a.toContent(c, u, t)
}

// fileContent leads to where the provider keeps the file, or by ?transform= a picture of it.
func (a *API) fileContent(c *fiber.Ctx) error {
	id, err := fileParam(c)
	if err != nil {
		return err
	}
	t, err := transformIn(c)
	if err != nil {
		return err
	}
	if id.upload == "" {
		f, err := a.findFile(user(c), id)
		if err != nil {
			return err
		}
		return a.redirect(c, f.Provider, assetOf(f), t)
	}
	u, err := a.find(user(c), id.upload)
	if isNotFound(err) {
		err = &upload.Error{Code: upload.NotFound, Message: noFileID}
	}
	if err != nil {
		return err
	}
	return a.toContent(c, u, t)
}

func isNotFound(err error) bool {
	var e *upload.Error
	return errors.As(err, &e) && e.Code == upload.NotFound
}

// toContent answers with the address of the upload's file, or of its picture.
func (a *API) toContent(c *fiber.Ctx, u upload.Upload, t provider.Transform) error {
	switch {
	case u.Error != nil && u.Error.Code == upload.Infected:
		return &upload.Error{Code: u.Error.Code, UploadID: u.ID, Message: u.Error.Message}
	case u.Status == upload.Completed && u.Asset != nil:
		return a.redirect(c, u.Provider, *u.Asset, t)
	case u.Status == upload.Deleting, u.Status == upload.Deleted:
		return &upload.Error{Code: upload.Gone, UploadID: u.ID, Message: "The file has been deleted."}
	case u.Status.Final():
		return &upload.Error{Code: upload.NotReady, UploadID: u.ID, Message: "The file has not reached its provider: the upload is " + string(u.Status) + "."}
	}
	setRetryAfter(c, u)
	return &upload.Error{Code: upload.NotReady, UploadID: u.ID, Retryable: true, Message: "The file is still on its way to its provider; the upload is " + string(u.Status) + "."}
}
