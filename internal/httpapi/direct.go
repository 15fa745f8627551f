package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"slipway/internal/ingest"
	cloudinary "slipway/internal/provider/cloudinary/sign"
	uploadcare "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

// Direct are the accounts that browsers may send files to by themselves. Without Claims they are off.
type Direct struct {
	Claims     *ingest.Direct
	Cloudinary *CloudinaryAccount // nil: not configured
	Uploadcare *UploadcareAccount
}

// CloudinaryAccount is what signatures for Cloudinary are made with.
type CloudinaryAccount struct {
	CloudName, APIKey string
	Secret            string
	UploadPrefix      string // as browsers reach it; "": https://api.cloudinary.com
	Type              string // of delivery, where it is not "upload"
}

// UploadcareAccount is what signatures for Uploadcare are made with.
type UploadcareAccount struct {
	PublicKey, SecretKey string
	UploadBase           string // as browsers reach it; "": https://upload.uploadcare.com
}

const (
	cloudinaryName = "cloudinary"
	uploadcareName = "uploadcare"
)

func (a CloudinaryAccount) uploadURL(rt upload.ResourceType) string {
	return cmp.Or(a.UploadPrefix, "https://api.cloudinary.com") + "/v1_1/" + url.PathEscape(a.CloudName) + "/" + string(rt) + "/upload"
}

// sign returns the signature of parameters that have a timestamp. SHA-1 is what accounts take unless restricted.
func (a CloudinaryAccount) sign(params url.Values) (string, error) {
	return cloudinary.Key{Secret: a.Secret}.Request(params)
}

// vouches tells whether the account's signature of an upload answer is on the asset's id and version. An
// account signs with SHA-1, or with SHA-256 where it is restricted to that; the lengths differ.
func (a CloudinaryAccount) vouches(publicID, version, signature string) bool {
	key := cloudinary.Key{Secret: a.Secret}
	const sha256Digits = 64
	if len(signature) == sha256Digits {
		key.Algorithm = cloudinary.SHA256
	}
	return key.ValidResponse(publicID, version, signature)
}

// directOn tells whether direct uploads are served at all.
func (a *API) directOn() error {
	if a.Direct.Claims == nil {
		return &upload.Error{Code: upload.DirectOff,
			Message: "Direct uploads are switched off here (DIRECT_UPLOADS=off). Send the file to POST /upload or POST /v1/uploads."}
	}
	return nil
}

// directAccount returns the account of a provider, or why it cannot be used.
func directAccount[T any](a *API, account *T, title string) (T, error) {
	var none T
	if err := a.directOn(); err != nil {
		return none, err
	}
	if account == nil {
		return none, &upload.Error{Code: upload.ProviderMissing, FixableBy: upload.ByOperator, Message: title + " is not configured here."}
	}
	return *account, nil
}

// signatureAnswer is what GET /generate-signature answers: the guide's four members, where to send the
// file, and with ?reserve=1 all that goes with it.
type signatureAnswer struct {
	Success   bool   `json:"success"`
	Signature string `json:"signature"`
	Timestamp int64  `json:"timestamp"`
	APIKey    string `json:"api_key"`
	CloudName string `json:"cloud_name"`
	UploadURL string `json:"upload_url"`

	ID        upload.ID         `json:"id,omitempty"`
	PublicID  string            `json:"public_id,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty"`
}

// generateSignature signs the time alone, as the guide's next command needs it, or a reserved public id.
func (a *API) generateSignature(c *fiber.Ctx) error {
	account, err := directAccount(a, a.Direct.Cloudinary, "Cloudinary")
	if err != nil {
		return err
	}
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	reserve, err := reserved(query)
	if err != nil {
		return err
	}
	if reserve {
		return a.reserveAtCloudinary(c, account, query)
	}
	rt, err := upload.ParseResourceType(query.Get("resource_type"))
	if err != nil {
		return err
	}
	if err := a.handOut(c, cloudinaryName); err != nil {
		return err
	}
	now := time.Now().Unix()
	signature, err := account.sign(url.Values{"timestamp": {strconv.FormatInt(now, 10)}})
	if err != nil {
		return err
	}
	return answerOnce(c, signatureAnswer{
		Success: true, Signature: signature, Timestamp: now, APIKey: account.APIKey, CloudName: account.CloudName,
		UploadURL: account.uploadURL(cmp.Or(rt, upload.Image)),
	})
}

// reserved tells whether the query asks for a reservation.
func reserved(query url.Values) (bool, error) {
	switch text := query.Get("reserve"); strings.ToLower(text) {
	case "", "0", "off", "false", "no":
		return false, nil
	case "1", "on", "true", "yes":
		return true, nil
	}
	return false, invalidParameter("reserve must be 1 or 0.")
}

// handOut writes down that the caller gets a signature with which nothing is reserved.
func (a *API) handOut(c *fiber.Ctx, provider string) error {
	if a.Direct.Claims.Strict {
		return &upload.Error{Code: upload.ReservedOnly, FixableBy: upload.ByYou,
			Message: "Only reserved uploads are signed here: ask with ?reserve=1, and send all of the fields that come with the answer."}
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, recordTime)
	defer cancel()
	return databaseError(a.Direct.Claims.HandOut(ctx, user(c), provider), noUpload)
}

func (a *API) reserve(c *fiber.Ctx, provider string, query url.Values) (upload.Upload, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	u, assetID, err := a.Direct.Claims.Reserve(ctx, ingest.Reservation{
		User: user(c), Provider: provider, ResourceType: query.Get("resource_type"), FileName: cmp.Or(query.Get("file_name"), query.Get("fileName")),
	})
	if err != nil {
		return u, "", databaseError(err, noUpload)
	}
	c.Locals(uploadKey{}, u.ID)
	c.Location(a.base(c) + uploadPath(u.ID))
	return u, assetID, nil
}

// reserveAtCloudinary signs everything that goes with the file but the file itself. What is signed cannot
// be changed on the way; overwrite=false lets nobody who has it replace what was sent.
func (a *API) reserveAtCloudinary(c *fiber.Ctx, account CloudinaryAccount, query url.Values) error {
	u, publicID, err := a.reserve(c, cloudinaryName, query)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	params := url.Values{"timestamp": {strconv.FormatInt(now, 10)}, "public_id": {publicID}, "overwrite": {"false"}}
	if account.Type != "" {
		params.Set("type", account.Type)
	}
	signature, err := account.sign(params)
	if err != nil {
		return err
	}
	fields := map[string]string{"api_key": account.APIKey, "signature": signature}
	for name := range params {
		fields[name] = params.Get(name)
	}
	return answerOnce(c, signatureAnswer{
		Success: true, Signature: signature, Timestamp: now, APIKey: account.APIKey, CloudName: account.CloudName,
		UploadURL: account.uploadURL(u.ResourceType), ID: u.ID, PublicID: publicID, Fields: fields, ExpiresAt: u.ExpiresAt,
	})
}

// answerOnce sends what is good for one caller and one time.
func answerOnce(c *fiber.Ctx, v any) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	return answer(c, http.StatusOK, v)
}

// uploadcareAnswer is what GET /v1/direct/uploadcare answers.
type uploadcareAnswer struct {
	PubKey    string            `json:"pub_key"`
	Signature string            `json:"signature"`
	Expire    int64             `json:"expire"` // Unix seconds
	UploadURL string            `json:"upload_url"`
	Fields    map[string]string `json:"fields"` // all that goes with the file

	ID        upload.ID  `json:"id,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// directUploadcare signs an upload that the browser sends to Uploadcare, unstored: it is stored once it
// was claimed here.
func (a *API) directUploadcare(c *fiber.Ctx) error {
	account, err := directAccount(a, a.Direct.Uploadcare, "Uploadcare")
	if err != nil {
		return err
	}
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	reserve, err := reserved(query)
	if err != nil {
		return err
	}
	expire := time.Now().Add(upload.SignatureLife)
	v := uploadcareAnswer{
		PubKey: account.PublicKey, Signature: uploadcare.Upload(account.SecretKey, expire), Expire: expire.Unix(),
		UploadURL: cmp.Or(account.UploadBase, "https://upload.uploadcare.com") + "/base/",
	}
	v.Fields = map[string]string{
		"UPLOADCARE_PUB_KEY": v.PubKey, "UPLOADCARE_STORE": "0", "signature": v.Signature, "expire": strconv.FormatInt(v.Expire, 10),
	}
	if !reserve {
		if err := a.handOut(c, uploadcareName); err != nil {
			return err
		}
		return answerOnce(c, v)
	}
	u, _, err := a.reserve(c, uploadcareName, query)
	if err != nil {
		return err
	}
	v.ID, v.ExpiresAt = u.ID, u.ExpiresAt
	v.Fields["metadata["+uploadcare.Mark+"]"] = string(u.ID)
	return answerOnce(c, v)
}

// savedAsset is the body of POST /save-metadata. Clients may send an upload answer as it is: what is not
// needed is not looked at.
type savedAsset struct {
	Provider string `json:"provider"`

	PublicID     string      `json:"public_id"`
	SecureURL    string      `json:"secure_url"` // asked for as in the guide, and not believed
	ResourceType string      `json:"resource_type"`
	Version      json.Number `json:"version"`
	Signature    string      `json:"signature"`

	FileID string `json:"file_id"`
	ID     string `json:"id"` // of the reserved upload, where the file's name does not tell it
}

// saveMetadata records what a browser has sent to a provider, as soon as the provider has confirmed it.
func (a *API) saveMetadata(c *fiber.Ctx) error {
	if err := a.directOn(); err != nil {
		return err
	}
	var s savedAsset
	if err := a.readJSON(c, &s); err != nil {
		return err
	}
	var claim ingest.AssetClaim
	var err error
	switch s.Provider {
	case "", cloudinaryName:
		claim, err = a.cloudinaryClaim(s)
	case uploadcareName:
		claim, err = a.uploadcareClaim(s)
	default:
		err = &upload.Error{Code: upload.UnknownProvider, FixableBy: upload.ByYou, Message: fmt.Sprintf("Provider %.40q is not known; use %s or %s.", s.Provider, cloudinaryName, uploadcareName)}
	}
	if err != nil {
		return err
	}
	claim.User = user(c)
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	u, err := a.Direct.Claims.Claim(ctx, claim)
	if err != nil {
		return databaseError(err, noUpload)
	}
	c.Locals(uploadKey{}, u.ID)
	return a.answerClaim(c, u)
}

// claimAnswer is what a claim is answered with that has not failed.
type claimAnswer struct {
	Success   bool          `json:"success"`
	ID        upload.ID     `json:"id"`
	Status    upload.Status `json:"status,omitempty"`
	StatusURL string        `json:"statusUrl,omitempty"`
}

// answerClaim waits for the provider's word, for a while.
func (a *API) answerClaim(c *fiber.Ctx, u upload.Upload) error {
	wait, asked := preferredWait(c)
	if !asked {
		wait = a.UploadWait
	}
	if wait > 0 && !u.Status.Final() {
		u = a.awaitEnd(u, wait)
	}
	switch {
	case u.Status == upload.Completed:
		return answer(c, http.StatusOK, claimAnswer{Success: true, ID: u.ID})
	case u.Status == upload.Failed && u.Error != nil:
		return &upload.Error{Code: u.Error.Code, Message: u.Error.Message, Retryable: u.Error.Retryable, UploadID: u.ID}
	}
	status := a.base(c) + uploadPath(u.ID)
	c.Location(status)
	setRetryAfter(c, u)
	return answer(c, http.StatusAccepted, claimAnswer{Success: true, ID: u.ID, Status: u.Status, StatusURL: status})
}

func (a *API) cloudinaryClaim(s savedAsset) (ingest.AssetClaim, error) {
	claim := ingest.AssetClaim{Provider: cloudinaryName, AssetID: s.PublicID}
	account, err := directAccount(a, a.Direct.Cloudinary, "Cloudinary")
	if err != nil {
		return claim, err
	}
	var missing []string
	for _, f := range []struct{ name, value string }{{"public_id", s.PublicID}, {"secure_url", s.SecureURL}, {"resource_type", s.ResourceType}} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return claim, invalidParameter("public_id, secure_url, and resource_type are required; %s is missing.", strings.Join(missing, " and "))
	}
	if claim.ResourceType, err = upload.ParseResourceType(s.ResourceType); err != nil {
		return claim, err
	}
	if claim.ResourceType == "" {
		return claim, invalidParameter("resource_type is image, video or raw, as Cloudinary has answered.")
	}
	if !plausiblePublicID(s.PublicID) {
		return claim, invalidParameter("public_id is none that Cloudinary has; take it from its answer as it is.")
	}
	if s.Signature == "" {
		return claim, nil
	}
	if s.Version == "" {
		return claim, invalidParameter("signature is there and version is not; send both, as Cloudinary has answered, or neither.")
	}
	if !account.vouches(s.PublicID, s.Version.String(), s.Signature) {
		return claim, &upload.Error{Code: upload.InvalidSignature, FixableBy: upload.ByYou,
			Message: "The signature is not Cloudinary's for this public_id and version. Send the answer's signature, not the one that the file was sent with."}
	}
	if claim.Version, err = strconv.ParseInt(s.Version.String(), 10, 64); err != nil {
		return claim, invalidParameter("version is a number.")
	}
	return claim, nil
}

// plausiblePublicID tells whether Cloudinary could have given an asset this id ("Upload API reference",
// public_id), and whether it can stand in a path.
func plausiblePublicID(id string) bool {
	const most = 255 // characters
	if !utf8.ValidString(id) || utf8.RuneCountInString(id) > most || strings.ContainsAny(id, `?&#\%<>+`) || strings.TrimSpace(id) != id ||
		strings.ContainsFunc(id, unicode.IsControl) {
		return false
	}
	for segment := range strings.SplitSeq(id, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func (a *API) uploadcareClaim(s savedAsset) (ingest.AssetClaim, error) {
	claim := ingest.AssetClaim{Provider: uploadcareName}
	if _, err := directAccount(a, a.Direct.Uploadcare, "Uploadcare"); err != nil {
		return claim, err
	}
	if s.FileID == "" {
		return claim, invalidParameter("file_id is required.")
	}
	id, err := uuid.Parse(s.FileID)
	if err != nil || len(s.FileID) != len(id.String()) {
		return claim, invalidParameter("file_id is none that Uploadcare has; take it from its answer as it is.")
	}
	claim.AssetID = id.String()
	if s.ID != "" {
		if claim.Reservation, err = upload.ParseID(s.ID); err != nil {
			return claim, err
		}
	}
	return claim, nil
}
