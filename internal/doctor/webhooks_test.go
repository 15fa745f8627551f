package doctor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/doctor"
)

// taker is an API that answers notifications which are not signed.
func taker(t *testing.T, status int) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(s.Close)
	return s.URL
}

// subscribe has the providers of env tell an API.
func subscribe(t *testing.T, env map[string]string, address string) (r report) {
	t.Helper()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Options{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	r.sound = doctor.Subscribe(t.Context(), c, address, func(f doctor.Finding) {
		r.lines = append(r.lines, fmt.Sprintf("%s %s: %s → %s", f.Level, f.Part, f.Text, f.Remedy))
	})
	if secret := env["UPLOADCARE_WEBHOOK_SECRET"]; secret != "" && strings.Contains(strings.Join(r.lines, "\n"), secret) {
		t.Errorf("a secret is in the report: %q", r.lines)
	}
	return r
}

// asked sends JSON to a simulator.
func asked(t *testing.T, method, address, body string, header http.Header) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&text); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s, %v", method, address, resp.Status, text, err)
	}
	return text
}

// hooks asks Uploadcare for its webhooks, or for a change of them.
func hooks(t *testing.T, env map[string]string, method, path, body string) []byte {
	t.Helper()
	return asked(t, method, env["UPLOADCARE_REST_BASE"]+path, body, http.Header{
		"Accept":        {"application/vnd.uploadcare-v0.7+json"},
		"Authorization": {"Uploadcare.Simple " + env["UPLOADCARE_PUBLIC_KEY"] + ":" + env["UPLOADCARE_SECRET_KEY"]},
	})
}

// subscriptions are those of both providers, in their words.
func subscriptions(t *testing.T, env map[string]string) (all []string) {
	t.Helper()
	var list []struct {
		Event  string `json:"event"`
		Target string `json:"target_url"`
		Active bool   `json:"is_active"`
		Secret string `json:"signing_secret"`
	}
	if err := json.Unmarshal(hooks(t, env, "GET", "/webhooks/", ""), &list); err != nil {
		t.Fatal(err)
	}
	for _, h := range list {
		all = append(all, fmt.Sprintf("%s %s %t %t", h.Event, h.Target, h.Active, h.Secret == env["UPLOADCARE_WEBHOOK_SECRET"]))
	}
	var triggers struct {
		Triggers []struct {
			Event    string `json:"event_type"`
			URI      string `json:"uri"`
			Additive bool   `json:"additive"`
		} `json:"triggers"`
	}
	req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://x", nil)
	req.SetBasicAuth(env["CLOUDINARY_API_KEY"], env["CLOUDINARY_API_SECRET"])
	text := asked(t, "GET", env["CLOUDINARY_UPLOAD_PREFIX"]+"/v1_1/"+env["CLOUDINARY_CLOUD_NAME"]+"/triggers", "", req.Header)
	if err := json.Unmarshal(text, &triggers); err != nil {
		t.Fatal(err)
	}
	for _, h := range triggers.Triggers {
		all = append(all, fmt.Sprintf("%s %s %t", h.Event, h.URI, h.Additive))
	}
	slices.Sort(all)
	return all
}

func TestProvidersAreSubscribedToOnce(t *testing.T) {
	env := surroundings(t)
	address := taker(t, http.StatusUnauthorized)
	to := func(provider string) string { return address + "/webhooks/" + provider }
	want := []string{
		"delete " + to("cloudinary") + " true", "file.deleted " + to("uploadcare") + " true true", "file.info_updated " + to("uploadcare") + " true true",
		"file.uploaded " + to("uploadcare") + " true true", "resource_tags_changed " + to("cloudinary") + " true", "upload " + to("cloudinary") + " true",
	}
	r := subscribe(t, env, address+"/")
	r.wants(t,
		"ok uploadcare: file.uploaded goes to "+to("uploadcare")+" from now on", "ok cloudinary: resource_tags_changed goes to "+to("cloudinary")+" from now on",
		"ok uploadcare: "+to("uploadcare")+" takes what is signed, and nothing else", "ok cloudinary: "+to("cloudinary")+" takes what is signed")
	if got := subscriptions(t, env); !slices.Equal(got, want) || !r.sound {
		t.Errorf("subscribed to %q, want %q, sound %t", got, want, r.sound)
	}
	r = subscribe(t, env, address)
	r.wantsNone(t, "from now on")
	if got := subscriptions(t, env); !slices.Equal(got, want) || !r.sound {
		t.Errorf("subscribed twice to %q, want %q, sound %t", got, want, r.sound)
	}

	env["UPLOADCARE_WEBHOOK_SECRET"] = "another"
	subscribe(t, env, address).wants(t, "ok uploadcare: file.deleted goes to "+to("uploadcare")+" again, as it should")
	if got := subscriptions(t, env); !slices.Equal(got, want) {
		t.Errorf("with another secret subscribed to %q, want %q", got, want)
	}

	env["PUBLIC_URL"] = taker(t, http.StatusNotFound)
	r = subscribe(t, env, "")
	r.wants(t, "ok uploadcare: file.uploaded also goes to "+to("uploadcare")+", which is left as it is", "ok uploadcare: file.uploaded goes to "+env["PUBLIC_URL"],
		"fail uploadcare: "+env["PUBLIC_URL"]+"/webhooks/uploadcare takes no notifications → start the API with the same settings")
}

func TestWhatStandsInTheWayOfSubscribing(t *testing.T) {
	env := surroundings(t)
	subscribe(t, env, "").wants(t, "fail webhooks: it is not known where the providers reach this API → set PUBLIC_URL, or name the address with --url")
	subscribe(t, env, "media.example.com").wants(t, `fail webhooks: "media.example.com" is no address`)
	subscribe(t, env, "http://"+closedPort(t)).wants(t, "warn cloudinary: http://", "does not answer: connect: connection refused → start the API")
	subscribe(t, env, taker(t, http.StatusBadGateway)).wants(t, "warn uploadcare: ", "answers 502 Bad Gateway to what is not signed, and 401 was expected")

	asked(t, "POST", env["UPLOADCARE_REST_BASE"]+"/_sim/uploadcare/config", `{"no_webhooks":true}`, http.Header{})
	r := subscribe(t, env, taker(t, http.StatusUnauthorized))
	r.wants(t, "fail uploadcare: it does not let us subscribe: You can't use webhooks → see whether the keys are right", "ok cloudinary: upload goes to ")
	r.wantsNone(t, "uploadcare: file.")

	env["CLOUDINARY_API_SECRET"] = "wrong"
	subscribe(t, env, taker(t, http.StatusUnauthorized)).wants(t, "fail cloudinary: it does not let us subscribe: ")

	delete(env, "UPLOADCARE_WEBHOOK_SECRET")
	subscribe(t, env, taker(t, http.StatusUnauthorized)).wants(t, "fail uploadcare: UPLOADCARE_WEBHOOK_SECRET is not set", "openssl rand -hex 16")
}
