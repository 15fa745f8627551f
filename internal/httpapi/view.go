package httpapi

import (
	"math"
	"strconv"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// uploadView is an upload as JSON.
type uploadView struct {
	ID            upload.ID           `json:"id"`
	Status        upload.Status       `json:"status"`
	Provider      string              `json:"provider"`
	ResourceType  upload.ResourceType `json:"resource_type"`
	FileName      string              `json:"file_name"`
	ContentType   string              `json:"content_type"`
	Size          int64               `json:"size"`
	Received      int64               `json:"received_bytes"`
	Pushed        int64               `json:"pushed_bytes"`
	Progress      float64             `json:"progress"`
	CRC32C        string              `json:"crc32c"`
	Attempt       int                 `json:"attempt"`
	MaxAttempts   int                 `json:"max_attempts"`
	NextAttemptAt *time.Time          `json:"next_attempt_at"`
	Error         *upload.Error       `json:"error"`
	Asset         *upload.Asset       `json:"asset"`
	URL           string              `json:"url"`
	Metadata      map[string]string   `json:"metadata"`
	Tags          []string            `json:"tags"`
	Version       int64               `json:"version"`
	CreatedAt     time.Time           `json:"created_at"`
	StagedAt      *time.Time          `json:"staged_at"`
	StartedAt     *time.Time          `json:"started_at"`
	CompletedAt   *time.Time          `json:"completed_at"`
	ExpiresAt     *time.Time          `json:"expires_at"`
	StagedUntil   *time.Time          `json:"staged_until"`
	Links         uploadLinks         `json:"links"`
}

// uploadLinks are the paths of what can be done with an upload now; null for what cannot.
type uploadLinks struct {
	Self   string  `json:"self"`
	Events *string `json:"events"`
	Retry  *string `json:"retry"`
	Cancel *string `json:"cancel"`
}

// viewUpload is u as JSON. Of an asset whose provider shows it only to signed links it has our address,
// which makes them: the representation stays the same as long as the upload does.
func (a *API) viewUpload(u upload.Upload, base string) uploadView {
	v := uploadView{
		ID: u.ID, Status: u.Status, Provider: u.Provider, ResourceType: u.ResourceType, FileName: u.FileName, ContentType: u.ContentType,
		Size: u.Size, Received: u.Received, Pushed: u.Pushed, Progress: progress(u), CRC32C: checksum(u),
		Attempt: u.Attempt, MaxAttempts: u.MaxAttempts, NextAttemptAt: utc(u.NextAttemptAt), Error: u.Error, Asset: u.Asset,
		URL: base + contentPath(u.ID), Metadata: u.Metadata, Tags: u.Tags, Version: u.Version,
		CreatedAt: *utc(&u.CreatedAt), StagedAt: utc(u.StagedAt), StartedAt: utc(u.StartedAt), CompletedAt: utc(u.CompletedAt),
		ExpiresAt: utc(u.ExpiresAt), StagedUntil: utc(u.StagedUntil),
		Links: uploadLinks{Self: uploadPath(u.ID)},
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	if u.Asset != nil {
		if to, err := a.link(u.Provider, *u.Asset, provider.Transform{}); err != nil || to.Signed {
			asset := *u.Asset
			asset.URL, v.Asset = v.URL, &asset
		}
	}
	eventsOf := uploadEventsPath(u.ID)
	v.Links.Events = &eventsOf
	if retryable(u) {
		path := retryPath(u.ID)
		v.Links.Retry = &path
	}
	if u.Status.CanBecome(upload.Canceled) {
		path := cancelPath(u.ID)
		v.Links.Cancel = &path
	}
	return v
}

func uploadPath(id upload.ID) string  { return "/v1/uploads/" + string(id) }
func retryPath(id upload.ID) string   { return uploadPath(id) + "/retry" }
func cancelPath(id upload.ID) string  { return uploadPath(id) + "/cancel" }
func pagePath(id upload.ID) string    { return "/uploads/" + string(id) }
func filePath(id string) string       { return "/v1/files/" + id }
func contentPath(id upload.ID) string { return filePath(string(id)) + "/content" }

// retryable tells whether the owner may send the upload on its way again.
func retryable(u upload.Upload) bool { return u.Status == upload.Failed && u.Unstaged == nil }

// checksum is of the bytes as they were received, "" for what never came through here.
func checksum(u upload.Upload) string {
	if u.StagedAt == nil {
		return ""
	}
	return crc32c.Base64(u.CRC32C)
}

// progress has two decimals, and is 1 only when nothing is left to do.
func progress(u upload.Upload) float64 {
	if u.Status == upload.Completed {
		return 1
	}
	return min(math.Round(u.Progress*100)/100, 0.99)
}

// utc returns t as the database keeps it, in microseconds.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC().Truncate(time.Microsecond)
	return &u
}

// fileView is a completed asset as JSON: what a guide table says of it.
type fileView struct {
	ID           string              `json:"id"`
	UploadID     *upload.ID          `json:"upload_id"` // null for a file from before Slipway
	Provider     string              `json:"provider"`
	AssetID      string              `json:"asset_id"`
	URL          string              `json:"url"`
	ThumbnailURL *string             `json:"thumbnail_url"`
	ResourceType upload.ResourceType `json:"resource_type"`
	FileName     *string             `json:"file_name"`
	ContentType  *string             `json:"content_type"`
	Size         *int64              `json:"size"`
	Version      *int64              `json:"version"`
	Format       *string             `json:"format"`
	Width        *int                `json:"width"`
	Height       *int                `json:"height"`
	Tags         []string            `json:"tags"`
	UploadedAt   *time.Time          `json:"uploaded_at"`
	Deletion     *removalView        `json:"deletion"` // null for what nobody has deleted
	Links        fileLinks           `json:"links"`

	signed bool // URL and ThumbnailURL open the file
}

// removalView says how far the deletion of a file has come that its provider still has.
type removalView struct {
	AskedAt time.Time     `json:"asked_at"`
	Attempt int           `json:"attempt"`
	Error   *upload.Error `json:"error"`
}

func viewRemoval(f postgres.LeavingFile) *removalView {
	v := &removalView{AskedAt: *utc(&f.AskedAt), Attempt: f.Attempt}
	if f.ErrorCode != nil && f.ErrorMessage != nil {
		v.Error = &upload.Error{Code: *f.ErrorCode, Message: *f.ErrorMessage, Retryable: true}
	}
	return v
}

type fileLinks struct {
	Self    string  `json:"self"`
	Content string  `json:"content"`
	Upload  *string `json:"upload"`
}

func (a *API) viewFile(f postgres.File) (fileView, error) {
	to, err := a.link(f.Provider, assetOf(f), provider.Transform{})
	if err != nil {
		return fileView{}, err
	}
	thumbnail, err := a.thumbnail(f)
	if err != nil {
		return fileView{}, err
	}
	v := fileView{
		ID: f.Provider + "-" + strconv.FormatInt(f.Row, 10), UploadID: f.UploadID, Provider: f.Provider, AssetID: f.AssetID, URL: to.URL,
		ThumbnailURL: thumbnail, signed: to.Signed, ResourceType: f.ResourceType, FileName: f.FileName, ContentType: f.ContentType, Size: f.Size,
		Version: f.Version, Format: f.Format, Width: f.Width, Height: f.Height, Tags: f.Tags, UploadedAt: utc(f.UploadedAt),
	}
	if f.UploadID != nil {
		path := uploadPath(*f.UploadID)
		v.ID, v.Links.Upload = string(*f.UploadID), &path
	}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	v.Links.Self, v.Links.Content = filePath(v.ID), filePath(v.ID)+"/content"
	return v, nil
}
