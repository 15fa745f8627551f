package cloudinary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"slipway/internal/provider"
)

// floorRate is the slowest that a request's bytes may go, in bytes per second.
const floorRate = 128 << 10

// PushPart sends chunk n, or the whole file where the session has one part. The parts before it
// must be in before: the MD5 that proves the asset runs through them.
func (p *Provider) PushPart(ctx context.Context, s provider.Session, src provider.Source, n int, before []provider.Part) (provider.Part, error) {
	c, err := newChunk(s, src, n, before)
	if err != nil {
		return provider.Part{}, err
	}
	part, err := p.send(ctx, c)
	if errors.Is(err, errStale) { // signed by our clock, which its Date has now corrected
		part, err = p.send(ctx, c)
	}
	return part, err
}

// chunk is one part on its way.
type chunk struct {
	session provider.Session
	source  provider.Source
	target  target
	n       int
	carry   []byte // the MD5's state before this chunk
	offset  int64
	length  int64
}

func newChunk(s provider.Session, src provider.Source, n int, before []provider.Part) (chunk, error) {
	t, err := targetOf(s)
	if err != nil {
		return chunk{}, err
	}
	c := chunk{session: s, source: src, target: t, n: n}
	c.offset, c.length = s.Range(n, src.Size)
	if n > 0 {
		if len(before) < n || before[n-1].Number != n-1 || before[n-1].Carry == nil {
			return chunk{}, fmt.Errorf("cloudinary %s: part %d is not acknowledged", c.op(), n-1)
		}
		c.carry = before[n-1].Carry
	}
	return c, nil
}

func (c chunk) op() string { return "part " + strconv.Itoa(c.n) }

func (c chunk) last() bool { return c.n == c.session.Parts-1 }

func (c chunk) timeout(call time.Duration) time.Duration {
	d := call + time.Duration(float64(c.length)/floorRate*float64(time.Second))
	if c.last() {
		d += 4 * call
	}
	return d
}

// send makes the request of c once.
func (p *Provider) send(ctx context.Context, c chunk) (provider.Part, error) {
	f, err := p.form(c.source, c.target, p.line.now())
	if err != nil {
		return provider.Part{}, fmt.Errorf("cloudinary %s: %w", c.op(), err)
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout(p.opt.CallTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, p.address(string(c.target.ResourceType), "upload"), nil)
	if err != nil {
		return provider.Part{}, fmt.Errorf("cloudinary %s: %w", c.op(), err)
	}
	var body *outgoing // of the newest try: net/http may begin anew on a connection that was dead
	req.GetBody = func() (io.ReadCloser, error) {
		fresh, err := newOutgoing(f, c.source.Body, c.offset, c.length, c.carry)
		if err != nil {
			return nil, err
		}
		body = fresh
		return fresh, nil
	}
	if req.Body, err = req.GetBody(); err != nil {
		return provider.Part{}, fmt.Errorf("cloudinary %s: %w", c.op(), err)
	}
	req.ContentLength = int64(len(f.before)) + c.length + int64(len(f.after))
	req.Header.Set("Content-Type", f.contentType)
	if c.session.Parts > 1 {
		req.Header.Set("X-Unique-Upload-Id", c.session.ID)
		req.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", c.offset, c.offset+c.length-1, c.source.Size))
	}

	got, err := p.fetch(ctx, c.op(), req)
	body.stop()
	if body.err != nil {
		return provider.Part{}, fmt.Errorf("cloudinary %s: %w", c.op(), body.err)
	}
	if err == nil && !body.whole() {
		err = unreadable(c.op(), fmt.Errorf("it came after %d of %d bytes", body.file.Sent(), c.length))
	}
	if err == nil {
		err = c.prove(got, body.file)
	}
	if err != nil {
		return provider.Part{}, c.judge(err, body.whole())
	}
	return c.part(got, body.file)
}

// part is the chunk as acknowledged by got.
func (c chunk) part(got answer, sent *provider.Body) (provider.Part, error) {
	carry, err := sent.Carry()
	if err != nil {
		return provider.Part{}, fmt.Errorf("cloudinary %s: %w", c.op(), err)
	}
	part := provider.Part{Number: c.n, Size: c.length, CRC32C: sent.CRC32C(), Carry: carry}
	if c.last() {
		part.ETag = got.ETag
		part.Asset = got.asset(c.target, c.source)
	}
	return part, nil
}

// prove tells whether got, a success, is the one that this chunk must have.
func (c chunk) prove(got answer, sent *provider.Body) error {
	if !c.last() {
		switch {
		case got.final() || got.Status != "":
			return c.lost("Cloudinary took a part in the middle for the last.")
		case got.Done == nil:
			return unreadable(c.op(), errors.New("it does not say whether more is expected"))
		}
		return nil
	}
	switch {
	case got.Done != nil && !*got.Done && !got.final():
		return c.lost("Cloudinary no longer has the parts before the last.")
	case got.Status == "pending":
		return unreadable(c.op(), errors.New("it is pending"))
	}
	return got.prove(c.op(), c.target, c.source.Size, sent.MD5())
}

// lost is the error for a session that is of no use any more.
func (c chunk) lost(why string) *provider.Error {
	return &provider.Error{Provider: Name, Op: c.op(), Status: http.StatusOK, Verdict: provider.SessionLost, Message: why}
}

// judge refines what the status alone says of err by what was being sent.
func (c chunk) judge(err error, whole bool) error {
	var e *provider.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Verdict == provider.Transient && c.last() && whole:
		e.Verdict = provider.Unknown
	case e.Verdict == provider.Reject && c.n > 0 && !tooLarge(e, c.source.Size):
		e.Verdict = provider.SessionLost
	}
	return e
}

var maximum = regexp.MustCompile(`Maximum is (\d+)`)

// tooLarge tells whether e refuses the file for its size: by its status, or by naming a limit that
// size is above. The plan's limit is held against the bytes so far, so that any chunk may meet it.
func tooLarge(e *provider.Error, size int64) bool {
	if e.Status == http.StatusRequestEntityTooLarge {
		return true
	}
	m := maximum.FindStringSubmatch(e.Message)
	if m == nil {
		return false
	}
	limit, err := strconv.ParseInt(m[1], 10, 64)
	return err == nil && size > limit
}
