package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/upload"
)

// tus 1.0.0 (tus.io/protocols/resumable-upload, read November 2026) as docs/tus.md describes it.

const (
	tusPath    = "/v1/tus/"
	tusVersion = "1.0.0"

	headerTusResumable = "Tus-Resumable"
	headerUploadOffset = "Upload-Offset"
)

// reserved are the names that mean something of their own in Upload-Metadata, and cannot be metadata.
var reserved = []string{"filename", "name", "filetype", "type", "provider", "resource_type", "tags"}

// Reserved tells whether metadata cannot have this name.
func Reserved(name string) bool { return slices.Contains(reserved, name) }

// tusMetadata is all that is said of f, as Upload-Metadata has it.
func (f File) tusMetadata() string {
	said := maps.Clone(f.Metadata)
	if said == nil {
		said = map[string]string{}
	}
	said["filename"], said["filetype"], said["provider"] = f.Name, f.ContentType, f.Provider
	said["resource_type"], said["tags"] = string(f.ResourceType), strings.Join(f.Tags, ",")
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(said)) {
		if said[key] != "" {
			pairs = append(pairs, key+" "+base64.StdEncoding.EncodeToString([]byte(said[key])))
		}
	}
	return strings.Join(pairs, ",")
}

func tusHeader(pairs ...string) http.Header {
	h := http.Header{headerTusResumable: {tusVersion}}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func ofTus(h http.Header) bool { return h.Get(headerTusResumable) == tusVersion }

// tusRefusal fills in what a refused HEAD cannot say.
func tusRefusal(e *Error) error {
	switch e.Status {
	case http.StatusNotFound:
		e.Code, e.Detail = upload.NotFound, "There is no such upload any more."
	case http.StatusGone:
		e.Code, e.Detail = upload.Gone, "The upload was ended, or nobody went on with it in time."
	case http.StatusLocked:
		e.Code, e.Detail, e.Retryable = upload.Locked, "The upload cannot be gone on with at the moment.", true
	case http.StatusUnauthorized:
		e.Code, e.Detail = upload.Unauthorized, "The service does not know who is asking."
	default:
		e.Code = upload.InvalidRequest
		e.Detail = fmt.Sprintf("The service answers with status %d.", e.Status)
	}
	return e
}

// tusCreate makes an upload, once for its key, and sends the beginning of the file up to first with it. It
// returns how far the upload has come.
func (c *Client) tusCreate(ctx context.Context, key, metadata string, file *content, first int64) (upload.ID, int64, error) {
	r := request{method: http.MethodPost, path: tusPath, header: tusHeader(
		"Upload-Length", strconv.FormatInt(file.size, 10), "Upload-Metadata", metadata, "Idempotency-Key", `"`+key+`"`)}
	if first > 0 {
		r.piece = &span{content: file, to: first}
		r.header.Set("Content-Type", "application/offset+octet-stream")
	} else {
		r.timeout = callTimeout
	}
	answer, err := c.try(ctx, r, nil)
	if err != nil {
		return "", 0, err
	}
	id, err := upload.ParseID(path.Base(answer.Get("Location"))) // of the rest nothing is believed
	if err != nil {
		return "", 0, fmt.Errorf("the service says that the upload is at %q: %w", answer.Get("Location"), err)
	}
	if answer.Get(headerUploadOffset) == "" {
		return id, 0, nil
	}
	n, err := offsetOf(answer)
	return id, n, err
}

// tusHead returns how far an upload has come, and how long it is to be.
func (c *Client) tusHead(ctx context.Context, id upload.ID) (offset, length int64, err error) {
	answer, err := c.try(ctx, request{method: http.MethodHead, path: tusPath + string(id), header: tusHeader(), timeout: callTimeout}, nil)
	if err != nil {
		return 0, 0, err
	}
	if length, err = strconv.ParseInt(answer.Get("Upload-Length"), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("the service says that the upload has %q bytes", answer.Get("Upload-Length"))
	}
	offset, err = offsetOf(answer)
	return offset, length, err
}

// tusPatch adds a piece to an upload, and returns how far that has come.
func (c *Client) tusPatch(ctx context.Context, id upload.ID, p span) (int64, error) {
	answer, err := c.try(ctx, request{
		method: http.MethodPatch, path: tusPath + string(id), piece: &p,
		header: tusHeader(headerUploadOffset, strconv.FormatInt(p.from, 10), "Content-Type", "application/offset+octet-stream"),
	}, nil)
	if err != nil {
		return 0, err
	}
	return offsetOf(answer)
}

func offsetOf(answer http.Header) (int64, error) {
	n, err := strconv.ParseInt(answer.Get(headerUploadOffset), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the service says that %q bytes have come", answer.Get(headerUploadOffset))
	}
	return n, nil
}

// Abandon ends an upload with which nobody goes on, as long as it has not come in; then it is left alone.
func (c *Client) Abandon(ctx context.Context, id upload.ID) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	offset, length, err := c.tusHead(ctx, id)
	if err != nil || offset == length {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: tusPath + string(id), header: tusHeader(), twice: true, timeout: callTimeout}, nil)
	return err
}
