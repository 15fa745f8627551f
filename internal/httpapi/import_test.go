package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
	"slipway/internal/upload"
)

const asJSON = "Content-Type: application/json"

// importing opens a site that lets files be imported; no worker stands behind it.
func importing(t *testing.T, log *slog.Logger) *site {
	t.Helper()
	policy, err := source.NewPolicy(nil)
	must(t, err)
	return open(t, func(a *API, o *Options) {
		a.Ingest.Imports = &ingest.Imports{Policy: policy, Within: time.Hour}
		o.Log = log
	})
}

func TestAnImportIsAskedFor(t *testing.T) {
	s := importing(t, nil)
	if limits := s.do(t, "GET", "/v1/limits", nil); !strings.Contains(limits.text, `"imports":true`) {
		t.Errorf("the limits are %s", limits.text)
	}
	r := s.do(t, "POST", "/v1/uploads?metadata[album]=7&tags=trip", strings.NewReader(`{"url":"https://example.com/a/film.mp4?token=hush#t=3",
		"provider":"cloudinary","resource_type":"video","tags":["Summer","trip"],"metadata":{"place":"sea"},"more":1}`), asJSON)
	u := into[uploadView](t, r, http.StatusAccepted)
	if u.Status != upload.Fetching || u.Provider != "cloudinary" || u.ResourceType != upload.Video || u.FileName != "film.mp4" || u.Size != 0 || u.Received != 0 ||
		fmt.Sprint(u.Tags) != "[trip summer]" || fmt.Sprint(u.Metadata) != "map[album:7 place:sea]" || u.ExpiresAt == nil || u.Links.Cancel == nil || u.Links.Retry != nil {
		t.Errorf("the upload is %s", r.text)
	}
	if r.Header.Get("Location") != s.url+"/v1/uploads/"+string(u.ID) || r.Header.Get("Retry-After") == "" {
		t.Errorf("the answer has %v", r.Header)
	}
	got := s.do(t, "GET", "/v1/uploads/"+string(u.ID), nil)
	if got.text != r.text {
		t.Errorf("it is shown as %s, and was answered as %s", got.text, r.text)
	}
	list := s.do(t, "GET", "/v1/uploads", nil)
	for what, text := range map[string]string{"the answer": r.text, "the upload": got.text, "the list": list.text} {
		if strings.Contains(text, "hush") || strings.Contains(text, "example.com") {
			t.Errorf("%s shows the address: %s", what, text)
		}
	}
	var job, url string
	must(t, s.pool.QueryRow(t.Context(), `
		SELECT j.kind || ' ' || j.queue || ' ' || j.args::text, i.url
		FROM slipway.uploads u JOIN slipway.river_job j ON j.id = u.job_id JOIN slipway.imports i ON i.upload_id = u.id
		WHERE u.id = $1`, u.ID).Scan(&job, &url))
	if job != fmt.Sprintf(`fetch fetch {"upload_id": "%s"}`, u.ID) || url != "https://example.com/a/film.mp4?token=hush" {
		t.Errorf("the job is %s, the address %s", job, url)
	}
	into[uploadView](t, s.do(t, "POST", "/v1/uploads/"+string(u.ID)+"/cancel", nil), http.StatusAccepted)
	var left int
	must(t, s.pool.QueryRow(t.Context(), `SELECT count(*) FROM slipway.imports`).Scan(&left))
	if left != 0 {
		t.Error("the address is kept beyond the import")
	}
}

func TestWhatIsNoImport(t *testing.T) {
	var log logged
	s := importing(t, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	off := open(t, nil)
	tests := map[string]struct {
		site   *site
		body   string
		status int
		code   upload.Code
	}{
		"no address":                   {s, `{}`, 400, upload.InvalidRequest},
		"no JSON":                      {s, `{"url":`, 400, upload.InvalidRequest},
		"an address that is a number":  {s, `{"url":7}`, 400, upload.InvalidRequest},
		"tags that are text":           {s, `{"url":"https://example.com/","tags":"a"}`, 400, upload.InvalidRequest},
		"nothing":                      {s, ``, 400, upload.InvalidRequest},
		"too much":                     {s, `{"url":"https://example.com/` + strings.Repeat("a", 300<<10) + `"}`, 413, upload.BodyTooLarge},
		"another scheme":               {s, `{"url":"ftp://hush.example.com/"}`, 422, upload.InvalidURL},
		"this machine":                 {s, `{"url":"http://127.0.0.1/hush"}`, 422, upload.InvalidURL},
		"a cloud's secrets":            {s, `{"url":"http://169.254.169.254/latest/meta-data/hush"}`, 422, upload.InvalidURL},
		"a password":                   {s, `{"url":"https://me:hush@example.com/"}`, 422, upload.InvalidURL},
		"another port":                 {s, `{"url":"https://hush.example.com:6379/"}`, 422, upload.InvalidURL},
		"a provider that is not known": {s, `{"url":"https://example.com/?hush","provider":"dropbox"}`, 422, upload.UnknownProvider},
		"a type that is not known":     {s, `{"url":"https://example.com/?hush","resource_type":"film"}`, 422, upload.UnknownResourceType},
		"a name with a path":           {s, `{"url":"https://example.com/?hush","file_name":"../a"}`, 422, upload.InvalidFileName},
		"a tag that is none":           {s, `{"url":"https://example.com/?hush","tags":["a b"]}`, 422, upload.InvalidMetadata},
		"imports that are off":         {off, `{"url":"https://example.com/?hush"}`, 404, upload.ImportOff},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := tt.site.do(t, "POST", "/v1/uploads", strings.NewReader(tt.body), asJSON)
			if p := into[problem](t, r, tt.status); p.Code != tt.code || strings.Contains(r.text, "hush") {
				t.Errorf("it is answered %s", r.text)
			}
		})
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the log has what may be a secret:\n%s", log.String())
	}
	var left int
	must(t, s.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM slipway.uploads) + (SELECT count(*) FROM slipway.imports) + (SELECT count(*) FROM slipway.river_job)`).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows were left by what was refused", left)
	}
}

// A JSON file is a file like any other, once it has a name.
func TestJSONWithANameIsAFile(t *testing.T) {
	s := importing(t, nil)
	for name, send := range map[string][]string{
		"by the query":  {"/v1/uploads?file_name=a.json"},
		"by the header": {"/v1/uploads", `Content-Disposition: attachment; filename="a.json"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "POST", send[0], strings.NewReader(`{"url":"https://example.com/"}`), append(send[1:], asJSON)...)
			if u := into[uploadView](t, r, http.StatusAccepted); u.Status != upload.Queued || u.FileName != "a.json" {
				t.Errorf("it is %s", r.text)
			}
		})
	}
}

func TestAnImportHasTheLimitsOfItsToken(t *testing.T) {
	s := importing(t, nil)
	token := "Authorization: Bearer " + s.uploadToken(t, auth.Grant{User: "alice", MaxBytes: 1000, Provider: "cloudinary"})
	u := into[uploadView](t, s.do(t, "POST", "/v1/uploads", strings.NewReader(`{"url":"https://example.com/a"}`), asJSON, token), http.StatusAccepted)
	var most int64
	must(t, s.pool.QueryRow(t.Context(), `SELECT max_bytes FROM slipway.imports WHERE upload_id = $1`, u.ID).Scan(&most))
	if most != 1000 || u.Provider != "cloudinary" {
		t.Errorf("it may have %d bytes, and goes to %s", most, u.Provider)
	}
	r := s.do(t, "POST", "/v1/uploads", strings.NewReader(`{"url":"https://example.com/a","provider":"uploadcare"}`), asJSON, token)
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("another provider: %s", r.text)
	}
}

func TestAnImportIsMadeOnceForItsKey(t *testing.T) {
	s := importing(t, nil)
	ask := func(url string) reply {
		return s.do(t, "POST", "/v1/uploads", strings.NewReader(`{"url":"`+url+`"}`), asJSON, `Idempotency-Key: "import-7"`)
	}
	first := into[uploadView](t, ask("https://example.com/a"), http.StatusAccepted)
	if again := into[uploadView](t, ask("https://example.com/a"), http.StatusAccepted); again.ID != first.ID {
		t.Errorf("it was made again, as %s", again.ID)
	}
	if r := ask("https://example.com/b"); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the key of another address: %s", r.text)
	}
}
