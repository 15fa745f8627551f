package uploadcare

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/uploadcare/uploadcare-go/file"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

var _ provider.Inspector = (*Provider)(nil)

// unstoredLife is after how long a file that nobody has stored is removed (Docs, "Storage").
const unstoredLife = 24 * time.Hour

// sentFile is the REST API's file object with what the SDK leaves out of it.
type sentFile struct {
	file.Info
	Metadata map[string]string `json:"metadata"`
	Tags     []string          `json:"tags"`
}

// Inspect implements provider.Inspector with one call of the REST API. Uploadcare has no resource types of
// its own; the content decides.
func (p *Provider) Inspect(ctx context.Context, id string, _ upload.ResourceType) (*provider.Found, error) {
	const op = "lookup"
	if uuid.Validate(id) != nil {
		return nil, nil // it names no file, and must not become part of a path
	}
	call, cancel := context.WithTimeout(ctx, p.opts.CallTimeout)
	defer cancel()
	var f sentFile
	req, err := p.sdk.NewRequest(call, restHost, http.MethodGet, "/files/"+id+"/", nil)
	if err == nil {
		err = p.sdk.Do(req, &f)
	}
	if err != nil {
		err = p.failed(ctx, op, err)
		if e, ok := errors.AsType[*provider.Error](err); ok && e.Verdict == provider.SessionLost {
			return nil, nil
		}
		return nil, err
	}
	switch {
	case f.ID != id:
		return nil, unusable(op, errOtherFile)
	case f.RemovedAt != nil:
		return nil, nil
	case f.UploadedAt == nil || f.Size == 0:
		return nil, unusable(op, errors.New("when it was uploaded or its size is missing"))
	case f.StoredAt == nil && time.Since(f.UploadedAt.Time) >= unstoredLife:
		return nil, nil
	case !f.IsReady:
		return nil, &provider.Error{Provider: name, Op: op, Status: http.StatusOK, Verdict: provider.Transient, Message: "Uploadcare is not done with the file yet."}
	}
	return &provider.Found{
		Asset:    p.described(f.Info, provider.Source{}),
		FileName: f.OriginalFileName,
		Tags:     f.Tags,
		MadeAt:   f.UploadedAt.Time,
		Lasting:  f.StoredAt != nil,
		Mark:     upload.ID(f.Metadata[sign.Mark]),
	}, nil
}
