package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// verifier asks the providers about files that browsers have sent there by themselves. It needs no
// lease: asking twice is harmless, and what it writes is fenced by the job that the upload's row names.
type verifier struct {
	river.WorkerDefaults[upload.VerifyArgs]
	*worker
}

const (
	// verifyTimeout bounds one turn of a job. Most make one or two calls; one that seeks makes up to three,
	// or six where delivery is signed, and is taken up again when they are slow.
	verifyTimeout = 45 * time.Second
	askTimeout    = 20 * time.Second
	// VerifierDead is after how long in one turn a worker must be gone.
	VerifierDead = verifyTimeout + 15*time.Second
)

// Timeout bounds a turn.
func (v *verifier) Timeout(*river.Job[upload.VerifyArgs]) time.Duration { return verifyTimeout }

// NextRetry is for turns whose outcome could not be written.
func (v *verifier) NextRetry(*river.Job[upload.VerifyArgs]) time.Time {
	return time.Now().Add(5 * time.Second)
}

// Work takes the upload one step on, wherever it is: verifies it, looks whether what was reserved has been
// sent, or learns what a completed upload's asset is like.
func (v *verifier) Work(ctx context.Context, job *river.Job[upload.VerifyArgs]) error {
	u, c, err := postgres.ReadDirect(ctx, v.pool, job.Args.UploadID, job.ID)
	if errors.Is(err, postgres.ErrNoUpload) {
		return nil // another row's job now
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", job.Args.UploadID, err)
	}
	q := &inquiry{worker: v.worker, u: u, c: c, log: v.log.With("upload_id", u.ID, "job_id", job.ID, "provider", u.Provider)}
	switch {
	case u.Status == upload.Verifying:
		err = q.verify(ctx)
	case u.Status == upload.Reserved:
		err = q.look(ctx)
	case u.Status == upload.Completed && c.DetailsDue:
		err = q.describe(ctx)
	}
	if err == nil || errors.Is(err, postgres.ErrNoUpload) {
		return nil
	}
	return q.conclude(ctx, err)
}

// inquiry is a direct upload in one turn of its job.
type inquiry struct {
	*worker
	log *slog.Logger
	u   upload.Upload
	c   postgres.Claim
}

// refused is why a claim comes to nothing.
type refused struct{ says upload.Error }

func (r *refused) Error() string { return r.says.Error() }

func refuse(code upload.Code, format string, a ...any) error {
	return &refused{upload.Error{Code: code, FixableBy: upload.ByYou, Message: fmt.Sprintf(format, a...)}}
}

// verify finds out whether the provider has what the owner says, and whether it is theirs. Nothing of what
// is recorded comes from the client.
func (q *inquiry) verify(ctx context.Context) error {
	p, ok := q.providers[q.u.Provider]
	if !ok {
		return errNoProvider
	}
	if prover, ok := p.(provider.Prover); ok && q.c.Version > 0 {
		if a := prover.Proven(q.c.AssetID, q.u.ResourceType, q.c.Version); a != nil {
			return q.takeProven(ctx, *a)
		}
	}
	found, err := q.inspect(ctx, q.u.ResourceType)
	if err != nil {
		return err
	}
	if found == nil {
		return q.notFound()
	}
	return q.take(ctx, p, *found)
}

// take completes an upload with what the provider says of its asset.
func (q *inquiry) take(ctx context.Context, p provider.Provider, found provider.Found) (err error) {
	if err := q.entitled(ctx, found); err != nil {
		return err
	}
	if found.Infected != "" {
		return &refused{infected(p.Name(), found)}
	}
	asset := found.Asset
	if p.Capabilities().NeedsCommit {
		if asset, err = q.keep(ctx, p, found); err != nil {
			return err
		}
	}
	q.note(found)
	return q.complete(ctx, asset, false)
}

func infected(providerName string, f provider.Found) upload.Error {
	return upload.Error{Code: upload.Infected, FixableBy: upload.ByYou,
		Message: fmt.Sprintf("%s has found a virus in the file: %.100s.", providerTitle(providerName), f.Infected)}
}

func (q *inquiry) notFound() error {
	if q.u.Provider == "cloudinary" {
		return refuse(upload.AssetNotFound, "Cloudinary has no %s with the public_id %s. Send the file there first; public_id and resource_type are those of its answer.",
			q.u.ResourceType, q.c.AssetID)
	}
	return refuse(upload.AssetNotFound, "%s has no file %s, or removes it in a moment. Send the file there first, and save it within a day.",
		providerTitle(q.u.Provider), q.c.AssetID)
}

// takeProven completes an upload on the provider's signature alone. What else there is to know of the
// asset is asked for afterwards.
func (q *inquiry) takeProven(ctx context.Context, a upload.Asset) error {
	if err := q.entitled(ctx, provider.Found{MadeAt: time.Unix(q.c.Version, 0)}); err != nil {
		return err
	}
	if q.u.FileName == upload.Untitled {
		q.u.FileName = path.Base(q.c.AssetID)
	}
	return q.complete(ctx, a, true)
}

// entitled tells whether the asset may become the claimant's: its name was reserved by them, or it names
// their reservation, or it was made while a signature of theirs was good.
func (q *inquiry) entitled(ctx context.Context, f provider.Found) error {
	service := providerTitle(q.u.Provider)
	switch r := q.c.Reservation; {
	case r != "" && (f.Mark == r || strings.HasPrefix(q.c.AssetID, q.Installation+"/"+string(r))):
		return nil
	case f.Mark != "":
		return refuse(upload.NotSignedFor, "The file at %s was sent for another upload than this one; its metadata says for which.", service)
	case r != "":
		return refuse(upload.NotSignedFor, "The file at %s does not say that it was sent for this upload. Send it with all of the fields that came with the signature.", service)
	}
	signed, err := postgres.SignedFor(ctx, q.pool, q.u.UserID, q.u.Provider, f.MadeAt)
	if err != nil {
		return err
	}
	if !signed {
		return refuse(upload.NotSignedFor, "The asset at %s was not made within the hour after a signature was handed out to you.", service)
	}
	return nil
}

// keep makes the asset lasting. That it is the claimant's is written first: whoever comes after a crash
// finds it lasting, and knows by whom.
func (q *inquiry) keep(ctx context.Context, p provider.Provider, f provider.Found) (upload.Asset, error) {
	if f.Lasting && !q.c.Owned {
		return f.Asset, refuse(upload.AlreadyStored, "The file is stored at %s already, so it is somebody's. Upload with UPLOADCARE_STORE=0; it is stored when you save it here.",
			providerTitle(q.u.Provider))
	}
	if err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error { return postgres.OwnAsset(ctx, tx, q.u, f.Asset.ID) }); err != nil {
		return f.Asset, err
	}
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a, err := p.Commit(call, provider.Source{Size: f.Asset.Size, ResourceType: f.Asset.ResourceType}, f.Asset)
	var pe *provider.Error
	if errors.As(err, &pe) && pe.Verdict == provider.SessionLost {
		return a, q.notFound()
	}
	return a, q.inTime(call, err)
}

// inspect asks for the asset, if anything may be asked of the account now.
func (q *inquiry) inspect(ctx context.Context, rt upload.ResourceType) (*provider.Found, error) {
	p, ok := q.providers[q.u.Provider]
	if !ok {
		return nil, errNoProvider
	}
	inspector, ok := p.(provider.Inspector)
	if !ok {
		return nil, refuse(upload.InvalidParameter, "%s cannot be asked about files that were not sent from here.", providerTitle(p.Name()))
	}
	if _, err := q.open(ctx, p); err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found, err := inspector.Inspect(call, q.c.AssetID, rt)
	return found, q.inTime(call, err)
}

// inTime makes of a call's own deadline what it is: the provider did not answer.
func (q *inquiry) inTime(call context.Context, err error) error {
	var pe *provider.Error
	if err != nil && !errors.As(err, &pe) && errors.Is(call.Err(), context.DeadlineExceeded) {
		return &provider.Error{Provider: q.u.Provider, Op: "lookup", Verdict: provider.Transient, Message: "There was no answer in time.", Cause: err}
	}
	return err
}

// note takes over what the provider knows of a file and its owner has not said.
func (q *inquiry) note(f provider.Found) {
	if name := tidyName(f.FileName); name != "" && (q.u.FileName == upload.Untitled || q.u.FileName == path.Base(q.c.AssetID)) {
		q.u.FileName = name
	}
	q.noteTags(f.Tags)
}

func (q *inquiry) noteTags(tags []string) {
	for _, t := range tags {
		if t = tidyName(t); t != "" {
			q.u.Tags = append(q.u.Tags, t)
		}
	}
}

// tidyName makes a text that somebody gave a provider fit to be kept: one line, without a path, at most 255 bytes.
func tidyName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '/' || r == '\\' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	const most = 255
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return strings.TrimSpace(s)
}

// complete writes the end of a direct upload; proven says that the asset is yet to be described.
func (q *inquiry) complete(ctx context.Context, a upload.Asset, proven bool) error {
	err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) (err error) {
		var details int64
		if proven {
			if details, err = postgres.InsertVerify(ctx, tx, q.queue, q.u); err != nil {
				return err
			}
		}
		return postgres.CompleteDirect(ctx, tx, q.u, a, details)
	})
	if err == nil {
		q.log.Info("verified", "asset", a.ID, "proven", proven)
	}
	return err
}

// describe completes what is known of an asset that was taken on the provider's signature.
func (q *inquiry) describe(ctx context.Context) error {
	found, err := q.seek(ctx)
	if err != nil {
		return err
	}
	if found == nil {
		q.log.Warn("the provider does not have an asset that it has signed for", "asset", q.c.AssetID)
		return postgres.NothingDue(ctx, q.pool, q.u.ID)
	}
	q.u.Tags = nil
	q.note(*found)
	return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error { return postgres.DescribeDirect(ctx, tx, q.u, found.Asset) })
}

// seek asks for the asset under one resource type after the other, the upload's own first: no signature
// covers it, so a client may have sent the file as another.
func (q *inquiry) seek(ctx context.Context) (*provider.Found, error) {
	for _, rt := range otherTypes(q.u.ResourceType) {
		if found, err := q.inspect(ctx, rt); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// otherTypes are all resource types, the given one first.
func otherTypes(first upload.ResourceType) []upload.ResourceType {
	all := []upload.ResourceType{first}
	for _, rt := range []upload.ResourceType{upload.Image, upload.Video, upload.Raw} {
		if rt != first {
			all = append(all, rt)
		}
	}
	return all
}

// look completes a reserved upload whose file is at the provider although nobody has said so, and reports it.
// When there is none, a reservation whose time is over ends.
func (q *inquiry) look(ctx context.Context) error {
	if q.c.AssetID == "" {
		if err := q.findMarked(ctx); err != nil {
			return err
		}
	}
	var found *provider.Found
	var err error
	if q.c.AssetID != "" {
		if found, err = q.seek(ctx); err != nil {
			return err
		}
	}
	if found == nil || q.entitled(ctx, *found) != nil {
		return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error { return postgres.ExpireReserved(ctx, tx, q.u) })
	}
	a := found.Asset
	says := fmt.Sprintf("%s has the file as the %s %s, and it was never saved here. It counts as saved.", providerTitle(q.u.Provider), a.ResourceType, a.ID)
	err = pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		if err := postgres.ClaimReserved(ctx, tx, q.u, postgres.Claim{UploadID: q.u.ID, AssetID: q.c.AssetID}, q.VerifyWithin); err != nil {
			return err
		}
		return postgres.WriteEvents(ctx, tx, q.u.UserID, upload.Event{UploadID: q.u.ID, Type: upload.AssetDescribed, Status: upload.Verifying,
			Data: map[string]any{"code": upload.AssetUnclaimed, "message": says, "url": a.URL, "size": a.Size}})
	})
	if err != nil {
		return err
	}
	q.log.Warn("an asset was sent and never saved", "asset", a.ID, "resource_type", a.ResourceType, "bytes", a.Size)
	q.u.Status, q.u.Attempt = upload.Verifying, 0
	return q.take(ctx, q.providers[q.u.Provider], *found)
}

// findMarked finds out what was sent for a reserved upload whose asset got its name from the provider.
func (q *inquiry) findMarked(ctx context.Context) error {
	p := q.providers[q.u.Provider]
	finder, ok := p.(provider.Finder)
	if !ok {
		return nil
	}
	if _, err := q.open(ctx, p); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	id, err := finder.Marked(call, q.u.ID, q.u.CreatedAt.Add(-upload.ClockSlack))
	q.c.AssetID = id
	return q.inTime(call, err)
}

// conclude writes why a turn came to no end, and when the next one is. How often that happens does not
// matter, only how long: a question costs nobody anything.
func (q *inquiry) conclude(ctx context.Context, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled // the worker stops; River makes the row available again
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var o outcome
	var r *refused
	switch {
	case errors.As(cause, &r):
		o = outcome{give: true, err: r.says}
	case errors.Is(cause, postgres.ErrTaken):
		o = outcome{give: true, err: taken(q.u.Provider, q.c.AssetID)}
	default:
		patient := q.u
		patient.Attempt, patient.MaxAttempts = q.u.Attempt+1, math.MaxInt
		o = q.judge(ctx, patient, cause)
		if q.u.DeliverBy != nil && time.Now().Add(o.after).After(*q.u.DeliverBy) {
			o.give = true
		}
	}
	var err error
	switch {
	case q.u.Status == upload.Verifying:
		err = pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
			if o.give {
				return postgres.FailDirect(ctx, tx, q.u, o.err)
			}
			return postgres.DelayDirect(ctx, tx, q.u, o.err, o.after)
		})
	case q.u.Status == upload.Completed && o.give:
		err = postgres.NothingDue(ctx, q.pool, q.u.ID)
	}
	switch {
	case errors.Is(err, postgres.ErrNoUpload):
		return nil
	case err != nil:
		return fmt.Errorf("write what the question came to (%w): %w", cause, err)
	case o.give:
		q.log.Warn("the claim came to nothing", "code", o.err.Code, "error", cause)
		return river.JobCancel(cause)
	}
	q.log.Warn("the provider is asked again later", "code", o.err.Code, "error", cause, "again_in", o.after.Round(time.Millisecond))
	return river.JobSnooze(o.after)
}

func taken(providerName, assetID string) upload.Error {
	e := upload.Error{Code: upload.AlreadyClaimed, FixableBy: upload.ByYou, Message: fmt.Sprintf("The file %s has been saved already, and not by this upload.", assetID)}
	if providerName == "cloudinary" {
		e.Code, e.Message = upload.PublicIDTaken, fmt.Sprintf("The public_id %s has been saved already, and not by this upload.", assetID)
	}
	return e
}
