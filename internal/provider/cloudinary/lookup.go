package cloudinary

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// Lookup asks the Admin API for the asset that the session was to make, and returns it when its
// bytes and its MD5 are those of src. An Error with Spent means that this hour's Admin calls are.
func (p *Provider) Lookup(ctx context.Context, s provider.Session, src provider.Source, parts []provider.Part) (*upload.Asset, error) {
	t, err := targetOf(s)
	if err != nil {
		return nil, err
	}
	a, err := p.resource(ctx, t)
	if missing(err) && s.Parts > 1 { // it may still be put together
		if err := sleep(ctx, p.opt.Settle); err != nil {
			return nil, fmt.Errorf("cloudinary lookup: %w", err)
		}
		a, err = p.resource(ctx, t)
	}
	switch {
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case a.Bytes != src.Size || a.ETag == "" || a.SecureURL == "":
		return nil, nil
	}
	sum, err := wholeMD5(s, src, parts)
	if err != nil {
		return nil, fmt.Errorf("cloudinary lookup: %w", err)
	}
	if a.ETag != hex.EncodeToString(sum) {
		return nil, nil
	}
	return a.asset(t, src), nil
}

// resource is the asset t as the Admin API has it; only with media_metadata does it tell the etag.
func (p *Provider) resource(ctx context.Context, t target) (answer, error) {
	limited, cancel := context.WithTimeout(ctx, 2*p.opt.CallTimeout)
	defer cancel()
	address := p.address("resources", string(t.ResourceType), t.Type, t.PublicID) + "?media_metadata=true"
	req, err := http.NewRequestWithContext(limited, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, fmt.Errorf("cloudinary lookup: %w", err)
	}
	req.SetBasicAuth(p.opt.APIKey, p.opt.APISecret)
	return p.fetch(ctx, "lookup", req)
}

// missing tells whether Cloudinary itself says that there is no such asset.
func missing(err error) bool {
	var e *provider.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Verdict == provider.Reject
}

// wholeMD5 is the MD5 of src, taken up where the last of parts left it.
func wholeMD5(s provider.Session, src provider.Source, parts []provider.Part) ([]byte, error) {
	var done int64
	var carry []byte
	if n := len(parts); n > 0 && parts[n-1].Carry != nil {
		offset, length := s.Range(parts[n-1].Number, src.Size)
		done, carry = offset+length, parts[n-1].Carry
	}
	rest, err := provider.NewBody(src.Body, done, src.Size-done).WithMD5(carry)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return nil, fmt.Errorf("read staged bytes: %w", err)
	}
	if rest.Sent() != src.Size-done {
		return nil, fmt.Errorf("read staged bytes: %w", io.ErrUnexpectedEOF)
	}
	return rest.MD5(), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Complete is not needed, for the answer to the last part is the asset. When it is called, it says
// what Cloudinary has.
func (p *Provider) Complete(ctx context.Context, s provider.Session, src provider.Source, parts []provider.Part) (upload.Asset, error) {
	a, err := p.Lookup(ctx, s, src, parts)
	if err != nil {
		return upload.Asset{}, err
	}
	if a == nil {
		return upload.Asset{}, &provider.Error{Provider: Name, Op: "complete", Verdict: provider.SessionLost, Message: "Cloudinary does not have the file."}
	}
	return *a, nil
}
