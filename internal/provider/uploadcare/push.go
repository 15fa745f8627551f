package uploadcare

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

const (
	mib = 1 << 20

	// partsFrom is the size from which a file goes in parts; Uploadcare refuses a smaller one
	// ("File size can not be less than 10485760 bytes").
	partsFrom = 10 * mib
	// minPart and maxParts bound a session: 5 MiB in any part but the last (Upload API reference,
	// "Upload individual file parts"), and S3's 10,000 parts.
	minPart  = 5 * mib
	maxParts = 10_000

	// A session's part addresses are valid for 24 hours; the last hour is left for a part on its way.
	sessionLife = 23 * time.Hour
)

// sessionState is what Session.State holds: the signed address of each part, in order.
type sessionState struct {
	Parts []string `json:"parts"`
}

// Begin opens a multipart session, or for a small file one without an id that asks Uploadcare for nothing.
func (p *Provider) Begin(ctx context.Context, src provider.Source) (provider.Session, error) {
	const op = "begin"
	if src.Size < p.opts.PartsFrom {
		return provider.Session{PartSize: max(1, src.Size), Parts: 1, LastPartCompletes: true}, nil
	}
	began := time.Now()
	size := p.partSize(src.Size)
	s := provider.Session{
		PartSize:  size,
		Parts:     int((src.Size + size - 1) / size),
		ExpiresAt: began.Add(sessionLife),
	}
	fields := p.uploadFields(src)
	fields.Set("filename", fileName(src.FileName))
	fields.Set("size", strconv.FormatInt(src.Size, 10))
	fields.Set("content_type", contentType(src))
	fields.Set("part_size", strconv.FormatInt(size, 10))
	var answer struct {
		UUID  string   `json:"uuid"`
		Parts []string `json:"parts"`
	}
	if err := p.call(ctx, op, "/multipart/start/", fields, &answer); err != nil {
		return provider.Session{}, err
	}
	if uuid.Validate(answer.UUID) != nil || len(answer.Parts) != s.Parts {
		return provider.Session{}, unusable(op, fmt.Errorf("%d part addresses, want %d", len(answer.Parts), s.Parts))
	}
	state, err := json.Marshal(sessionState{answer.Parts})
	if err != nil {
		return provider.Session{}, err
	}
	s.ID, s.State = answer.UUID, state
	return s, nil
}

// partSize grows with the file: little is lost of a small one, and few addresses are kept for a large one.
func (p *Provider) partSize(size int64) int64 {
	if p.opts.PartSize > 0 {
		if size > p.opts.PartSize*maxParts {
			return leastPart(size)
		}
		return p.opts.PartSize
	}
	switch {
	case size < 256*mib:
		return minPart
	case size < 1024*mib:
		return 16 * mib
	case size < 4096*mib:
		return 32 * mib
	}
	return max(64*mib, leastPart(size))
}

// leastPart is the fewest whole MiB with which size bytes fit into maxParts.
func leastPart(size int64) int64 {
	least := (size + maxParts - 1) / maxParts
	return (least + mib - 1) / mib * mib
}

// PushPart sends a part of a session to its address, or a small file whole. A small file is the
// provider's only when it has been found there with its size and, with VerifyReadback, its bytes.
func (p *Provider) PushPart(ctx context.Context, s provider.Session, src provider.Source, n int, _ []provider.Part) (provider.Part, error) {
	if s.LastPartCompletes {
		return p.pushWhole(ctx, src)
	}
	op := "part " + strconv.Itoa(n)
	var state sessionState
	if err := json.Unmarshal(s.State, &state); err != nil || n < 0 || n >= len(state.Parts) {
		return provider.Part{}, &provider.Error{Provider: name, Op: op, Verdict: provider.SessionLost, Message: "The session has no address for this part."}
	}
	offset, length := s.Range(n, src.Size)
	body := newStream(src, offset, length)
	body.md5 = p.opts.PartETag == "md5"

	call, cancel := p.bytesDeadline(ctx, length)
	defer cancel()
	etag, err := p.put(call, state.Parts[n], body)
	if err != nil {
		return provider.Part{}, p.sendFailed(ctx, op, body, err)
	}
	part := provider.Part{Number: n, Size: length, CRC32C: body.last.CRC32C(), ETag: etag}
	switch {
	case body.last.Sent() != length:
		return provider.Part{}, altered(op, "It was acknowledged before it was sent.")
	case !body.md5:
	case etag == "":
		return provider.Part{}, unusable(op, errors.New("no ETag"))
	case hexMD5.MatchString(etag) && etag != hex.EncodeToString(body.last.MD5()):
		return provider.Part{}, altered(op, "The part that arrived is not the part that was sent.")
	}
	return part, nil
}

var hexMD5 = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (p *Provider) put(ctx context.Context, address string, body *stream) (etag string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, nil)
	if err != nil {
		return "", err
	}
	if err := body.EncodeReq(req); err != nil {
		return "", err
	}
	req.GetBody = body.open
	resp, err := p.http.Do(req)
	if err != nil {
		return "", err
	}
	return strings.Trim(resp.Header.Get("ETag"), `"`), resp.Body.Close()
}

func (p *Provider) pushWhole(ctx context.Context, src provider.Source) (provider.Part, error) {
	const op = "part 0"
	body := newStream(src, 0, src.Size)
	if err := body.inForm(p.uploadFields(src), src.FileName); err != nil {
		return provider.Part{}, err
	}
	call, cancel := p.bytesDeadline(ctx, src.Size)
	defer cancel()
	var answer map[string]string
	req, err := p.sdk.NewRequest(call, uploadHost, http.MethodPost, "/base/", body)
	if err == nil {
		err = p.sdk.Do(req, &answer)
	}
	if err != nil {
		return provider.Part{}, p.sendFailed(ctx, op, body, err)
	}
	id := answer["file"]
	if uuid.Validate(id) != nil {
		return provider.Part{}, unusable(op, nil)
	}
	part := provider.Part{Size: src.Size, CRC32C: body.last.CRC32C()}
	a, err := p.whenReady(ctx, op, id, src.Size)
	if err != nil {
		return provider.Part{}, judgedAnew(err, provider.SessionLost, provider.Transient)
	}
	part.Asset = &a
	if p.opts.VerifyReadback {
		if err := p.readBack(ctx, op, id, src.Size, part.CRC32C); err != nil {
			return provider.Part{}, err
		}
	}
	return part, nil
}

// Complete joins the parts, or finds that it has done so before, and waits until the file is ready.
// When Uploadcare misses bytes that it had acknowledged, the session is lost: which ones it misses,
// it does not say.
func (p *Provider) Complete(ctx context.Context, s provider.Session, src provider.Source, _ []provider.Part) (upload.Asset, error) {
	a, err := p.complete(ctx, s.ID, src.Size)
	return a, judgedAnew(err, provider.Transient, provider.Unknown)
}

func (p *Provider) complete(ctx context.Context, id string, size int64) (upload.Asset, error) {
	const op = "complete"
	var f fileInfo
	err := p.call(ctx, op, "/multipart/complete/", url.Values{
		"UPLOADCARE_PUB_KEY": {p.opts.PublicKey},
		"uuid":               {id},
	}, &f)
	e, _ := errors.AsType[*provider.Error](err)
	switch {
	case e != nil && e.Code == alreadyUploaded:
		return p.whenReady(ctx, op, id, size)
	case e != nil && e.Code == "": // it may say that it was done before, in words
		return upload.Asset{}, judgedAnew(err, provider.Reject, provider.Unknown)
	case err != nil:
		return upload.Asset{}, err
	case f.UUID != id:
		return upload.Asset{}, unusable(op, errOtherFile)
	case f.IsReady && f.Size == size:
		return f.asset(), nil
	}
	a, err := p.whenReady(ctx, op, id, size)
	return a, judgedAnew(err, provider.SessionLost, provider.Unknown) // it was here a moment ago
}

// judgedAnew gives err the verdict now where the table's was then: what a step was about says more
// than the answer.
func judgedAnew(err error, then, now provider.Verdict) error {
	if e, ok := errors.AsType[*provider.Error](err); ok && e.Verdict == then {
		e.Verdict = now
	}
	return err
}

// Lookup finds the file of a multipart session. A small file without its answer has no name to ask
// for; it is sent again, and what it left is never stored.
func (p *Provider) Lookup(ctx context.Context, s provider.Session, src provider.Source, _ []provider.Part) (*upload.Asset, error) {
	if s.ID == "" {
		return nil, nil
	}
	f, err := p.info(ctx, "lookup", s.ID)
	if e, ok := errors.AsType[*provider.Error](err); ok && e.Verdict == provider.SessionLost {
		return nil, nil
	}
	if err != nil || !f.IsReady || f.Size != src.Size {
		return nil, err
	}
	a := f.asset()
	return &a, nil
}

// whenReady waits until Uploadcare has read the file, and demands its size.
func (p *Provider) whenReady(ctx context.Context, op, id string, size int64) (upload.Asset, error) {
	wait, cancel := context.WithTimeout(ctx, p.opts.ReadyTimeout)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		f, err := p.info(ctx, op, id)
		switch {
		case err != nil:
			return upload.Asset{}, err
		case f.Size != size:
			return upload.Asset{}, altered(op, fmt.Sprintf("%d bytes arrived, %d were sent.", f.Size, size))
		case f.IsReady:
			return f.asset(), nil
		}
		if err := sleep(wait, pause); err != nil {
			return upload.Asset{}, p.failed(ctx, op, fmt.Errorf("the file is not ready: %w", err))
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readBack compares what the CDN serves with what was sent.
func (p *Provider) readBack(ctx context.Context, op, id string, size int64, sent uint32) error {
	call, cancel := p.bytesDeadline(ctx, size)
	defer cancel()
	from, err := p.links.Link(upload.Asset{ID: id, URL: p.cdn + "/" + id + "/"}, provider.Transform{}, time.Now())
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(call, http.MethodGet, from.URL, nil)
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return p.failed(ctx, op, err)
	}
	defer resp.Body.Close()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(h, io.LimitReader(resp.Body, size+1))
	if err != nil {
		return p.failed(ctx, op, err)
	}
	if n != size || h.Sum32() != sent {
		return altered(op, "The file that arrived is not the file that was sent.")
	}
	return nil
}

func altered(op, message string) *provider.Error {
	return &provider.Error{Provider: name, Op: op, Verdict: provider.Integrity, Message: message}
}

// bytesDeadline ends a call that carries length bytes at less than the least rate.
func (p *Provider) bytesDeadline(ctx context.Context, length int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.opts.CallTimeout+time.Duration(length/p.opts.MinRate)*time.Second)
}

// sendFailed is failed for a request with a part of the staged file, whose own faults come first.
func (p *Provider) sendFailed(ctx context.Context, op string, body *stream, err error) error {
	if body.src.err != nil {
		return fmt.Errorf("%s %s: staged file: %w", name, op, body.src.err)
	}
	return p.failed(ctx, op, err)
}
