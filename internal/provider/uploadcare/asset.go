package uploadcare

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/uploadcare/uploadcare-go/file"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// fileInfo is the part of the Upload API's file object that a push needs. The SDK's own type fails
// on fields of the rest that come in two types.
type fileInfo struct {
	UUID     string `json:"uuid"`
	Size     int64  `json:"size"`
	MimeType string `json:"mime_type"`
	IsReady  bool   `json:"is_ready"`
}

// asset has no URL yet: only a stored file is for the world.
func (f fileInfo) asset() upload.Asset {
	return upload.Asset{ID: f.UUID, Size: f.Size, ContentType: f.MimeType}
}

var errOtherFile = errors.New("it is about another file")

// info asks the Upload API for a file, stored or not.
func (p *Provider) info(ctx context.Context, op, id string) (fileInfo, error) {
	var f fileInfo
	query := url.Values{"pub_key": {p.opts.PublicKey}, "file_id": {id}}
	if err := p.call(ctx, op, "/info/?"+query.Encode(), nil, &f); err != nil {
		return fileInfo{}, err
	}
	if f.UUID != id {
		return fileInfo{}, unusable(op, errOtherFile)
	}
	return f, nil
}

// call makes a small request of the Upload API, a POST where it has fields, and decodes its answer into out.
func (p *Provider) call(ctx context.Context, op, path string, fields url.Values, out any) error {
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	var req *http.Request
	var err error
	if fields == nil {
		req, err = p.sdk.NewRequest(call, uploadHost, http.MethodGet, path, nil)
	} else {
		req, err = p.sdk.NewRequest(call, uploadHost, http.MethodPost, path, form(fields))
	}
	if err == nil {
		err = p.sdk.Do(req, out)
	}
	if err != nil {
		return p.failed(ctx, op, err)
	}
	return nil
}

// Commit stores the file, which would otherwise be removed 24 hours after its upload, and describes it.
func (p *Provider) Commit(ctx context.Context, src provider.Source, a upload.Asset) (upload.Asset, error) {
	const op = "commit"
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	f, err := p.files.Store(call, a.ID)
	switch {
	case err != nil:
		return upload.Asset{}, p.failed(ctx, op, err)
	case f.ID != a.ID:
		return upload.Asset{}, unusable(op, nil)
	case f.RemovedAt != nil:
		return upload.Asset{}, &provider.Error{Provider: name, Op: op, Verdict: provider.SessionLost, Message: "Uploadcare has removed the file."}
	case f.StoredAt == nil:
		return upload.Asset{}, unusable(op, errors.New("the file is not stored"))
	case int64(f.Size) != src.Size:
		return upload.Asset{}, altered(op, "The stored file has another size than the staged one.")
	}
	return p.described(f, src), nil
}

// described is the asset as the world sees it.
func (p *Provider) described(f file.Info, src provider.Source) upload.Asset {
	a := upload.Asset{
		ID:           f.ID,
		URL:          p.url(f),
		Size:         int64(f.Size),
		ContentType:  f.MimeType,
		ResourceType: src.ResourceType,
	}
	if c := f.ContentInfo; c != nil {
		if c.Mime != nil && c.Mime.Mime != "" {
			a.ContentType = c.Mime.Mime
		}
		if img := c.Image; img != nil {
			a.Width, a.Height, a.Format = int(img.Width), int(img.Height), strings.ToLower(img.Format)
		}
		if v := c.Video; v != nil {
			a.Format = strings.ToLower(v.Format)
			if v.Duration != nil {
				a.Duration = float64(*v.Duration) / 1000 // theirs are milliseconds
			}
			if len(v.Video) > 0 {
				a.Width, a.Height = int(v.Video[0].Width), int(v.Video[0].Height)
			}
		}
	}
	if a.ResourceType == "" {
		a.ResourceType = resourceType(a.ContentType)
	}
	return a
}

func resourceType(contentType string) upload.ResourceType {
	kind, _, _ := strings.Cut(contentType, "/")
	switch {
	case kind == "image", contentType == "application/pdf":
		return upload.Image
	case kind == "video", kind == "audio":
		return upload.Video
	}
	return upload.Raw
}

// url is <host>/<uuid>/ on the host that serves this project, which the answer knows better than we.
func (p *Provider) url(f file.Info) string {
	root := p.cdn
	if f.OriginalFileURL != nil {
		if at := strings.Index(*f.OriginalFileURL, "/"+f.ID); at > 0 {
			root = (*f.OriginalFileURL)[:at]
		}
	}
	return root + "/" + f.ID + "/"
}

// Delete removes the file, stored or not. Copies in the CDN's caches stay until they expire.
func (p *Provider) Delete(ctx context.Context, a upload.Asset) error {
	const op = "delete"
	if uuid.Validate(a.ID) != nil {
		return nil // it names no file, and must not become part of a path
	}
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	f, err := p.files.Delete(call, a.ID)
	if err != nil {
		err = p.failed(ctx, op, err)
		if e, ok := errors.AsType[*provider.Error](err); ok && e.Verdict == provider.SessionLost {
			return nil
		}
		return err
	}
	if f.ID != a.ID {
		return unusable(op, nil)
	}
	return nil
}
