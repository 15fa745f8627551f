package httpapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const webhookSecret = "7kMVZivndx0ErgvhRKAr"

// told signs a notification as its provider does.
func told(provider, body string, at time.Time) []string {
	if provider == "uploadcare" {
		h := hmac.New(sha256.New, []byte(webhookSecret))
		h.Write([]byte(body))
		return []string{"X-Uc-Signature: v1=" + hex.EncodeToString(h.Sum(nil))}
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	sum := sha1.Sum([]byte(body + stamp + webhookSecret))
	return []string{"X-Cld-Timestamp: " + stamp, "X-Cld-Signature: " + hex.EncodeToString(sum[:])}
}

// notify sends a notification, signed as of now, without a token.
func (s *site) notify(t testing.TB, provider, body string) reply {
	t.Helper()
	return s.do(t, "POST", "/webhooks/"+provider, strings.NewReader(body), append(told(provider, body, time.Now()), as(t, ""))...)
}

// hints are the jobs that notifications have left, as the workers read them.
func (s *site) hints(t testing.TB) (list []upload.HintArgs) {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT args, queue, metadata ->> 'user_id' FROM slipway.river_job WHERE kind = 'hint' ORDER BY id`)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var h upload.HintArgs
		var queue, user string
		must(t, rows.Scan(&h, &queue, &user))
		if queue != upload.VerifyQueue(h.Provider) || user != "" {
			t.Errorf("%+v waits in %s for %q", h, queue, user)
		}
		list = append(list, h)
	}
	must(t, rows.Err())
	return list
}

const (
	sentFile = "21975c81-7f57-4c7a-aef9-acfe28779f78"
	uploaded = `{"hook":{"id":7,"event":"file.uploaded"},"data":{"uuid":"` + sentFile + `","metadata":{}},"file":"https://cdn.example/x"}`
	pictured = `{"notification_type":"upload","public_id":"trip/beach","version":1713999600,"resource_type":"image"}`
)

func takesWebhooks(a *API, _ *Options) {
	a.Webhooks = Webhooks{Uploadcare: webhookSecret, Cloudinary: webhookSecret}
}

func TestWebhooksAreTakenOnce(t *testing.T) {
	s := open(t, takesWebhooks)
	var all sync.WaitGroup
	for _, n := range []struct{ provider, body string }{{"uploadcare", uploaded}, {"cloudinary", pictured}} {
		for range 8 {
			all.Go(func() {
				if r := s.notify(t, n.provider, n.body); r.StatusCode != 200 || r.text != "{\"success\":true}\n" {
					t.Errorf("%s got %d %s", n.provider, r.StatusCode, r.text)
				}
			})
		}
	}
	all.Wait()
	seen := map[upload.HintArgs]int{}
	for _, h := range s.hints(t) {
		seen[h]++
	}
	want := map[upload.HintArgs]int{
		{Provider: "uploadcare", AssetID: sentFile, News: upload.Arrived}:                          1,
		{Provider: "cloudinary", AssetID: "trip/beach", News: upload.Arrived, Version: 1713999600}: 1,
	}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("left %v, want %v", seen, want)
	}
	if n := s.count(t, "slipway.webhooks"); n != 2 {
		t.Errorf("%d are remembered, want 2", n)
	}
	s.exec(t, `UPDATE slipway.webhooks SET received_at = now() - interval '8 days' WHERE provider = 'cloudinary'`)
	must(t, postgres.PruneWebhooks(t.Context(), s.pool))
	if n := s.count(t, "slipway.webhooks"); n != 1 {
		t.Errorf("%d are remembered after a week, want the newer one", n)
	}
}

func TestWebhooksThatAreNotTaken(t *testing.T) {
	s := open(t, takesWebhooks)
	now := time.Now()
	cloudinary := func(age time.Duration) []string { return told("cloudinary", pictured, now.Add(-age)) }
	shifted := cloudinary(0) // digits go from the time to the body, and the signature stays good
	stamp := strings.TrimPrefix(shifted[0], "X-Cld-Timestamp: ")
	shifted[0] = "X-Cld-Timestamp: " + stamp[1:]
	tests := map[string]struct {
		provider, body string
		headers        []string
		status         int
		code           upload.Code
	}{
		"without a signature":                 {"uploadcare", uploaded, nil, 401, upload.WebhookSignature},
		"with another body's":                 {"uploadcare", uploaded, told("uploadcare", pictured, now), 401, upload.WebhookSignature},
		"with one in another version":         {"uploadcare", uploaded, []string{strings.Replace(told("uploadcare", uploaded, now)[0], "v1=", "v2=", 1)}, 401, upload.WebhookSignature},
		"with a token in a signature's place": {"uploadcare", uploaded, []string{as(t, "alice")}, 401, upload.WebhookSignature},
		"of Cloudinary's without one":         {"cloudinary", pictured, cloudinary(0)[:1], 401, upload.WebhookSignature},
		"of Cloudinary's without a time":      {"cloudinary", pictured, cloudinary(0)[1:], 401, upload.WebhookSignature},
		"with another time's":                 {"cloudinary", pictured, []string{cloudinary(time.Minute)[0], cloudinary(0)[1]}, 401, upload.WebhookSignature},
		"from long ago":                       {"cloudinary", pictured, cloudinary(webhookAge + time.Minute), 400, upload.WebhookStale},
		"from long ago, forged":               {"cloudinary", pictured, []string{cloudinary(webhookAge + time.Minute)[0], cloudinary(0)[1]}, 401, upload.WebhookSignature},
		"from far ahead":                      {"cloudinary", pictured, cloudinary(-webhookAhead - time.Minute), 400, upload.WebhookStale},
		"with part of the time in the body":   {"cloudinary", pictured + stamp[:1], shifted, 400, upload.WebhookStale},
		"that is no JSON":                     {"uploadcare", "hello", told("uploadcare", "hello", now), 400, upload.InvalidRequest},
		"that is empty":                       {"cloudinary", "", told("cloudinary", "", now), 400, upload.InvalidRequest},
		"that is cut":                         {"cloudinary", pictured[:40], told("cloudinary", pictured[:40], now), 400, upload.InvalidRequest},
		"that is too long":                    {"uploadcare", strings.Repeat(" ", maxWebhook+1), nil, 413, upload.BodyTooLarge},
		"that is encoded":                     {"uploadcare", uploaded, append(told("uploadcare", uploaded, now), "Content-Encoding: gzip"), 415, upload.UnsupportedMedia},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "POST", "/webhooks/"+tt.provider, strings.NewReader(tt.body), append([]string{as(t, "")}, tt.headers...)...)
			wantCode(t, r, tt.status, tt.code)
			if challenge := r.Header.Get("WWW-Authenticate"); tt.status == 401 && challenge != `Signature realm="webhooks"` {
				t.Errorf("challenged with %q", challenge)
			}
			if n := s.count(t, "slipway.webhooks"); n != 0 || len(s.hints(t)) != 0 {
				t.Errorf("it has left %d rows and %v", n, s.hints(t))
			}
		})
	}
	for _, age := range []time.Duration{0, webhookAge - time.Minute, time.Minute - webhookAhead} {
		if r := s.do(t, "POST", "/webhooks/cloudinary", strings.NewReader(pictured), append(cloudinary(age), as(t, ""))...); r.StatusCode != 200 {
			t.Errorf("one of an age of %s got %d %s", age, r.StatusCode, r.text)
		}
	}

	off := open(t, nil)
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		wantCode(t, off.notify(t, provider, "{}"), 404, upload.WebhooksOff)
	}
}

func TestWhatWebhooksSay(t *testing.T) {
	uploadcare := func(event, data string) string { return fmt.Sprintf(`{"hook":{"event":%q},"data":%s}`, event, data) }
	file := `{"uuid":"` + sentFile + `"}`
	const sent = "0193f1c2-3d4e-7f5a-8b6c-7d8e9f0a1b2c"
	ofUploadcare := func(news upload.News) []upload.HintArgs {
		return []upload.HintArgs{{Provider: "uploadcare", AssetID: sentFile, News: news}}
	}
	ofCloudinary := func(news upload.News, ids ...string) (h []upload.HintArgs) {
		for _, id := range ids {
			h = append(h, upload.HintArgs{Provider: "cloudinary", AssetID: id, News: news})
		}
		return h
	}
	tests := map[string]struct {
		provider, body string
		want           []upload.HintArgs
	}{
		"a file that was uploaded":                 {"uploadcare", uploadcare("file.uploaded", file), ofUploadcare(upload.Arrived)},
		"a file that was stored":                   {"uploadcare", uploadcare("file.stored", file), ofUploadcare(upload.Arrived)},
		"a file whose metadata was changed":        {"uploadcare", uploadcare("file.info_updated", file), ofUploadcare(upload.Altered)},
		"a file with a virus":                      {"uploadcare", uploadcare("file.infected", file), ofUploadcare(upload.Altered)},
		"a file that was deleted":                  {"uploadcare", uploadcare("file.deleted", file), ofUploadcare(upload.Removed)},
		"a file that was sent for an upload":       {"uploadcare", uploadcare("file.uploaded", `{"uuid":"`+sentFile+`","metadata":{"slipway_upload":"`+sent+`","a":"b"}}`), []upload.HintArgs{{Provider: "uploadcare", AssetID: sentFile, News: upload.Arrived, Sent: sent}}},
		"a mark that is none":                      {"uploadcare", uploadcare("file.uploaded", `{"uuid":"`+sentFile+`","metadata":{"slipway_upload":"me"}}`), ofUploadcare(upload.Arrived)},
		"metadata that is null":                    {"uploadcare", uploadcare("file.uploaded", `{"uuid":"`+sentFile+`","metadata":null}`), ofUploadcare(upload.Arrived)},
		"metadata of another type":                 {"uploadcare", uploadcare("file.uploaded", `{"metadata":[1],"uuid":"`+sentFile+`"}`), ofUploadcare(upload.Arrived)},
		"an event that is not known":               {"uploadcare", uploadcare("file.dreamt", file), nil},
		"a file without an id":                     {"uploadcare", uploadcare("file.uploaded", `{}`), nil},
		"an id that is none":                       {"uploadcare", uploadcare("file.uploaded", `{"uuid":"../`+sentFile+`"}`), nil},
		"an id in capitals":                        {"uploadcare", uploadcare("file.uploaded", `{"uuid":"`+strings.ToUpper(sentFile)+`"}`), nil},
		"something else of Uploadcare's":           {"uploadcare", `[1,2]`, nil},
		"nothing of Uploadcare's":                  {"uploadcare", `null`, nil},
		"an asset that was uploaded":               {"cloudinary", pictured, []upload.HintArgs{{Provider: "cloudinary", AssetID: "trip/beach", News: upload.Arrived, Version: 1713999600}}},
		"a version of another type":                {"cloudinary", `{"notification_type":"upload","version":"x","public_id":"a"}`, ofCloudinary(upload.Arrived, "a")},
		"assets that were deleted":                 {"cloudinary", `{"notification_type":"delete","resources":[{"public_id":"a","version":1},{"public_id":"b/c"},{"public_id":"a"}]}`, ofCloudinary(upload.Removed, "a", "b/c")},
		"an asset whose tags were changed":         {"cloudinary", `{"notification_type":"resource_tags_changed","resources":[{"public_id":"a","added":["x"]}]}`, ofCloudinary(upload.Altered, "a")},
		"context, of which nothing is kept":        {"cloudinary", `{"notification_type":"resource_context_changed","resources":{"x":{"public_id":"a"}}}`, nil},
		"one that is no asset":                     {"cloudinary", `{"notification_type":"delete","resources":[{"public_id":"a"},7,{"public_id":["b"]}]}`, ofCloudinary(upload.Removed, "a")},
		"assets in something else":                 {"cloudinary", `{"notification_type":"delete","resources":"a"}`, nil},
		"derived assets, of which nothing is kept": {"cloudinary", `{"notification_type":"eager","public_id":"a","eager":[]}`, nil},
		"a public id that no asset can have":       {"cloudinary", `{"notification_type":"upload","public_id":"../a"}`, nil},
		"a type that is not known":                 {"cloudinary", `{"notification_type":"party","public_id":"a"}`, nil},
		"something else of Cloudinary's":           {"cloudinary", `"hello"`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := hintsOf(tt.provider, []byte(tt.body))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func hintsOf(provider string, body []byte) ([]upload.HintArgs, error) {
	if provider == "uploadcare" {
		return uploadcareHints(body)
	}
	return cloudinaryHints(body)
}

// Whatever a body says, it leaves hints that can be asked about, or is refused with a code.
func FuzzWebhooks(f *testing.F) {
	for _, seed := range []string{
		uploaded, pictured, `{"notification_type":"delete","resources":[{"public_id":"a"},7,{"public_id":["b"]}]}`, `{"notification_type":"resource_x","resources":{"a":{"public_id":"b"}}}`,
		`{"hook":{"event":"file.deleted"},"data":{"uuid":"` + sentFile + `","metadata":{"slipway_upload":7}}}`, `{`, `null`, `[[[[`, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, provider := range []string{"uploadcare", "cloudinary"} {
			hints, err := hintsOf(provider, body)
			if err != nil && (codeOf(err) != upload.InvalidRequest || hints != nil) {
				t.Errorf("%s: %v beside %v", provider, err, hints)
			}
			seen := map[string]bool{}
			for _, h := range hints {
				if h.Provider != provider || h.News == "" || seen[h.AssetID] {
					t.Errorf("%s: %+v", provider, h)
				}
				seen[h.AssetID] = true
				if provider == "cloudinary" && !plausiblePublicID(h.AssetID) || provider == "uploadcare" && len(h.AssetID) != len(sentFile) {
					t.Errorf("%s: nobody can be asked about %q", provider, h.AssetID)
				}
			}
		}
	})
}

func TestAnInfectedFileIsNotLedTo(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.PublicFiles = true })
	u := s.put(t, "film.mp4")
	s.complete(t, u.ID)
	path := "/v1/files/" + string(u.ID) + "/content"
	if r := s.do(t, "GET", path, nil, as(t, "")); r.StatusCode != 302 {
		t.Fatalf("got %d %s", r.StatusCode, r.text)
	}
	s.change(t, u.ID, `error_code = 'infected', error_message = 'Uploadcare has found a virus in the file: X.', error_fixable_by = 'you'`)
	for _, user := range []string{"", "alice"} {
		r := s.do(t, "GET", path, nil, as(t, user))
		wantCode(t, r, 403, upload.Infected)
		if r.Header.Get("Location") != "" {
			t.Errorf("%q is led to %s", user, r.Header.Get("Location"))
		}
	}
}
