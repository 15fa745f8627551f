package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"slipway/internal/quota"
	"slipway/internal/upload"
)

// outcome is how a code is told over HTTP.
type outcome struct {
	status     int
	title      string
	retryAfter int // seconds, 0 for no advice
}

// outcomes has every code there is.
var outcomes = map[upload.Code]outcome{
	upload.NotFound:            {status: 404, title: "Not found"},
	upload.Unauthorized:        {status: 401, title: "Unauthorized"},
	upload.Forbidden:           {status: 403, title: "Forbidden"},
	upload.InvalidRequest:      {status: 400, title: "Invalid request"},
	upload.InvalidParameter:    {status: 422, title: "Invalid parameter"},
	upload.LengthRequired:      {status: 411, title: "Length required"},
	upload.NoFile:              {status: 422, title: "No file"},
	upload.SeveralFiles:        {status: 422, title: "Several files"},
	upload.EmptyFile:           {status: 422, title: "Empty file"},
	upload.InvalidFileName:     {status: 422, title: "Invalid file name"},
	upload.InvalidMetadata:     {status: 422, title: "Invalid metadata"},
	upload.UnknownProvider:     {status: 422, title: "Unknown provider"},
	upload.UnknownResourceType: {status: 422, title: "Unknown resource type"},
	upload.UnsupportedMedia:    {status: 415, title: "Unsupported media type"},
	upload.TypeNotAllowed:      {status: 415, title: "Type not allowed"},
	upload.DigestMismatch:      {status: 422, title: "Digest differs from what was declared"},
	upload.CutBody:             {status: 400, title: "Body cut short"},
	upload.SlowBody:            {status: 408, title: "Body too slow"},
	upload.TooLarge:            {status: 413, title: "File too large"},
	upload.TooLargeForProvider: {status: 413, title: "File too large for the provider"},
	upload.FieldsTooLarge:      {status: 413, title: "Form fields too large"},
	upload.HeadersTooLarge:     {status: 431, title: "Request headers too large"},
	upload.QueryTooLarge:       {status: 414, title: "Query too large"},
	upload.BodyTooLarge:        {status: 413, title: "Body too large"},
	upload.JSONTooDeep:         {status: 400, title: "JSON too deep"},
	upload.InvalidCursor:       {status: 400, title: "Invalid cursor"},
	upload.MethodNotAllowed:    {status: 405, title: "Method not allowed"},
	upload.NotFailed:           {status: 409, title: "Upload has not failed"},
	upload.NotCancelable:       {status: 409, title: "Upload cannot be canceled"},
	upload.MayBeStored:         {status: 409, title: "May be stored already"},
	upload.NotReady:            {status: 404, title: "Not ready", retryAfter: 1},
	upload.BytesGone:           {status: 410, title: "Bytes are gone"},
	upload.Gone:                {status: 410, title: "Deleted"},
	upload.OtherInstallation:   {status: 409, title: "Another installation's"},

	upload.InvalidKey:  {status: 400, title: "Invalid Idempotency-Key"},
	upload.KeyReused:   {status: 422, title: "Idempotency-Key of another request"},
	upload.KeyInFlight: {status: 409, title: "Request is still being answered", retryAfter: 5},

	upload.StagedQuota:    {status: 429, title: "Quota of staged bytes exceeded"},
	upload.StoredQuota:    {status: 429, title: "Quota of stored bytes exceeded"},
	upload.DailyQuota:     {status: 429, title: "Quota of uploads a day exceeded"},
	upload.ReceivingQuota: {status: 429, title: "Too many uploads at the same time"},
	upload.RateLimited:    {status: 429, title: "Too many requests a minute"},

	upload.OffsetConflict:     {status: 409, title: "Another offset"},
	upload.ChecksumMismatch:   {status: 460, title: "Checksum mismatch"}, // tus 1.0.0, "Checksum"
	upload.UnsupportedVersion: {status: 412, title: "Unsupported tus version"},
	upload.Interrupted:        {status: 423, title: "Interrupted", retryAfter: 1},
	upload.Locked:             {status: 423, title: "Not at the moment", retryAfter: 1},
	upload.PartialUnfinished:  {status: 409, title: "Partial upload is not finished"},
	upload.PartialUsed:        {status: 409, title: "Partial upload is used already"},

	upload.DirectOff:        {status: 404, title: "Direct uploads are off"},
	upload.ReservedOnly:     {status: 403, title: "Not reserved"},
	upload.InvalidSignature: {status: 403, title: "Invalid signature"},
	upload.NotSignedFor:     {status: 403, title: "Not signed for"},
	upload.AssetNotFound:    {status: 404, title: "Asset not found"},
	upload.PublicIDTaken:    {status: 409, title: "Public id is taken"},
	upload.AlreadyClaimed:   {status: 409, title: "Already claimed"},
	upload.AlreadyStored:    {status: 409, title: "Already stored"},
	upload.AssetUnclaimed:   {status: 410, title: "Never saved"},
	upload.Infected:         {status: 403, title: "Infected"},

	upload.ImportOff:         {status: 404, title: "Imports are off"},
	upload.InvalidURL:        {status: 422, title: "Invalid URL"},
	upload.SourceRefused:     {status: 422, title: "Refused by the source"},
	upload.SourceUnavailable: {status: 502, title: "Source unavailable", retryAfter: 30},
	upload.SourceThrottled:   {status: 503, title: "Source throttled", retryAfter: 30},
	upload.ImportOverdue:     {status: 504, title: "Import deadline exceeded"},

	upload.WebhooksOff:      {status: 404, title: "Webhooks are off"},
	upload.WebhookSignature: {status: 401, title: "Invalid webhook signature"},
	upload.WebhookStale:     {status: 400, title: "Stale webhook"},

	upload.NoRoom:       {status: 507, title: "No room", retryAfter: 60},
	upload.Unavailable:  {status: 503, title: "Unavailable", retryAfter: 5},
	upload.Draining:     {status: 503, title: "Restarting", retryAfter: 2},
	upload.Internal:     {status: 500, title: "Internal error"},
	upload.TooManyWaits: {status: 429, title: "Too many requests", retryAfter: 5},

	upload.ProviderUnavailable: {status: 503, title: "Provider unavailable", retryAfter: 30},
	upload.ProviderThrottled:   {status: 503, title: "Provider throttled", retryAfter: 30},
	upload.ProviderRejected:    {status: 422, title: "Rejected by the provider"},
	upload.ProviderAccount:     {status: 503, title: "Provider account needs its operator"},
	upload.ProviderMissing:     {status: 422, title: "Provider not configured"},
	upload.SessionLost:         {status: 502, title: "Provider lost the session"},
	upload.IntegrityMismatch:   {status: 502, title: "Stored bytes differ"},
	upload.WorkerLost:          {status: 500, title: "Worker lost"},
	upload.StagingUnreachable:  {status: 503, title: "Staging unreachable", retryAfter: 30},
	upload.StagingCorrupted:    {status: 500, title: "Staged bytes damaged"},
	upload.ContentRefused:      {status: 422, title: "Content refused"},
	upload.ScanUnavailable:     {status: 503, title: "Scanner unavailable", retryAfter: 30},
	upload.DeadlineExceeded:    {status: 504, title: "Delivery deadline exceeded"},
}

// problem is the body of every error answer (RFC 9457). Instance is the request's id, which the log has too.
type problem struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail"`
	Instance  string      `json:"instance"`
	Code      upload.Code `json:"code"`
	Retryable bool        `json:"retryable"`
	UploadID  upload.ID   `json:"upload_id,omitempty"`

	Success *bool  `json:"success,omitempty"` // the guides' form, on the guides' routes
	Error   string `json:"error,omitempty"`
}

// answerError is the router's error handler: the one place where an error becomes an answer.
func (s *Server) answerError(c *fiber.Ctx, err error) error {
	var exceeded *quota.Exceeded
	if errors.As(err, &exceeded) {
		tellExceeded(c, exceeded)
	}
	var full *quota.Full
	if errors.As(err, &full) {
		c.Set(fiber.HeaderRetryAfter, strconv.FormatInt(seconds(full.After), 10))
	}
	s.fail(c.Context(), coded(err))
	return nil
}

// answerUnread answers a request whose head could not be read.
func (s *Server) answerUnread(ctx *fasthttp.RequestCtx, err error) {
	e := &upload.Error{Code: upload.InvalidRequest, Message: "The request could not be read as HTTP.", Cause: err}
	var (
		small   *fasthttp.ErrSmallBuffer
		timeout net.Error
	)
	switch {
	case errors.As(err, &small):
		e.Code, e.Message = upload.HeadersTooLarge, "The request line and headers are larger than "+byteSize(readBufferSize)+"."
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, fasthttp.ErrTimeout):
		e.Code, e.Message, e.Retryable = upload.SlowBody, "The request did not come in time.", true
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Code, e.Message, e.Retryable = upload.CutBody, "The body ended before all of it had come.", true
	}
	s.secure(&ctx.Response.Header)
	s.fail(ctx, e)
	guarded(ctx.Conn()).endAfter(ctx)
}

// coded returns err as an error with a code. What the router itself returns has its own; an error that
// nobody has named is Internal.
func coded(err error) *upload.Error {
	var e *upload.Error
	if errors.As(err, &e) {
		if _, known := outcomes[e.Code]; known {
			return e
		}
	}
	var routed *fiber.Error
	if errors.As(err, &routed) {
		switch routed.Code {
		case http.StatusNotFound:
			return &upload.Error{Code: upload.NotFound, Message: "There is nothing at this address.", Cause: err}
		case http.StatusMethodNotAllowed:
			return &upload.Error{Code: upload.MethodNotAllowed, Message: "This address does not take this method; the Allow header says which it takes.", Cause: err}
		}
	}
	return &upload.Error{Code: upload.Internal, Message: "Something went wrong here, not with your request. The log has the cause under the id in instance.", Cause: err}
}

// fail logs what is ours to mend and answers.
func (s *Server) fail(ctx *fasthttp.RequestCtx, e *upload.Error) {
	writeProblem(ctx, e)
	level := slog.LevelDebug
	var full *quota.Full
	switch {
	case errors.As(e.Cause, &full): // which is told to many while it lasts, and mends itself
		level = slog.LevelInfo
	case outcomes[e.Code].status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	s.opts.Log.Log(ctx, level, "request failed",
		"request_id", requestID(ctx), "method", string(ctx.Method()), "path", string(ctx.Path()),
		"code", e.Code, "upload_id", e.UploadID, "err", e.Cause)
}

// writeProblem answers with e, whose Code is in outcomes. Headers that are already set stay.
func writeProblem(ctx *fasthttp.RequestCtx, e *upload.Error) {
	o := outcomes[e.Code]
	p := problem{
		Type:      "/problems/" + string(e.Code),
		Title:     o.title,
		Status:    o.status,
		Detail:    e.Message,
		Instance:  "urn:uuid:" + requestID(ctx),
		Code:      e.Code,
		Retryable: e.Retryable,
		UploadID:  e.UploadID,
	}
	if guideRoute(string(ctx.Path())) {
		p.Success, p.Error = new(bool), e.Message
		if e.Code == upload.Unauthorized {
			p.Error = "Unauthorized"
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings, numbers and booleans always have a JSON form
	}
	ctx.SetStatusCode(o.status)
	ctx.SetContentType("application/problem+json")
	ctx.SetBody(text)

	h := &ctx.Response.Header
	h.Set("X-Request-Id", requestID(ctx))
	h.Set(fiber.HeaderCacheControl, "no-store")
	if o.retryAfter > 0 && len(h.Peek(fiber.HeaderRetryAfter)) == 0 {
		h.Set(fiber.HeaderRetryAfter, strconv.Itoa(o.retryAfter))
	}
	if o.status == http.StatusUnauthorized && len(h.Peek(fiber.HeaderWWWAuthenticate)) == 0 {
		h.Set(fiber.HeaderWWWAuthenticate, bearer)
	}
}

// describeProblem answers at the address that a problem has as its type.
func describeProblem(c *fiber.Ctx) error {
	code := upload.Code(c.Params("code"))
	o, ok := outcomes[code]
	if !ok {
		return fiber.ErrNotFound
	}
	return c.JSON(map[string]any{"code": code, "title": o.title, "status": o.status})
}

// guideRoute tells whether path belongs to the two guides, whose clients look for "success" and "error".
func guideRoute(path string) bool {
	switch strings.ToLower(strings.TrimSuffix(path, "/")) {
	case "/upload", "/generate-signature", "/save-metadata":
		return true
	}
	return false
}

type requestIDKey struct{}

// requestID returns the id of the request in ctx, the same each time.
func requestID(ctx *fasthttp.RequestCtx) string {
	id, ok := ctx.UserValue(requestIDKey{}).(string)
	if !ok {
		id = uuid.NewString()
		ctx.SetUserValue(requestIDKey{}, id)
	}
	return id
}
