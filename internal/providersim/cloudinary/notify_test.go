package cloudinary

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudinary/cloudinary-go/v2/api/admin"
	"github.com/cloudinary/cloudinary-go/v2/api/uploader"

	"slipway/internal/providersim"
)

// heard is a notification as its receiver sees it.
type heard struct {
	raw       string
	body      map[string]any
	timestamp int64
	signature string
}

func (n heard) kind() string { kind, _ := n.body["notification_type"].(string); return kind }

// subscriber is an address that answers notifications with the statuses given, then with 200.
func subscriber(t *testing.T, statuses ...int) (address string, arrived <-chan heard) {
	t.Helper()
	notes := make(chan heard, 100)
	answers := make(chan int, len(statuses))
	for _, status := range statuses {
		answers <- status
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		n := heard{raw: string(raw), signature: r.Header.Get("X-Cld-Signature")}
		timestamp, timeErr := strconv.ParseInt(r.Header.Get("X-Cld-Timestamp"), 10, 64)
		if n.timestamp = timestamp; err != nil || timeErr != nil || json.Unmarshal(raw, &n.body) != nil || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "not a notification", http.StatusBadRequest)
			return
		}
		notes <- n
		select {
		case status := <-answers:
			w.WriteHeader(status)
		default:
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, notes
}

func next(t *testing.T, arrived <-chan heard) heard {
	t.Helper()
	select {
	case n := <-arrived:
		return n
	case <-time.After(10 * time.Second):
		t.Fatal("no notification came")
		return heard{}
	}
}

// trigger registers an address for a type of event of the whole cloud.
func (s *site) trigger(address, eventType string, additive bool) {
	s.t.Helper()
	s.adminForm(http.MethodPost, "/triggers", url.Values{
		"uri": {address}, "event_type": {eventType}, "additive": {strconv.FormatBool(additive)},
	}).want(s.t, 200, map[string]any{"uri": address, "event_type": eventType, "additive": additive})
}

// adminForm calls the Admin API with a form.
func (s *site) adminForm(method, path string, form url.Values) answered {
	s.t.Helper()
	req := s.request(method, "/v1_1/"+testCloud+path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(testKey, testSecret)
	return s.do(req)
}

func TestGoSDKManagesTriggers(t *testing.T) {
	s := open(t, nil)
	c := s.goSDK(nil)
	made, err := c.Admin.CreateTrigger(t.Context(), admin.CreateTriggerParams{URI: "http://127.0.0.1/a", EventType: "upload"})
	if err != nil || made.Error.Message != "" {
		t.Fatal(made.Error, err)
	}
	if made.ID == "" || made.URI != "http://127.0.0.1/a" || made.EventType != "upload" || made.Additive || made.AuthScheme != "default" ||
		made.URIType != "webhook" || made.ProductEnvironmentID == "" || made.CreatedAt == "" || made.UpdatedAt != made.CreatedAt {
		t.Errorf("made %+v", made.Trigger)
	}
	additive := true
	changed, err := c.Admin.UpdateTrigger(t.Context(), admin.UpdateTriggerParams{TriggerID: made.ID, URI: "http://127.0.0.1/b", Additive: &additive, AuthScheme: "legacy_hmac"})
	if err != nil || changed.Error.Message != "" {
		t.Fatal(changed.Error, err)
	}
	want := made.Trigger
	want.URI, want.Additive, want.AuthScheme, want.UpdatedAt = "http://127.0.0.1/b", true, "legacy_hmac", changed.UpdatedAt
	if !reflect.DeepEqual(changed.Trigger, want) {
		t.Errorf("changed %+v, want %+v", changed.Trigger, want)
	}
	again, err := c.Admin.CreateTrigger(t.Context(), admin.CreateTriggerParams{URI: "http://127.0.0.1/b", EventType: "upload"})
	if err != nil || again.Error.Message != "Trigger already exists" {
		t.Errorf("made twice: %+v, %v", again, err)
	}
	listed, err := c.Admin.ListTriggers(t.Context(), admin.ListTriggersParams{})
	if err != nil || len(listed.Triggers) != 1 || !reflect.DeepEqual(listed.Triggers[0], want) {
		t.Errorf("listed %+v, %v", listed.Triggers, err)
	}
	gone, err := c.Admin.DeleteTrigger(t.Context(), admin.DeleteTriggerParams{TriggerID: made.ID})
	if err != nil || gone.Error.Message != "" || gone.Message == "" {
		t.Errorf("deleted %+v, %v", gone, err)
	}
	if listed, err := c.Admin.ListTriggers(t.Context(), admin.ListTriggersParams{}); err != nil || len(listed.Triggers) != 0 {
		t.Errorf("left %+v, %v", listed, err)
	}
}

func TestTriggerRegistration(t *testing.T) {
	s := open(t, func(st *Settings) { st.AdminQuota = 1000 })
	tests := map[string]struct {
		method, path string
		form         url.Values
		status       int
		message      string
	}{
		"an address is needed":               {"POST", "/triggers", url.Values{"event_type": {"upload"}}, 400, "Missing required parameter - uri"},
		"an address is a web address":        {"POST", "/triggers", url.Values{"uri": {"/a"}, "event_type": {"upload"}}, 400, "Invalid uri /a"},
		"a type is needed":                   {"POST", "/triggers", url.Values{"uri": {"http://127.0.0.1"}}, 400, "Missing required parameter - event_type"},
		"a type is one there is":             {"POST", "/triggers", url.Values{"uri": {"http://127.0.0.1"}, "event_type": {"x"}}, 400, "Invalid event_type x"},
		"what cannot be signed is refused":   {"POST", "/triggers", url.Values{"uri": {"http://127.0.0.1"}, "event_type": {"all"}, "auth_scheme": {"eddsa_v2"}}, 400, "auth_scheme eddsa_v2 is not simulated"},
		"what cannot be filtered is refused": {"POST", "/triggers", url.Values{"uri": {"http://127.0.0.1"}, "event_type": {"all"}, "filter": {"{}"}}, 400, "filter and payload_template are not simulated"},
		"none is changed":                    {"PUT", "/triggers/x", url.Values{}, 404, "Trigger not found - x"},
		"none is deleted":                    {"DELETE", "/triggers/x", url.Values{}, 404, "Trigger not found - x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := s.adminForm(tt.method, tt.path, tt.form)
			if a.StatusCode != tt.status || a.message() != tt.message {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.message(), tt.status, tt.message)
			}
		})
	}
	t.Run("an event type has 30 receivers at most", func(t *testing.T) {
		for i := range maxReceivers {
			s.trigger("http://127.0.0.1/"+strconv.Itoa(i), "delete", false)
		}
		s.adminForm("POST", "/triggers", url.Values{"uri": {"http://127.0.0.1/more"}, "event_type": {"delete"}}).want(t, 400, nil)
		s.trigger("http://127.0.0.1/more", "upload", false)
	})
}

func TestTriggersOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	t.Run("first", func(t *testing.T) { reopen(t, dir, nil).trigger("http://127.0.0.1/a", "all", false) })
	if list := reopen(t, dir, nil).listTriggers(); len(list) != 1 || list[0].URI != "http://127.0.0.1/a" {
		t.Errorf("triggers %+v", list)
	}
}

func TestNotificationIsSignedAndRepeatedUntilItIsTaken(t *testing.T) {
	for name, sha256 := range map[string]bool{"with SHA-1": false, "with SHA-256": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(st *Settings) { st.SHA256 = sha256 })
			address, arrived := subscriber(t, 500, 204, 302)
			c := s.goSDK(nil)
			if sha256 {
				c.Upload.Config.Cloud.SignatureAlgorithm = "sha256"
			}
			if _, err := c.Upload.Upload(t.Context(), strings.NewReader("abc"), uploader.UploadParams{
				PublicID: "a", ResourceType: "raw", NotificationURL: address,
			}); err != nil {
				t.Fatal(err)
			}
			var first heard
			for _, wait := range append([]time.Duration{0}, s.Settings().hookWaits()...) {
				s.controls.Clock.Advance(wait)
				n := next(t, arrived)
				if !c.Upload.VerifyNotificationSignature(n.raw, n.timestamp, n.signature, 0) {
					t.Error("the signature is not valid")
				}
				if first.raw == "" {
					first = n
				}
				if n.raw != first.raw {
					t.Errorf("told %s, then %s", first.raw, n.raw)
				}
				if wait > 0 && n.timestamp < first.timestamp+180 {
					t.Errorf("signed as of %d, after %d", n.timestamp, first.timestamp)
				}
			}
		})
	}
}

func TestRefusedNotificationComesAgainAfter3And6And9Minutes(t *testing.T) {
	want := []time.Duration{3 * time.Minute, 6 * time.Minute, 9 * time.Minute}
	if got := DefaultSettings().hookWaits(); !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

func TestEventsAreTold(t *testing.T) {
	upload := func(s *site, params map[string]string) {
		s.t.Helper()
		s.send(sending{path: "/raw/upload", file: []byte("abc"), name: "a.txt", params: params}).want(s.t, 200, nil)
	}
	call := func(s *site, path string, params map[string]string) {
		s.t.Helper()
		s.send(sending{path: path, params: params}).want(s.t, 200, nil)
	}
	described := map[string]string{"public_id": "a", "tags": "x,y", "context": "k=1|l=2", "metadata": "m=1"}
	tests := map[string]struct {
		do   func(s *site)
		want map[string]map[string]any // some fields of the body, by type
	}{
		"an upload": {
			func(s *site) { upload(s, map[string]string{"public_id": "a"}) },
			map[string]map[string]any{"upload": {
				"public_id": "a", "bytes": 3.0, "etag": md5Hex([]byte("abc")), "resource_type": "raw", "type": "upload",
				"signature": nil, "done": nil, "api_key": testKey, "signature_key": testKey,
			}},
		},
		"an upload whose copies come later": {
			func(s *site) {
				upload(s, map[string]string{"public_id": "a", "eager": "w_1", "eager_async": "true"})
			},
			map[string]map[string]any{"upload": {"public_id": "a"}, "eager": {"public_id": "a", "eager.0.status": "complete", "eager.0.transformation": "w_1"}},
		},
		"an upload that changes nothing": {
			func(s *site) {
				upload(s, map[string]string{"public_id": "a"})
				upload(s, map[string]string{"public_id": "a", "overwrite": "false"})
			},
			map[string]map[string]any{"upload": {"public_id": "a"}},
		},
		"a deletion": {
			func(s *site) {
				upload(s, map[string]string{"public_id": "a"})
				call(s, "/raw/destroy", map[string]string{"public_id": "a"})
				call(s, "/raw/destroy", map[string]string{"public_id": "a"})
			},
			map[string]map[string]any{"upload": {}, "delete": {
				"resources.0.public_id": "a", "resources.0.resource_type": "raw", "resources.0.type": "upload", "resources.1": nil,
			}},
		},
		"a deletion by the Admin API": {
			func(s *site) {
				upload(s, map[string]string{"public_id": "a"})
				s.admin(http.MethodDelete, "/resources/raw/upload?public_ids[]=a&public_ids[]=b").want(s.t, 200, nil)
				s.admin(http.MethodDelete, "/resources/raw/upload?public_ids[]=b").want(s.t, 200, nil)
			},
			map[string]map[string]any{"upload": {}, "delete": {"resources.0.public_id": "a", "resources.1": nil}},
		},
		"a new name": {
			func(s *site) {
				upload(s, map[string]string{"public_id": "a"})
				call(s, "/raw/rename", map[string]string{"from_public_id": "a", "to_public_id": "b"})
			},
			map[string]map[string]any{"upload": {}, "rename": {"from_public_id": "a", "to_public_id": "b", "resource_type": "raw"}},
		},
		"another description": {
			func(s *site) {
				upload(s, described)
				call(s, "/raw/explicit", map[string]string{
					"public_id": "a", "type": "upload", "tags": "y,z", "context": "k=2|n=3", "metadata": "m=2", "access_control": `[{"access_type":"token"}]`,
				})
			},
			map[string]map[string]any{
				"upload":                    {"tags.1": "y", "context.custom.k": "1"},
				"resource_tags_changed":     {"source": "api", "resources.0.public_id": "a", "resources.0.added.0": "z", "resources.0.removed.0": "x"},
				"resource_context_changed":  {"resources.a.added.0.name": "n", "resources.a.updated.0.value": "2", "resources.a.removed.0.name": "l"},
				"resource_metadata_changed": {"resources.a.previous_metadata.m": "1", "resources.a.new_metadata.m": "2", "resources.a.type": "upload"},
				"access_control_changed":    {"resources.0.previous_access_control": nil, "resources.0.new_access_control.0.access_type": "token"},
			},
		},
		"the same description": {
			func(s *site) {
				upload(s, described)
				call(s, "/raw/explicit", described)
			},
			map[string]map[string]any{"upload": {}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(st *Settings) { st.MetadataFields = []string{"m"} })
			address, arrived := subscriber(t)
			s.trigger(address, "all", false)
			tt.do(s)
			got := map[string]heard{}
			for range tt.want {
				n := next(t, arrived)
				got[n.kind()] = n
			}
			for kind, fields := range tt.want {
				for path, want := range fields {
					if value := dig(got[kind].body, path); value != want {
						t.Errorf("%s: %s = %v, want %v in %s", kind, path, value, want, got[kind].raw)
					}
				}
			}
			if sent := s.controls.Notices.List(); len(sent) != len(tt.want) {
				t.Errorf("told %d times, want %d: %+v", len(sent), len(tt.want), sent)
			}
		})
	}
}

// dig is the value at a path through objects and arrays, nil where there is none.
func dig(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

func TestWhoIsTold(t *testing.T) {
	tests := map[string]struct {
		own  string // notification_url
		want []string
	}{
		"without an address of its own: those of the cloud": {"", []string{"http://127.0.0.1/all", "http://127.0.0.1/more", "http://127.0.0.1/uploads"}},
		"its own, and the additive ones":                    {"http://127.0.0.1/own", []string{"http://127.0.0.1/more", "http://127.0.0.1/own"}},
		"each address once":                                 {"http://127.0.0.1/more", []string{"http://127.0.0.1/more"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			s.trigger("http://127.0.0.1/all", "all", false)
			s.trigger("http://127.0.0.1/all", "upload", false)
			s.trigger("http://127.0.0.1/uploads", "upload", false)
			s.trigger("http://127.0.0.1/deletions", "delete", true)
			s.trigger("http://127.0.0.1/more", "upload", true)
			if err := s.controls.Notices.Add(providersim.NoticeRule{Action: providersim.Lose}); err != nil {
				t.Fatal(err)
			}
			s.send(sending{path: "/raw/upload", file: []byte("abc"), name: "a", params: map[string]string{"public_id": "a", "notification_url": tt.own}}).want(t, 200, nil)
			var told []string
			for _, n := range s.controls.Notices.List() {
				told = append(told, n.URL)
			}
			if slices.Sort(told); !slices.Equal(told, tt.want) {
				t.Errorf("told %v, want %v", told, tt.want)
			}
		})
	}
}

func TestPendingUploadIsToldOfWhenItIsReady(t *testing.T) {
	s := open(t, func(st *Settings) { st.PendingFor = Duration(time.Hour) })
	address, arrived := subscriber(t)
	s.trigger(address, "upload", false)
	s.send(sending{path: "/raw/upload", file: []byte("abc"), name: "a", params: map[string]string{"public_id": "late", "async": "true"}}).
		want(t, 200, map[string]any{"status": "pending"})
	s.sendRaw("soon", "abc").want(t, 200, nil)
	if n := next(t, arrived); n.body["public_id"] != "soon" {
		t.Errorf("told %s", n.raw)
	}
	s.controls.Clock.Advance(time.Hour)
	if n := next(t, arrived); n.body["public_id"] != "late" {
		t.Errorf("told %s", n.raw)
	}
	s.admin(http.MethodGet, "/resources/raw/upload/late").want(t, 200, nil)
}
