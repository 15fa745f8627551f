package fetch

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"slipway/internal/upload"
)

// turns keep one user's imports, which may be as slow as their sources like, from taking all slots of a process. River
// has nothing that does: who is over their share is sent away until later, so many at a time that a long line of them
// costs the database little.
type turns struct {
	share int // of the slots, for one user

	mu      sync.Mutex
	running map[string]int
	later   map[string]time.Time // the last place in a user's line
}

const (
	laterAfter = 2 * time.Second
	laterApart = 50 * time.Millisecond
	latest     = 4 * time.Minute // what is due 5 min late is given another job
)

// begin takes a slot, or says how long to wait.
func (t *turns) begin(user string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[user] < t.share {
		t.running[user]++
		return 0
	}
	now := time.Now()
	wait = min(max(t.later[user].Add(laterApart).Sub(now), laterAfter), latest)
	t.later[user] = now.Add(wait)
	return wait
}

func (t *turns) end(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[user]--; t.running[user] == 0 {
		delete(t.running, user)
		delete(t.later, user)
	}
}

// userOf is for whom a job is.
func userOf(job *river.Job[upload.FetchArgs]) string {
	var m struct {
		UserID string `json:"user_id"`
	}
	if err := json.Unmarshal(job.Metadata, &m); err != nil {
		return ""
	}
	return m.UserID
}
