package quota

import (
	"fmt"
	"time"
)

// Policy is a quota as clients are told of it (draft-ietf-httpapi-ratelimit-headers-10, "Quota Policy Item").
type Policy struct {
	Name   string
	Quota  int64
	Unit   string        // "" is requests
	Window time.Duration // 0 where none resets it
}

// Units of quotas (the same draft, "Quota Unit Parameter").
const (
	contentBytes       = "content-bytes"
	concurrentRequests = "concurrent-requests"
)

// Exceeded is the Cause of a refusal: how the quota stands that it exceeds.
type Exceeded struct {
	Policy Policy
	Left   int64
	After  time.Duration // until it may be tried again
}

func (e *Exceeded) Error() string {
	return fmt.Sprintf("%s: %d of %d are left", e.Policy.Name, e.Left, e.Policy.Quota)
}
