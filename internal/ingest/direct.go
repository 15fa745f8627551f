package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// Direct is the way in for files whose bytes go from a browser straight to a provider: it reserves their
// uploads, and takes the claims to what has arrived there. Its fields are set before its first use.
type Direct struct {
	Pool   *pgxpool.Pool
	Queue  *postgres.Queue
	Quotas *quota.Quotas

	Installation string // begins every name that is reserved at a provider
	Strict       bool   // only what was reserved can be claimed
	MaxAttempts  int
	VerifyWithin time.Duration // how long the provider is asked about a claim
	MaxReserved  int           // open reservations of one user; 0: 1,000
	MaxRefused   int           // claims of one user in an hour that may come to nothing; 0: 100
}

// Reservation is what is said about a file before it is sent.
type Reservation struct {
	User         string
	Provider     string
	ResourceType string // "" or "auto": by the file name's extension, else image
	FileName     string // "": not known yet
}

var rawExtension = regexp.MustCompile(`^\.[a-z0-9]{1,16}$`)

// Reserve makes an upload for a file that is about to be sent, and writes down that a signature for it is
// handed out. assetID is its name at Cloudinary; at Uploadcare it has none before it is there.
func (d *Direct) Reserve(ctx context.Context, r Reservation) (u upload.Upload, assetID string, err error) {
	u = upload.Upload{ID: upload.NewID(), UserID: r.User, Provider: r.Provider, FileName: r.FileName, MaxAttempts: d.MaxAttempts, Status: upload.Reserved}
	if u.ResourceType, err = upload.ParseResourceType(r.ResourceType); err != nil {
		return u, "", err
	}
	if u.FileName == "" {
		u.FileName = upload.Untitled
	} else if err := checkName(u.FileName); err != nil {
		return u, "", err
	}
	extension := strings.ToLower(path.Ext(r.FileName))
	if r.Provider == "cloudinary" {
		if u.ResourceType == "" {
			u.ResourceType = typeByExtension(extension)
		}
		assetID = d.Installation + "/" + string(u.ID)
		if u.ResourceType == upload.Raw && rawExtension.MatchString(extension) {
			assetID += extension
		}
	}
	until := time.Now().UTC().Truncate(time.Microsecond).Add(upload.ReservationLife)
	u.ExpiresAt = &until
	err = d.once(ctx, u.UserID,
		func(ctx context.Context, tx pgx.Tx) error {
			if err := d.Quotas.Allow(ctx, tx, u.UserID, quota.ToSendDirectly()); err != nil {
				return err
			}
			load, err := postgres.ReadDirectLoad(ctx, tx, u.UserID)
			if err != nil {
				return err
			}
			if load.Reserved >= cmp.Or(d.MaxReserved, 1000) {
				return &upload.Error{Code: upload.TooManyWaits, Retryable: true, FixableBy: upload.ByYou,
					Message: fmt.Sprintf("%d reserved uploads of yours wait for their files. Send those first, or wait until they expire.", load.Reserved)}
			}
			if err := postgres.HandOut(ctx, tx, u.UserID, u.Provider); err != nil {
				return err
			}
			return postgres.InsertReserved(ctx, tx, u, assetID)
		},
		func(ctx context.Context) (bool, error) { return postgres.UploadExists(ctx, d.Pool, u.ID) })
	return u, assetID, err
}

// HandOut writes down that a signature is handed out with which nothing is reserved.
func (d *Direct) HandOut(ctx context.Context, user, provider string) error {
	return d.once(ctx, user,
		func(ctx context.Context, tx pgx.Tx) error { return postgres.HandOut(ctx, tx, user, provider) }, again)
}

// MayName tells whether the user has reserved the asset's name and not used it yet.
func (d *Direct) MayName(ctx context.Context, user, provider, assetID string) (may bool, err error) {
	err = d.once(ctx, user, func(ctx context.Context, tx pgx.Tx) error {
		u, _, err := postgres.FindClaim(ctx, tx, user, provider, assetID, "")
		may = err == nil && u.Status == upload.Reserved
		if errors.Is(err, postgres.ErrNoUpload) {
			return nil
		}
		return err
	}, again)
	return may, err
}

// AssetClaim is what a user says is theirs at a provider.
type AssetClaim struct {
	User         string
	Provider     string
	AssetID      string
	ResourceType upload.ResourceType
	Reservation  upload.ID // the upload that it was sent for, where its name does not tell; "" for none
	Version      int64     // proven by the provider's signature; 0 is not proven
}

// Claim makes an upload of an asset that a user says is theirs, or finds the one that they have made of it
// before; a worker asks the provider whether it is true. Errors: NotFound for what somebody else
// reserved, as for what nobody did; NotSignedFor, ReservedOnly, AlreadyClaimed, TooManyWaits, Unavailable.
func (d *Direct) Claim(ctx context.Context, c AssetClaim) (upload.Upload, error) {
	var u upload.Upload
	fresh := upload.NewID()
	err := d.once(ctx, c.User, func(ctx context.Context, tx pgx.Tx) (err error) {
		u, err = d.claim(ctx, tx, c, fresh)
		return err
	}, again)
	return u, err
}

func (d *Direct) claim(ctx context.Context, tx pgx.Tx, c AssetClaim, fresh upload.ID) (upload.Upload, error) {
	if err := postgres.LockClaims(ctx, tx, c.User, c.Provider, c.AssetID); err != nil {
		return upload.Upload{}, err
	}
	u, prior, err := postgres.FindClaim(ctx, tx, c.User, c.Provider, c.AssetID, c.Reservation)
	known := err == nil
	if err != nil && !errors.Is(err, postgres.ErrNoUpload) {
		return u, err
	}
	next := postgres.Claim{UploadID: u.ID, AssetID: c.AssetID, Reservation: prior.Reservation, Version: c.Version}
	if known {
		other := prior.AssetID != "" && prior.AssetID != c.AssetID
		switch u.Status {
		case upload.Reserved:
			return d.begin(ctx, tx, u, next, c)
		case upload.Verifying, upload.Completed:
			if other {
				return u, &upload.Error{Code: upload.AlreadyClaimed, UploadID: u.ID, FixableBy: upload.ByYou,
					Message: "Another file has been saved for this upload. Reserve one for each file."}
			}
			if u.Status == upload.Verifying && prior.Version == 0 && c.Version > 0 {
				return d.prove(ctx, tx, u, next, c)
			}
			return u, nil
		case upload.Deleting, upload.Deleted:
			return u, d.unknown()
		}
	}
	return d.anew(ctx, tx, c, u, next, fresh)
}

// begin lets a reserved upload be verified.
func (d *Direct) begin(ctx context.Context, tx pgx.Tx, u upload.Upload, next postgres.Claim, c AssetClaim) (_ upload.Upload, err error) {
	u.ResourceType = c.ResourceType
	if u.JobID, err = postgres.InsertVerify(ctx, tx, d.Queue, u); err != nil {
		return u, err
	}
	u.Status = upload.Verifying
	return u, postgres.ClaimReserved(ctx, tx, u, next, d.VerifyWithin)
}

// prove gives an upload that is being verified the proof that it lacked.
func (d *Direct) prove(ctx context.Context, tx pgx.Tx, u upload.Upload, next postgres.Claim, c AssetClaim) (_ upload.Upload, err error) {
	u.ResourceType = c.ResourceType
	if u.JobID, err = postgres.InsertVerify(ctx, tx, d.Queue, u); err != nil {
		return u, err
	}
	return u, postgres.ProveClaim(ctx, tx, u, next)
}

// anew makes an upload of a claim. prior is the one that came to nothing before, if there is one: a
// reservation stays its owner's.
func (d *Direct) anew(ctx context.Context, tx pgx.Tx, c AssetClaim, prior upload.Upload, next postgres.Claim, fresh upload.ID) (upload.Upload, error) {
	u := upload.Upload{
		ID: fresh, UserID: c.User, Provider: c.Provider, ResourceType: c.ResourceType, FileName: upload.Untitled,
		MaxAttempts: d.MaxAttempts, Status: upload.Verifying,
	}
	if next.Reservation != "" {
		u.FileName = prior.FileName
	} else if err := d.unreserved(ctx, tx, c); err != nil {
		return u, err
	}
	if err := d.Quotas.Allow(ctx, tx, c.User, quota.ToSendDirectly()); err != nil {
		return u, err
	}
	load, err := postgres.ReadDirectLoad(ctx, tx, c.User)
	if err != nil {
		return u, err
	}
	if load.Refused >= cmp.Or(d.MaxRefused, 100) {
		return u, &upload.Error{Code: upload.TooManyWaits, Retryable: true, FixableBy: upload.ByYou,
			Message: "Too many of your claims have come to nothing within the hour. Try again later."}
	}
	if u.JobID, err = postgres.InsertVerify(ctx, tx, d.Queue, u); err != nil {
		return u, err
	}
	next.UploadID = u.ID
	return u, postgres.InsertClaim(ctx, tx, u, next, d.VerifyWithin)
}

// unreserved tells whether an asset may be claimed whose name the user has not reserved, as far as that can
// be told before the provider is asked.
func (d *Direct) unreserved(ctx context.Context, tx pgx.Tx, c AssetClaim) error {
	switch {
	case c.Reservation != "", strings.HasPrefix(c.AssetID, d.Installation+"/"):
		return d.unknown()
	case d.Strict:
		return &upload.Error{Code: upload.ReservedOnly, FixableBy: upload.ByYou,
			Message: "Only what was reserved can be saved here. Ask for the signature with ?reserve=1, and send all of the fields that come with it."}
	}
	var made time.Time
	if c.Version > 0 {
		made = time.Unix(c.Version, 0)
	}
	signed, err := postgres.SignedFor(ctx, tx, c.User, c.Provider, made)
	if err != nil {
		return err
	}
	if !signed {
		return &upload.Error{Code: upload.NotSignedFor, FixableBy: upload.ByYou,
			Message: "No signature was handed out to you within the hour before this asset was made. Ask for one first, and save what you have sent within a day."}
	}
	return nil
}

func (d *Direct) unknown() error {
	return &upload.Error{Code: upload.NotFound, Message: "No upload of yours was reserved under this id."}
}

// again is the answer to whether a transaction took effect of one that is harmless when done twice.
func again(context.Context) (bool, error) { return false, nil }

// once runs a transaction for the user, through the weather between us and the database.
func (d *Direct) once(ctx context.Context, user string, run func(context.Context, pgx.Tx) error, done func(context.Context) (bool, error)) error {
	err := postgres.Once(ctx, func(ctx context.Context) error {
		return postgres.AsUser(ctx, d.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error { return run(ctx, tx) })
	}, done)
	return unavailable(err)
}

// typeByExtension is the resource type that a file name promises, image where it promises nothing, as in
// the guide.
func typeByExtension(extension string) upload.ResourceType {
	if extension == "" {
		return upload.Image
	}
	if t := mediaTypes[extension]; t != "" {
		return resourceType(t)
	}
	return resourceType(mime.TypeByExtension(extension))
}

// mediaTypes are those of extensions that not every machine knows.
var mediaTypes = map[string]string{
	".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".wav": "audio/wav", ".ogg": "audio/ogg", ".flac": "audio/flac",
	".heic": "image/heic", ".heif": "image/heif", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".psd": "image/vnd.adobe.photoshop",
}
