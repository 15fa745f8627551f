package upload

import "time"

// EventType says what an event tells.
type EventType string

const (
	StatusChanged  EventType = "status"   // From and Status differ
	SessionOpened  EventType = "session"  // a push begins at byte 0; Data tells why when it is not the first
	ProgressMade   EventType = "progress" // bytes acknowledged
	AttemptFailed  EventType = "attempt"  // an attempt has failed, or none can be made, and it will be tried again
	WorkerReplaced EventType = "takeover" // another worker goes on where a dead one stopped
	AssetDescribed EventType = "asset"    // more became known of a completed upload's asset
)

// Event is one entry in an upload's history. Seq grows in commit order for each user, without holes
// that fill later: a reader who has seen Seq has seen everything before it.
type Event struct {
	Seq      int64
	UploadID ID
	UserID   string
	Type     EventType
	Status   Status
	Attempt  int
	Data     map[string]any
	At       time.Time
}
