package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"slipway/internal/upload"
)

// Upload is an upload as the service tells it. As JSON it is what the service said, word for word.
type Upload struct {
	ID            upload.ID           `json:"id"`
	Status        upload.Status       `json:"status"`
	Provider      string              `json:"provider"`
	ResourceType  upload.ResourceType `json:"resource_type"`
	FileName      string              `json:"file_name"`
	ContentType   string              `json:"content_type"`
	Size          int64               `json:"size"`
	Received      int64               `json:"received_bytes"`
	Pushed        int64               `json:"pushed_bytes"`
	Progress      float64             `json:"progress"` // of both ways together, 0 to 1
	CRC32C        string              `json:"crc32c"`   // base64
	Attempt       int                 `json:"attempt"`
	MaxAttempts   int                 `json:"max_attempts"`
	NextAttemptAt *time.Time          `json:"next_attempt_at"`
	Error         *upload.Error       `json:"error"`
	Asset         *upload.Asset       `json:"asset"`
	URL           string              `json:"url"` // leads to the content once it is delivered
	Metadata      map[string]string   `json:"metadata"`
	Tags          []string            `json:"tags"`
	Version       int64               `json:"version"`
	CreatedAt     time.Time           `json:"created_at"`
	CompletedAt   *time.Time          `json:"completed_at"`
	StagedUntil   *time.Time          `json:"staged_until"`
	Links         struct {
		Retry *string `json:"retry"` // nil when it cannot be
	} `json:"links"`

	said json.RawMessage
}

// UnmarshalJSON implements [json.Unmarshaler].
func (u *Upload) UnmarshalJSON(b []byte) error {
	type fields Upload
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f.ID == "" || f.Status == "" {
		return fmt.Errorf("this is no upload")
	}
	f.said = bytes.Clone(b)
	*u = Upload(f)
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (u Upload) MarshalJSON() ([]byte, error) {
	if u.said != nil {
		return u.said, nil
	}
	type fields Upload
	return json.Marshal(fields(u))
}

// Get returns an upload.
func (c *Client) Get(ctx context.Context, id upload.ID) (Upload, error) {
	u, _, err := c.get(ctx, id, nil, 0)
	return u, err
}

// get asks for an upload. With an etag it waits until the upload is another, and says when it is not.
func (c *Client) get(ctx context.Context, id upload.ID, etag []string, wait time.Duration) (u Upload, next []string, err error) {
	h := http.Header{}
	if etag != nil {
		h["If-None-Match"] = etag
		h.Set("Prefer", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	answer, err := c.call(ctx, request{method: http.MethodGet, path: uploadPath(id), header: h, timeout: callTimeout + wait}, &u)
	return u, answer["Etag"], err
}

const (
	holdFor = 30 * time.Second // that an answer may be held back until there is news

	// askEvery is the least time between two questions: much news comes at once, and a service
	// that holds nothing back is not to be pestered.
	askEvery = 200 * time.Millisecond
)

// Await calls changed with the upload as it is and after each change, and returns it when nothing more
// happens to it by itself.
func (c *Client) Await(ctx context.Context, id upload.ID, changed func(Upload)) (Upload, error) {
	u, etag, err := c.get(ctx, id, nil, 0)
	for err == nil {
		changed(u)
		if u.Status.Final() {
			return u, nil
		}
		for known := u.Version; err == nil && u.Version == known; {
			if err = c.sleep(ctx, askEvery); err != nil {
				break
			}
			var news Upload
			if news, etag, err = c.get(ctx, id, etag, holdFor); err == nil && news.ID != "" {
				u = news
			}
		}
	}
	return u, err
}

// Filter narrows a list; zero values ask for nothing.
type Filter struct {
	Statuses      []upload.Status
	Provider      string
	ErrorCode     string
	NamePrefix    string // of the file
	CreatedAfter  *time.Time
	CreatedBefore *time.Time
	PageSize      int // how many are asked for at once
}

// List goes through the caller's uploads, newest first. It asks for each page when it gets there, and
// ends after an error.
func (c *Client) List(ctx context.Context, f Filter) iter.Seq2[Upload, error] {
	query := f.query()
	return func(yield func(Upload, error) bool) {
		for query := query; query != nil; {
			var page struct {
				Uploads []Upload `json:"uploads"`
				Next    string   `json:"next"`
			}
			if _, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/uploads", query: query, timeout: callTimeout}, &page); err != nil {
				yield(Upload{}, err)
				return
			}
			for _, u := range page.Uploads {
				if !yield(u, nil) {
					return
				}
			}
			query = queryBehind(page.Next)
		}
	}
}

func (f Filter) query() url.Values {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	var names []string
	for _, s := range f.Statuses {
		names = append(names, string(s))
	}
	set("status", strings.Join(names, ","))
	set("provider", f.Provider)
	set("error_code", f.ErrorCode)
	set("q", f.NamePrefix)
	if f.CreatedAfter != nil {
		set("created_after", f.CreatedAfter.Format(time.RFC3339Nano))
	}
	if f.CreatedBefore != nil {
		set("created_before", f.CreatedBefore.Format(time.RFC3339Nano))
	}
	if f.PageSize > 0 {
		set("limit", strconv.Itoa(f.PageSize))
	}
	return query
}

// Retry sends a failed upload on its way again, to another provider if one is named.
func (c *Client) Retry(ctx context.Context, id upload.ID, provider string) (Upload, error) {
	r := request{method: http.MethodPost, path: uploadPath(id) + "/retry", timeout: callTimeout}
	if provider != "" {
		r.body = map[string]string{"provider": provider}
	}
	var u Upload
	_, err := c.call(ctx, r, &u)
	return u, err
}

// Cancel ends an upload that is on its way.
func (c *Client) Cancel(ctx context.Context, id upload.ID) (Upload, error) {
	return c.end(ctx, http.MethodPost, uploadPath(id)+"/cancel")
}

// Delete ends an upload for good. The upload that it returns is being deleted, or is.
func (c *Client) Delete(ctx context.Context, id upload.ID) (Upload, error) {
	return c.end(ctx, http.MethodDelete, uploadPath(id))
}

func (c *Client) end(ctx context.Context, method, path string) (Upload, error) {
	var u Upload
	_, err := c.call(ctx, request{method: method, path: path, twice: true, timeout: callTimeout}, &u)
	return u, err
}

func uploadPath(id upload.ID) string { return "/v1/uploads/" + url.PathEscape(string(id)) }
