package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gabriel-vasile/mimetype"
	"github.com/jackc/pgx/v5"

	"slipway/internal/crc32c"
	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// MaxPieces is how many partial uploads can be joined: whoever reads the file has them all open.
const MaxPieces = 500

// maxJoins is how often pieces are looked at that change meanwhile.
const maxJoins = 5

// Join makes an upload of partial ones, which are its segments from then on, without copying a byte. Those that were
// joined in this order before are not joined again: the upload that they have become is returned. Errors are coded:
// NotFound, PartialUnfinished, PartialUsed, InvalidRequest, those of Admit and Accept.
func (re *Resumable) Join(ctx context.Context, r Request, pieces []upload.ID, said postgres.TusSaid) (upload.Upload, error) {
	for tries := 1; ; tries++ {
		u, err := re.join(ctx, r, pieces, said)
		if !errors.Is(err, postgres.ErrFenced) || tries == maxJoins {
			if err != nil && !errors.Is(err, postgres.ErrOutcomeUnknown) {
				r.Key.Free()
			}
			if errors.Is(err, postgres.ErrFenced) {
				err = errInterrupted("")
			}
			return u, unavailable(taken(err))
		}
	}
}

func (re *Resumable) join(ctx context.Context, r Request, ids []upload.ID, said postgres.TusSaid) (upload.Upload, error) {
	pieces, err := re.pieces(ctx, r.User, ids)
	if err != nil {
		return upload.Upload{}, err
	}
	if to := pieces[0].JoinedTo; to != "" && !slices.ContainsFunc(pieces, func(p postgres.Reception) bool { return p.JoinedTo != to }) {
		r.Key.Free()
		return re.again(ctx, r.User, to, pieces)
	}
	s := Staged{ID: r.Key.ID()}
	var segments []upload.Segment
	for _, p := range pieces {
		if err := joinable(p); err != nil {
			return upload.Upload{}, err
		}
		segments = append(segments, p.Segments...)
		s.Size += p.Size
		s.CRC32C = crc32c.Combine(s.CRC32C, p.CRC32C, p.Size)
	}
	head, err := re.head(ctx, s.ID, segments)
	if err != nil {
		return upload.Upload{}, errUnread("", err)
	}
	s.Type = mimetype.Detect(head).String()
	u, err := re.check(ctx, r, s)
	if err != nil {
		return u, err
	}
	u.CreatedAt, u.Segments = time.Now().UTC().Truncate(time.Microsecond), segments
	err = postgres.Once(ctx,
		func(ctx context.Context) error {
			return re.withKey(ctx, r, func(tx pgx.Tx) error { return re.insertJoined(ctx, tx, &u, pieces, said) })
		},
		func(ctx context.Context) (bool, error) { return postgres.UploadExists(ctx, re.Pool, u.ID) })
	u.Status, u.Version, u.Progress, u.Received, u.StagedAt = upload.Queued, 1, 0.5, u.Size, &u.CreatedAt
	return u, err
}

// insertJoined is one transaction. The room of the pieces is let go before the file's is asked for, while nobody else
// takes it.
func (re *Resumable) insertJoined(ctx context.Context, tx pgx.Tx, u *upload.Upload, pieces []postgres.Reception, said postgres.TusSaid) (err error) {
	if err := re.Quotas.Allow(ctx, tx, u.UserID, quota.Need{}); err != nil {
		return err
	}
	if err := postgres.JoinPieces(ctx, tx, u.UserID, u.ID, pieces); err != nil {
		return err
	}
	if u.JobID, err = postgres.InsertPush(ctx, tx, re.Queue, *u); err != nil {
		return err
	}
	if err := re.Quotas.Insert(ctx, tx, *u, re.DeliverWithin, nil); err != nil {
		return err
	}
	return postgres.InsertTus(ctx, tx, u.UserID, u.ID, said)
}

// pieces returns the user's uploads with these ids, in their order.
func (re *Resumable) pieces(ctx context.Context, user string, ids []upload.ID) ([]postgres.Reception, error) {
	if len(ids) == 0 || len(ids) > MaxPieces {
		return nil, &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, Message: fmt.Sprintf("A file is joined of 1 to %d partial uploads, not of %d.", MaxPieces, len(ids))}
	}
	db, err := postgres.ReadAs(re.Pool, postgres.Claims{Subject: user})
	if err != nil {
		return nil, err
	}
	found, err := postgres.GetReceptions(ctx, db, user, ids)
	if err != nil {
		return nil, err
	}
	var pieces []postgres.Reception
	for _, id := range ids {
		p, there := found[id]
		if !there {
			return nil, &upload.Error{Code: upload.NotFound, Message: "One of the partial uploads is not there."}
		}
		delete(found, id)
		pieces = append(pieces, p)
	}
	return pieces, nil
}

// joinable tells whether an upload can become a piece of another one.
func joinable(p postgres.Reception) error {
	switch {
	case p.Status == upload.Joined:
		return &upload.Error{Code: upload.PartialUsed, UploadID: p.ID, Message: fmt.Sprintf("The partial upload %s is a piece of another file already.", p.ID)}
	case !p.Partial:
		return &upload.Error{Code: upload.InvalidRequest, FixableBy: upload.ByYou, UploadID: p.ID, Message: fmt.Sprintf("The upload %s is not partial, and cannot be joined with others.", p.ID)}
	case gone(p) != nil:
		return gone(p)
	case p.Size == 0 || p.Received != p.Size:
		return &upload.Error{Code: upload.PartialUnfinished, Retryable: true, UploadID: p.ID, Message: fmt.Sprintf("The partial upload %s is not finished.", p.ID)}
	}
	return nil
}

// again returns the upload that was made of these pieces and no others, in this order.
func (re *Resumable) again(ctx context.Context, user string, to upload.ID, pieces []postgres.Reception) (upload.Upload, error) {
	r, err := re.find(ctx, user, to)
	if err != nil {
		return r.Upload, err
	}
	var segments []upload.Segment
	for _, p := range pieces {
		segments = append(segments, p.Segments...)
	}
	if !slices.Equal(segments, r.Segments) {
		return r.Upload, &upload.Error{Code: upload.PartialUsed, UploadID: pieces[0].ID, Message: "The partial uploads are pieces of another file already."}
	}
	return r.Upload, nil
}
