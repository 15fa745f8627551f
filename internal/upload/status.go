package upload

import "slices"

// Status says where an upload is.
type Status string

const (
	Receiving Status = "receiving" // bytes are coming in
	Fetching  Status = "fetching"  // imported from a URL
	Reserved  Status = "reserved"  // signed for, the browser sends it straight to the provider
	Verifying Status = "verifying" // sent by the browser, being looked up
	Queued    Status = "queued"
	Pushing   Status = "pushing"
	Retrying  Status = "retrying" // waits for NextAttemptAt
	Completed Status = "completed"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
	Expired   Status = "expired"
	Joined    Status = "joined" // became a piece of a concatenation
	Deleting  Status = "deleting"
	Deleted   Status = "deleted"
)

// transitions is every change of status there is; the database's check constraint lists the same statuses.
var transitions = map[Status][]Status{
	Receiving: {Queued, Failed, Canceled, Expired, Joined, Deleting},
	Fetching:  {Queued, Failed, Canceled, Deleting},
	Reserved:  {Verifying, Expired, Deleting},
	Verifying: {Completed, Failed, Canceled, Deleting},
	Queued:    {Pushing, Failed, Canceled, Deleting},
	Pushing:   {Completed, Retrying, Queued, Failed, Canceled, Deleting},
	Retrying:  {Pushing, Failed, Canceled, Deleting},
	Completed: {Deleting},
	Failed:    {Queued, Deleting},
	Canceled:  {Deleting},
	Expired:   {Deleting},
	Joined:    {Deleting},
	Deleting:  {Deleted},
	Deleted:   {},
}

// Statuses returns every status, in the order of an upload's life.
func Statuses() []Status {
	return []Status{Receiving, Fetching, Reserved, Verifying, Queued, Pushing, Retrying, Completed, Failed, Canceled, Expired, Joined, Deleting, Deleted}
}

// ParseStatus returns s as a status, or an Error with InvalidParameter.
func ParseStatus(s string) (Status, error) {
	if _, ok := transitions[Status(s)]; ok {
		return Status(s), nil
	}
	return "", &Error{Code: InvalidParameter, Message: "status " + quote(s) + " is not known."}
}

// CanBecome tells whether a change from s to next is allowed.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }

// Final tells whether nothing more happens to the upload unless somebody asks for it.
func (s Status) Final() bool {
	switch s {
	case Completed, Failed, Canceled, Expired, Joined, Deleted:
		return true
	}
	return false
}
