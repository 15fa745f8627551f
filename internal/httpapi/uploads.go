package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	defaultPage = 20
	maxPage     = 100
)

// The lists that have pages.
const (
	uploadsPath = "/v1/uploads"
	filesPath   = "/v1/files"
)

// getUpload answers with an upload; with Prefer: wait when it differs from what the client has.
func (a *API) getUpload(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	u, err := a.find(user(c), id)
	if err != nil {
		return err
	}
	known, behind := copyOf(c, etag(u))
	if wait, _ := preferredWait(c); wait > 0 && !behind && (known || !u.Status.Final()) {
		seen := u.Version
		ctx, cancel := a.Auth.While(a.server.stopping, caller(c))
		defer cancel()
		if u, err = a.await(ctx, user(c), id, wait, func(u upload.Upload) bool { return u.Version != seen }); err != nil {
			return err
		}
		known = known && u.Version == seen
	}
	c.Set(fiber.HeaderETag, etag(u))
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	setRetryAfter(c, u)
	if known {
		return c.SendStatus(http.StatusNotModified)
	}
	return answer(c, http.StatusOK, a.viewUpload(u, a.base(c)))
}

// uploadList is a page of uploads; Next is the path of the next one. A page may have fewer than were asked for, and a next one.
type uploadList struct {
	Uploads []uploadView `json:"uploads"`
	Next    *string      `json:"next"`
}

// listUploads answers with the caller's uploads, newest first.
func (a *API) listUploads(c *fiber.Ctx) error {
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	f := postgres.UploadFilter{ErrorCode: query.Get("error_code"), NamePrefix: query.Get("q")}
	if strings.ContainsRune(f.ErrorCode+f.NamePrefix, 0) {
		return invalidParameter("No error_code and no file's name has a NUL in it.")
	}
	if f.CreatedAfter, err = timeIn(query, "created_after"); err != nil {
		return err
	}
	if f.CreatedBefore, err = timeIn(query, "created_before"); err != nil {
		return err
	}
	if f.Provider, err = providerFilter(query); err != nil {
		return err
	}
	for _, list := range query["status"] {
		for name := range strings.SplitSeq(list, ",") {
			s, err := upload.ParseStatus(strings.TrimSpace(name))
			if err != nil {
				return err
			}
			f.Statuses = append(f.Statuses, s)
		}
	}
	page, err := pageSize(query)
	if err != nil {
		return err
	}
	if cursor := query.Get("cursor"); cursor != "" {
		place, err := a.Cursors.open(user(c), uploadsPath, cursor)
		if err != nil {
			return err
		}
		if f.Before, err = upload.ParseID(place); err != nil {
			return badCursor()
		}
	}
	f.Limit = page

	var found postgres.UploadPage
	err = a.readAs(user(c), noUpload, func(ctx context.Context, db postgres.Querier) error {
		found, err = postgres.ListUploads(ctx, db, user(c), f)
		return err
	})
	if err != nil {
		return err
	}
	list := uploadList{Uploads: []uploadView{}}
	if found.Next != "" {
		list.Next = a.nextPage(user(c), uploadsPath, query, string(found.Next))
	}
	for _, u := range found.Uploads {
		list.Uploads = append(list.Uploads, a.viewUpload(u, a.base(c)))
	}
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	return answer(c, http.StatusOK, list)
}

// retryUpload sends a failed upload on its way again, to another provider if one is named.
func (a *API) retryUpload(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	var to struct {
		Provider string `json:"provider"`
	}
	if err := a.readOptionalJSON(c, &to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	u, err := a.Ingest.Retry(ctx, user(c), id, to.Provider)
	if err != nil {
		return databaseError(err, noUpload)
	}
	return a.answerChanged(c, u)
}

// queryOf returns the query's parameters.
func queryOf(c *fiber.Ctx) (url.Values, error) {
	query, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, invalidParameter("The query after ? cannot be read; check its %% escapes.")
	}
	for name, values := range query {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return nil, invalidParameter("A parameter in the query is not UTF-8.")
		}
	}
	query.Del(formToken) // is nobody's business who goes on with the query
	return query, nil
}

// providerFilter returns the provider that a list is narrowed to, "" for all.
func providerFilter(query url.Values) (string, error) {
	p := query.Get("provider")
	if p != "" && !slices.Contains(postgres.GuideProviders, p) {
		return "", &upload.Error{Code: upload.UnknownProvider, Message: fmt.Sprintf("Provider %.40q is not known; use %s.", p, strings.Join(postgres.GuideProviders, " or "))}
	}
	return p, nil
}

// timeIn returns the time that a parameter names, nil for none.
func timeIn(query url.Values, name string) (*time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, invalidParameter("%s must be a time like 2026-11-30T12:00:00Z; in a query a + is written %%2B.", name)
	}
	return &t, nil
}

func pageSize(query url.Values) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, invalidParameter("limit must be a number from 1 to %d.", maxPage)
	}
	return n, nil
}

// nextPage is the path of the user's page after a place, with everything else as it was asked for.
func (a *API) nextPage(user, path string, query url.Values, place string) *string {
	query.Set("cursor", a.Cursors.seal(user, path, place))
	next := path + "?" + query.Encode()
	return &next
}

func invalidParameter(format string, a ...any) error {
	return &upload.Error{Code: upload.InvalidParameter, FixableBy: upload.ByYou, Message: fmt.Sprintf(format, a...)}
}
