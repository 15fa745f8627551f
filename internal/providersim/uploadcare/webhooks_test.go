package uploadcare

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uploadcare/uploadcare-go/ucare"
	ucwebhook "github.com/uploadcare/uploadcare-go/webhook"

	"slipway/internal/providersim"
)

// told is a notification as its receiver sees it.
type told struct {
	raw       []byte
	signature string
	Hook      map[string]any `json:"hook"`
	Initiator struct {
		Type   string         `json:"type"`
		Detail map[string]any `json:"detail"`
	} `json:"initiator"`
	Data struct {
		shown
		UUID     string            `json:"uuid"`
		URL      string            `json:"url"`
		Original *string           `json:"original_file_url"`
		Size     int64             `json:"size"`
		Metadata map[string]string `json:"metadata"`
		AppData  map[string]any    `json:"appdata"`
	} `json:"data"`
	File     string `json:"file"`
	Previous *struct {
		Metadata map[string]string `json:"metadata"`
	} `json:"previous_values"`
}

func (n told) event() string { return fmt.Sprint(n.Hook["event"]) }

// subscriber is an address that accepts every notification.
func subscriber(t *testing.T) (address string, arrived <-chan told) {
	t.Helper()
	notes := make(chan told, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		n := told{raw: raw, signature: r.Header.Get("X-Uc-Signature")}
		if err != nil || json.Unmarshal(raw, &n) != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "not a notification", http.StatusBadRequest)
			return
		}
		notes <- n
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/hooks", notes
}

func next(t *testing.T, arrived <-chan told) told {
	t.Helper()
	select {
	case n := <-arrived:
		return n
	case <-soon(t).Done():
		t.Fatal("no notification came")
		return told{}
	}
}

// subscribe subscribes an address to events.
func subscribe(t *testing.T, sim *Running, address string, events ...string) {
	t.Helper()
	for _, event := range events {
		body := fmt.Sprintf(`{"target_url":%q,"event":%q,"signing_secret":"7kMVZivndx0ErgvhRKAr"}`, address, event)
		decode[webhook](t, rest(t, sim, http.MethodPost, "/webhooks/", body))
	}
}

// rest sends JSON to the REST API.
func rest(t *testing.T, sim *Running, method, path, body string) answer {
	t.Helper()
	header := simple()
	header.Set("Content-Type", "application/json")
	return do(t, method, sim.URL+path, header, strings.NewReader(body))
}

func TestGoSDKManagesWebhooks(t *testing.T) {
	for name, signed := range map[string]bool{"with simple authentication": false, "with signed requests": true} {
		t.Run(name, func(t *testing.T) {
			hooks := ucwebhook.NewService(goSDK(t, begin(t, t.TempDir(), Config{}), signed))
			first, err := hooks.Create(soon(t), ucwebhook.Params{
				TargetURL: ucare.String("http://127.0.0.1/a"), Event: ucare.String(ucwebhook.EventFileUploaded), SigningSecret: ucare.String("secret"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if first.ID == 0 || first.Project == 0 || first.CreatedAt.IsZero() || !first.IsActive || first.SigningSecret == nil || *first.SigningSecret != "secret" {
				t.Errorf("created %+v", first)
			}
			second, err := hooks.Create(soon(t), ucwebhook.Params{TargetURL: ucare.String("http://127.0.0.1/b"), Event: ucare.String("file.stored")})
			if err != nil || second.ID == first.ID || second.SigningSecret != nil {
				t.Errorf("created %+v, %v", second, err)
			}
			if _, err := hooks.Create(soon(t), ucwebhook.Params{TargetURL: ucare.String("http://127.0.0.1/b"), Event: ucare.String("file.stored")}); err == nil {
				t.Error("one address was subscribed to one event twice")
			}
			updated, err := hooks.Update(soon(t), ucwebhook.Params{ID: &first.ID, TargetURL: ucare.String("http://127.0.0.1/c"), IsActive: ucare.Bool(false)})
			if err != nil || updated.TargetURL != "http://127.0.0.1/c" || updated.IsActive || updated.Event != "file.uploaded" || updated.SigningSecret == nil {
				t.Errorf("updated %+v, %v", updated, err)
			}
			if err := hooks.Delete(soon(t), "http://127.0.0.1/b"); err != nil {
				t.Error(err)
			}
			left, err := hooks.List(soon(t))
			if err != nil || len(left) != 1 || left[0].ID != first.ID {
				t.Errorf("left %+v, %v", left, err)
			}
		})
	}
}

func TestWebhookRegistration(t *testing.T) {
	const whole = `{"target_url":"http://127.0.0.1/a","event":"file.uploaded"}`
	tests := map[string]struct {
		method, path, body string
		status             int
		detail             string
	}{
		"an address may subscribe to another event": {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/a","event":"file.deleted"}`, 201, ""},
		"to the same event it may not":              {"POST", "/webhooks/", whole, 400, errWebhookTaken.Detail},
		"an address is needed":                      {"POST", "/webhooks/", `{"event":"file.uploaded"}`, 400, "`target_url` is missing."},
		"an address is a web address":               {"POST", "/webhooks/", `{"target_url":"ftp://127.0.0.1/","event":"file.uploaded"}`, 400, "`target_url` is invalid."},
		"an address has 255 characters at most":     {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/` + strings.Repeat("a", 240) + `","event":"file.uploaded"}`, 400, "`target_url` is invalid."},
		"an event is needed":                        {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/b"}`, 400, "`event` is missing."},
		"an event is one there is":                  {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/b","event":"file.eaten"}`, 400, "`event` \"file.eaten\" is unknown."},
		"a secret has 32 characters at most":        {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/b","event":"file.uploaded","signing_secret":"` + strings.Repeat("s", 33) + `"}`, 400, "`signing_secret` is longer than 32 characters."},
		"payloads of older versions are gone":       {"POST", "/webhooks/", `{"target_url":"http://127.0.0.1/b","event":"file.uploaded","version":"0.6"}`, 400, "`version` \"0.6\" is unknown."},
		"a body that is not JSON is refused":        {"POST", "/webhooks/", `target_url=a`, 400, "Request body can not be read."},
		"an update changes what it names":           {"PUT", "/webhooks/1001/", `{"signing_secret":""}`, 200, ""},
		"an update of none is not found":            {"PUT", "/webhooks/1/", `{}`, 404, "Not found."},
		"one is deleted by its id":                  {"DELETE", "/webhooks/1001/", ``, 204, ""},
		"none is deleted by another":                {"DELETE", "/webhooks/1/", ``, 404, "Not found."},
		"all of an address are deleted":             {"DELETE", "/webhooks/unsubscribe/", `{"target_url":"http://127.0.0.1/a"}`, 204, ""},
		"deleting those of no address is no error":  {"DELETE", "/webhooks/unsubscribe/", `{"target_url":"http://127.0.0.1/b"}`, 204, ""},
		"deleting needs an address":                 {"DELETE", "/webhooks/unsubscribe/", `{}`, 400, "`target_url` is missing."},
		"a list is not asked for by another method": {"PATCH", "/webhooks/", ``, 405, `Method "PATCH" not allowed.`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), Config{})
			decode[webhook](t, rest(t, sim, http.MethodPost, "/webhooks/", whole))
			a := rest(t, sim, tt.method, tt.path, tt.body)
			if a.StatusCode != tt.status {
				t.Fatalf("%d %s, want %d", a.StatusCode, a.body, tt.status)
			}
			var no struct {
				Detail string `json:"detail"`
			}
			if tt.status >= 400 {
				if err := json.Unmarshal(a.body, &no); err != nil || no.Detail != tt.detail {
					t.Errorf("%s, want %s", a.body, tt.detail)
				}
			}
		})
	}
}

func TestWebhookIsRegisteredByForm(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	header := simple()
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	form := url.Values{"target_url": {"http://127.0.0.1/a"}, "event": {"file.deleted"}, "is_active": {"false"}, "signing_secret": {"s"}}
	made := decode[webhook](t, do(t, http.MethodPost, sim.URL+"/webhooks/", header, strings.NewReader(form.Encode())))
	if made.TargetURL != "http://127.0.0.1/a" || made.Event != "file.deleted" || made.IsActive || *made.SigningSecret != "s" || made.Version != "0.7" {
		t.Errorf("made %+v", made)
	}
}

func TestPlanWithoutWebhooksRefusesThem(t *testing.T) {
	a := rest(t, begin(t, t.TempDir(), Config{NoWebhooks: true}), http.MethodGet, "/webhooks/", "")
	if a.StatusCode != http.StatusForbidden || string(a.body) != "{\"detail\":\"You can't use webhooks\"}\n" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestEventsAreToldToTheirSubscribers(t *testing.T) {
	upload := func(t *testing.T, sim *Running) string {
		return putFile(t, sim, []byte("bytes"), url.Values{"UPLOADCARE_STORE": {"0"}, "metadata[upload_id]": {"u-1"}})
	}
	tests := map[string]struct {
		events []string // subscribed to, and to be told in this order
		do     func(t *testing.T, sim *Running) (uuid string)
		ok     func(n told) bool // of the last
	}{
		"a direct upload": {[]string{fileUploaded}, upload, func(n told) bool {
			return n.Initiator.Type == "api" && n.Initiator.Detail["request_id"] != nil && n.Data.Stored == nil && n.Data.Ready &&
				n.Data.Size == 5 && n.Data.Metadata["upload_id"] == "u-1" && n.Data.AppData != nil && n.Previous == nil
		}},
		"a multipart upload": {[]string{fileUploaded}, func(t *testing.T, sim *Running) string {
			return putInParts(t, sim, content(minMultipart))
		}, func(n told) bool { return n.Data.Size == minMultipart }},
		"an upload from a URL": {[]string{fileUploaded}, func(t *testing.T, sim *Running) string {
			source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fetched") }))
			t.Cleanup(source.Close)
			query := url.Values{"pub_key": {testPublicKey}, "source_url": {source.URL + "/x.txt"}, "store": {"0"}}
			decode[any](t, do(t, http.MethodPost, sim.URL+"/from_url/?"+query.Encode(), nil, nil))
			return ""
		}, func(n told) bool { return n.Data.Size == 7 }},
		"an upload that is stored at once": {[]string{fileStored}, func(t *testing.T, sim *Running) string {
			return putFile(t, sim, []byte("bytes"), url.Values{"UPLOADCARE_STORE": {"1"}})
		}, func(n told) bool { return n.Data.Stored != nil }},
		"a file that is stored, but not again": {[]string{fileStored, fileDeleted}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			for _, method := range []string{http.MethodPut, http.MethodPut, http.MethodDelete} {
				decode[shown](t, rest(t, sim, method, "/files/"+uuid+"/storage/", ""))
			}
			return uuid
		}, func(n told) bool { return true }},
		"a file that is deleted, but not again": {[]string{fileDeleted, fileInfoUpdated}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			decode[shown](t, rest(t, sim, http.MethodDelete, "/files/"+uuid+"/storage/", ""))
			decode[shown](t, rest(t, sim, http.MethodDelete, "/files/"+uuid+"/storage/", ""))
			decode[string](t, rest(t, sim, http.MethodPut, "/files/"+uuid+"/metadata/a/", `"1"`))
			return uuid
		}, func(n told) bool { return n.Data.Removed != nil && n.Data.Original == nil && n.Initiator.Type == "api" }},
		"files that are deleted in a batch": {[]string{fileDeleted}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			decode[any](t, rest(t, sim, http.MethodDelete, "/files/storage/", `["`+uuid+`"]`))
			return uuid
		}, func(n told) bool { return n.Data.Removed != nil }},
		"a file that nobody stored in time": {[]string{fileDeleted}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			sim.Controls.Clock.Advance(unstoredLife + time.Hour)
			rest(t, sim, http.MethodGet, "/project/", "")
			return uuid
		}, func(n told) bool { return n.Initiator.Type == "system" && n.Initiator.Detail["request_id"] == nil }},
		"metadata that is written": {[]string{fileInfoUpdated}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			decode[string](t, rest(t, sim, http.MethodPut, "/files/"+uuid+"/metadata/upload_id/", `"u-2"`))
			return uuid
		}, func(n told) bool {
			return n.Data.Metadata["upload_id"] == "u-2" && n.Previous != nil && n.Previous.Metadata["upload_id"] == "u-1"
		}},
		"metadata that is removed": {[]string{fileInfoUpdated}, func(t *testing.T, sim *Running) string {
			uuid := upload(t, sim)
			rest(t, sim, http.MethodDelete, "/files/"+uuid+"/metadata/upload_id/", "")
			return uuid
		}, func(n told) bool { return len(n.Data.Metadata) == 0 && len(n.Previous.Metadata) == 1 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), Config{Autostore: true})
			address, arrived := subscriber(t)
			subscribe(t, sim, address, tt.events...)
			hold(t, sim)
			uuid := tt.do(t, sim)
			release(t, sim, len(tt.events))
			var last told
			for _, event := range tt.events {
				last = next(t, arrived)
				if last.event() != event || uuid != "" && last.Data.UUID != uuid {
					t.Errorf("told %s, want %s of %s", last.raw, event, uuid)
				}
				if last.File != sim.URL+"/"+last.Data.UUID+"/"+last.File[strings.LastIndexByte(last.File, '/')+1:] || last.Data.URL != sim.URL+"/files/"+last.Data.UUID+"/" {
					t.Errorf("file %s, url %s", last.File, last.Data.URL)
				}
			}
			if len(arrived) > 0 {
				t.Errorf("told %s too", (<-arrived).raw)
			}
			if !tt.ok(last) {
				t.Errorf("told %s", last.raw)
			}
		})
	}
}

// hold holds every notification until release.
func hold(t *testing.T, sim *Running) {
	t.Helper()
	if err := sim.Controls.Notices.Add(providersim.NoticeRule{Action: providersim.Hold}); err != nil {
		t.Fatal(err)
	}
}

// release waits for n notifications and sends them in the order of what happened.
func release(t *testing.T, sim *Running, n int) {
	t.Helper()
	ctx := soon(t)
	for len(sim.Controls.Notices.List()) < n && ctx.Err() == nil {
		runtime.Gosched()
	}
	if err := sim.Controls.Notices.Release(ctx); err != nil {
		t.Fatal(err)
	}
}

// putInParts uploads a file in parts and returns its uuid.
func putInParts(t *testing.T, sim *Running, data []byte) string {
	t.Helper()
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	started := decode[struct {
		UUID  string   `json:"uuid"`
		Parts []string `json:"parts"`
	}](t, do(t, http.MethodPost, sim.URL+"/multipart/start/", form, strings.NewReader(url.Values{
		"UPLOADCARE_PUB_KEY": {testPublicKey}, "UPLOADCARE_STORE": {"0"}, "filename": {"x.bin"},
		"size": {fmt.Sprint(len(data))}, "content_type": {"application/octet-stream"},
	}.Encode())))
	for part := range slices.Chunk(data, minPart) {
		if a := do(t, http.MethodPut, started.Parts[0], http.Header{"Content-Type": {"application/octet-stream"}}, strings.NewReader(string(part))); a.StatusCode != 200 {
			t.Fatalf("part: %d %s", a.StatusCode, a.body)
		}
		started.Parts = started.Parts[1:]
	}
	decode[any](t, do(t, http.MethodPost, sim.URL+"/multipart/complete/", form, strings.NewReader(url.Values{
		"UPLOADCARE_PUB_KEY": {testPublicKey}, "uuid": {started.UUID},
	}.Encode())))
	return started.UUID
}

func TestNotificationNamesItsWebhookAndIsSignedBySecret(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	address, arrived := subscriber(t)
	subscribe(t, sim, address, fileUploaded)
	putFile(t, sim, []byte("x"), nil)
	n := next(t, arrived)
	made := decode[[]webhook](t, rest(t, sim, http.MethodGet, "/webhooks/", ""))[0]
	want := map[string]any{
		"id": float64(made.ID), "project_id": float64(made.Project), "project_pub_key": testPublicKey, "target": address,
		"event": fileUploaded, "is_active": true, "version": "0.7", "created_at": made.Created, "updated_at": made.Updated,
	}
	if !reflect.DeepEqual(n.Hook, want) {
		t.Errorf("hook %v, want %v", n.Hook, want)
	}
	mac := hmac.New(sha256.New, []byte("7kMVZivndx0ErgvhRKAr"))
	mac.Write(n.raw)
	if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); n.signature != want {
		t.Errorf("signature %s, want %s", n.signature, want)
	}
	rest(t, sim, http.MethodPut, "/webhooks/1001/", `{"signing_secret":""}`)
	putFile(t, sim, []byte("y"), nil)
	if n := next(t, arrived); n.signature != "" {
		t.Errorf("signature %s without a secret", n.signature)
	}
}

// The vector is the documentation's secret over the smallest body.
func TestHookHeader(t *testing.T) {
	secret := "7kMVZivndx0ErgvhRKAr"
	if got := hookHeader(&secret, []byte(`{"a":1}`)).Get("X-Uc-Signature"); got != "v1=57084b8c5914ea9aadbc95e1701be1bd67b2d123d816ce624bb34aa36308b900" {
		t.Error(got)
	}
}

func TestInactiveWebhookIsToldNothing(t *testing.T) {
	dir := t.TempDir()
	sim := start(t, dir, Config{})
	address, arrived := subscriber(t)
	subscribe(t, sim, address, fileUploaded, fileDeleted)
	rest(t, sim, http.MethodPut, "/webhooks/1001/", `{"is_active":false}`)
	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}
	sim = begin(t, dir, Config{}) // webhooks outlive the process
	uuid := putFile(t, sim, []byte("x"), nil)
	rest(t, sim, http.MethodDelete, "/files/"+uuid+"/storage/", "")
	if n := next(t, arrived); n.event() != fileDeleted {
		t.Errorf("told %s", n.raw)
	}
	if list := sim.Controls.Notices.List(); len(list) != 1 {
		t.Errorf("notices %+v", list)
	}
}

func TestNotificationIsTriedAsOftenAsConfigured(t *testing.T) {
	for tries, want := range map[int]int{0: 1, 3: 3} {
		sim := begin(t, t.TempDir(), Config{WebhookTries: tries, WebhookGapMS: 1})
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
		t.Cleanup(busy.Close)
		subscribe(t, sim, busy.URL, fileUploaded)
		putFile(t, sim, []byte("x"), nil)
		ctx := soon(t)
		for sim.Controls.Notices.List()[0].State != providersim.NoticeGivenUp && ctx.Err() == nil {
			runtime.Gosched()
		}
		if got := sim.Controls.Notices.List()[0]; got.State != providersim.NoticeGivenUp || len(got.Tries) != want {
			t.Errorf("%d tries configured: %+v", tries, got)
		}
	}
}
