package quota

import (
	"context"
	"sync"
	"time"

	"github.com/throttled/throttled/v2"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	// A process takes from the database what a user will send within demandTime, going by what they have
	// sent, and forgets what they have not sent after grantLife.
	demandTime = 5 * time.Second
	grantLife  = 10 * time.Second

	askAgain  = time.Minute // for a limit that may have changed
	askWithin = time.Second // after that, requests go through unasked for as long again

	maxCollisions = 1000 // with other processes that ask for the same user; askWithin comes first
)

// rates lets each user's requests through: a bucket of a minute's requests, which fills up evenly, kept in
// the database. Processes take requests from it in advance, as many as they find use for; at least half of
// what they take is used. So a user with many processes before them may be refused early, by what the
// others hold, and is never let through more often than the bucket has it, except by grantLife later.
type rates struct {
	store postgres.RequestRates

	mu    sync.Mutex
	users map[string]*allowance
	swept time.Time
}

// allowance is what a process knows of one user's bucket.
type allowance struct {
	mu sync.Mutex

	limit   int64 // a minute
	limited time.Time

	taken int       // requests, at the last time
	left  int       // of those
	since time.Time // when they were taken

	remaining int // in the bucket, then
	full      time.Time
	refused   time.Time // until then the bucket is empty
	unasked   time.Time // until then the database is not asked
}

// Standing is how a user's requests stand to the limit.
type Standing struct {
	Policy Policy
	Left   int64
	Full   time.Duration // until the bucket is full again
}

// Request counts a request of a user's. The standing is nil when requests are not limited, or nobody can
// tell. An error has the code RateLimited and an Exceeded as its Cause.
func (q *Quotas) Request(ctx context.Context, user string) (*Standing, error) {
	if q == nil || q.limits.Requests == nil || user == "" {
		return nil, nil
	}
	a := q.rates.of(user)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.left > 0 && now.Sub(a.since) < grantLife {
		a.left--
		return a.standing(now), nil
	}
	if now.Before(a.unasked) {
		return nil, nil
	}
	if !now.Before(a.refused) {
		if err := q.take(ctx, user, a); err != nil {
			q.log.Warn("count a user's requests", "error", err)
			a.unasked = time.Now().Add(askWithin)
			return nil, nil
		}
		now = time.Now()
	}
	if a.left > 0 {
		a.left--
		return a.standing(now), nil
	}
	after := max(a.refused.Sub(now), time.Millisecond)
	s := a.standing(now)
	return s, &upload.Error{Code: upload.RateLimited, Retryable: true, FixableBy: upload.ByYou,
		Message: "You are sending requests faster than you may. Wait as Retry-After says.",
		Cause:   &Exceeded{Policy: s.Policy, Left: 0, After: after}}
}

// Requests returns how a user's requests stand, without counting one; nil as for Request.
func (q *Quotas) Requests(user string) *Standing {
	if q == nil || q.limits.Requests == nil {
		return nil
	}
	a := q.rates.of(user)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limited.IsZero() {
		return nil
	}
	return a.standing(time.Now())
}

// take fills an allowance that is used up or too old.
func (q *Quotas) take(ctx context.Context, user string, a *allowance) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	now := time.Now()
	if a.limited.IsZero() || now.Sub(a.limited) > askAgain {
		limit, err := postgres.RequestLimit(ctx, q.pool, user, *q.limits.Requests)
		if err != nil {
			return err
		}
		a.limit, a.limited = limit, now
	}
	if a.limit == 0 {
		a.refused = now.Add(time.Minute)
		return nil
	}
	limiter, err := throttled.NewGCRARateLimiterCtx(q.rates.store, throttled.RateQuota{
		MaxRate: throttled.PerMin(int(a.limit)), MaxBurst: int(a.limit) - 1,
	})
	if err != nil {
		return err
	}
	limiter.SetMaxCASAttemptsLimit(maxCollisions)
	for n := a.demand(now); ; n = 1 {
		empty, result, err := limiter.RateLimitCtx(ctx, user, n)
		if err != nil {
			return err
		}
		now := time.Now()
		a.remaining, a.full = result.Remaining, now.Add(result.ResetAfter)
		switch {
		case !empty:
			a.taken, a.left, a.since = n, n, now
			return nil
		case n == 1:
			a.left, a.refused = 0, now.Add(result.RetryAfter)
			return nil
		}
	}
}

// demand is how many requests are worth taking: at most twice what has been used of the last ones, and no
// more of the bucket than leaves the most of it to others.
func (a *allowance) demand(now time.Time) int {
	used := a.taken - a.left
	n := 2 * used
	if took := now.Sub(a.since); took > 0 {
		n = min(n, int(min(float64(used)*float64(demandTime)/float64(took), float64(n))))
	}
	return max(1, min(n, a.remaining/4))
}

func (a *allowance) standing(now time.Time) *Standing {
	return &Standing{
		Policy: Policy{Name: "requests", Quota: a.limit, Window: time.Minute},
		Left:   int64(a.left + a.remaining),
		Full:   max(0, a.full.Sub(now)),
	}
}

// of returns a user's allowance. Those of users who have gone are forgotten now and then.
func (r *rates) of(user string) *allowance {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.swept) > askAgain {
		r.swept = now
		for name, a := range r.users {
			if a.mu.TryLock() {
				if now.Sub(a.since) > askAgain && now.After(a.refused) {
					delete(r.users, name)
				}
				a.mu.Unlock()
			}
		}
	}
	a := r.users[user]
	if a == nil {
		a = &allowance{since: now}
		r.users[user] = a
	}
	return a
}
