package ingest

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/fetch/source"
	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// Imports say what may be fetched from the web.
type Imports struct {
	Policy *source.Policy
	Within time.Duration // in which a file has to have come in
}

// Import makes an upload of a file at a URL, of at most so many bytes, which a worker will fetch: its row, its first
// event and its job in one transaction. Nobody is asked yet. Errors are Accept's, and ImportOff and InvalidURL.
func (in *Ingest) Import(ctx context.Context, r Request, url string, most int64) (upload.Upload, error) {
	u, err := in.insertImport(ctx, r, url, most)
	if err != nil && !errors.Is(err, postgres.ErrOutcomeUnknown) {
		r.Key.Free()
	}
	return u, err
}

func (in *Ingest) insertImport(ctx context.Context, r Request, url string, most int64) (upload.Upload, error) {
	if in.Imports == nil {
		return upload.Upload{}, errImportOff
	}
	at, fault := in.Imports.Policy.Check(url)
	if fault != nil {
		return upload.Upload{}, fault
	}
	asked := postgres.Import{URL: at.String(), FileName: r.FileName, ResourceType: r.ResourceType, MaxBytes: most}
	r.FileName = cmp.Or(r.FileName, source.NameInPath(at), upload.Untitled)
	if r.ResourceType == "auto" {
		asked.ResourceType = ""
	}
	u, err := in.check(ctx, r, Staged{ID: r.Key.ID(), Size: -1})
	if err != nil {
		return u, err
	}
	u.Size, u.Status, u.Version = 0, upload.Fetching, 1
	u.ResourceType = upload.ResourceType(asked.ResourceType)
	u.CreatedAt = time.Now().UTC().Truncate(time.Microsecond) // as the database keeps it
	err = postgres.Once(ctx,
		func(ctx context.Context) error {
			return postgres.AsUserWith(ctx, in.Pool, postgres.Claims{Subject: u.UserID}, r.Key.queueFinish, func(tx pgx.Tx) error {
				if err := in.Quotas.Allow(ctx, tx, u.UserID, quota.ToSendDirectly()); err != nil {
					return err
				}
				var err error
				if u.JobID, err = postgres.InsertFetch(ctx, tx, in.Queue, u); err != nil {
					return err
				}
				expires, err := postgres.InsertImport(ctx, tx, u, asked, in.Imports.Within)
				u.ExpiresAt = &expires
				return err
			})
		},
		func(ctx context.Context) (bool, error) { return postgres.UploadExists(ctx, in.Pool, u.ID) },
	)
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		return u, &upload.Error{Code: upload.Unavailable, Retryable: true, UploadID: u.ID, Cause: err,
			Message: "The database was lost while the import was being recorded. Ask for the upload by its id before asking for the import again."}
	}
	return u, unavailable(taken(err))
}

var errImportOff = &upload.Error{Code: upload.ImportOff, FixableBy: upload.ByOperator, Message: "Files are not imported from the web here."}

// Fetching is what a source says of a file before it is received.
type Fetching struct {
	Name        string
	ContentType string
	Length      int64  // -1 when it is not known
	Head        []byte // its first bytes, Sniffed of them or all of a shorter file
}

// Describe decides whether a file may come in that is being fetched, and returns its upload with what it is. Errors are
// Inspect's, and those of a name.
func (in *Ingest) Describe(ctx context.Context, u upload.Upload, im postgres.Import, f Fetching) (upload.Upload, Pass, error) {
	r := Request{
		User: u.UserID, Provider: u.Provider, ResourceType: im.ResourceType, FileName: cmp.Or(im.FileName, f.Name), ContentType: f.ContentType,
		Tags: u.Tags, Metadata: u.Metadata, Length: f.Length,
	}
	pass, err := in.Inspect(ctx, r, f.Head)
	if err != nil {
		return u, pass, err
	}
	is, err := in.check(ctx, r, Staged{ID: u.ID, Size: f.Length, Type: pass.Type})
	if err != nil {
		return u, pass, err
	}
	u.FileName, u.ContentType, u.ResourceType, u.Size = is.FileName, is.ContentType, is.ResourceType, max(0, f.Length)
	return u, pass, nil
}

// Fetched sends an upload on its way whose bytes have all been fetched, in one transaction with what comes with it.
// Errors: postgres.ErrFenced.
func (in *Ingest) Fetched(ctx context.Context, u upload.Upload, r postgres.Received, with func(context.Context, pgx.Tx) error) error {
	u.Size, r.Size = r.Offset, r.Offset
	return postgres.Once(ctx,
		func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, in.Pool, func(tx pgx.Tx) error {
				err := postgres.EndFetch(ctx, tx, u)
				if err != nil {
					return err
				}
				queued := u
				queued.NextAttemptAt = nil
				if queued.JobID, err = postgres.InsertPush(ctx, tx, in.Queue, queued); err != nil {
					return err
				}
				if _, err := postgres.FinishReceiving(ctx, tx, queued, r, in.DeliverWithin); err != nil {
					return err
				}
				return with(ctx, tx)
			})
		},
		func(ctx context.Context) (bool, error) {
			now, err := postgres.UploadOf(ctx, in.Pool, u.ID)
			return now.StagedAt != nil, err
		})
}
