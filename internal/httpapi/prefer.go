package httpapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

// maxWait is the longest that an answer is held back; proxies give up at 60 s.
const maxWait = 55 * time.Second

// preferredWait is how long the client wants to wait for the outcome (RFC 7240, wait and respond-async);
// asked tells whether it said so, and then the answer says that it was heard.
func preferredWait(c *fiber.Ctx) (wait time.Duration, asked bool) {
	async := false
	for _, line := range c.Request().Header.PeekAll("Prefer") {
		for preference := range strings.SplitSeq(string(line), ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "wait":
				n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 16)
				if err != nil {
					continue
				}
				wait = min(time.Duration(n)*time.Second, maxWait)
				c.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
				return wait, true
			case "respond-async":
				async = true
			}
		}
	}
	if async {
		c.Set("Preference-Applied", "respond-async")
	}
	return 0, async
}

// etag is the strong validator of an upload as JSON.
func etag(u upload.Upload) string { return `"` + strconv.FormatInt(u.Version, 10) + `"` }

// copyOf tells whether the client has the version with this etag, or an older one (RFC 9110 §13.1.2).
func copyOf(c *fiber.Ctx, etag string) (current, older bool) {
	header := c.Get(fiber.HeaderIfNoneMatch)
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return true, false
		}
	}
	return false, header != ""
}

// setRetryAfter says when it is worth asking again for an upload that is not at its end.
func setRetryAfter(c *fiber.Ctx, u upload.Upload) {
	if u.Status.Final() {
		return
	}
	const most = time.Minute
	seconds := 1
	if u.NextAttemptAt != nil {
		wait := min(max(time.Until(*u.NextAttemptAt), time.Second), most)
		seconds = int((wait + time.Second - 1) / time.Second)
	}
	c.Set(fiber.HeaderRetryAfter, strconv.Itoa(seconds))
}
