package ingest_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/httpapi"
	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/provider/uploadcare"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

const hookSecret = "7kMVZivndx0ErgvhRKAr"

// takesNotifications lets the API take what the simulators tell.
func takesNotifications(a *httpapi.API) {
	a.Webhooks = httpapi.Webhooks{Uploadcare: hookSecret, Cloudinary: apiSecret}
}

// subscribe has both simulators tell the API of everything.
func (s *shore) subscribe(t *testing.T) {
	t.Helper()
	u := must[*uploadcare.Provider](t)(uploadcare.New(uploadcare.Options{PublicKey: publicKey, SecretKey: secretKey, UploadBase: s.uploadcare.URL, RESTBase: s.uploadcare.URL}))
	c := must[*cloudinary.Provider](t)(cloudinary.New(cloudinary.Options{CloudName: cloud, APIKey: apiKey, APISecret: apiSecret, UploadPrefix: s.cloudURL}))
	for p, news := range map[provider.Subscriber][]string{u: append(u.News(), "file.stored"), c: {"all"}} {
		for _, event := range news {
			sub := provider.Subscription{Event: event, URL: s.url + "/webhooks/" + p.(provider.Provider).Name()}
			if err := p.Subscribe(t.Context(), sub, hookSecret); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// misfortune makes one rule for everything that both simulators tell.
func (s *shore) misfortune(t *testing.T, r providersim.NoticeRule) {
	t.Helper()
	for _, c := range s.controls {
		if err := c.Notices.Add(r); err != nil {
			t.Fatal(err)
		}
	}
}

// notices are what the simulators have told so far, in the order of what happened.
func (s *shore) notices() (all []providersim.NoticeState) {
	for _, name := range []string{"cloudinary", "uploadcare"} {
		all = append(all, s.controls[name].Notices.List()...)
	}
	return all
}

// release lets what was held go, the last first where backwards is set.
func (s *shore) release(t *testing.T, backwards bool) {
	t.Helper()
	for _, c := range s.controls {
		var ids []int64
		for _, n := range c.Notices.List() {
			ids = append(ids, n.ID)
		}
		if backwards {
			slices.Reverse(ids)
		}
		if len(ids) == 0 {
			t.Error("nothing was held")
			continue
		}
		if err := c.Notices.Release(t.Context(), ids...); err != nil {
			t.Error(err)
		}
	}
}

// until waits for a query to count none.
func (s *shore) until(t *testing.T, what, sql string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		n := must[int](t)(count(t.Context(), s, sql))
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d are left", what, n)
		}
		<-tick.C
	}
}

func count(ctx context.Context, s *shore, sql string) (n int, err error) {
	err = s.pool.QueryRow(ctx, sql).Scan(&n)
	return n, err
}

// rested waits until every notification has come to its end and every job has been worked.
func (s *shore) rested(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	waiting := func(n providersim.NoticeState) bool { return n.State == providersim.NoticeWaiting && len(n.Tries) == 0 }
	for slices.ContainsFunc(s.notices(), waiting) {
		if time.Now().After(deadline) {
			t.Fatalf("notifications are still on their way: %+v", s.notices())
		}
		<-tick.C
	}
	s.until(t, "jobs", `SELECT count(*) FROM slipway.river_job WHERE state NOT IN ('completed', 'cancelled', 'discarded')`)
}

// files does with both providers what users do, and returns each upload by what was done with it.
func (s *shore) files(t *testing.T) map[string]string {
	t.Helper()
	content := []byte("\x89PNG\r\n\x1a\nthe same in every test")
	ids := map[string]string{}
	reserve := func(name, path string) reply {
		r := ok(t, s.do(t, "ann", "GET", path, nil), http.StatusOK)
		ids[name] = r.text("id")
		return r
	}
	const atCloudinary, atUploadcare = "/generate-signature?reserve=1&file_name=a.bin&resource_type=raw", "/v1/direct/uploadcare?reserve=1&file_name=a.bin"
	reserve("never sent to Cloudinary", atCloudinary)
	reserve("never sent to Uploadcare", atUploadcare)
	sendReserved(t, reserve("left at Cloudinary", atCloudinary), "a.bin", content)
	sendReserved(t, reserve("left at Uploadcare", atUploadcare), "a.bin", content)
	for _, p := range []string{"cloudinary", "uploadcare"} {
		for _, name := range []string{"pushed to ", "deleted from "} {
			r := ok(t, s.do(t, "ann", "POST", "/v1/uploads?provider="+p+"&file_name=p.bin&tags=trip", string(content), "Content-Type: application/octet-stream"), http.StatusAccepted)
			ids[name+p] = r.text("id")
			s.awaitStatus(t, "ann", r.text("id"), upload.Completed)
		}
		ok(t, s.do(t, "ann", "DELETE", "/v1/files/"+ids["deleted from "+p], nil), http.StatusAccepted)
		s.awaitStatus(t, "ann", ids["deleted from "+p], upload.Deleted)
	}
	return ids
}

// account is what the database says of uploads in the end, without what no two runs share.
func (s *shore) account(t *testing.T, ids map[string]string) map[string]string {
	t.Helper()
	names := regexp.MustCompile(`slipway-test/[0-9a-f-]{36}|[0-9a-f]{8}-[0-9a-f-]{27}`)
	numbers := regexp.MustCompile(`127\.0\.0\.1:\d+|/v\d+/|"version": \d+`)
	said := map[string]string{}
	for name, id := range ids {
		text := must[string](t)(func() (text string, err error) {
			err = s.pool.QueryRow(t.Context(), `
				SELECT jsonb_pretty(jsonb_build_object(
				    'upload', (SELECT to_jsonb(u) - '{id,job_id,lease_until,version,created_at,staged_at,started_at,completed_at,expires_at,deliver_by,staged_until,unstaged_at,lease_epoch,receive_epoch}'::text[]
				               FROM slipway.uploads u WHERE id = $1),
				    'claim', (SELECT to_jsonb(d) FROM slipway.direct_uploads d WHERE upload_id = $1 AND owned),
				    'events', (SELECT jsonb_agg(jsonb_build_array(type, status, data) ORDER BY seq) FROM slipway.upload_events WHERE upload_id = $1),
				    'cloudinary', (SELECT jsonb_agg(to_jsonb(f) - '{id,upload_timestamp}'::text[]) FROM public.cloudinary_files f WHERE upload_id = $1),
				    'uploadcare', (SELECT jsonb_agg(to_jsonb(f) - '{id,upload_timestamp}'::text[]) FROM public.uploadcare_files f WHERE upload_id = $1)))`, id).Scan(&text)
			return text, err
		}())
		said[name] = numbers.ReplaceAllString(names.ReplaceAllString(text, "<name>"), "<number>")
	}
	return said
}

// Whatever becomes of the notifications, in the end there is what there would be without them.
func TestWebhooksOnlyHasten(t *testing.T) {
	t.Parallel()
	weather := map[string]struct {
		rule    *providersim.NoticeRule
		after   func(t *testing.T, s *shore) // once everything has been sent, and before reservations run out
		refused int                          // what a notification is answered with; 0: 200
	}{
		"they come": {after: func(t *testing.T, s *shore) {
			s.until(t, "reservations of what was sent", `SELECT 2 - count(*) FROM slipway.uploads u JOIN slipway.direct_uploads d ON d.upload_id = u.id WHERE u.status = 'completed'`)
		}},
		"they come thrice": {rule: &providersim.NoticeRule{Action: providersim.Double, Copies: 3}},
		"they are lost":    {rule: &providersim.NoticeRule{Action: providersim.Lose}},
		"they come late":   {rule: &providersim.NoticeRule{Action: providersim.Hold}},
		"they come backwards, before reservations run out": {rule: &providersim.NoticeRule{Action: providersim.Hold},
			after: func(t *testing.T, s *shore) { s.release(t, true) }},
		"they are forged":          {rule: &providersim.NoticeRule{Action: providersim.Forge}, refused: http.StatusUnauthorized},
		"they are old":             {rule: &providersim.NoticeRule{Action: providersim.Stale, Kind: "^[^.]*$"}, refused: http.StatusBadRequest},
		"half of each arrives":     {rule: &providersim.NoticeRule{Action: providersim.Truncate}, refused: http.StatusUnauthorized},
		"some are lost, some late": {rule: &providersim.NoticeRule{Action: providersim.Lose, Kind: "upload", Skip: 1}},
	}
	in := func(t *testing.T, subscribed bool, rule *providersim.NoticeRule, after func(*testing.T, *shore)) (map[string]string, *shore) {
		s := open(t, takesNotifications)
		if subscribed {
			s.subscribe(t)
		}
		if rule != nil {
			s.misfortune(t, *rule)
		}
		s.worker(t)
		ids := s.files(t)
		if after != nil {
			after(t, s)
		}
		s.exec(t, `UPDATE slipway.uploads SET expires_at = now() - interval '1 minute' WHERE status = 'reserved'`)
		for _, left := range []string{"left at Cloudinary", "left at Uploadcare"} {
			s.awaitStatus(t, "ann", ids[left], upload.Completed)
		}
		for _, never := range []string{"never sent to Cloudinary", "never sent to Uploadcare"} {
			s.awaitStatus(t, "ann", ids[never], upload.Expired)
		}
		if rule != nil && rule.Action == providersim.Hold && after == nil {
			s.release(t, false)
		}
		s.rested(t)
		return s.account(t, ids), s
	}
	want, _ := in(t, false, nil, nil)
	for name, text := range want {
		if strings.Count(text, `"status"`) < 2 || len(text) < 500 {
			t.Fatalf("of what was %s there is only %s", name, text)
		}
	}
	for name, tt := range weather {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, s := in(t, true, tt.rule, tt.after)
			for name := range want {
				if got[name] != want[name] {
					t.Errorf("what was %s has become\n%s\nand is without notifications\n%s", name, got[name], want[name])
				}
			}
			told := s.notices()
			if len(told) < 10 {
				t.Errorf("only %d notifications: %+v", len(told), told)
			}
			for _, n := range told {
				for _, try := range n.Tries {
					if status := try.Status; status != http.StatusOK && status != tt.refused {
						t.Errorf("%s of %s was answered with %d %s", n.Kind, n.Asset, try.Status, try.Error)
					}
				}
			}
		})
	}
}

// byHand makes a signed call of Cloudinary's Upload API, as its console does.
func (s *shore) byHand(t *testing.T, method, publicID, tags string) {
	t.Helper()
	params := url.Values{"public_id": {publicID}, "type": {"upload"}, "timestamp": {fmt.Sprint(time.Now().Unix())}}
	if tags != "" {
		params.Set("tags", tags)
	}
	params.Set("signature", must[string](t)(sign.Key{Secret: apiSecret}.Request(params)))
	params.Set("api_key", apiKey)
	resp := must[*http.Response](t)(http.PostForm(s.cloudURL+"/v1_1/"+cloud+"/raw/"+method, params))
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s of %s: %s: %s", method, publicID, resp.Status, must[[]byte](t)(io.ReadAll(resp.Body)))
	}
}

// told sends the API a notification of Cloudinary's own signature.
func (s *shore) told(t *testing.T, body string) reply {
	t.Helper()
	stamp := fmt.Sprint(time.Now().Unix())
	sum := sha1.Sum([]byte(body + stamp + apiSecret))
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", s.url+"/webhooks/cloudinary", strings.NewReader(body)))
	req.Header.Set("X-Cld-Timestamp", stamp)
	req.Header.Set("X-Cld-Signature", hex.EncodeToString(sum[:]))
	return answered(t, req)
}

// What others do at a provider is seen here, however often it is told and in whatever order.
func TestWebhooksTellWhatOthersDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rule      providersim.NoticeRule
		backwards bool
	}{
		"told at once":        {rule: providersim.NoticeRule{Action: providersim.Double, Copies: 1}},
		"told thrice":         {rule: providersim.NoticeRule{Action: providersim.Double, Copies: 3}},
		"told late":           {rule: providersim.NoticeRule{Action: providersim.Hold}},
		"told late backwards": {rule: providersim.NoticeRule{Action: providersim.Hold}, backwards: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, takesNotifications)
			s.subscribe(t)
			s.worker(t)
			asset := map[string]string{}
			put := func(provider string) (id string) {
				id = ok(t, s.do(t, "ann", "POST", "/v1/uploads?provider="+provider+"&file_name=p.bin&tags=trip&resource_type=raw", "hello", "Content-Type: application/octet-stream"), http.StatusAccepted).text("id")
				u := s.awaitStatus(t, "ann", id, upload.Completed)
				asset[id] = u.body["asset"].(map[string]any)["id"].(string)
				return id
			}
			tagged, destroyed, kept, removed := put("cloudinary"), put("cloudinary"), put("cloudinary"), put("uploadcare")
			s.rested(t)
			if n := s.asked(); n != 0 {
				t.Errorf("what Slipway itself has sent was asked about %d times", n)
			}

			s.misfortune(t, tt.rule)
			s.byHand(t, "explicit", asset[tagged], "sea,beach")
			s.byHand(t, "explicit", asset[tagged], "beach,sun")
			s.byHand(t, "destroy", asset[destroyed], "")
			u := must[*uploadcare.Provider](t)(uploadcare.New(uploadcare.Options{PublicKey: publicKey, SecretKey: secretKey, RESTBase: s.uploadcare.URL}))
			if err := u.Delete(t.Context(), upload.Asset{ID: asset[removed]}); err != nil {
				t.Fatal(err)
			}
			if tt.rule.Action == providersim.Hold {
				s.release(t, tt.backwards)
			}
			for _, lie := range []string{
				`{"notification_type":"delete","resources":[{"public_id":"` + asset[kept] + `","resource_type":"raw"}]}`,
				`{"notification_type":"upload","public_id":"` + asset[kept] + `","version":99999999999,"resource_type":"raw"}`,
				`{"notification_type":"delete","resources":[{"public_id":"nobody's"}]}`,
			} {
				ok(t, s.told(t, lie), http.StatusOK)
			}
			s.rested(t)

			for id, reason := range map[string]string{destroyed: "The file was deleted at Cloudinary.", removed: "The file was deleted at Uploadcare."} {
				if u := s.upload(t, "ann", id); u.text("status") != "deleted" || u.body["asset"] != nil {
					t.Errorf("what was deleted there is %v", u.body)
				}
				if got, want := s.history(t, id), "status:deleting asset:"+reason+" status:deleted"; !strings.HasSuffix(got, want) {
					t.Errorf("its history is %s, want it to end with %s", got, want)
				}
				if r := s.do(t, "ann", "GET", "/v1/files/"+id, nil); r.status != http.StatusNotFound {
					t.Errorf("its file is %d %v", r.status, r.body)
				}
			}
			for id, tags := range map[string]string{tagged: "[beach sun]", kept: "[trip]"} {
				u, file := s.upload(t, "ann", id), ok(t, s.do(t, "ann", "GET", "/v1/files/"+id, nil), http.StatusOK)
				if u.text("status") != "completed" || fmt.Sprint(u.body["tags"]) != tags || fmt.Sprint(file.body["tags"]) != tags {
					t.Errorf("got %v and %v, want the tags %s", u.body, file.body, tags)
				}
			}
			if got := s.history(t, kept); strings.Contains(got, "asset:") {
				t.Errorf("lies have made %s", got)
			}
		})
	}
}

// history is an upload's events in words.
func (s *shore) history(t *testing.T, id string) string {
	t.Helper()
	return must[string](t)(func() (text string, err error) {
		err = s.pool.QueryRow(t.Context(), `
			SELECT string_agg(type || ':' || CASE type WHEN 'asset' THEN coalesce(data ->> 'reason', data ->> 'size') ELSE status END, ' ' ORDER BY seq)
			FROM slipway.upload_events WHERE upload_id = $1`, id).Scan(&text)
		return text, err
	}())
}
