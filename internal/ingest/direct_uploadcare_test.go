package ingest_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// signedFor is what Uploadcare is sent with a file, signed for the user.
func (s *shore) signedFor(t *testing.T, user, query string) (r reply, fields map[string]string) {
	t.Helper()
	r = ok(t, s.do(t, user, "GET", "/v1/direct/uploadcare"+query, nil), http.StatusOK)
	fields = map[string]string{}
	for k, v := range r.body["fields"].(map[string]any) {
		fields[k] = v.(string)
	}
	return r, fields
}

// put sends a picture to Uploadcare and returns its id.
func (s *shore) put(t *testing.T, fields map[string]string) (fileID string) {
	t.Helper()
	return sent(t, s.uploadcare.URL+"/base/", fields, "père & fils.png", picture(t)).text("file")
}

func changed(fields map[string]string, name, value string) map[string]string {
	fields = maps.Clone(fields)
	fields[name] = value
	if value == "" {
		delete(fields, name)
	}
	return fields
}

func twin(fileID string, more ...string) map[string]any {
	claim := map[string]any{"provider": "uploadcare", "file_id": fileID}
	if len(more) > 0 {
		claim["id"] = more[0]
	}
	return claim
}

func TestTheTwinAtUploadcare(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.worker(t)
	for _, query := range []string{"", "?reserve=1&file_name=mine.png"} {
		r, fields := s.signedFor(t, "ann", query)
		if r.text("pub_key") != publicKey || r.text("upload_url") != s.uploadcare.URL+"/base/" || r.text("signature") == "" || r.body["expire"] == nil {
			t.Errorf("the signature's answer is %v", r.body)
		}
		fileID := s.put(t, fields)
		claim, name := twin(fileID), "père & fils.png"
		if query != "" {
			claim, name = twin(fileID, r.text("id")), "mine.png"
		}
		saved := ok(t, s.save(t, "ann", claim), http.StatusOK)
		if query != "" && saved.text("id") != r.text("id") {
			t.Errorf("saved as %v, reserved was %s", saved.body, r.text("id"))
		}
		u := s.upload(t, "ann", saved.text("id"))
		asset := u.body["asset"].(map[string]any)
		if u.text("status") != "completed" || u.text("file_name") != name || asset["id"] != fileID || asset["width"] != json.Number("3") || u.text("content_type") != "image/png" {
			t.Errorf("it is %v", u.body)
		}
		var url string
		if err := s.pool.QueryRow(t.Context(), `SELECT file_url FROM uploadcare_files WHERE user_id = 'ann' AND file_id = $1`, fileID).Scan(&url); err != nil || url != asset["url"] {
			t.Errorf("the guide's SELECT finds %s, %v", url, err)
		}
		s.controls["uploadcare"].Clock.Advance(25 * time.Hour)
		if files := must[[]simFile](t)(s.uploadcare.Inventory()); len(files) == 0 || !files[len(files)-1].Stored || files[len(files)-1].Expired {
			t.Errorf("a day later Uploadcare has %+v", files)
		}
		if again := ok(t, s.save(t, "ann", claim), 200); again.text("id") != saved.text("id") {
			t.Errorf("once more it is %v", again.body)
		}
	}
}

func TestClaimsAtUploadcare(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		say    func(t *testing.T, s *shore) reply
		status int
		code   upload.Code
	}{
		"stored already": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			return s.save(t, "ann", twin(s.put(t, changed(fields, "UPLOADCARE_STORE", "1"))))
		}, 409, upload.AlreadyStored},
		"stored already, and reserved": {func(t *testing.T, s *shore) reply {
			r, fields := s.signedFor(t, "ann", "?reserve=1")
			return s.save(t, "ann", twin(s.put(t, changed(fields, "UPLOADCARE_STORE", "1")), r.text("id")))
		}, 409, upload.AlreadyStored},
		"a day old": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			fileID := s.put(t, fields)
			s.controls["uploadcare"].Clock.Advance(25 * time.Hour)
			return s.save(t, "ann", twin(fileID))
		}, 404, upload.AssetNotFound},
		"not there": {func(t *testing.T, s *shore) reply {
			s.signedFor(t, "ann", "")
			return s.save(t, "ann", twin("740e1b8c-1ad8-4324-b7ec-112c79d8eac2"))
		}, 404, upload.AssetNotFound},
		"nobody's who never got a signature": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			return s.save(t, "bob", twin(s.put(t, fields)))
		}, 403, upload.NotSignedFor},
		"made long after the signature": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			fileID := s.put(t, fields)
			s.exec(t, `UPDATE slipway.direct_handouts SET minute = minute - interval '70 minutes'`)
			return s.save(t, "ann", twin(fileID))
		}, 403, upload.NotSignedFor},
		"sent for somebody else's upload": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "?reserve=1")
			s.signedFor(t, "bob", "")
			return s.save(t, "bob", twin(s.put(t, fields)))
		}, 403, upload.NotSignedFor},
		"sent for another of their own": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "?reserve=1")
			other, _ := s.signedFor(t, "ann", "?reserve=1")
			return s.save(t, "ann", twin(s.put(t, fields), other.text("id")))
		}, 403, upload.NotSignedFor},
		"reserved, and it does not say so": {func(t *testing.T, s *shore) reply {
			r, fields := s.signedFor(t, "ann", "?reserve=1")
			return s.save(t, "ann", twin(s.put(t, changed(fields, "metadata[slipway_upload]", "")), r.text("id")))
		}, 403, upload.NotSignedFor},
		"for an upload of somebody else's": {func(t *testing.T, s *shore) reply {
			r, fields := s.signedFor(t, "ann", "?reserve=1")
			s.signedFor(t, "bob", "")
			return s.save(t, "bob", twin(s.put(t, fields), r.text("id")))
		}, 404, upload.NotFound},
		"for an upload that has its file": {func(t *testing.T, s *shore) reply {
			r, fields := s.signedFor(t, "ann", "?reserve=1")
			ok(t, s.save(t, "ann", twin(s.put(t, fields), r.text("id"))), 200)
			return s.save(t, "ann", twin(s.put(t, fields), r.text("id")))
		}, 409, upload.AlreadyClaimed},
		"the second of two users": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			s.signedFor(t, "bob", "")
			fileID := s.put(t, fields)
			ok(t, s.save(t, "ann", twin(fileID)), 200)
			return s.save(t, "bob", twin(fileID))
		}, 409, upload.AlreadyStored},
		"what a row of the guide's own app has of another user, which is not stored then": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			fileID := s.put(t, fields)
			s.exec(t, `INSERT INTO uploadcare_files (file_id, file_url, user_id) VALUES ($1, 'https://old', 'eve')`, fileID)
			r := s.save(t, "ann", twin(fileID))
			if files := must[[]simFile](t)(s.uploadcare.Inventory()); files[0].Stored {
				t.Error("it was stored")
			}
			return r
		}, 409, upload.AlreadyClaimed},
		"what somebody else has claimed in vain": {func(t *testing.T, s *shore) reply {
			_, fields := s.signedFor(t, "ann", "")
			s.signedFor(t, "bob", "")
			fileID := s.put(t, fields)
			s.fault(t, "uploadcare", providersim.Rule{Method: "PUT", Path: "^/files/", Times: 1, Action: providersim.Answer, Status: 404,
				Header: map[string]string{"Content-Type": "application/json"}, Body: `{"detail":"Not found."}`})
			if r := s.save(t, "bob", twin(fileID)); r.status != 404 {
				t.Errorf("bob got %d %v", r.status, r.body)
			}
			return s.save(t, "ann", twin(fileID))
		}, 200, ""},
		"without file_id":      {func(t *testing.T, s *shore) reply { return s.save(t, "ann", `{"provider":"uploadcare"}`) }, 422, upload.InvalidParameter},
		"with another file_id": {func(t *testing.T, s *shore) reply { return s.save(t, "ann", twin("../project")) }, 422, upload.InvalidParameter},
		"with an id that is none": {func(t *testing.T, s *shore) reply {
			return s.save(t, "ann", twin("740e1b8c-1ad8-4324-b7ec-112c79d8eac2", "x"))
		}, 404, upload.NotFound},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			s.worker(t)
			r := tt.say(t, s)
			if r.status != tt.status || upload.Code(r.text("code")) != tt.code || r.body["success"] != (tt.status == http.StatusOK) {
				t.Errorf("got %d %v, want %d %s", r.status, r.body, tt.status, tt.code)
			}
		})
	}
}

func TestBadWeatherAtUploadcareDelaysAClaim(t *testing.T) {
	t.Parallel()
	tests := map[string]providersim.Rule{
		"the store's answer is lost":    {Path: "/storage/$", Times: 1, Action: providersim.ResetAfter},
		"it is throttled":               {Path: "^/files/", Times: 1, Action: providersim.Answer, Status: 429, Header: map[string]string{"Retry-After": "1"}, Body: `{"detail":"Request was throttled."}`},
		"it is down for the look":       {Method: "GET", Path: "^/files/", Times: 3, Action: providersim.Answer, Status: 502, Body: "<html>"},
		"it is down for the store":      {Method: "PUT", Path: "^/files/", Times: 3, Action: providersim.Answer, Status: 503, Body: "<html>"},
		"the keys are refused a while":  {Path: "^/(files|project)/", Times: 3, Action: providersim.Answer, Status: 401, Header: map[string]string{"Content-Type": "application/json"}, Body: `{"detail":"Incorrect authentication credentials."}`},
		"the look's answer never comes": {Method: "GET", Path: "^/files/", Times: 1, Action: providersim.ResetBefore},
	}
	for name, rule := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			_, fields := s.signedFor(t, "ann", "")
			fileID := s.put(t, fields)
			s.worker(t)
			s.fault(t, "uploadcare", rule)
			ok(t, s.save(t, "ann", twin(fileID)), 200)
			if hits := s.controls["uploadcare"].Faults.List()[0].Hits; hits == 0 {
				t.Error("the fault never struck: the test has proven nothing")
			}
		})
	}
}

func TestAFileThatIsNotReadyIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	must[struct{}](t)(struct{}{}, s.uploadcare.Configure(func(c *simConfig) { c.ReadyDelayMS = 300 }))
	_, fields := s.signedFor(t, "ann", "")
	fileID := s.put(t, fields)
	s.worker(t)
	ok(t, s.save(t, "ann", twin(strings.ToUpper(fileID))), 200)
}
