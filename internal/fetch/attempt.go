package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
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

	stop context.CancelCauseFunc // ends the fetch
}

// fetch brings what is missing of the file into staging. Whatever it leaves at an error, the next attempt goes on from.
func (a *attempt) fetch(ctx context.Context) error {
	if a.web == nil {
		return &source.Error{Verdict: source.Refuse, Says: upload.Error{Code: upload.ImportOff, FixableBy: upload.ByOperator,
			Message: "Files are not imported from the web here any more."}}
	}
	ctx, a.stop = context.WithCancelCause(ctx)
	defer a.stop(nil)
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
	err = a.stage(ctx, hold.Within(pass.Within(body)))
	if err != nil {
		hold.Pause(a.done.Offset)
	}
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

// stage writes body behind what is done, and now and then down how far it has come.
func (a *attempt) stage(ctx context.Context, body io.Reader) error {
	w, err := a.ingest.Staging.Extend(ctx, a.seg, a.done.CRC32C)
	if err != nil {
		return &stagingError{err}
	}
	defer w.Close()
	src := &counted{body: body, chunk: a.Chunk, due: make(chan struct{}, 1)}
	over := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		tick := time.NewTicker(a.Every)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			case <-src.due:
			}
			switch err := a.checkpoint(ctx, w); {
			case errors.As(err, new(*stagingError)), errors.Is(err, postgres.ErrFenced):
				a.stop(err)
			case err != nil:
				a.log.Warn("write down how far an import has come", "error", err)
			}
		}
	})
	err = w.Copy(ctx, src)
	close(over)
	beside.Wait()
	switch {
	case err == nil: // the next step writes down the rest
		return a.sync(w)
	case !errors.Is(err, src.err):
		err = &stagingError{err}
	}
	if cerr := a.checkpoint(ctx, w); cerr != nil {
		return errors.Join(err, cerr)
	}
	return err
}

// checkpoint makes durable what was written, and writes down how far that is. It does so for a worker that is stopped,
// too.
func (a *attempt) checkpoint(ctx context.Context, w staging.Writer) error {
	if err := a.sync(w); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return a.write(ctx)
}

// sync makes durable what was written.
func (a *attempt) sync(w staging.Writer) error {
	mark, err := w.Sync()
	if err != nil {
		return &stagingError{err}
	}
	a.done.Offset += mark.Size - a.seg.Size
	a.seg.Size, a.done.CRC32C = mark.Size, mark.CRC32C
	if a.done.Segments = slices.Clone(a.before); a.seg.Size > 0 {
		a.done.Segments = append(a.done.Segments, a.seg)
	}
	return nil
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

// counted is a body that says when so much of it has been read that a checkpoint is due.
type counted struct {
	body  io.Reader
	chunk int64
	due   chan struct{}
	read  int64
	err   error // of the body
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if c.read += int64(n); c.read >= c.chunk {
		c.read = 0
		select {
		case c.due <- struct{}{}:
		default: // one is being made
		}
	}
	c.err = err
	return n, err
}
