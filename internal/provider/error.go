package provider

import (
	"fmt"
	"strings"
	"time"
)

// Verdict is what an error means for the upload, decided once by the adapter's table.
type Verdict int

const (
	Transient   Verdict = iota // try again later; costs an attempt
	Throttled                  // nothing from this account goes before RetryAfter; costs no attempt
	Spent                      // no more calls of this kind before RetryAfter, what needs none goes on; costs no attempt
	Reject                     // no retry of these bytes will help
	Account                    // nothing from this account goes until an operator acts; costs no attempt
	Denied                     // either the keys are wrong or this request was: Check tells which
	SessionLost                // the session is of no use any more: begin again at byte 0
	Unknown                    // it may have been done: ask with Lookup before anything is sent again
	Integrity                  // what arrived is not what was sent
)

var verdicts = [...]string{"transient", "throttled", "spent", "reject", "account", "denied", "session lost", "outcome unknown", "integrity"}

func (v Verdict) String() string { return verdicts[v] }

// Error is what a provider's answer, or the lack of one, means.
type Error struct {
	Provider   string
	Op         string // "part 7", "complete"
	Status     int    // HTTP status; 0 when there was no answer
	Code       string // the provider's own, where it has one
	Message    string // a sentence for the upload's owner, without keys or signed URLs; "" when nothing was said
	Verdict    Verdict
	RetryAfter time.Duration // what they asked for; 0 when they did not
	RequestID  string        // quote it to their support
	Cause      error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Provider, e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Reason is the message, or the bare answer that came without one.
func (e *Error) Reason() string {
	if e.Message == "" && e.Status != 0 {
		return fmt.Sprintf("%d for %s, without a reason.", e.Status, e.Op)
	}
	return e.Message
}
