package ingest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/httpapi"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

func TestTheGuidesWayFromSignatureToSelect(t *testing.T) {
	s := open(t, nil)
	s.worker(t)
	sig := s.signature(t, "user_123", "")
	for _, name := range []string{"success", "signature", "timestamp", "api_key", "cloud_name", "upload_url"} {
		if sig.body[name] == nil {
			t.Errorf("the signature's answer has no %s: %v", name, sig.body)
		}
	}
	content := picture(t)
	sum := map[string]string{"api_key": sig.text("api_key"), "timestamp": sig.body["timestamp"].(json.Number).String(), "signature": sig.text("signature")}
	image := sent(t, s.cloudURL+"/v1_1/"+cloud+"/image/upload", sum, "test-image.png", content)
	video := sent(t, s.cloudURL+"/v1_1/"+cloud+"/video/upload", sum, "film.mp4", []byte("a film, as far as anybody looks"))

	saved := ok(t, s.save(t, "user_123", three(image)), http.StatusOK)
	if saved.body["success"] != true || saved.text("id") == "" || len(saved.body) != 2 {
		t.Errorf("saved with %v", saved.body)
	}
	ok(t, s.save(t, "user_123", three(video)), http.StatusOK)

	rows := s.guideRows(t, "user_123", "image")
	if len(rows) != 1 || rows[0].PublicID != image.text("public_id") || rows[0].MediaURL != image.text("secure_url") || time.Since(rows[0].At).Abs() > time.Minute {
		t.Errorf("the guide's SELECT finds %+v, want %v", rows, image.body)
	}
	u := s.upload(t, "user_123", saved.text("id"))
	asset := u.body["asset"].(map[string]any)
	for name, want := range map[string]any{"status": "completed", "file_name": image.text("public_id") + ".png", "content_type": "image/png", "crc32c": "", "progress": json.Number("1")} {
		if u.body[name] != want {
			t.Errorf("%s is %v, want %v", name, u.body[name], want)
		}
	}
	for name, of := range map[string]string{"id": "public_id", "url": "secure_url", "size": "bytes", "width": "width", "height": "height", "format": "format", "version": "version", "etag": "etag"} {
		if asset[name] != image.body[of] {
			t.Errorf("the asset's %s is %v, Cloudinary says %v", name, asset[name], image.body[of])
		}
	}
	file := ok(t, s.do(t, "user_123", "GET", "/v1/files/"+saved.text("id"), nil), http.StatusOK)
	if file.body["width"] != json.Number("3") || file.text("content_type") != "image/png" {
		t.Errorf("the file is %v", file.body)
	}
	if retry := s.do(t, "user_123", "POST", "/v1/uploads/"+saved.text("id")+"/retry", nil); retry.status != http.StatusConflict {
		t.Errorf("a retry got %d %v", retry.status, retry.body)
	}
}

// claims are what may be said of an asset, and what it comes to.
func TestClaims(t *testing.T) {
	t.Parallel()
	type want struct {
		status int
		code   upload.Code
		says   string
	}
	tests := map[string]struct {
		say  func(t *testing.T, s *shore) reply
		want want
	}{
		"somebody else who got a signature in time may claim what has no name of its own": {func(t *testing.T, s *shore) reply {
			s.signature(t, "bob", "")
			return s.save(t, "bob", three(s.sendAs(t, "ann")))
		}, want{200, "", ""}},
		"somebody who never got a signature may not": {func(t *testing.T, s *shore) reply {
			return s.save(t, "bob", three(s.sendAs(t, "ann")))
		}, want{403, upload.NotSignedFor, "No signature was handed out to you"}},
		"a signature of the other provider is none": {func(t *testing.T, s *shore) reply {
			ok(t, s.do(t, "bob", "GET", "/v1/direct/uploadcare", nil), 200)
			return s.save(t, "bob", three(s.sendAs(t, "ann")))
		}, want{403, upload.NotSignedFor, ""}},
		"an asset older than the caller's signatures is not theirs": {func(t *testing.T, s *shore) reply {
			claim := three(s.sendAs(t, "ann"))
			s.signature(t, "bob", "")
			s.exec(t, `UPDATE slipway.direct_handouts SET minute = minute + interval '3 minutes' WHERE user_id = 'bob'`)
			return s.save(t, "bob", claim)
		}, want{403, upload.NotSignedFor, "not made within the hour"}},
		"nor is one that was made when they were no good any more": {func(t *testing.T, s *shore) reply {
			claim := three(s.sendAs(t, "ann"))
			s.exec(t, `UPDATE slipway.direct_handouts SET minute = minute - interval '70 minutes'`)
			return s.save(t, "ann", claim)
		}, want{403, upload.NotSignedFor, "not made within the hour"}},
		"a proof does not make an old asset the caller's": {func(t *testing.T, s *shore) reply {
			claim := three(s.sendAs(t, "ann"), "version", "signature")
			s.exec(t, `UPDATE slipway.direct_handouts SET minute = minute - interval '70 minutes'`)
			return s.save(t, "ann", claim)
		}, want{403, upload.NotSignedFor, ""}},
		"an answer's signature proves the asset": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", three(s.sendAs(t, "ann"), "version", "signature"))
		}, want{200, "", ""}},
		"the whole answer may be sent": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", s.sendAs(t, "ann").body)
		}, want{200, "", ""}},
		"a version may be a text": {func(t *testing.T, s *shore) reply {
			answer := s.sendAs(t, "ann")
			return s.save(t, "ann", with(three(answer, "signature"), "version", answer.body["version"].(json.Number).String()))
		}, want{200, "", ""}},
		"a forged signature is refused": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", with(three(s.sendAs(t, "ann"), "version"), "signature", strings.Repeat("a", 40)))
		}, want{403, upload.InvalidSignature, ""}},
		"a signature for another version is refused": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", with(three(s.sendAs(t, "ann"), "signature"), "version", 1713999601))
		}, want{403, upload.InvalidSignature, ""}},
		"a signature without its version": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", three(s.sendAs(t, "ann"), "signature"))
		}, want{422, upload.InvalidParameter, "version is not"}},
		"an asset that is not there": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", with(three(s.sendAs(t, "ann")), "public_id", "nothing"))
		}, want{404, upload.AssetNotFound, "no image with the public_id nothing"}},
		"an asset of another type": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", with(three(s.sendAs(t, "ann")), "resource_type", "video"))
		}, want{404, upload.AssetNotFound, "no video"}},
		"an address that the client made up is not believed": {func(t *testing.T, s *shore) reply {
			claim := with(three(s.sendAs(t, "ann")), "secure_url", "https://evil.example/x.png")
			r := s.save(t, "ann", claim)
			if rows := s.guideRows(t, "ann", "image"); len(rows) != 1 || strings.Contains(rows[0].MediaURL, "evil") {
				t.Errorf("recorded is %+v", rows)
			}
			return r
		}, want{200, "", ""}},
		"what a row of the guide's own app has of another user": {func(t *testing.T, s *shore) reply {
			claim := three(s.sendAs(t, "ann"))
			s.exec(t, `INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ($1, 'https://old', 'image', 'eve')`, claim["public_id"])
			return s.save(t, "ann", claim)
		}, want{409, upload.PublicIDTaken, ""}},
		"a row that the guide's own app has of the same user is completed": {func(t *testing.T, s *shore) reply {
			claim := three(s.sendAs(t, "ann"))
			s.exec(t, `INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ($1, 'https://old', 'image', 'ann')`, claim["public_id"])
			r := s.save(t, "ann", claim)
			if rows := s.guideRows(t, "ann", "image"); len(rows) != 1 || rows[0].MediaURL != claim["secure_url"] {
				t.Errorf("recorded is %+v", rows)
			}
			return r
		}, want{200, "", ""}},
		"the second of two users is too late": {func(t *testing.T, s *shore) reply {
			s.signature(t, "bob", "")
			claim := three(s.sendAs(t, "ann"))
			ok(t, s.save(t, "ann", claim), 200)
			return s.save(t, "bob", claim)
		}, want{409, upload.PublicIDTaken, ""}},
		"nobody may name another installation's or another user's reservation": {func(t *testing.T, s *shore) reply {
			reservation := s.signature(t, "ann", "?reserve=1")
			answer := sendReserved(t, reservation, "a.png", picture(t))
			s.signature(t, "bob", "")
			return s.save(t, "bob", three(answer, "version", "signature"))
		}, want{404, upload.NotFound, "No upload of yours"}},
		"a reserved one that was never sent": {func(t *testing.T, s *shore) reply {
			reservation := s.signature(t, "ann", "?reserve=1")
			return s.save(t, "ann", map[string]any{"public_id": reservation.text("public_id"), "secure_url": "x", "resource_type": "image"})
		}, want{404, upload.AssetNotFound, ""}},

		"without public_id": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"secure_url":"x","resource_type":"image"}`)
		}, want{422, upload.InvalidParameter, "public_id, secure_url, and resource_type are required"}},
		"without anything":       {func(t *testing.T, s *shore) reply { return s.save(t, "ann", `{}`) }, want{422, upload.InvalidParameter, "public_id and secure_url and resource_type is missing"}},
		"without a body":         {func(t *testing.T, s *shore) reply { return s.save(t, "ann", nil) }, want{400, upload.InvalidRequest, ""}},
		"with a list":            {func(t *testing.T, s *shore) reply { return s.save(t, "ann", `[]`) }, want{400, upload.InvalidRequest, ""}},
		"with a number as an id": {func(t *testing.T, s *shore) reply { return s.save(t, "ann", `{"public_id":7}`) }, want{400, upload.InvalidRequest, ""}},
		"with an id that is a path": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"../../usage","secure_url":"x","resource_type":"image"}`)
		}, want{422, upload.InvalidParameter, "public_id"}},
		"with an id that is a query": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"a?b","secure_url":"x","resource_type":"image"}`)
		}, want{422, upload.InvalidParameter, "public_id"}},
		"with an id that has a NUL": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"a\u0000","secure_url":"x","resource_type":"image"}`)
		}, want{422, upload.InvalidParameter, "public_id"}},
		"with an unknown type": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"a","secure_url":"x","resource_type":"music"}`)
		}, want{422, upload.UnknownResourceType, ""}},
		"with no type in particular": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"a","secure_url":"x","resource_type":"auto"}`)
		}, want{422, upload.InvalidParameter, "image, video or raw"}},
		"of an unknown provider": {func(t *testing.T, s *shore) reply { return s.save(t, "ann", `{"provider":"s3"}`) }, want{422, upload.UnknownProvider, ""}},
		"with a body that is too big": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", `{"public_id":"`+strings.Repeat("a", 300<<10)+`"}`)
		}, want{413, upload.BodyTooLarge, ""}},
	}
	s := open(t, nil)
	s.worker(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s.exec(t, `TRUNCATE slipway.direct_handouts, slipway.uploads, slipway.river_job, cloudinary_files CASCADE`)
			r := tt.say(t, s)
			says := r.text("error")
			if r.status != tt.want.status || upload.Code(r.text("code")) != tt.want.code || !strings.Contains(says, tt.want.says) {
				t.Errorf("got %d %v, want %d %s %q", r.status, r.body, tt.want.status, tt.want.code, tt.want.says)
			}
			if r.body["success"] != (r.status == http.StatusOK) {
				t.Errorf("success is %v with %d", r.body["success"], r.status)
			}
		})
	}
}

func TestAClaimTwiceIsOneUpload(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	claim := three(s.sendAs(t, "ann"))
	var first, second reply
	var both sync.WaitGroup
	both.Go(func() { first = s.save(t, "ann", claim, "Prefer: respond-async") })
	both.Go(func() { second = s.save(t, "ann", claim, "Prefer: respond-async") })
	both.Wait()
	if ok(t, first, 202).text("id") != ok(t, second, 202).text("id") {
		t.Errorf("two uploads: %v and %v", first.body, second.body)
	}
	if got, want := first.text("statusUrl"), s.url+"/v1/uploads/"+first.text("id"); got != want || first.header.Get("Location") != want || first.header.Get("Retry-After") == "" {
		t.Errorf("statusUrl %s and Location %s, want %s", got, first.header.Get("Location"), want)
	}
	s.worker(t) // the answer comes, though nobody worked when it was asked for
	s.awaitStatus(t, "ann", first.text("id"), upload.Completed)
	if again := ok(t, s.save(t, "ann", claim), 200); again.text("id") != first.text("id") {
		t.Errorf("a third time made %v", again.body)
	}
	if rows := s.guideRows(t, "ann", "image"); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestOfTwoUsersOneGetsTheAsset(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.signature(t, "bob", "")
	claim := three(s.sendAs(t, "ann"))
	ids := map[string]string{}
	for _, user := range []string{"ann", "bob"} {
		ids[user] = ok(t, s.save(t, user, claim, "Prefer: respond-async"), 202).text("id")
	}
	s.worker(t)
	ended := func(u reply) bool { return u.text("status") == "completed" || u.text("status") == "failed" }
	ann, bob := s.await(t, "ann", ids["ann"], "ended", ended), s.await(t, "bob", ids["bob"], "ended", ended)
	if (ann.text("status") == "completed") == (bob.text("status") == "completed") {
		t.Errorf("ann's is %s, bob's is %s", ann.text("status"), bob.text("status"))
	}
	if rows := len(s.guideRows(t, "ann", "image")) + len(s.guideRows(t, "bob", "image")); rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestAReservedUpload(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.worker(t)
	tests := map[string]struct {
		query, resourceType, extension string
		content                        []byte
	}{
		"an image without a name":   {"?reserve=1", "image", "", picture(t)},
		"a video by its name":       {"?reserve=1&file_name=père.MP4", "video", "", []byte("film")},
		"a document by its name":    {"?reserve=1&file_name=notes.txt", "raw", ".txt", []byte("notes")},
		"a type that was asked for": {"?reserve=1&file_name=clip.mp4&resource_type=raw", "raw", ".mp4", []byte("film")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.signature(t, "ann", tt.query)
			id := r.text("id")
			if want := installation + "/" + id + tt.extension; r.text("public_id") != want {
				t.Errorf("reserved is %s, want %s", r.text("public_id"), want)
			}
			if want := s.cloudURL + "/v1_1/" + cloud + "/" + tt.resourceType + "/upload"; r.text("upload_url") != want {
				t.Errorf("to be sent to %s, want %s", r.text("upload_url"), want)
			}
			if u := s.upload(t, "ann", id); u.text("status") != "reserved" || u.body["expires_at"] == nil {
				t.Errorf("it is %v", u.body)
			}
			first := sendReserved(t, r, "sent.bin", tt.content)
			again := sendReserved(t, r, "sent.bin", append(tt.content, picture(t)...)) // somebody has the signature and tries to replace it
			if first.body["etag"] != again.body["etag"] {
				t.Error("the asset was replaced")
			}
			if saved := ok(t, s.save(t, "ann", three(first)), 200); saved.text("id") != id {
				t.Errorf("saved as %v, want %s", saved.body, id)
			}
			if u := s.upload(t, "ann", id); u.text("status") != "completed" || u.body["size"] != first.body["bytes"] || u.body["expires_at"] != nil {
				t.Errorf("it is %v", u.body)
			}
		})
	}
}

func TestAReservationIsNotUsedUpByAClaimThatCameTooEarly(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.worker(t)
	r := s.signature(t, "ann", "?reserve=1&file_name=a.png")
	early := s.save(t, "ann", map[string]any{"public_id": r.text("public_id"), "secure_url": "x", "resource_type": "image"})
	if early.status != http.StatusNotFound {
		t.Errorf("got %d %v", early.status, early.body)
	}
	saved := ok(t, s.save(t, "ann", three(sendReserved(t, r, "a.png", picture(t)))), 200)
	if u := s.upload(t, "ann", saved.text("id")); u.text("status") != "completed" || u.text("file_name") != "a.png" {
		t.Errorf("it is %v", u.body)
	}
}

func TestAProvenClaimNeedsNobody(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.fault(t, "cloudinary", providersim.Rule{Path: "/resources/", Action: providersim.Answer, Status: 420, Header: map[string]string{"Retry-After": "1"}, Body: `{"error":{"message":"Rate Limit Exceeded"}}`})
	s.worker(t)
	answer := s.sendAs(t, "ann")
	saved := ok(t, s.save(t, "ann", three(answer, "version", "signature")), 200)
	rows := s.guideRows(t, "ann", "image")
	if len(rows) != 1 || rows[0].PublicID != answer.text("public_id") || rows[0].MediaURL+".png" != answer.text("secure_url") {
		t.Fatalf("recorded is %+v, Cloudinary says %v", rows, answer.body)
	}
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", rows[0].MediaURL, nil))
	resp := must[*http.Response](t)(http.DefaultClient.Do(req))
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", rows[0].MediaURL, resp.Status)
	}
	s.controls["cloudinary"].Faults.Clear()
	u := s.await(t, "ann", saved.text("id"), "described", func(u reply) bool { return u.body["size"] == answer.body["bytes"] })
	if asset := u.body["asset"].(map[string]any); asset["etag"] != answer.body["etag"] || asset["url"] != answer.body["secure_url"] {
		t.Errorf("described as %v", asset)
	}
	if rows := s.guideRows(t, "ann", "image"); len(rows) != 1 || rows[0].MediaURL != answer.text("secure_url") {
		t.Errorf("recorded is %+v", rows)
	}
}

func TestAProvenClaimWithTheWrongTypeIsPutRight(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.worker(t)
	answer := s.sendAs(t, "ann")
	saved := ok(t, s.save(t, "ann", with(three(answer, "version", "signature"), "resource_type", "video")), 200)
	u := s.await(t, "ann", saved.text("id"), "an image", func(u reply) bool { return u.text("resource_type") == "image" })
	if url := u.body["asset"].(map[string]any)["url"]; url != answer.body["secure_url"] || len(s.guideRows(t, "ann", "image")) != 1 {
		t.Errorf("it is at %v", url)
	}
}

func TestBadWeatherDelaysAClaim(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rule providersim.Rule
		code upload.Code // what is shown meanwhile
	}{
		"the hour's questions are spent": {providersim.Rule{Path: "/resources/", Times: 2, Action: providersim.Answer, Status: 420, Header: map[string]string{"Retry-After": "1"}, Body: `{"error":{"message":"Rate Limit Exceeded. Limit of 500 api operations reached."}}`}, upload.ProviderThrottled},
		"the provider is down":           {providersim.Rule{Path: "/resources/", Times: 30, Action: providersim.Answer, Status: 503, Body: "<html>"}, upload.ProviderUnavailable},
		"the provider's answer is lost":  {providersim.Rule{Path: "/resources/", Times: 30, Action: providersim.ResetAfter}, upload.ProviderUnavailable},
		"the account's keys are refused": {providersim.Rule{Path: "/(resources|ping)", Times: 8, Action: providersim.Answer, Status: 401, Body: `{"error":{"message":"api_secret mismatch"}}`}, upload.ProviderAccount},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			claim := three(s.sendAs(t, "ann"))
			s.fault(t, "cloudinary", tt.rule)
			saved := ok(t, s.save(t, "ann", claim, "Prefer: respond-async"), 202)
			s.worker(t)
			late := s.await(t, "ann", saved.text("id"), "delayed", func(u reply) bool { return u.body["error"] != nil || u.text("status") != "verifying" })
			if e, _ := late.body["error"].(map[string]any); late.text("status") != "verifying" || e["code"] != string(tt.code) || late.body["next_attempt_at"] == nil {
				t.Errorf("meanwhile it is %v", late.body)
			}
			done := s.awaitStatus(t, "ann", saved.text("id"), upload.Completed)
			if done.body["error"] != nil {
				t.Errorf("completed with %v", done.body["error"])
			}
		})
	}
}

func TestAProofEndsAWaitForTheProvider(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.fault(t, "cloudinary", providersim.Rule{Path: "/resources/", Action: providersim.Answer, Status: 420, Header: map[string]string{"Retry-After": "3600"}, Body: `{"error":{"message":"Rate Limit Exceeded"}}`})
	s.worker(t)
	answer := s.sendAs(t, "ann")
	saved := ok(t, s.save(t, "ann", three(answer), "Prefer: wait=1"), 202)
	s.await(t, "ann", saved.text("id"), "delayed", func(u reply) bool { return u.body["error"] != nil })
	if proven := ok(t, s.save(t, "ann", three(answer, "version", "signature")), 200); proven.text("id") != saved.text("id") {
		t.Errorf("another upload: %v", proven.body)
	}
}

func TestAClaimSurvivesItsWorker(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.fault(t, "cloudinary", providersim.Rule{Path: "/resources/", Action: providersim.Stall})
	claim := three(s.sendAs(t, "ann"))
	stop := s.worker(t)
	saved := ok(t, s.save(t, "ann", claim, "Prefer: respond-async"), 202)
	deadline := time.Now().Add(patience)
	for s.asked() == 0 && time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
	}
	stop()
	s.controls["cloudinary"].Faults.Clear()
	s.exec(t, `UPDATE slipway.river_job SET state = 'running', attempted_at = now() - interval '1 hour'`) // as a worker that was killed leaves it
	s.worker(t)
	s.awaitStatus(t, "ann", saved.text("id"), upload.Completed)
}

func TestReservationsRunOut(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	ask := func(path string) reply { return ok(t, s.do(t, "ann", "GET", path, nil), 200) }
	never, open, neverUploadcare := ask("/generate-signature?reserve=1"), ask("/generate-signature?reserve=1"), ask("/v1/direct/uploadcare?reserve=1")
	unsaved, asVideo := ask("/generate-signature?reserve=1&file_name=a.png"), ask("/generate-signature?reserve=1&file_name=b.png")
	marked := ask("/v1/direct/uploadcare?reserve=1&file_name=c.png")
	asVideo.body["upload_url"] = strings.Replace(asVideo.text("upload_url"), "/image/upload", "/video/upload", 1)
	answer := sendReserved(t, unsaved, "a.png", picture(t))
	sendReserved(t, asVideo, "b.mp4", []byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"))
	file := sendReserved(t, marked, "other.png", picture(t)).text("file")
	s.exec(t, `UPDATE slipway.uploads SET expires_at = now() - interval '1 minute' WHERE id <> $1`, open.text("id"))
	s.worker(t)
	for _, r := range []reply{never, neverUploadcare} {
		if u := s.awaitStatus(t, "ann", r.text("id"), upload.Expired); u.body["error"] != nil || u.body["asset"] != nil {
			t.Errorf("what was never sent is %v", u.body)
		}
	}
	for name, tt := range map[string]struct {
		reserved                        reply
		asset, resourceType, name, says string
	}{
		"an image":                              {unsaved, unsaved.text("public_id"), "image", "a.png", "Cloudinary has the file as the image "},
		"what was reserved as an image, a film": {asVideo, asVideo.text("public_id"), "video", "b.png", "Cloudinary has the file as the video "},
		"a file whose metadata tells":           {marked, file, "image", "c.png", "Uploadcare has the file as the image "},
	} {
		u := s.awaitStatus(t, "ann", tt.reserved.text("id"), upload.Completed)
		if a, _ := u.body["asset"].(map[string]any); a["id"] != tt.asset || u.text("resource_type") != tt.resourceType || u.text("file_name") != tt.name {
			t.Errorf("%s, sent and never saved, is %v", name, u.body)
		}
		if says := s.reports(t, u.text("id")); len(says) != 1 || !strings.HasPrefix(says[0], tt.says+tt.asset) {
			t.Errorf("%s is reported as %q", name, says)
		}
	}
	if u := s.upload(t, "ann", open.text("id")); u.text("status") != "reserved" {
		t.Errorf("one that has time left is %v", u.body)
	}
	if saved := ok(t, s.save(t, "ann", three(answer)), 200); saved.text("id") != unsaved.text("id") {
		t.Errorf("saved at last, it is %v", saved.body)
	}
}

// reports are the messages of events that tell of a file which was sent and never saved.
func (s *shore) reports(t *testing.T, id string) (says []string) {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT data ->> 'message' FROM slipway.upload_events WHERE upload_id = $1 AND data ->> 'code' = 'asset_unclaimed'`, id)
	if err == nil {
		says, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatal(err)
	}
	return says
}

func TestModes(t *testing.T) {
	t.Parallel()
	strict := func(a *httpapi.API) { a.Direct.Claims.Strict = true }
	off := func(a *httpapi.API) { a.Direct = httpapi.Direct{} }
	uploadcareOnly := func(a *httpapi.API) { a.Direct.Cloudinary = nil }
	widget := map[string]any{"paramsToSign": map[string]any{"timestamp": time.Now().Unix()}}
	type call struct {
		method, path string
		body         any
	}
	bare, twin, save := call{"GET", "/generate-signature", nil}, call{"GET", "/v1/direct/uploadcare", nil}, call{"POST", "/save-metadata", `{"public_id":"a","secure_url":"x","resource_type":"image"}`}
	tests := map[string]struct {
		mode   func(*httpapi.API)
		call   call
		status int
		code   upload.Code
	}{
		"off: no signature":                           {off, bare, 404, upload.DirectOff},
		"off: none for the widget":                    {off, call{"POST", "/generate-signature", widget}, 404, upload.DirectOff},
		"off: none for Uploadcare":                    {off, twin, 404, upload.DirectOff},
		"off: no claim":                               {off, save, 404, upload.DirectOff},
		"strict: none that reserves nothing":          {strict, bare, 403, upload.ReservedOnly},
		"strict: none for the widget's random names":  {strict, call{"POST", "/generate-signature", widget}, 403, upload.ReservedOnly},
		"strict: none for Uploadcare that is for all": {strict, twin, 403, upload.ReservedOnly},
		"strict: no claim to what was not reserved":   {strict, save, 403, upload.ReservedOnly},
		"strict: reserved":                            {strict, call{"GET", "/generate-signature?reserve=1", nil}, 200, ""},
		"strict: reserved for Uploadcare":             {strict, call{"GET", "/v1/direct/uploadcare?reserve=1", nil}, 200, ""},
		"a provider without an account":               {uploadcareOnly, bare, 422, upload.ProviderMissing},
		"a claim to a provider without an account":    {uploadcareOnly, save, 422, upload.ProviderMissing},
		"an answer that is neither yes nor no":        {nil, call{"GET", "/generate-signature?reserve=maybe", nil}, 422, upload.InvalidParameter},
		"a type that there is not":                    {nil, call{"GET", "/generate-signature?resource_type=music", nil}, 422, upload.UnknownResourceType},
		"a name that is a path":                       {nil, call{"GET", "/generate-signature?reserve=1&file_name=a/b.png", nil}, 422, upload.InvalidFileName},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, tt.mode)
			r := s.do(t, "ann", tt.call.method, tt.call.path, tt.call.body)
			if r.status != tt.status || upload.Code(r.text("code")) != tt.code {
				t.Errorf("got %d %v, want %d %s", r.status, r.body, tt.status, tt.code)
			}
		})
	}
}

func TestTooManyReservationsAndClaims(t *testing.T) {
	t.Parallel()
	s := open(t, func(a *httpapi.API) { a.Direct.Claims.MaxReserved, a.Direct.Claims.MaxRefused = 2, 2 })
	s.worker(t)
	for range 2 {
		s.signature(t, "ann", "?reserve=1")
	}
	if r := s.do(t, "ann", "GET", "/generate-signature?reserve=1", nil); r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("got %d %v", r.status, r.body)
	}
	s.signature(t, "bob", "?reserve=1")
	for _, id := range []string{"a", "b"} {
		if r := s.save(t, "bob", map[string]any{"public_id": id, "secure_url": "x", "resource_type": "image"}); r.status != 404 {
			t.Errorf("got %d %v", r.status, r.body)
		}
	}
	if r := s.save(t, "bob", map[string]any{"public_id": "c", "secure_url": "x", "resource_type": "image"}); r.status != 429 {
		t.Errorf("got %d %v", r.status, r.body)
	}
	if asked := s.asked(); asked != 2 {
		t.Errorf("Cloudinary was asked %d times", asked)
	}
}
