package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Chunk is what one request adds to a file.
type Chunk struct {
	Offset int64 // that it begins at
	Length int64 // of the whole file, if the request says it; -1 otherwise
	Most   int64 // bytes in the whole file, as long as nobody has said its length
	Empty  bool  // there is nothing in it
	Whole  bool  // nothing of it counts before Open's reader has come to its end without an error

	// Open returns the bytes, once it is known how many may come. The reader ends with the error that was
	// given to the stop function.
	Open func(most int64) (body io.Reader, stop func(error), err error)
}

// Append adds a chunk to a file, and sends the file on its way when it is all there. Whoever else is sending it
// is interrupted. With an error, what came before it is kept, except where the chunk counts only as a whole. Errors are
// coded: NotFound, Gone, OffsetConflict, InvalidRequest, TooLarge, Interrupted, Locked, Unavailable, NoRoom, those of the
// user's quotas and of the body, and what the content is refused with.
func (re *Resumable) Append(ctx context.Context, user string, id upload.ID, c Chunk) (*postgres.Reception, error) {
	rc := &receiver{Resumable: re, id: id, chunk: c}
	re.keeper.add(rc) // before it has the right to: from then on somebody may want it to let go
	defer re.keeper.remove(rc)
	if err := rc.begin(ctx, user); err != nil || !underWay(rc.seen) {
		return &rc.seen, err
	}
	hold, err := rc.prepare(ctx)
	if err == nil {
		err = rc.take(ctx, hold)
	}
	return rc.end(hold, err)
}

// begin takes an upload over for a chunk that fits. One that is complete takes an empty chunk, and needs nobody to receive it.
func (rc *receiver) begin(ctx context.Context, user string) error {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	for {
		r, err := rc.settled(ctx, user, rc.id)
		if err == nil {
			err = fits(r, rc.chunk)
		}
		if err == nil && !underWay(r) && !rc.chunk.Empty {
			err = &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByYou, UploadID: rc.id, Message: "The upload is complete; nothing can be added to it."}
		}
		if rc.seen = r; err != nil || !underWay(r) {
			return err
		}
		r, err = rc.takeOver(ctx, r, true)
		switch {
		case errors.Is(err, postgres.ErrFenced):
			continue
		case err != nil:
			return unavailable(err)
		case r.Received != rc.seen.Received: // who has not let go in time has come further
			if err := rc.release(r.Upload, rc.received(r)); err != nil && !errors.Is(err, postgres.ErrFenced) {
				return unavailable(err)
			}
			continue
		}
		rc.seen, rc.record = r, rc.received(r)
		return nil
	}
}

// fits tells whether a chunk can be added to an upload.
func fits(r postgres.Reception, c Chunk) error {
	switch {
	case r.Status == upload.Joined:
		return &upload.Error{Code: upload.PartialUsed, UploadID: r.ID, Message: "The partial upload has been joined with others; nothing can be added to it."}
	case c.Offset != r.Received:
		return &upload.Error{Code: upload.OffsetConflict, Retryable: true, UploadID: r.ID,
			Message: fmt.Sprintf("The upload has %d bytes; the request begins at byte %d.", r.Received, c.Offset)}
	case c.Length >= 0 && r.Size > 0 && c.Length != r.Size:
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, UploadID: r.ID,
			Message: fmt.Sprintf("The upload's length is %d bytes already; it cannot become %d.", r.Size, c.Length)}
	case c.Length >= 0 && c.Length < r.Received:
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, UploadID: r.ID,
			Message: fmt.Sprintf("The upload has %d bytes, which is more than the length of %d that is declared now.", r.Received, c.Length)}
	}
	return nil
}

// receiver is a request that adds to an upload, once it has the right to.
type receiver struct {
	*Resumable
	id    upload.ID
	chunk Chunk
	seen  postgres.Reception // as it was taken over

	segment upload.Segment // that it writes to, as it began
	before  []upload.Segment
	file    staging.Writer

	wanted int64         // the highest epoch whose receivers are to let go
	stop   func(error)   // ends the copying
	busy   chan struct{} // holds something while a checkpoint is made; what is below is its maker's
	kept   time.Time     // when the last one was made
	over   bool          // the copying was stopped
	record postgres.Received
}

// prepare sees to it that the chunk may come.
func (rc *receiver) prepare(ctx context.Context) (*quota.Hold, error) {
	r := &rc.seen
	if rc.chunk.Length >= 0 && r.Size == 0 {
		u := Request{User: r.UserID, Provider: r.Provider, ResourceType: string(r.ResourceType), FileName: r.FileName, ContentType: r.ContentType, Length: rc.chunk.Length}
		if err := rc.Admit(ctx, u); err != nil {
			return nil, err
		}
		rc.record.Size, r.Size = rc.chunk.Length, rc.chunk.Length
	}
	length := int64(-1)
	if r.Size > 0 {
		length = r.Size
	}
	hold, err := rc.Quotas.Resume(ctx, r.UserID, r.ID, length, r.Received, rc.life)
	return hold, unavailable(err)
}

// most is how many bytes may come.
func (rc *receiver) most() int64 {
	if rc.seen.Size > 0 {
		return rc.seen.Size - rc.seen.Received
	}
	return max(rc.chunk.Most-rc.seen.Received, 0)
}

// take writes what comes to staging, while it is written down how far that is. It returns why no more came.
func (rc *receiver) take(ctx context.Context, hold *quota.Hold) error {
	body, stop, err := rc.chunk.Open(rc.most())
	if err != nil {
		return err
	}
	rc.before, rc.segment = slices.Clone(rc.seen.Segments), upload.Segment{Of: rc.seen.ID, Number: rc.seen.Segment}
	if n := len(rc.before); n > 0 && rc.before[n-1].Of == rc.segment.Of && rc.before[n-1].Number == rc.segment.Number {
		rc.segment, rc.before = rc.before[n-1], rc.before[:n-1]
	}
	if rc.file, err = rc.Staging.Extend(ctx, rc.segment, rc.seen.CRC32C); err != nil {
		return staged(err)
	}
	rc.keeper.start(rc, stop)
	err = rc.file.Copy(ctx, &counted{body: hold.Within(body), rc: rc})
	rc.keeper.end(rc)
	return staged(err)
}

// staged is what an error of staging means to a client.
func staged(err error) error {
	if errors.Is(err, staging.ErrNoRoom) {
		return errNoRoom
	}
	return err
}

// counted has a checkpoint made whenever so many bytes have been read, and waits when the one before is not written
// down yet.
type counted struct {
	body io.Reader
	rc   *receiver
	read int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.read >= checkpointBytes {
		c.read = 0
		select {
		case c.rc.busy <- struct{}{}: // the one before is written down
			go c.rc.keeper.keep([]*receiver{c.rc})
		case <-time.After(checkpointTime): // the database has its troubles
		}
	}
	n, err := c.body.Read(p)
	c.read += int64(n)
	return n, err
}

// advance makes durable what has come so far, for the next checkpoint. That it is all there is not for advance to say.
func (rc *receiver) advance() error {
	if rc.chunk.Whole {
		return nil
	}
	next, err := rc.mark()
	if err == nil && (!all(next) || rc.seen.Partial) {
		rc.record = next
	}
	return err
}

// mark makes durable what has come, and returns what is to be written down of it. Once there are enough bytes, they
// tell the file's type.
func (rc *receiver) mark() (postgres.Received, error) {
	next := rc.record
	m, err := rc.file.Sync()
	if err != nil {
		return next, err
	}
	next.Offset, next.CRC32C, next.Segments = rc.seen.Received+m.Size-rc.segment.Size, m.CRC32C, rc.before
	if m.Size > 0 {
		last := rc.segment
		last.Size = m.Size
		next.Segments = append(slices.Clone(rc.before), last)
	}
	if rc.record.Offset < Sniffed && next.Offset >= Sniffed && !all(next) && !rc.seen.Partial {
		err = rc.inspectReceived(rc.seen, &next)
	}
	return next, err
}

// all tells whether a file is all there.
func all(rec postgres.Received) bool { return rec.Size > 0 && rec.Offset == rec.Size }

// end writes down what has come, after which no more did for the reason err, and lets go.
func (rc *receiver) end(hold *quota.Hold, err error) (*postgres.Reception, error) {
	r := &rc.seen
	before := rc.record
	if rc.file != nil {
		defer func() { _ = rc.file.Close() }() // its bytes are durable by then, or do not count
		if err == nil || !rc.chunk.Whole && !tooMany(err) {
			next, failed := rc.mark()
			if failed == nil {
				rc.record = next
			} else if err == nil {
				err = failed
			}
		}
	}
	if all(rc.record) && !r.Partial {
		if err := rc.inspectReceived(*r, &rc.record); err != nil {
			rc.letGo(*r, before)
			return r, err
		}
		u, err := rc.finish(r.Upload, rc.record)
		if err == nil {
			hold.End()
		}
		r.Upload = u
		return r, err
	}
	failed := rc.release(r.Upload, rc.record)
	switch {
	case failed == nil:
		expires := time.Now().Add(rc.life)
		r.Received, r.ExpiresAt = rc.record.Offset, &expires
	case err != nil:
	case errors.Is(failed, postgres.ErrFenced):
		err = errInterrupted(r.ID)
	default:
		err = errPending(r.ID, failed)
	}
	return r, err
}

// tooMany tells whether a body went on after the bytes that there may be: then none of them is believed.
func tooMany(err error) bool {
	var coded *upload.Error
	return errors.As(err, &coded) && coded.Code == upload.TooLarge
}
