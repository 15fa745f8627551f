package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	retryAllPath = uploadsPath + "/retry"

	// maxBatch is how many uploads one request retries, in one transaction.
	maxBatch = 1000
)

// retryAsked is which failed uploads are to be retried; without any choice it is all of them.
type retryAsked struct {
	IDs           []string   `json:"ids"`
	Provider      string     `json:"provider"`
	ErrorCode     string     `json:"error_code"`
	NamePrefix    string     `json:"q"`
	CreatedAfter  *time.Time `json:"created_after"`
	CreatedBefore *time.Time `json:"created_before"`
	Limit         *int       `json:"limit"`
	DryRun        bool       `json:"dry_run"`
}

// retryAnswer is what has become of one batch; Next is the path to which the same body is sent for the next one.
type retryAnswer struct {
	DryRun     bool       `json:"dry_run"`
	Retried    retryGroup `json:"retried"`
	NotRetried []refused  `json:"not_retried"`
	Next       *string    `json:"next"`
}

type retryGroup struct {
	Count int         `json:"count"`
	IDs   []upload.ID `json:"ids"`
}

type refused struct {
	*upload.Error
	retryGroup
}

// retryUploads sends a batch of failed uploads on their way again.
func (a *API) retryUploads(c *fiber.Ctx) error {
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	var asked retryAsked
	if err := a.readStrictJSON(c, &asked); err != nil {
		return err
	}
	f, err := asked.filter()
	if err != nil {
		return err
	}
	if cursor := query.Get("cursor"); cursor != "" {
		place, err := a.Cursors.open(user(c), retryAllPath, cursor)
		if err != nil {
			return err
		}
		if f.After, err = upload.ParseID(place); err != nil {
			return badCursor()
		}
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	done, err := a.Ingest.RetryAll(ctx, user(c), f, asked.DryRun)
	if err != nil {
		return databaseError(err, noUpload)
	}
	status, v := http.StatusAccepted, viewBatch(done, asked.DryRun)
	if asked.DryRun {
		status = http.StatusOK
	}
	if asked.IDs == nil && done.Chosen == f.Limit {
		v.Next = a.nextPage(user(c), retryAllPath, query, string(done.Last))
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return answer(c, status, v)
}

func (r retryAsked) filter() (postgres.FailedFilter, error) {
	f := postgres.FailedFilter{UploadFilter: postgres.UploadFilter{
		ErrorCode: r.ErrorCode, NamePrefix: r.NamePrefix, CreatedAfter: r.CreatedAfter, CreatedBefore: r.CreatedBefore, Limit: maxBatch,
	}}
	var err error
	if f.Provider, err = providerFilter(url.Values{"provider": {r.Provider}}); err != nil {
		return f, err
	}
	if strings.ContainsRune(r.ErrorCode+r.NamePrefix, 0) {
		return f, invalidParameter("No error_code and no file's name has a NUL in it.")
	}
	if r.Limit != nil {
		if f.Limit = *r.Limit; f.Limit < 1 || f.Limit > maxBatch {
			return f, invalidParameter("limit must be a number from 1 to %d.", maxBatch)
		}
	}
	if r.IDs == nil {
		return f, nil
	}
	if r.Provider+r.ErrorCode+r.NamePrefix != "" || r.CreatedAfter != nil || r.CreatedBefore != nil || r.Limit != nil {
		return f, invalidParameter("Name uploads by ids, or choose them by other members, not both.")
	}
	if len(r.IDs) > maxBatch {
		return f, invalidParameter("ids may have %d members; send the others by themselves.", maxBatch)
	}
	f.IDs = make([]upload.ID, len(r.IDs))
	for i, id := range r.IDs {
		if f.IDs[i], err = upload.ParseID(id); err != nil {
			return f, invalidParameter("%.40q among ids is no id of an upload.", id)
		}
	}
	return f, nil
}

// readStrictJSON is readJSON where a member that is not known would have narrowed what is done.
func (a *API) readStrictJSON(c *fiber.Ctx, v any) error {
	text, err := a.server.readWhole(c, maxJSON)
	if err == nil {
		err = shallow(text)
	}
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err = dec.Decode(v); err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind it")
		}
	}
	if err != nil {
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Cause: err,
			Message: "The body cannot be read as the JSON that is expected here, {} at least; a member that is not known is refused, for it may have been meant to choose less."}
	}
	return nil
}

func viewBatch(b ingest.Batch, dryRun bool) retryAnswer {
	v := retryAnswer{DryRun: dryRun, Retried: retryGroup{len(b.Retried), b.Retried}, NotRetried: []refused{}}
	if v.Retried.IDs == nil {
		v.Retried.IDs = []upload.ID{}
	}
	for _, r := range b.Refused {
		v.NotRetried = append(v.NotRetried, refused{r.Error, retryGroup{len(r.IDs), r.IDs}})
	}
	return v
}
