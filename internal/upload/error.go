package upload

import "strconv"

// Code is a stable name for what went wrong; clients branch on it.
type Code string

const (
	// What a client can mend.
	NotFound            Code = "not_found"
	Unauthorized        Code = "unauthorized"
	Forbidden           Code = "forbidden"
	InvalidRequest      Code = "invalid_request"
	InvalidParameter    Code = "invalid_parameter"
	LengthRequired      Code = "length_required"
	NoFile              Code = "no_file"
	SeveralFiles        Code = "several_files"
	EmptyFile           Code = "empty_file"
	InvalidFileName     Code = "invalid_file_name"
	InvalidMetadata     Code = "invalid_metadata"
	UnknownProvider     Code = "unknown_provider"
	UnknownResourceType Code = "unknown_resource_type"
	UnsupportedMedia    Code = "unsupported_media_type"
	TypeNotAllowed      Code = "type_not_allowed"
	DigestMismatch      Code = "digest_mismatch"
	CutBody             Code = "cut_body"
	SlowBody            Code = "slow_body"
	TooLarge            Code = "too_large"
	TooLargeForProvider Code = "too_large_for_provider"
	FieldsTooLarge      Code = "fields_too_large"
	HeadersTooLarge     Code = "headers_too_large"
	QueryTooLarge       Code = "query_too_large"
	BodyTooLarge        Code = "body_too_large"
	JSONTooDeep         Code = "json_too_deep"
	InvalidCursor       Code = "invalid_cursor"
	MethodNotAllowed    Code = "method_not_allowed"
	NotFailed           Code = "not_failed"
	NotCancelable       Code = "not_cancelable"
	MayBeStored         Code = "may_be_stored"
	NotReady            Code = "not_ready"
	BytesGone           Code = "bytes_gone"
	Gone                Code = "gone"
	OtherInstallation   Code = "other_installation"

	// What is wrong with the key of a request.
	InvalidKey  Code = "invalid_idempotency_key"
	KeyReused   Code = "idempotency_key_reused"
	KeyInFlight Code = "idempotency_in_flight"

	// What is more than the caller may use.
	StagedQuota    Code = "staged_quota_exceeded"
	StoredQuota    Code = "stored_quota_exceeded"
	DailyQuota     Code = "daily_quota_exceeded"
	ReceivingQuota Code = "concurrent_uploads_exceeded"
	RateLimited    Code = "rate_limited"

	// What is wrong with a resumable upload, or with a request for one.
	OffsetConflict     Code = "offset_conflict"
	ChecksumMismatch   Code = "checksum_mismatch"
	UnsupportedVersion Code = "unsupported_version"
	Interrupted        Code = "interrupted"
	Locked             Code = "locked"
	PartialUnfinished  Code = "partial_unfinished"
	PartialUsed        Code = "partial_used"

	// What is wrong with a direct upload, or with the claim to one.
	DirectOff        Code = "direct_uploads_off"
	ReservedOnly     Code = "reserved_only"
	InvalidSignature Code = "invalid_signature"
	NotSignedFor     Code = "not_signed_for"
	AssetNotFound    Code = "asset_not_found"
	PublicIDTaken    Code = "public_id_taken"
	AlreadyClaimed   Code = "already_claimed"
	AlreadyStored    Code = "already_stored"
	AssetUnclaimed   Code = "asset_unclaimed"
	Infected         Code = "infected"

	// What is wrong with an import, or with where it comes from.
	ImportOff         Code = "imports_off"
	InvalidURL        Code = "invalid_url"
	SourceRefused     Code = "source_refused"
	SourceUnavailable Code = "source_unavailable"
	SourceThrottled   Code = "source_throttled"
	ImportOverdue     Code = "import_deadline_exceeded"

	// What is wrong with a provider's notification.
	WebhooksOff      Code = "webhooks_off"
	WebhookSignature Code = "invalid_webhook_signature"
	WebhookStale     Code = "stale_webhook"

	// What passes, or what the operator mends.
	NoRoom       Code = "no_room"
	Unavailable  Code = "unavailable"
	Draining     Code = "draining"
	Internal     Code = "internal"
	TooManyWaits Code = "too_many_requests"

	// What became of a push.
	ProviderUnavailable Code = "provider_unavailable"
	ProviderThrottled   Code = "provider_throttled"
	ProviderRejected    Code = "provider_rejected"
	ProviderAccount     Code = "provider_account"
	ProviderMissing     Code = "provider_not_configured"
	SessionLost         Code = "session_lost"
	IntegrityMismatch   Code = "integrity_mismatch"
	WorkerLost          Code = "worker_lost"
	StagingUnreachable  Code = "staging_unreachable"
	StagingCorrupted    Code = "staging_corrupted"
	ContentRefused      Code = "content_refused"
	ScanUnavailable     Code = "scan_unavailable"
	DeadlineExceeded    Code = "delivery_deadline_exceeded"
)

// Who can mend an error.
const (
	ByYou      = "you"      // the owner, by sending something else
	ByProvider = "provider" // nobody here; it passes
	ByOperator = "operator" // whoever runs this service
)

// Error is what the owner of an upload is told when something went wrong. Message is a sentence
// that a person can act on; it holds no path, no SQL, no key and no signed URL.
type Error struct {
	Code      Code   `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
	FixableBy string `json:"fixable_by,omitempty"`

	UploadID ID    `json:"-"` // where there is one
	Cause    error `json:"-"` // for the log
}

func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

func quote(s string) string { return strconv.Quote(s) }
