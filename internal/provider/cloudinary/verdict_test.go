package cloudinary_test

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// at changes the answer to the nth request for an upload, from 0.
func at(nth int, status int, body string, header ...string) net {
	seen := 0
	return func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/upload") {
			return http.DefaultTransport.RoundTrip(r)
		}
		seen++
		if seen == nth+1 {
			return answered(r, status, body, header...)
		}
		return http.DefaultTransport.RoundTrip(r)
	}
}

func TestWhatAnAnswerToAPartMeans(t *testing.T) {
	const (
		first, middle, last = 0, 1, 2
		asset               = `{"asset_id":"1","public_id":"inst/0193f1c2-7c5e-7000-8000-000000000001","secure_url":"https://x/y",`
	)
	reason := func(s string) string { return `{"error":{"message":"` + s + `"}}` }
	tests := map[string]struct {
		part   int
		status int
		body   string
		want   provider.Verdict
	}{
		"a refusal of the first part is final":                 {first, 400, reason("Invalid image file"), provider.Reject},
		"a refusal of a later part may be the session's":       {middle, 400, reason("Missing required parameter - public_id"), provider.SessionLost},
		"so may one of the last":                               {last, 404, reason("Not found"), provider.SessionLost},
		"a limit that the file is above is final":              {middle, 400, reason("File size too large. Got 131074. Maximum is 131073. Upgrade"), provider.Reject},
		"a limit that it is not above is the session's":        {middle, 400, reason("File size too large. Got 500000. Maximum is 400000. Upgrade"), provider.SessionLost},
		"a request that is too large is final":                 {middle, 413, "<html>", provider.Reject},
		"a wrong signature asks for a check at any part":       {last, 401, reason("Invalid Signature 1"), provider.Denied},
		"a spent rate waits at any part":                       {last, 420, reason("Rate Limit Exceeded"), provider.Throttled},
		"trouble in the middle passes":                         {middle, 500, reason("General Error"), provider.Transient},
		"trouble at the last is asked about":                   {last, 500, reason("General Error"), provider.Unknown},
		"a refusal in HTML passes":                             {middle, 404, "<html>", provider.Transient},
		"a redirect passes":                                    {middle, 307, "", provider.Transient},
		"an error in a success passes":                         {middle, 200, reason("odd"), provider.Transient},
		"no word about more is no acknowledgement":             {middle, 200, `{"bytes":131074}`, provider.Transient},
		"null is no acknowledgement":                           {middle, 200, `null`, provider.Transient},
		"an asset in the middle is another upload's":           {middle, 200, asset + `"done":true}`, provider.SessionLost},
		"a missing middle is seen at the last":                 {last, 200, `{"done":false,"bytes":1}`, provider.SessionLost},
		"a pending asset is asked about":                       {last, 200, `{"status":"pending","batch_id":"1"}`, provider.Unknown},
		"an asset without an etag is asked about":              {last, 200, asset + `"bytes":131075}`, provider.Unknown},
		"other bytes are an integrity error":                   {last, 200, asset + `"bytes":131075,"etag":"00000000000000000000000000000000"}`, provider.Integrity},
		"another size is one too":                              {last, 200, asset + `"bytes":7,"etag":"00000000000000000000000000000000"}`, provider.Integrity},
		"so is another asset":                                  {last, 200, `{"asset_id":"1","public_id":"x","secure_url":"y","bytes":131075,"etag":"0"}`, provider.Integrity},
		"a number where a text must be is asked about at last": {last, 200, `{"public_id":7}`, provider.Unknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, opt := cloud(t)
			opt.Transport = at(tt.part, tt.status, tt.body, "X-Request-Id", "abc")
			p := open(t, opt)
			src := source(2*chunkSize + 1)
			s, parts := begun(t, p, src, tt.part)
			_, err := p.PushPart(within(t), s, src, tt.part, parts)
			if got := verdict(t, err); got != tt.want {
				t.Errorf("%v, want %v", err, tt.want)
			}
			var e *provider.Error
			if errors.As(err, &e) && (e.Op != "part "+strconv.Itoa(tt.part) || e.Reason() == "" || e.Status != tt.status) {
				t.Errorf("error is %+v", e)
			}
		})
	}
}

func TestForgottenChunksLoseTheSession(t *testing.T) {
	sim, opt := cloud(t)
	p := open(t, opt)
	src := source(2*chunkSize + 1)
	s, parts := begun(t, p, src, 2)
	if err := sim.ForgetPartials(); err != nil {
		t.Fatal(err)
	}
	_, err := p.PushPart(within(t), s, src, 2, parts)
	if got := verdict(t, err); got != provider.SessionLost {
		t.Errorf("%v, want session lost", err)
	}
	if _, err := p.Complete(within(t), s, src, parts); verdict(t, err) != provider.SessionLost {
		t.Errorf("complete: %v, want session lost", err)
	}
}

func TestHowLongToWait(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	date := now.Format(http.TimeFormat)
	soon := now.Add(90 * time.Second)
	text := `{"error":{"message":"Rate Limit Exceeded. Limit of 500 api operations reached. Try again on ` + soon.Format(time.DateTime) + ` UTC"}}`
	tests := map[string]struct {
		body   string
		header []string
		want   time.Duration
	}{
		"seconds are kept":                    {text, []string{"Date", date, "Retry-After", "7"}, 7 * time.Second},
		"so is a date":                        {"", []string{"Date", date, "Retry-After", soon.Format(http.TimeFormat)}, 90 * time.Second},
		"else the date in the text counts":    {text, []string{"Date", date}, 90 * time.Second},
		"else the end of the Admin's hour":    {"", []string{"Date", date, "X-FeatureRateLimit-Reset", soon.Format(http.TimeFormat)}, 90 * time.Second},
		"their clock is what a date means":    {text, []string{"Date", now.Add(time.Minute).Format(http.TimeFormat)}, 30 * time.Second},
		"a date that has passed is a second":  {text, []string{"Date", now.Add(time.Hour).Format(http.TimeFormat)}, time.Second},
		"without a word it is left to others": {`{"error":{"message":"Slow down"}}`, []string{"Date", date}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, opt := cloud(t)
			opt.Transport = at(0, 420, tt.body, tt.header...)
			p := open(t, opt)
			s, _ := begun(t, p, source(1), 0)
			_, err := p.PushPart(within(t), s, source(1), 0, nil)
			var e *provider.Error
			if !errors.As(err, &e) || e.Verdict != provider.Throttled || e.RetryAfter != tt.want {
				t.Errorf("RetryAfter of %+v, want %s", e, tt.want)
			}
		})
	}
}

func TestAMessageTellsNoSecret(t *testing.T) {
	const sha1, sha256 = "bfd09f95f331f558cbd1320e67aa8d488770583e", "5652e549a70bdc03f73a633a23b7d3f3b067d72fff26dd15b25997f46fdf6439"
	_, opt := cloud(t)
	opt.Transport = at(0, 401, `{"error":{"message":"Invalid Signature `+sha1+` or `+sha256+`.\nKey `+apiKey+`, secret `+apiSecret+` `+strings.Repeat("x", 2000)+`"}}`, "X-Request-Id", "r-1")
	p := open(t, opt)
	s, _ := begun(t, p, source(1), 0)
	_, err := p.PushPart(within(t), s, source(1), 0, nil)
	var e *provider.Error
	if !errors.As(err, &e) || e.RequestID != "r-1" || len(e.Message) > 510 || strings.Contains(e.Message, "\n") {
		t.Errorf("error is %+v", e)
	}
	for _, secret := range []string{sha1, sha256, apiKey, apiSecret} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells %s: %v", secret, err)
		}
	}
}

func TestAClockThatIsBehindIsCorrected(t *testing.T) {
	sim, opt := cloud(t)
	var stamps []int64
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		form, err := posted(r)
		if err != nil {
			return nil, err
		}
		stamp, err := strconv.ParseInt(form.Value["timestamp"][0], 10, 64)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, stamp)
		now := time.Now()
		if stamp < now.Add(time.Hour).Unix() {
			return answered(r, 400, `{"error":{"message":"Stale request - reported time is which is more than 1 hour ago"}}`,
				"Date", now.Add(2*time.Hour).UTC().Format(http.TimeFormat))
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, opt)
	begun(t, p, source(2*chunkSize+1), 3)
	if len(stamps) != 4 {
		t.Errorf("3 parts took %d requests, want one more for the first", len(stamps))
	}
	if n := sim.Inventory().Count; n != 1 {
		t.Errorf("there are %d assets, want 1", n)
	}
}

func TestAClockThatCannotBeCorrectedIsTheOperators(t *testing.T) {
	_, opt := cloud(t)
	requests := 0
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		requests++
		return answered(r, 400, `{"error":{"message":"Stale request - reported time is 2024-04-11 13:23:38 +0000 which is more than 1 hour ago"}}`)
	})
	p := open(t, opt)
	s, _ := begun(t, p, source(1), 0)
	_, err := p.PushPart(within(t), s, source(1), 0, nil)
	if got := verdict(t, err); got != provider.Account || requests != 2 {
		t.Errorf("after %d requests: %v, want the account's after 2", requests, err)
	}
}

func TestADamagedStagedFileIsNotTheProvidersFault(t *testing.T) {
	_, opt := cloud(t)
	p := open(t, opt)
	src := source(10)
	src.Body = broken{}
	s, _ := begun(t, p, src, 0)
	_, err := p.PushPart(within(t), s, src, 0, nil)
	var e *provider.Error
	if !errors.Is(err, errDisk) || errors.As(err, &e) {
		t.Errorf("got %v, want the disk's own error", err)
	}
}

var errDisk = errors.New("input/output error")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestLookup(t *testing.T) {
	src := source(2*chunkSize + 1)
	other := source(2*chunkSize + 1)
	other.Body = io.NewSectionReader(zeros{}, 0, other.Size)
	longer := source(3 * chunkSize)

	_, opt := cloud(t)
	p := open(t, opt)
	s, parts := begun(t, p, src, 3)

	if a, err := p.Lookup(within(t), s, src, parts[:2]); err != nil || a == nil || *a != *parts[2].Asset {
		t.Errorf("what was pushed is found as %+v, %v, want %+v", a, err, parts[2].Asset)
	}
	if a, err := p.Lookup(within(t), s, other, nil); a != nil || err != nil {
		t.Errorf("other bytes are found as %+v, %v", a, err)
	}
	if a, err := p.Lookup(within(t), s, longer, nil); a != nil || err != nil {
		t.Errorf("another size is found as %+v, %v", a, err)
	}
	image := src
	image.ResourceType = upload.Image
	elsewhere, _ := begun(t, p, image, 0)
	if a, err := p.Lookup(within(t), elsewhere, image, nil); a != nil || err != nil {
		t.Errorf("another resource type is found as %+v, %v", a, err)
	}
}

func TestLookupReadsOnlyWhatTheLedgerDoesNotKnow(t *testing.T) {
	_, opt := cloud(t)
	p := open(t, opt)
	src := source(2*chunkSize + 1)
	s, parts := begun(t, p, src, 3)
	src.Body = fence{ReaderAt: src.Body, from: 2 * chunkSize}
	if a, err := p.Lookup(within(t), s, src, parts[:2]); a == nil || err != nil {
		t.Errorf("lookup = %+v, %v", a, err)
	}
}

// fence is a staged file of which only what lies behind from may be read.
type fence struct {
	io.ReaderAt
	from int64
}

func (f fence) ReadAt(p []byte, off int64) (int, error) {
	if off < f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestLookupWaitsForALargeFileToBePutTogether(t *testing.T) {
	sim, opt := cloud(t)
	p := open(t, opt)
	for size, want := range map[int64]int{10: 1, 2*chunkSize + 1: 2} {
		asked := 0
		opt.Transport = net(func(r *http.Request) (*http.Response, error) {
			asked++
			return http.DefaultTransport.RoundTrip(r)
		})
		s, _ := begun(t, p, source(size), 0)
		if a, err := open(t, opt).Lookup(within(t), s, source(size), nil); a != nil || err != nil {
			t.Errorf("%d bytes: lookup = %+v, %v", size, a, err)
		}
		if asked != want {
			t.Errorf("%d bytes: asked %d times, want %d", size, asked, want)
		}
	}
	if n := sim.Inventory().Count; n != 0 {
		t.Errorf("there are %d assets, want none", n)
	}
}

func TestASpentAdminQuotaSaysUntilWhen(t *testing.T) {
	sim, opt := cloud(t)
	p := open(t, opt)
	src := source(10)
	s, parts := begun(t, p, src, 1)
	settings := sim.Settings()
	settings.AdminQuota = 0
	sim.Set(settings)
	_, err := p.Lookup(within(t), s, src, parts)
	var e *provider.Error
	if !errors.As(err, &e) || e.Verdict != provider.Spent || e.RetryAfter <= 0 || e.RetryAfter > time.Hour {
		t.Errorf("lookup: %+v, want them spent for up to an hour", e)
	}
}

func TestAPendingAssetIsFoundLater(t *testing.T) {
	sim, opt := cloud(t)
	p := open(t, opt)
	settings := sim.Settings()
	settings.Pending = 1
	sim.Set(settings)
	src := source(10)
	s, _ := begun(t, p, src, 0)
	_, err := p.PushPart(within(t), s, src, 0, nil)
	if got := verdict(t, err); got != provider.Unknown {
		t.Fatalf("pending is %v, want outcome unknown", err)
	}
	if a, err := p.Lookup(within(t), s, src, nil); a == nil || err != nil || a.ID != src.Key {
		t.Errorf("lookup = %+v, %v", a, err)
	}
}

func TestDeleteAsksForTheRightType(t *testing.T) {
	sim, opt := cloud(t)
	p := open(t, opt)
	_, parts := begun(t, p, source(10), 1)
	image := *parts[0].Asset
	image.ResourceType = upload.Image
	if err := p.Delete(within(t), image); err != nil || sim.Inventory().Count != 1 {
		t.Errorf("delete of an image that is not there: %v, %d left", err, sim.Inventory().Count)
	}
	if err := p.Delete(within(t), *parts[0].Asset); err != nil || sim.Inventory().Count != 0 {
		t.Errorf("delete: %v, %d left", err, sim.Inventory().Count)
	}
}
