package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/upload"
)

const (
	// small is up to how many bytes a file goes with the request that makes its upload.
	small = 4 << 20

	// Where a proxy does not take all of a file in one request, it is offered so much, and then ever less.
	firstPiece, leastPiece = 64 << 20, 256 << 10

	// lookTime is for asking how far an interrupted upload has come.
	lookTime = 2 * time.Second
)

// File is what Put sends.
type File struct {
	Name    string // without a path
	Size    int64  // bytes, more than 0
	Content io.ReaderAt

	ContentType  string              // "": by the name, and left to the service where that says nothing
	Provider     string              // "": the service's default
	ResourceType upload.ResourceType // "": by the content
	Metadata     map[string]string   // none with a name that is Reserved
	Tags         []string

	// Mark is what the last Put of this file has kept; zero begins anew.
	Mark Mark
	// Keep is told the mark whenever it changes, before the service can have done anything that is not in it.
	Keep func(Mark)

	// Begun is told from where the file is sent. Where an earlier Put has been in vain, lost says why.
	Begun func(offset int64, lost error)
	// Progress is told up to where the file has been handed to the network. It is called often, not any
	// more when Put has returned, and goes back when bytes have to be sent again.
	Progress func(sent int64)
}

// Mark is by what the upload of a file goes on, in whatever process.
type Mark struct {
	Key      string    `json:"key"` // the Idempotency-Key that the upload is made with
	ID       upload.ID `json:"id,omitempty"`
	Received int64     `json:"received"` // bytes that the service is known to have
}

var (
	// ErrShrunk means that the file has fewer bytes than it had.
	ErrShrunk = errors.New("the file became shorter while it was being sent")
	// ErrGarbled means that the service holds other bytes than were sent. The upload exists.
	ErrGarbled = errors.New("the service received other bytes than were sent")
)

// Put uploads f, once: it goes on with what the mark names, as often as that breaks off, and repeats no step that
// was answered. When nothing comes of it in the end the mark is good for another Put; an error that could be about
// a file which has come in is an UnreachableError or an Error that is Unknown. An upload that is returned with
// an error has come in.
func (c *Client) Put(ctx context.Context, f File) (Upload, error) {
	f.ContentType = cmp.Or(f.ContentType, typeByName(f.Name))
	p := &putting{Client: c, File: f, content: &content{File: f.Content, size: f.Size, progress: f.Progress}}
	p.refresh()
	if err := p.begin(ctx); err != nil {
		return Upload{}, p.failed(ctx, err)
	}
	behind := startSum(ctx, f.Content, p.from)
	defer behind.stop()
	if err := p.send(ctx); err != nil {
		return Upload{}, p.failed(ctx, err)
	}
	u, err := c.Get(ctx, p.Mark.ID)
	if err != nil {
		return Upload{ID: p.Mark.ID, Size: f.Size, Received: f.Size}, err
	}
	return u, p.compare(u, behind)
}

// putting is one file on its way.
type putting struct {
	*Client
	File
	content *content
	pause   pause

	from  int64 // where this run began
	most  int64 // bytes that a proxy takes in one request; 0: any
	doubt bool  // the last byte has been sent, and nobody has said that it has come
}

// refresh has patience begin anew, for the file gets on.
func (p *putting) refresh() {
	p.pause = pause{Client: p.Client, patience: p.opts.Outage, queueing: p.opts.Queueing}
}

func (p *putting) keep() {
	if p.Keep != nil {
		p.Keep(p.Mark)
	}
}

// reached takes note of how far the file has come.
func (p *putting) reached(offset int64) {
	if offset > p.Mark.Received {
		p.refresh()
	}
	if offset != p.Mark.Received {
		p.Mark.Received = offset
		p.keep()
	}
	p.doubt = false
}

// begin finds the upload that the mark names, or makes one.
func (p *putting) begin(ctx context.Context) error {
	var lost error
	if p.Mark.Key != "" {
		if lost = p.goOn(ctx); lost != nil && !vain(lost) {
			return lost
		}
	}
	if p.Mark.Key == "" || lost != nil {
		p.Mark = Mark{Key: string(upload.NewID())}
		p.keep()
		first := p.Size
		if p.Size > small {
			first = 0
		}
		if err := p.create(ctx, first); err != nil {
			return err
		}
	}
	if p.Begun != nil {
		p.Begun(p.from, lost)
	}
	return nil
}

// goOn asks how far an earlier run has come.
func (p *putting) goOn(ctx context.Context) error {
	var err error
	if p.Mark.ID == "" {
		err = p.create(ctx, 0)
	} else {
		err = p.insist(ctx, p.look)
	}
	if err == nil {
		p.from = p.Mark.Received
		p.content.goOn(p.from)
	}
	return err
}

// vain tells whether an upload cannot be gone on with that was begun by an earlier run.
func vain(err error) bool {
	var refused *Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case upload.NotFound, upload.Gone, upload.KeyReused:
		return true
	}
	return false
}

// create makes the upload, or finds the one that was made with its key, and sends up to first with that.
func (p *putting) create(ctx context.Context, first int64) error {
	return p.insist(ctx, func(ctx context.Context) error {
		id, offset, err := p.tusCreate(ctx, p.Mark.Key, p.tusMetadata(), p.content, first)
		if first > 0 && p.takesLess(err) {
			first = 0
			id, offset, err = p.tusCreate(ctx, p.Mark.Key, p.tusMetadata(), p.content, first)
		}
		if err != nil {
			p.noteDoubt(err, first)
			return err
		}
		p.Mark.ID, p.Mark.Received, p.doubt = id, offset, false
		p.refresh()
		p.keep()
		return nil
	})
}

func (p *putting) look(ctx context.Context) error {
	offset, length, err := p.tusHead(ctx, p.Mark.ID)
	if err != nil {
		return err
	}
	if length != p.Size {
		return fmt.Errorf("the service has an upload of %d bytes in its place", length)
	}
	p.reached(offset)
	return nil
}

// send sends what is missing.
func (p *putting) send(ctx context.Context) error {
	for p.Mark.Received < p.Size {
		err := p.patch(ctx)
		if err == nil || p.takesLess(err) {
			continue
		}
		if ctx.Err() != nil || !p.passes(err) || !p.pause.wait(ctx, err) {
			return err
		}
		if err := p.insist(ctx, p.look); err != nil {
			return err
		}
	}
	return nil
}

func (p *putting) patch(ctx context.Context) error {
	to := p.Size
	if p.most > 0 {
		to = min(to, p.Mark.Received+p.most)
	}
	offset, err := p.tusPatch(ctx, p.Mark.ID, span{content: p.content, from: p.Mark.Received, to: to})
	if err != nil {
		p.noteDoubt(err, to)
		return err
	}
	p.reached(offset)
	return nil
}

// noteDoubt takes note of whether the last byte may have come.
func (p *putting) noteDoubt(err error, to int64) {
	var silent *UnreachableError
	if errors.As(err, &silent) && silent.Unknown && to == p.Size {
		p.doubt = true
	}
}

// takesLess tells whether err is that of a proxy which takes less in one request than it was sent. From then on
// it is sent less.
func (p *putting) takesLess(err error) bool {
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != "" || refused.Status != http.StatusRequestEntityTooLarge || p.most == leastPiece {
		return false
	}
	sent := p.Size - p.Mark.Received
	if p.most > 0 {
		sent = min(sent, p.most)
	}
	p.most = max(min(firstPiece, sent/2), leastPiece)
	return true
}

// insist does what one request does until it is done, or will not be.
func (p *putting) insist(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !p.passes(err) || !p.pause.wait(ctx, err) {
			return err
		}
	}
}

// passes tells whether what a request ended with passes by itself.
func (c *Client) passes(err error) bool {
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Status {
		case http.StatusRequestTimeout, http.StatusLocked, http.StatusTooManyRequests, http.StatusInsufficientStorage:
			return true
		case http.StatusRequestEntityTooLarge:
			return false
		}
		stranger := refused.Code == "" && (refused.Status >= 500 || refused.Status >= 400 && c.met.Load())
		return stranger || refused.Retryable || refused.Code == upload.OffsetConflict
	}
	var silent *UnreachableError
	return errors.As(err, &silent) && silent.weather
}

// failed is err, with what is known of the file then.
func (p *putting) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil && p.Mark.ID != "" {
		look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
		defer cancel()
		_ = p.look(look) // what is known without it is true as well
	}
	var silent *UnreachableError
	var refused *Error
	switch {
	case errors.As(err, &silent):
		silent.Unknown = p.doubt
	case errors.As(err, &refused):
		refused.Unknown = p.doubt
	}
	return err
}

// compare tells whether the service has received what was sent.
func (p *putting) compare(u Upload, behind *runningSum) error {
	first, err := behind.wait() // where it fails the file is not what it was, which its time of change shows
	if sum, known := p.content.sum(first); err == nil && known && u.CRC32C != "" && u.CRC32C != crc32c.Base64(sum) {
		return fmt.Errorf("%w: crc32c %s, not %s", ErrGarbled, u.CRC32C, crc32c.Base64(sum))
	}
	return nil
}

// typeByName is the content type that belongs to the name's extension; of a name that says nothing
// the service looks at the content.
func typeByName(name string) string {
	const unknown = "application/octet-stream"
	if t := mime.TypeByExtension(filepath.Ext(name)); !strings.HasPrefix(t, "multipart/") { // which would be read as a form
		return cmp.Or(t, unknown)
	}
	return unknown
}
