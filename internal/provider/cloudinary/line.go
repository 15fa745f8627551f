package cloudinary

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"slipway/internal/provider"
)

const (
	// maxRefusal bounds what is read of an answer that is not a success, in bytes.
	maxRefusal = 64 << 10
	// maxMessage bounds what is kept of its text, in bytes.
	maxMessage = 500
)

// line carries every request, the SDK's too, and turns each answer but a 2xx into a
// *provider.Error, which the SDK would hide in its result or drop.
type line struct {
	next    http.RoundTripper
	secrets *strings.Replacer
	skew    atomic.Int64 // nanoseconds that Cloudinary's clock is ahead of ours, once it has refused a timestamp
}

func newLine(next http.RoundTripper, secrets ...string) *line {
	if next == nil {
		next = newTransport()
	}
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "[redacted]")
	}
	return &line{next: next, secrets: strings.NewReplacer(pairs...)}
}

// newTransport speaks HTTP/1.1 alone: a chunk that is answered early then ends with its connection
// and does not hold up others. Deadlines are those of the requests.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConnsPerHost = 16
	t.WriteBufferSize = 128 << 10 // a body is copied through it; the default is 4 KiB
	return t
}

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	return nil, l.refusal(req, resp)
}

// isAdmin tells whether a request is for the Admin API, whose calls are counted by the hour; those of the Upload
// API are not.
func isAdmin(req *http.Request) bool {
	action := path.Base(req.URL.Path)
	return req.Method != http.MethodPost || action != "upload" && action != "destroy"
}

// now is Cloudinary's time, as far as it is known.
func (l *line) now() time.Time { return time.Now().Add(time.Duration(l.skew.Load())) }

// refusal reads what Cloudinary, or something before it, gave as its reason.
func (l *line) refusal(req *http.Request, resp *http.Response) *provider.Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // the status stands without its text
	text := cmp.Or(reason(body), resp.Header.Get("X-Cld-Error"))
	e := &provider.Error{
		Provider:  Name,
		Status:    resp.StatusCode,
		Message:   l.clean(text),
		Verdict:   verdict(resp.StatusCode, text != ""),
		RequestID: resp.Header.Get("X-Request-Id"),
	}
	if e.Verdict == provider.Throttled {
		e.RetryAfter = wait(resp.Header, text)
		if isAdmin(req) {
			e.Verdict = provider.Spent
		}
	}
	if resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(text, "Stale request") {
		e.Verdict, e.Cause = provider.Account, errStale
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			l.skew.Store(int64(time.Until(date)))
		}
	}
	return e
}

// reason is the text of {"error":{"message":…}}, or of {"error":"…"}; "" in anything else.
func reason(body []byte) string {
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	var object struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer.Error, &object) == nil {
		return object.Message
	}
	var text string
	if json.Unmarshal(answer.Error, &text) != nil {
		return ""
	}
	return text
}

// digest is a signature: 40 or 64 hex digits. An etag has 32.
var digest = regexp.MustCompile(`[0-9a-fA-F]{40,}`)

// clean makes a text of Cloudinary's fit for people and logs: one line, no key and no signature,
// which the text of a 401 repeats.
func (l *line) clean(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	text = digest.ReplaceAllString(l.secrets.Replace(text), "[redacted]")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

var tryAgain = regexp.MustCompile(`Try again on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC`)

// wait is how long a throttling answer asks to wait: by Retry-After, by the date in its text, or by
// the end of the Admin API's hour; 0 when it does not say.
func wait(h http.Header, text string) time.Duration {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	after := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(after); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(after)
	if err != nil {
		if m := tryAgain.FindStringSubmatch(text); m != nil {
			until, err = time.Parse(time.DateTime, m[1])
		} else {
			until, err = http.ParseTime(h.Get("X-FeatureRateLimit-Reset"))
		}
	}
	if err != nil {
		return 0
	}
	return max(until.Sub(now), time.Second)
}
