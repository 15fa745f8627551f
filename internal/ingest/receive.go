package ingest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Resumable is the way in for a file that comes in by several requests, in whatever processes. One at a time has
// the right to add to it, and a newer one takes that from an older.
type Resumable struct {
	*Ingest
	news   News
	life   time.Duration
	keeper keeper
}

// News tells what happens in other processes, too; events.Hub does.
type News interface {
	// Watch has the channel receive when something has happened to an upload, until stop is called.
	Watch(id upload.ID) (news <-chan struct{}, stop func())
	// Wanted has f be told up to which epoch the receivers of an upload are to let go of it. f returns at once.
	Wanted(f func(id upload.ID, epoch int64))
}

// NewResumable returns the way in for uploads that live for so long when nobody adds to them.
func NewResumable(in *Ingest, news News, life time.Duration) *Resumable {
	re := &Resumable{Ingest: in, news: news, life: life, keeper: keeper{receivers: map[upload.ID][]*receiver{}}}
	re.keeper.re = re
	news.Wanted(re.keeper.wanted)
	return re
}

const (
	// releaseTime is how long a receiver is waited for that was asked to let go.
	releaseTime = time.Second

	// A receiver writes down how far it has come when so much has come since, or so much time has passed. While it
	// does, as much again may come: a death costs 32 MiB at most.
	checkpointBytes = 16 << 20
	checkpointTime  = 2 * time.Second

	// recordLimit is for writing one thing down, in whatever weather.
	recordLimit = 12 * time.Second
)

// Begin makes an upload of a file that is to come, or of a partial one, which is to be joined with others.
// Errors are those of Admit, and of the user's quotas, and KeyInFlight.
func (re *Resumable) Begin(ctx context.Context, r Request, partial bool, said postgres.TusSaid) (upload.Upload, error) {
	u, err := re.insert(ctx, r, partial, said)
	if err != nil && !errors.Is(err, postgres.ErrOutcomeUnknown) {
		r.Key.Free()
	}
	return u, err
}

func (re *Resumable) insert(ctx context.Context, r Request, partial bool, said postgres.TusSaid) (upload.Upload, error) {
	if err := re.Admit(ctx, r); err != nil {
		return upload.Upload{}, err
	}
	u, err := re.check(ctx, r, Staged{ID: r.Key.ID(), Size: r.Length})
	if err != nil {
		return u, err
	}
	u.CreatedAt = time.Now().UTC().Truncate(time.Microsecond)
	u.Status, u.Size, u.Version = upload.Receiving, max(r.Length, 0), 1
	if r.ResourceType == "" || r.ResourceType == "auto" {
		u.ResourceType = "" // until there are bytes that tell
	}
	if r.FileName == "" {
		u.FileName = upload.Untitled
	}
	hold, err := re.Quotas.HoldLasting(ctx, r.User, u.ID, r.Length, re.life)
	if err != nil {
		return u, unavailable(err)
	}
	err = postgres.Once(ctx,
		func(ctx context.Context) error {
			return re.withKey(ctx, r, func(tx pgx.Tx) error {
				if err := postgres.InsertReceiving(ctx, tx, u, partial, re.life); err != nil {
					return err
				}
				return postgres.InsertTus(ctx, tx, r.User, u.ID, said)
			})
		},
		func(ctx context.Context) (bool, error) { return postgres.UploadExists(ctx, re.Pool, u.ID) })
	if err != nil {
		hold.Release()
		if errors.Is(err, postgres.ErrOutcomeUnknown) { // what may be there expires
			err = &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: err, Message: "The database was lost while the upload was being made; try again."}
		}
		return u, unavailable(taken(err))
	}
	expires := u.CreatedAt.Add(re.life)
	u.ExpiresAt = &expires
	return u, nil
}

func (re *Resumable) asOwner(ctx context.Context, user string, f func(pgx.Tx) error) error {
	return postgres.AsUser(ctx, re.Pool, postgres.Claims{Subject: user}, f)
}

// withKey is asOwner for the transaction that makes the request's upload. Its error is for taken.
func (re *Resumable) withKey(ctx context.Context, r Request, f func(pgx.Tx) error) error {
	return postgres.AsUserWith(ctx, re.Pool, postgres.Claims{Subject: r.User}, r.Key.queueFinish, f)
}

// Forget removes what has come of a file whose upload has ended, as far as it can; what is left, a worker removes.
func (re *Resumable) Forget(id upload.ID) { re.remove(id) }

// find returns a user's upload. Errors are coded: NotFound, Unavailable.
func (re *Resumable) find(ctx context.Context, user string, id upload.ID) (postgres.Reception, error) {
	db, err := postgres.ReadAs(re.Pool, postgres.Claims{Subject: user})
	if err != nil {
		return postgres.Reception{}, err
	}
	r, err := postgres.GetReception(ctx, db, user, id)
	if errors.Is(err, postgres.ErrNoUpload) {
		return r, &upload.Error{Code: upload.NotFound, Message: "There is no upload with this id."}
	}
	return r, unavailable(err)
}

// Look returns how far a file has come. Whoever is sending it lets go of it first, or is fenced off: what is
// told stays true until the next request. A file that is all there and not on its way is sent on it. Errors are coded:
// NotFound, Gone, Locked, Unavailable; what its content is refused with.
func (re *Resumable) Look(ctx context.Context, user string, id upload.ID) (postgres.Reception, error) {
	for {
		r, err := re.settled(ctx, user, id)
		if err != nil || !underWay(r) {
			return r, err
		}
		whole := !r.Partial && r.Size > 0 && r.Received == r.Size
		if !r.Held && !whole {
			return r, nil
		}
		r, err = re.takeOver(ctx, r, whole)
		switch {
		case errors.Is(err, postgres.ErrFenced):
			continue
		case err != nil:
			return r, unavailable(err)
		case !whole:
			return r, nil
		}
		return re.conclude(r)
	}
}

// underWay tells whether an upload's bytes are coming in.
func underWay(r postgres.Reception) bool { return r.Status == upload.Receiving }

// gone is what there is to say of an upload to which nothing can be added any more, and which has not come in
// either; nil for any other.
func gone(r postgres.Reception) error {
	switch r.Status {
	case upload.Receiving, upload.Joined:
		return nil
	case upload.Expired, upload.Canceled, upload.Deleting, upload.Deleted:
		return &upload.Error{Code: upload.Gone, UploadID: r.ID, Message: "The upload was ended, or nobody went on with it in time. Send the file anew."}
	}
	if r.StagedAt == nil {
		message := "The upload has failed; send the file anew."
		if r.Error != nil {
			message = r.Error.Message
		}
		return &upload.Error{Code: upload.Gone, UploadID: r.ID, Message: message}
	}
	return nil
}

// settled returns an upload when nobody is adding to it, after asking who does to let go, or as it is when they have
// not in time.
func (re *Resumable) settled(ctx context.Context, user string, id upload.ID) (postgres.Reception, error) {
	news, stop := re.news.Watch(id)
	defer stop()
	asked := int64(-1)
	var patience <-chan time.Time
	for {
		r, err := re.find(ctx, user, id)
		if err == nil {
			err = gone(r)
		}
		if err != nil || !underWay(r) || !r.Held {
			return r, err
		}
		if asked != r.ReceiveEpoch {
			asked, patience = r.ReceiveEpoch, time.After(releaseTime)
			err := re.asOwner(ctx, user, func(tx pgx.Tx) error { return postgres.AskForRelease(ctx, tx, user, id, asked) })
			if err != nil {
				return r, unavailable(err)
			}
		}
		select {
		case <-news:
		case <-patience:
			return r, nil
		case <-ctx.Done():
			return r, &upload.Error{Code: upload.Locked, Retryable: true, UploadID: id, Cause: context.Cause(ctx),
				Message: "Another request is sending the file; try again in a moment."}
		}
	}
}

// takeOver gives the right to add to an upload to the caller, or takes it from everybody. ErrFenced: it is not as
// it was seen any more.
func (re *Resumable) takeOver(ctx context.Context, seen postgres.Reception, hold bool) (r postgres.Reception, err error) {
	err = re.asOwner(ctx, seen.UserID, func(tx pgx.Tx) error {
		r, err = postgres.TakeOver(ctx, tx, seen.UserID, seen.ID, seen.ReceiveEpoch, hold)
		return err
	})
	return r, err
}

// received is what is written down of an upload that is as r says.
func (re *Resumable) received(r postgres.Reception) postgres.Received {
	return postgres.Received{Epoch: r.ReceiveEpoch, Size: r.Size, Offset: r.Received, CRC32C: r.CRC32C, Segments: r.Segments, Life: re.life}
}

// conclude sends a file on its way that the caller has taken over and that is all there.
func (re *Resumable) conclude(r postgres.Reception) (postgres.Reception, error) {
	rec := re.received(r)
	if err := re.inspectReceived(r, &rec); err != nil {
		re.letGo(r, re.received(r))
		return r, err
	}
	var err error
	r.Upload, err = re.finish(r.Upload, rec)
	return r, err
}

// letGo writes down how far a file has come, as far as that can be done now, and gives up the right to add to it.
func (re *Resumable) letGo(r postgres.Reception, rec postgres.Received) {
	if err := re.release(r.Upload, rec); err != nil && !errors.Is(err, postgres.ErrFenced) {
		re.Log.Warn("what has come of a file is not written down", "upload_id", r.ID, "error", err)
	}
}

// inspectReceived looks at the first bytes of what has come in, and adds to rec what they tell. What may not come in
// ends the upload. Errors are those of Inspect; Locked.
func (re *Resumable) inspectReceived(r postgres.Reception, rec *postgres.Received) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	head, err := re.head(ctx, r.ID, rec.Segments)
	if err != nil {
		return errPending(r.ID, err)
	}
	length := int64(-1)
	if rec.Size > 0 {
		length = rec.Size
	}
	pass, err := re.Inspect(ctx, Request{Provider: r.Provider, ResourceType: string(r.ResourceType), Length: length}, head)
	var refused *upload.Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && !refused.Retryable:
		return re.refuse(r, *refused)
	default:
		return errPending(r.ID, err)
	}
	rec.ContentType = contentType(r.ContentType, pass.Type)
	if rec.ResourceType = r.ResourceType; rec.ResourceType == "" {
		rec.ResourceType = resourceType(pass.Type)
	}
	if r.FileName == upload.Untitled {
		rec.FileName = "file" + mimetypeExtension(rec.ContentType)
	}
	return nil
}

// head reads the bytes that tell a file's type.
func (re *Resumable) head(ctx context.Context, id upload.ID, segments []upload.Segment) ([]byte, error) {
	file, err := re.Staging.Open(ctx, id, segments...)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	head := make([]byte, Sniffed)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head[:n], nil
}

// refuse ends an upload whose content may not come in, and returns why.
func (re *Resumable) refuse(r postgres.Reception, why upload.Error) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	err := repeated(ctx, func(ctx context.Context) error {
		return re.asOwner(ctx, r.UserID, func(tx pgx.Tx) error {
			return postgres.RefuseReceiving(ctx, tx, r.UserID, r.ID, r.ReceiveEpoch, why)
		})
	})
	switch {
	case errors.Is(err, postgres.ErrFenced): // what is there may be somebody else's by now
		return errInterrupted(r.ID)
	case err != nil:
		return errPending(r.ID, err)
	}
	re.remove(r.ID)
	why.UploadID = r.ID
	return &why
}

// finish sends a file on its way whose bytes are all there: offset, status and job in one transaction. Where that is not
// possible now, the offset alone is written down, and the next request tries again: the error is Locked.
func (re *Resumable) finish(u upload.Upload, rec postgres.Received) (upload.Upload, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	u.Size, u.Received = rec.Size, rec.Offset
	done := u
	err := postgres.Once(ctx,
		func(ctx context.Context) error {
			return re.asOwner(ctx, u.UserID, func(tx pgx.Tx) error {
				var err error
				if u.JobID, err = postgres.InsertPush(ctx, tx, re.Queue, u); err != nil {
					return err
				}
				done, err = postgres.FinishReceiving(ctx, tx, u, rec, re.DeliverWithin)
				return err
			})
		},
		func(ctx context.Context) (bool, error) {
			now, err := postgres.GetReception(ctx, re.Pool, u.UserID, u.ID)
			done = now.Upload
			return now.StagedAt != nil, err
		})
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, postgres.ErrFenced):
		return u, errInterrupted(u.ID)
	}
	re.letGo(postgres.Reception{Upload: u}, rec)
	return u, errPending(u.ID, err)
}

// release writes down how far a file has come, and lets go of it. ErrFenced: it is not the receiver's any more.
func (re *Resumable) release(u upload.Upload, rec postgres.Received) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
	defer cancel()
	return repeated(ctx, func(ctx context.Context) error {
		return re.asOwner(ctx, u.UserID, func(tx pgx.Tx) error {
			_, err := postgres.Checkpoint(ctx, tx, u.UserID, u.ID, rec, true)
			return err
		})
	})
}

// repeated asks the database for what is harmless when done twice.
func repeated(ctx context.Context, run func(context.Context) error) error {
	return postgres.Once(ctx, run, func(context.Context) (bool, error) { return false, nil })
}

func errInterrupted(id upload.ID) *upload.Error {
	return &upload.Error{Code: upload.Interrupted, Retryable: true, UploadID: id,
		Message: "A newer request goes on with the upload, or it was ended. Ask how far it has come."}
}

// errPending is for what cannot be done at the moment; what has come is kept.
func errPending(id upload.ID, cause error) error {
	return &upload.Error{Code: upload.Locked, Retryable: true, UploadID: id, Cause: cause,
		Message: "What has come of the file cannot be recorded at the moment; ask again how far it has come."}
}
