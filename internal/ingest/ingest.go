// Package ingest takes bytes in: it admits, checks and stages a file, and makes its upload and its
// job in one transaction.
package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Ingest is the way in. Its fields are set before its first use.
type Ingest struct {
	Pool    *pgxpool.Pool
	Queue   *postgres.Queue
	Staging staging.Store
	Quotas  *quota.Quotas
	Log     *slog.Logger

	Providers       []string // that may be asked for
	DefaultProvider string
	MaxBytes        int64            // in one file
	Rules           Rules            // for every file
	ProviderRules   map[string]Rules // beside those, for files to one provider
	MaxAttempts     int
	DeliverWithin   time.Duration
	Imports         *Imports      // nil: none
	KeyTTL          time.Duration // that an idempotency key is remembered; 0: KeyTTL
	KeyLease        time.Duration // that one is held by a request of which nothing is heard; 0: 30 s

	limits limits
}

// Request is what is said about a file, by its owner and before or after its bytes.
type Request struct {
	User         string
	Provider     string // "": the default
	ResourceType string // "" or "auto": decided by the content
	FileName     string // "": made up from the type
	ContentType  string // as declared; believed unless it says nothing
	Tags         []string
	Metadata     map[string]string
	Length       int64 // bytes as declared, or the fewest that it can have; -1 when unknown
	Longest      int64 // the most bytes that it can have, where its Length is not declared; 0 when unknown
	Unfinished   bool  // fields may follow that name a provider or a resource type, where none is named here
	Key          *Key  // that the sender has given the request; nil: none
}

// Staged is a file whose bytes are durable and whose row is not written yet.
type Staged struct {
	ID     upload.ID
	Size   int64
	CRC32C uint32
	Type   string // by the content

	hold *quota.Hold
	key  *Key
}

// Admit refuses what can be refused before the bytes come. It leaves no trace.
func (in *Ingest) Admit(ctx context.Context, r Request) error {
	_, err := in.check(ctx, r, Staged{Size: r.Length})
	if err != nil {
		return err
	}
	if r.Length == 0 {
		return errEmpty()
	}
	return nil
}

func errEmpty() error {
	return &upload.Error{Code: upload.EmptyFile, Message: "The file is empty; there is nothing to deliver."}
}

var errNoRoom = &upload.Error{Code: upload.NoRoom, Retryable: true, FixableBy: upload.ByOperator,
	Message: "There is no room for the file at the moment. Try again later."}

// Receive stages body, which reports a cut, a wrong length or too many bytes as an error of its own, and
// holds room for it within the user's quotas and in staging, before its first byte as far as its length is known. What may not come in is refused
// by its first bytes. After an error nothing is left, and the request's key is free.
func (in *Ingest) Receive(ctx context.Context, r Request, body io.Reader) (Staged, error) {
	s := Staged{ID: r.Key.ID(), key: r.Key}
	var err error
	if s.hold, err = in.Quotas.HoldBetween(ctx, r.User, s.ID, r.Length, cmp.Or(r.Longest, r.Length)); err != nil {
		s.key.Free()
		return s, unavailable(err)
	}
	if err := in.stage(ctx, r, &s, s.key.Within(s.hold.Within(body))); err != nil {
		s.hold.Release()
		s.key.Free()
		return s, err
	}
	return s, nil
}

func (in *Ingest) stage(ctx context.Context, r Request, s *Staged, body io.Reader) error {
	var head bytes.Buffer
	head.Grow(Sniffed + bytes.MinRead)
	if _, err := head.ReadFrom(io.LimitReader(body, Sniffed)); err != nil {
		return err
	}
	pass, err := in.Inspect(ctx, r, head.Bytes())
	if err != nil {
		return err
	}
	s.Type = pass.Type
	s.Size, s.CRC32C, err = in.Staging.Append(ctx, s.ID, 0, pass.Within(io.MultiReader(&head, body)))
	if err != nil {
		in.remove(s.ID)
	}
	if errors.Is(err, staging.ErrNoRoom) {
		return errNoRoom
	}
	return err
}

// Discard lets the bytes of a file go that was staged and not accepted, and its key.
func (in *Ingest) Discard(s Staged) {
	s.hold.Release()
	in.remove(s.ID)
	s.key.Free()
}

func (in *Ingest) remove(id upload.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := in.Staging.Remove(ctx, id); err != nil {
		in.Log.Error("remove a file that was not accepted", "upload_id", id, "error", err)
	}
}

// Accept makes a staged file an upload: its row, its first event and its job in one transaction. An
// error means that there is no upload and that the bytes are gone, except when the database was
// lost during the commit: then the error is Unavailable and names the id, nothing is removed, and
// the upload is there or is not.
func (in *Ingest) Accept(ctx context.Context, r Request, s Staged) (upload.Upload, error) {
	u, err := in.check(ctx, r, s)
	if err != nil {
		in.Discard(s)
		return u, err
	}
	u.CreatedAt = time.Now().UTC().Truncate(time.Microsecond) // as the database keeps it
	claims := postgres.Claims{Subject: u.UserID}
	err = postgres.Once(ctx,
		func(ctx context.Context) error {
			return postgres.AsUserWith(ctx, in.Pool, claims, s.key.queueFinish, func(tx pgx.Tx) error {
				var err error
				if u.JobID, err = postgres.InsertPush(ctx, tx, in.Queue, u); err != nil {
					return err
				}
				return in.Quotas.Insert(ctx, tx, u, in.DeliverWithin, s.hold)
			})
		},
		func(ctx context.Context) (bool, error) { return postgres.UploadExists(ctx, in.Pool, u.ID) },
	)
	switch {
	case errors.Is(err, postgres.ErrOutcomeUnknown):
		s.hold.End()
		return u, &upload.Error{Code: upload.Unavailable, Retryable: true, UploadID: u.ID, Cause: err,
			Message: "The database was lost while the upload was being recorded. Ask for the upload by its id before sending it again."}
	case err != nil:
		in.Discard(s)
		return u, unavailable(taken(err))
	}
	s.hold.End()
	u.Status, u.Version, u.Progress = upload.Queued, 1, 0.5
	u.Received = u.Size
	u.StagedAt = &u.CreatedAt
	return u, nil
}

// Retry sends a failed upload on its way again: to the provider that is named, or on to its own, from where
// its last session has come to. Errors: NotFound, NotFailed, BytesGone, UnknownProvider, TooLargeForProvider;
// MayBeStored where another provider is named than the one that may have the file.
func (in *Ingest) Retry(ctx context.Context, user string, id upload.ID, to string) (upload.Upload, error) {
	var u upload.Upload
	err := postgres.AsUser(ctx, in.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		var err error
		if u, err = postgres.GetUpload(ctx, tx, user, id); err != nil {
			return err
		}
		switch {
		case u.Status != upload.Failed:
			return &upload.Error{Code: upload.NotFailed, UploadID: id,
				Message: fmt.Sprintf("Only a failed upload can be retried; this one is %s.", u.Status)}
		case u.Unstaged != nil:
			return errBytesGone(id)
		}
		if err := in.Quotas.Allow(ctx, tx, user, quota.ToRetry(u.Size)); err != nil {
			return err
		}
		if err := in.redirect(ctx, tx, &u, to); err != nil {
			return err
		}
		job, err := postgres.InsertPush(ctx, tx, in.Queue, u)
		if err != nil {
			return err
		}
		u, err = postgres.Requeue(ctx, tx, user, id, job, in.DeliverWithin)
		if errors.Is(err, postgres.ErrNoUpload) { // the sweep or another retry was quicker
			return &upload.Error{Code: upload.NotFailed, UploadID: id, Message: "The upload has just changed; look at its status."}
		}
		return err
	})
	if errors.Is(err, postgres.ErrNoUpload) {
		return u, &upload.Error{Code: upload.NotFound, Message: "There is no upload with this id."}
	}
	return u, unavailable(err)
}

// redirect sends a failed upload to another provider, if that is named.
func (in *Ingest) redirect(ctx context.Context, tx pgx.Tx, u *upload.Upload, to string) error {
	if to == "" || to == u.Provider {
		return nil
	}
	from := u.Provider
	u.Provider = to
	if err := in.inspectStaged(ctx, *u); err != nil {
		return err
	}
	changed, err := postgres.ChangeProvider(ctx, tx, u.ID, to)
	if err == nil && !changed {
		err = &upload.Error{Code: upload.MayBeStored, UploadID: u.ID,
			Message: fmt.Sprintf("%s may have stored the file already, so it is sent nowhere else. Retry it there, or delete the upload and send the file anew.", from)}
	}
	return err
}

func errBytesGone(id upload.ID) error {
	return &upload.Error{Code: upload.BytesGone, UploadID: id,
		Message: "The file is not kept any more, so it cannot be retried. Upload it again."}
}

// unavailable is what a caller is told of a database that cannot be reached; other errors stay.
func unavailable(err error) error {
	if err != nil && postgres.Unreachable(err) {
		return &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: err,
			Message: "The service cannot reach its database at the moment. Nothing was recorded; try again."}
	}
	return err
}

// check makes an upload of what is known of it, or says what is wrong. A size below 0 is not known yet.
func (in *Ingest) check(ctx context.Context, r Request, s Staged) (upload.Upload, error) {
	u := upload.Upload{
		ID: s.ID, UserID: r.User, Provider: r.Provider, FileName: r.FileName, Size: s.Size, CRC32C: s.CRC32C,
		Tags: r.Tags, Metadata: r.Metadata, MaxAttempts: in.MaxAttempts,
	}
	if u.Provider == "" {
		u.Provider = in.DefaultProvider
	}
	if err := in.knows(u.Provider); err != nil {
		return u, err
	}
	asked, err := upload.ParseResourceType(r.ResourceType)
	if err != nil {
		return u, err
	}
	u.ContentType = contentType(r.ContentType, s.Type)
	if u.FileName == "" {
		u.FileName = "file" + mimetypeExtension(u.ContentType)
	}
	if err := checkName(u.FileName); err != nil {
		return u, err
	}
	if u.Tags, err = checkTags(u.Tags); err != nil {
		return u, err
	}
	if err := checkMetadata(u.Metadata); err != nil {
		return u, err
	}
	if u.ResourceType = asked; asked == "" {
		u.ResourceType = resourceType(s.Type)
	}
	if s.Type == "" {
		return u, in.takes(ctx, u, asked != "")
	}
	pass, err := in.gate(ctx, u.Provider, u.ResourceType, s.Type)
	if err != nil {
		return u, err
	}
	return u, pass.Fits(s.Size)
}

func (in *Ingest) knows(provider string) error {
	if slices.Contains(in.Providers, provider) {
		return nil
	}
	return &upload.Error{Code: upload.UnknownProvider,
		Message: fmt.Sprintf("Provider %.40q is not configured here; use %s.", provider, strings.Join(in.Providers, " or "))}
}

// takes tells whether a file of this size may come in, as far as that can be said without its content.
func (in *Ingest) takes(ctx context.Context, u upload.Upload, typeKnown bool) error {
	if in.MaxBytes > 0 && u.Size > in.MaxBytes {
		return errTooLarge(in.MaxBytes)
	}
	limit, err := in.limits.of(ctx, in.Pool, u.Provider, u.ResourceType, typeKnown)
	if err != nil {
		return unavailable(err)
	}
	if limit > 0 && u.Size > limit {
		return errTooLargeFor(u.Provider, limit)
	}
	return nil
}
