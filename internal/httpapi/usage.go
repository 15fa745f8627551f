package httpapi

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/quota"
)

// paced counts a request of the user's, and tells how their requests stand.
func (a *API) paced(ctx context.Context, c *fiber.Ctx, user string) error {
	s, err := a.Quotas.Request(ctx, user)
	if s != nil && err == nil {
		tellQuota(c, s.Policy, s.Left, s.Full)
	}
	return err
}

// tellQuota adds to the answer how a quota stands (draft-ietf-httpapi-ratelimit-headers-10). after is the
// time until there is more of it, 0 where that is not known.
func tellQuota(c *fiber.Ctx, p quota.Policy, left int64, after time.Duration) {
	policy, limit := httpsfv.NewItem(p.Name), httpsfv.NewItem(p.Name)
	policy.Params.Add("q", p.Quota)
	if p.Unit != "" {
		policy.Params.Add("qu", p.Unit)
	}
	if p.Window > 0 {
		policy.Params.Add("w", int64(p.Window.Seconds()))
	}
	limit.Params.Add("r", left)
	if after > 0 {
		limit.Params.Add("t", seconds(after))
	}
	for name, item := range map[string]httpsfv.Item{"RateLimit-Policy": policy, "RateLimit": limit} {
		if text, err := httpsfv.Marshal(item); err == nil { // a quota beyond 15 digits has no form
			c.Append(name, text)
		}
	}
}

// tellExceeded adds to a refusal which quota it exceeds, and when to come again.
func tellExceeded(c *fiber.Ctx, e *quota.Exceeded) {
	tellQuota(c, e.Policy, e.Left, e.After)
	c.Set(fiber.HeaderRetryAfter, strconv.FormatInt(seconds(e.After), 10))
}

// seconds are whole ones, and never too few.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// usageView is what a user uses and may use; a limit that is null is none.
type usageView struct {
	UserID string `json:"user_id"`
	Staged struct {
		amountView
		Limit *int64 `json:"limit"`
	} `json:"staged"` // in staging
	Stored struct {
		amountView
		Pending amountView `json:"pending"` // on the way to a provider, which counts as well
		Limit   *int64     `json:"limit"`
	} `json:"stored"` // with the providers
	Uploads struct {
		Today    int64     `json:"today"`
		Limit    *int64    `json:"limit"`
		ResetsAt time.Time `json:"resets_at"`
	} `json:"uploads"`
	Receiving struct {
		amountView
		Limit *int64 `json:"limit"`
	} `json:"receiving"` // coming in now; counted where uploads are limited
	Requests struct {
		Left     *int64     `json:"left"` // null where nobody counts
		Limit    *int64     `json:"limit"`
		Window   int64      `json:"window"` // seconds
		ResetsAt *time.Time `json:"resets_at"`
	} `json:"requests"`
}

type amountView struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// usage answers with what the caller uses and may use.
func (a *API) usage(c *fiber.Ctx) error {
	var u postgres.Usage
	err := a.asUser(user(c), noUpload, func(ctx context.Context, tx pgx.Tx) (err error) {
		u, err = a.Quotas.Usage(ctx, tx, user(c))
		return err
	})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	v := usageView{UserID: user(c)}
	v.Staged.amountView, v.Staged.Limit = amountView(u.Staged), u.Limits.StagedBytes
	v.Stored.amountView, v.Stored.Pending, v.Stored.Limit = amountView(u.Stored), amountView(u.Pending), u.Limits.StoredBytes
	v.Uploads.Today, v.Uploads.Limit, v.Uploads.ResetsAt = u.Uploads, u.Limits.Uploads, now.Add(u.Resets).Round(time.Second)
	v.Receiving.amountView, v.Receiving.Limit = amountView(u.Receiving), u.Limits.Receiving
	v.Requests.Limit, v.Requests.Window = u.Limits.Requests, int64(time.Minute.Seconds())
	if s := a.Quotas.Requests(user(c)); s != nil {
		full := now.Add(s.Full).Round(time.Second)
		v.Requests.Left, v.Requests.ResetsAt = &s.Left, &full
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return answer(c, http.StatusOK, v)
}
