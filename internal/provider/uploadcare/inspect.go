package uploadcare

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/uploadcare/uploadcare-go/file"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

var (
	_ provider.Inspector = (*Provider)(nil)
	_ provider.Finder    = (*Provider)(nil)
)

// unstoredLife is after how long a file that nobody has stored is removed (Docs, "Storage").
const unstoredLife = 24 * time.Hour

// sentFile is the REST API's file object with what the SDK leaves out of it.
type sentFile struct {
	file.Info
	Metadata map[string]string `json:"metadata"`
	Tags     []string          `json:"tags"`
	AppData  struct {
		Scan struct {
			Data struct {
				Infected bool   `json:"infected"`
				With     string `json:"infected_with"`
			} `json:"data"`
		} `json:"uc_clamav_virus_scan"`
	} `json:"appdata"`
}

// infected is what the project's virus check has found in the file.
func (f sentFile) infected() string {
	scan := f.AppData.Scan.Data
	if !scan.Infected {
		return ""
	}
	return cmp.Or(scan.With, "of a name that is not told")
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
	req, err := p.sdk.NewRequest(call, restHost, http.MethodGet, "/files/"+id+"/?include=appdata", nil)
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
		Infected: f.infected(),
	}, nil
}

const (
	pageSize = 1000 // files; the most that one answer lists (REST API reference, "List of files")
	maxPages = 20
)

// Marked implements provider.Finder with the list of files that are not stored, oldest first.
func (p *Provider) Marked(ctx context.Context, mark upload.ID, since time.Time) (string, error) {
	const op = "find"
	query := url.Values{
		"stored": {"false"}, "removed": {"false"}, "ordering": {"datetime_uploaded"}, "limit": {strconv.Itoa(pageSize)},
		"from": {since.UTC().Format("2006-01-02T15:04:05.000000")},
	}.Encode()
	for range maxPages {
		page, err := p.filesBy(ctx, op, query)
		if err != nil {
			return "", err
		}
		for _, f := range page.Results {
			if upload.ID(f.Metadata[sign.Mark]) == mark {
				return f.ID, nil
			}
		}
		next, err := url.Parse(page.Next)
		if err != nil {
			return "", unusable(op, err)
		}
		if query = next.RawQuery; query == "" {
			break
		}
	}
	return "", nil
}
