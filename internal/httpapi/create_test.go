package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// deliver plays the worker for whatever comes next, in the background.
func (s *site) deliver(t *testing.T, set string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var id upload.ID
			err := s.pool.QueryRow(ctx, `SELECT id FROM slipway.uploads WHERE status = 'queued'`).Scan(&id)
			if err == nil {
				if set == "" {
					s.complete(t, id)
				} else {
					s.change(t, id, set)
				}
				return
			}
			select {
			case <-ctx.Done():
				t.Error("no upload came")
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestTheGuidesCall(t *testing.T) {
	film := func() *outgoing { return newForm().file("film.mp4", "hello").field("fileName", "film.mp4") }
	waits := func(a *API, _ *Options) { a.UploadWait = patience }

	t.Run("has the provider's address when it is delivered in time", func(t *testing.T) {
		s := open(t, waits)
		s.deliver(t, "")
		r := s.post(t, "/upload", film())
		a := into[guideAnswer](t, r, http.StatusOK)
		if want := fmt.Sprintf(`{"success":true,"fileUrl":"https://cdn.example/%s/","id":"%s"}`+"\n", a.ID, a.ID); r.text != want {
			t.Errorf("got %s, want %s", r.text, want)
		}
	})
	t.Run("has an address of ours when it is not", func(t *testing.T) {
		s := open(t, nil)
		r := s.post(t, "/upload", film())
		a := into[guideAnswer](t, r, http.StatusAccepted)
		status := s.url + "/v1/uploads/" + string(a.ID)
		want := guideAnswer{Success: true, FileURL: s.url + "/v1/files/" + string(a.ID) + "/content", ID: a.ID, Status: upload.Queued, StatusURL: status}
		if a != want || r.Header.Get("Location") != status || r.Header.Get("Retry-After") == "" {
			t.Errorf("got %s, Location %q; want %+v", r.text, r.Header.Get("Location"), want)
		}
	})
	t.Run("says why when delivery fails in time", func(t *testing.T) {
		s := open(t, waits)
		s.deliver(t, `status = 'failed', error_code = 'provider_rejected', error_message = 'Uploadcare does not take this file.', error_retryable = false`)
		r := s.post(t, "/upload", film())
		wantCode(t, r, 422, upload.ProviderRejected)
		if p := r.problem(t); p.Success == nil || *p.Success || p.Error != "Uploadcare does not take this file." || p.UploadID == "" {
			t.Errorf("got %s", r.text)
		}
	})
	t.Run("does not wait when asked not to", func(t *testing.T) {
		s := open(t, waits)
		r := s.post(t, "/upload", film(), "Prefer: respond-async")
		into[guideAnswer](t, r, http.StatusAccepted)
		if got := r.Header.Get("Preference-Applied"); got != "respond-async" {
			t.Errorf("Preference-Applied is %q", got)
		}
	})
	t.Run("waits as long as asked to", func(t *testing.T) {
		s := open(t, nil)
		s.deliver(t, "")
		r := s.post(t, "/upload", film(), "Prefer: wait=20")
		into[guideAnswer](t, r, http.StatusOK)
		if got := r.Header.Get("Preference-Applied"); got != "wait=20" {
			t.Errorf("Preference-Applied is %q", got)
		}
	})
	t.Run("from a browser leads to the upload's page", func(t *testing.T) {
		s := open(t, waits)
		r := s.post(t, "/upload", film(), "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
		to := r.Header.Get("Location")
		if r.StatusCode != http.StatusSeeOther || !strings.Contains(to, "/uploads/") {
			t.Fatalf("got %d to %q", r.StatusCode, to)
		}
		if page := s.do(t, "GET", to, nil); page.StatusCode != 200 || !strings.Contains(page.text, "film.mp4") {
			t.Errorf("the page is %d %s", page.StatusCode, page.text)
		}
	})
	t.Run("from a browser without a file shows a page that says so", func(t *testing.T) {
		s := open(t, nil)
		r := s.post(t, "/upload", newForm().fileIn("file", "", ""), "Accept: text/html")
		if r.StatusCode != 422 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || !strings.Contains(r.text, "The form has no file") {
			t.Errorf("got %d %s", r.StatusCode, r.text)
		}
	})
	t.Run("with curl, word for word", func(t *testing.T) {
		curl, err := exec.LookPath("curl")
		if err != nil {
			t.Log("no curl here; net/http has said the same")
			return
		}
		s := open(t, nil)
		dir := t.TempDir()
		for _, name := range []string{"film.mp4", "père & fils (1).mp4", `a "quoted" name.mp4`} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte("hello"), 0o600))
			file := `file=@"` + strings.ReplaceAll(name, `"`, `\"`) + `"`
			cmd := exec.CommandContext(t.Context(), curl, "-sS", "-H", as(t, "alice"), "-X", "POST", s.url+"/upload", "-F", file, "-F", "fileName="+name)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), `{"success":true,"fileUrl":"http`) {
				t.Errorf("%s: %s, %v", name, out, err)
			}
			if u := into[uploadList](t, s.do(t, "GET", "/v1/uploads?limit=1", nil), 200).Uploads[0]; u.FileName != name || u.Size != 5 {
				t.Errorf("arrived as %q with %d bytes, want %q with 5", u.FileName, u.Size, name)
			}
		}
	})
}

func TestFieldsCountInEveryOrder(t *testing.T) {
	s := open(t, nil)
	parts := []func(*outgoing){
		func(f *outgoing) { f.file("sent.bin", "hello") },
		func(f *outgoing) { f.field("provider", "cloudinary") },
		func(f *outgoing) { f.field("fileName", "père & fils (1).mp4") },
		func(f *outgoing) {
			f.field("resource_type", "video").field("tags", "Trip, sea").field("metadata[album]", "7")
		},
	}
	for _, order := range permutations(len(parts)) {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			f := newForm()
			for _, i := range order {
				parts[i](f)
			}
			u := into[uploadView](t, s.post(t, "/v1/uploads", f), http.StatusAccepted)
			got := fmt.Sprint(u.Provider, u.FileName, u.ResourceType, u.Tags, u.Metadata, u.Size, u.CRC32C)
			if want := fmt.Sprint("cloudinary", "père & fils (1).mp4", upload.Video, []string{"trip", "sea"}, map[string]string{"album": "7"}, 5, "mnG7TA=="); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// permutations are all orders of 0 to n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

func TestABodyIsTheFile(t *testing.T) {
	s := open(t, nil)
	png := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
	tests := map[string]struct {
		query   string
		headers []string
		body    string
		want    string // name, type, kind
	}{
		"named by a disposition":                 {"", []string{`Content-Disposition: attachment; filename="film.mp4"`, "Content-Type: video/mp4"}, "hello", "film.mp4 video/mp4 raw"},
		"named by a disposition beyond ASCII":    {"", []string{`Content-Disposition: attachment; filename="x"; filename*=UTF-8''p%C3%A8re%20%26%20fils%20%281%29.mp4`}, "hello", "père & fils (1).mp4 text/plain; charset=utf-8 raw"},
		"named by the query":                     {"?file_name=p%C3%A8re.png", []string{`Content-Disposition: attachment; filename="x"`}, png, "père.png image/png image"},
		"unnamed":                                {"", nil, png, "file.png image/png image"},
		"as curl --data-binary sends it":         {"?file_name=a.png", []string{"Content-Type: application/x-www-form-urlencoded"}, png, "a.png image/png image"},
		"a JSON file is a file when it is named": {"?file_name=a.json", []string{"Content-Type: application/json"}, `{"url":1}`, "a.json application/json raw"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "POST", "/v1/uploads"+tt.query, strings.NewReader(tt.body), tt.headers...)
			u := into[uploadView](t, r, http.StatusAccepted)
			if got := fmt.Sprint(u.FileName, " ", u.ContentType, " ", u.ResourceType); got != tt.want || u.Size != int64(len(tt.body)) {
				t.Errorf("got %s with %d bytes, want %s with %d", got, u.Size, tt.want, len(tt.body))
			}
		})
	}
}

func TestCreatingAnUpload(t *testing.T) {
	s := open(t, nil)
	r := s.do(t, "POST", "/v1/uploads?file_name=film.mp4", strings.NewReader("hello"))
	u := into[uploadView](t, r, http.StatusAccepted)
	if got, want := r.Header.Get("Location"), s.url+u.Links.Self; got != want {
		t.Errorf("Location is %q, want %q", got, want)
	}
	if r.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q, want 1", r.Header.Get("Retry-After"))
	}
	if ids := s.staged(t); !slices.Contains(ids, string(u.ID)) {
		t.Errorf("staging holds %v, want %s", ids, u.ID)
	}
	again := into[uploadView](t, s.do(t, "GET", u.Links.Self, nil), http.StatusOK)
	again.CreatedAt, again.StagedAt = u.CreatedAt, u.StagedAt // the answer came before the database could tell its clock
	if fmt.Sprintf("%+v", deref(again)) != fmt.Sprintf("%+v", deref(u)) {
		t.Errorf("created as %+v, found as %+v", u, again)
	}

	t.Run("and waiting for it", func(t *testing.T) {
		s := open(t, nil)
		s.deliver(t, "")
		r := s.do(t, "POST", "/v1/uploads?file_name=film.mp4", strings.NewReader("hello"), "Prefer: wait=20")
		u := into[uploadView](t, r, http.StatusCreated)
		if u.Status != upload.Completed || u.Asset == nil || r.Header.Get("Preference-Applied") != "wait=20" || r.Header.Get("Retry-After") != "" {
			t.Errorf("got %s", r.text)
		}
	})
}

// deref shows a view without its pointers.
func deref(u uploadView) any {
	return []any{u.ID, u.Status, u.Provider, u.ResourceType, u.FileName, u.ContentType, u.Size, u.Received, u.Pushed, u.Progress, u.CRC32C,
		u.Attempt, u.MaxAttempts, u.NextAttemptAt, u.Error, u.Asset, u.URL, u.Metadata, u.Tags, u.Version, u.CreatedAt, u.Links.Self}
}

func TestAbsoluteLinks(t *testing.T) {
	tests := map[string]struct {
		options Options
		headers []string
		want    string // "" is the site's own address
	}{
		"begin with the host that was asked":       {Options{}, nil, ""},
		"begin with PUBLIC_URL where it is set":    {Options{PublicURL: "https://media.example.com"}, nil, "https://media.example.com"},
		"begin with what a trusted proxy says":     {Options{TrustedProxies: []string{"127.0.0.1"}}, []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: media.example.com"}, "https://media.example.com"},
		"do not begin with what anybody else says": {Options{}, []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example.com"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(_ *API, o *Options) { *o = tt.options })
			want := tt.want
			if want == "" {
				want = s.url
			}
			r := s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), tt.headers...)
			u := into[uploadView](t, r, http.StatusAccepted)
			if got := r.Header.Get("Location"); got != want+"/v1/uploads/"+string(u.ID) {
				t.Errorf("Location is %q, want it to begin with %q", got, want)
			}
			if u.URL != want+"/v1/files/"+string(u.ID)+"/content" {
				t.Errorf("url is %q, want it to begin with %q", u.URL, want)
			}
		})
	}
}

func TestWhatAFormSaysGoesBeforeTheQuery(t *testing.T) {
	query := url.Values{"provider": {"uploadcare"}, "tags": {"a,b"}, "metadata[x]": {"1"}, "metadata[y]": {"1"}}
	fields := url.Values{"provider": {"cloudinary"}, "tags": {"b", "c"}, "metadata[y]": {"2"}, "metadata": {"no key"}, "fileName": {"a"}}
	got := described(query, fields, 7)
	want := ingest.Request{
		Provider: "cloudinary", FileName: "a", Length: 7,
		Tags: []string{"a", "b", "c"}, Metadata: map[string]string{"x": "1", "y": "2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
