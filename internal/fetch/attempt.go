package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// attempt is one try at fetching one file.
type attempt struct {
	*Worker
	log *slog.Logger
	u   postgres.Reception
	im  postgres.Import

	done   postgres.Received // what is durable and written down
	before []upload.Segment  // those that are full
	seg    upload.Segment    // the one that is written to
	again  bool              // what is done need not be fetched again
}

// fetch brings what is missing of the file into staging. Whatever it leaves at an error, the next attempt goes on from.
func (a *attempt) fetch(ctx context.Context) error {
	if a.web == nil {
		return &source.Error{Verdict: source.Refuse, Says: upload.Error{Code: upload.ImportOff, FixableBy: upload.ByOperator,
			Message: "Files are not imported from the web here any more."}}
	}
	a.done = postgres.Received{Epoch: a.u.ReceiveEpoch, Size: a.u.Size, Offset: a.u.Received, CRC32C: a.u.CRC32C, Segments: a.u.Segments}
	a.resume()
	head, err := a.staged(ctx)
	if err != nil {
		return err
	}
	if a.u.Size > 0 && a.done.Offset == a.u.Size { // somebody has died before the last step
		return nil
	}
	mark := source.Mark{Offset: a.done.Offset, Validator: a.im.Validator, Length: a.u.Size}
	if a.u.Size == 0 {
		mark.Length = -1
	}
	if len(head) < ingest.Sniffed { // too little to go on with
		mark = source.Mark{Length: -1}
	}
	most := a.im.MaxBytes
	if a.ingest.MaxBytes > 0 { // which may have been lowered meanwhile
		most = min(most, a.ingest.MaxBytes)
	}
	f, err := a.web.Open(ctx, a.im.URL, mark, most)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.receive(ctx, f, head)
}

// resume finds the segment to write to.
func (a *attempt) resume() {
	a.before, a.seg = a.done.Segments, upload.Segment{Of: a.u.ID, Number: a.u.Segment}
	if n := len(a.before); n > 0 && a.before[n-1].Of == a.u.ID && a.before[n-1].Number == a.u.Segment {
		a.before, a.seg = a.before[:n-1], a.before[n-1]
	}
}

// staged returns the first bytes of what there is of the file. What staging has lost is fetched again.
func (a *attempt) staged(ctx context.Context) ([]byte, error) {
	if a.done.Offset == 0 {
		return nil, nil
	}
	r, err := a.ingest.Staging.Open(ctx, a.u.ID, a.done.Segments...)
	if errors.Is(err, staging.ErrMissing) || err == nil && r.Size() < a.done.Offset {
		a.log.Warn("staging has lost what had been fetched")
		return nil, a.restart(ctx)
	}
	if err != nil {
		return nil, &stagingError{err}
	}
	defer r.Close()
	head := make([]byte, min(ingest.Sniffed, a.done.Offset))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, &stagingError{err}
	}
	return head, nil
}

// restart writes down that nothing is kept of the file.
func (a *attempt) restart(ctx context.Context) error {
	a.done = postgres.Received{Epoch: a.u.ReceiveEpoch}
	a.before, a.seg.Size = nil, 0
	return a.write(ctx)
}

// receive reads the file to its end.
func (a *attempt) receive(ctx context.Context, f *source.File, head []byte) error {
	body := io.Reader(f)
	if f.Offset == 0 {
		if a.done.Offset > 0 {
			a.log.Info("the source does not go on with the file; it is fetched from the beginning")
			if err := a.restart(ctx); err != nil {
				return err
			}
		}
		var first bytes.Buffer
		first.Grow(ingest.Sniffed + bytes.MinRead)
		if _, err := first.ReadFrom(io.LimitReader(f, ingest.Sniffed)); err != nil {
			return err
		}
		head = first.Bytes()
		body = io.MultiReader(bytes.NewReader(head), f)
	}
	pass, err := a.describe(ctx, f, head)
	if err != nil {
		return err
	}
	if pass.Most > 0 {
		pass.Most -= a.done.Offset
	}
	hold, err := a.ingest.Quotas.Resume(ctx, a.u.UserID, a.u.ID, f.Length, a.done.Offset, time.Until(a.im.FetchBy))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			hold.Release()
		}
	}()
	err = a.stage(ctx, hold.Within(pass.Within(body)))
	return err
}

// describe writes down what the source says of the file.
func (a *attempt) describe(ctx context.Context, f *source.File, head []byte) (ingest.Pass, error) {
	is, pass, err := a.ingest.Describe(ctx, a.u.Upload, a.im, ingest.Fetching{Name: f.Name, ContentType: f.ContentType, Length: f.Length, Head: head})
	if err != nil {
		return pass, err
	}
	a.u.Upload = is
	a.done.Size, a.done.ContentType, a.done.ResourceType = is.Size, is.ContentType, is.ResourceType
	a.im.Validator = f.Validator
	return pass, pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error { return postgres.DescribeFetch(ctx, tx, is, f.Validator) })
}

// stage writes body behind what is done, and how far it has come now and then.
func (a *attempt) stage(ctx context.Context, body io.Reader) error {
	w, err := a.ingest.Staging.Extend(ctx, a.seg, a.done.CRC32C)
	if err != nil {
		return &stagingError{err}
	}
	defer w.Close()
	for {
		chunk := &chunk{body: body, left: a.Chunk, until: time.Now().Add(a.Every)}
		err := w.Copy(ctx, chunk)
		if cerr := a.checkpoint(ctx, w); cerr != nil {
			return cerr
		}
		switch {
		case chunk.err == io.EOF:
			return nil
		case chunk.err != nil:
			return chunk.err
		case err != nil:
			return &stagingError{err}
		}
	}
}

// checkpoint makes durable what was written, and writes down how far that is. It does so for a worker that is stopped,
// too.
func (a *attempt) checkpoint(ctx context.Context, w staging.Writer) error {
	mark, err := w.Sync()
	if err != nil {
		return &stagingError{err}
	}
	a.done.Offset += mark.Size - a.seg.Size
	a.seg.Size, a.done.CRC32C = mark.Size, mark.CRC32C
	if a.done.Segments = slices.Clone(a.before); a.seg.Size > 0 {
		a.done.Segments = append(a.done.Segments, a.seg)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return a.write(ctx)
}

func (a *attempt) write(ctx context.Context) error {
	a.done.Life = time.Until(a.im.FetchBy)
	if _, err := postgres.Checkpoint(ctx, a.pool, a.u.UserID, a.u.ID, a.done, false); err != nil {
		return err
	}
	if a.again || a.done.Offset <= a.u.Received || a.im.Validator == "" {
		return nil
	}
	a.again, a.u.Attempt = true, 1
	return postgres.FetchAdvanced(ctx, a.pool, a.u.Upload)
}

// chunk is what is read of a body between two checkpoints.
type chunk struct {
	body  io.Reader
	left  int64
	until time.Time
	err   error // of the body
}

func (c *chunk) Read(p []byte) (int, error) {
	if c.left <= 0 || time.Now().After(c.until) {
		return 0, io.EOF
	}
	n, err := c.body.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.err = err
	return n, err
}
