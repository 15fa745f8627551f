package httpapi

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"slipway/internal/auth"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

const (
	aPNG = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00"
	aPDF = "%PDF-1.7\n"
	aSVG = `<svg xmlns="http://www.w3.org/2000/svg"></svg>`
	aMP4 = "\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
)

// picky is a site that takes images, but no SVG, and PDFs, and to Cloudinary PNGs alone.
func picky(t *testing.T) *site {
	return open(t, func(a *API, _ *Options) {
		a.Ingest.Rules = ingest.Rules{
			Types: []string{"image/*", "!image/svg+xml", "application/pdf"},
			Sizes: []ingest.MaxSize{{Type: "image/*", Bytes: 20_000}, {Type: "image/gif", Bytes: 40_000}},
		}
		a.Ingest.ProviderRules = map[string]ingest.Rules{"cloudinary": {
			Types: []string{"image/png"}, Sizes: []ingest.MaxSize{{Type: "image/png", Bytes: 10_000}},
		}}
	})
}

// Every way in decides by a file's bytes, and leaves nothing of what is refused.
func TestWhatMayComeInIsDecidedByItsBytes(t *testing.T) {
	filled := func(head string, size int) string { return head + strings.Repeat("\x01", size-len(head)) }
	tests := map[string]struct {
		content  string
		provider string
		name     string // "": a.png
		want     upload.Code
		says     string
	}{
		"a type that is allowed":                     {content: aPNG},
		"one of another kind":                        {content: aPDF, name: "a.pdf"},
		"its name does not matter":                   {content: aPNG, name: "a.exe"},
		"a script that calls itself an image":        {content: "#!/bin/sh\nrm -rf /\n", want: upload.TypeNotAllowed, says: "By its content the file is text/x-shellscript, which is not accepted."},
		"a video":                                    {content: aMP4, want: upload.TypeNotAllowed, says: "Accepted are: image/*, !image/svg+xml, application/pdf."},
		"what is excepted":                           {content: aSVG, want: upload.TypeNotAllowed, says: "image/svg+xml"},
		"what nobody knows":                          {content: "\x00\x01\x02", want: upload.TypeNotAllowed, says: "application/octet-stream"},
		"as large as its kind may be":                {content: filled(aPNG, 20_000)},
		"larger than its kind may be":                {content: filled(aPNG, 20_001), want: upload.TooLarge, says: "20000 bytes, the most that is accepted of image/png."},
		"a type before its kind":                     {content: filled("GIF89a", 40_000)},
		"larger than its type may be":                {content: filled("GIF89a", 40_001), want: upload.TooLarge, says: "40000 bytes"},
		"a type that a provider alone does not take": {content: aPDF, provider: "cloudinary", want: upload.TypeNotAllowed, says: "which is not accepted for cloudinary. Accepted are: image/png."},
		"larger than may go to one provider":         {content: filled(aPNG, 10_001), provider: "cloudinary", want: upload.TooLarge, says: "10000 bytes, the most that is accepted of image/png for cloudinary."},
		"that large to another":                      {content: filled(aPNG, 10_001), provider: "uploadcare"},
	}
	s := picky(t)
	ways := map[string]func(*testing.T, string, string, string) reply{
		"a body": func(t *testing.T, content, name, provider string) reply {
			return s.do(t, "POST", "/v1/uploads?file_name="+name+"&provider="+provider, strings.NewReader(content), "Content-Type: image/png")
		},
		"a body of unknown length": func(t *testing.T, content, name, provider string) reply {
			return s.do(t, "POST", "/v1/uploads?file_name="+name+"&provider="+provider, io.MultiReader(strings.NewReader(content)), "Content-Type: image/png")
		},
		"a form": func(t *testing.T, content, name, provider string) reply {
			return s.post(t, "/upload", newForm().field("provider", provider).file(name, content))
		},
		"a form with its fields behind": func(t *testing.T, content, name, provider string) reply {
			return s.post(t, "/v1/uploads", newForm().file(name, content).field("provider", provider))
		},
		"tus": func(t *testing.T, content, name, provider string) reply {
			return s.sendByTus(t, content, name, provider, fmt.Sprintf("Upload-Length: %d", len(content)), len(content))
		},
		"tus, in pieces, of unknown length": func(t *testing.T, content, name, provider string) reply {
			return s.sendByTus(t, content, name, provider, "Upload-Defer-Length: 1", 1000)
		},
	}
	for name, tt := range tests {
		for way, send := range ways {
			t.Run(name+", in "+way, func(t *testing.T) {
				file := tt.name
				if file == "" {
					file = "a.png"
				}
				before := len(s.staged(t))
				r := send(t, tt.content, file, tt.provider)
				if tt.want == "" {
					if r.StatusCode != 202 && r.StatusCode != 204 {
						t.Errorf("got %d %s", r.StatusCode, r.text)
					}
					return
				}
				if p := into[problem](t, r, outcomes[tt.want].status); p.Code != tt.want || !strings.Contains(p.Detail, tt.says) {
					t.Errorf("got %+v, want %s that says %q", p, tt.want, tt.says)
				}
				if now := len(s.staged(t)); now != before {
					t.Errorf("staging has %d files more", now-before)
				}
			})
		}
	}
}

// sendByTus returns the answer to the last piece, or the first that is a refusal.
func (s *site) sendByTus(t *testing.T, content, name, provider, length string, piece int) (r reply) {
	t.Helper()
	const version = "Tus-Resumable: 1.0.0"
	said := metadataOf(ingest.Request{FileName: name, Provider: provider, ContentType: "image/png"})
	if r = s.do(t, "POST", tusPath, nil, version, length, "Upload-Metadata: "+said); r.StatusCode != 201 {
		return r
	}
	at := r.Header.Get("Location")
	for from := 0; from < len(content) && r.StatusCode < 300; from += piece {
		end := min(from+piece, len(content))
		headers := []string{version, fmt.Sprintf("Upload-Offset: %d", from), "Content-Type: " + tusMIME}
		if end == len(content) {
			headers = append(headers, fmt.Sprintf("Upload-Length: %d", end))
		}
		r = s.do(t, "PATCH", at, strings.NewReader(content[from:end]), headers...)
	}
	return r
}

// A client hears that its file may not come in as soon as its first bytes have come.
func TestARefusalDoesNotWaitForTheFile(t *testing.T) {
	s := picky(t)
	s.api.Ingest.MaxBytes = 1 << 30
	for name, tt := range map[string]struct {
		head string
		want upload.Code
	}{
		"by its type": {aMP4, upload.TypeNotAllowed},
		"by its size": {aPNG, upload.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t)
			c.send(post("/v1/uploads?file_name=a", 256*mib, as(t, "alice")))
			c.send(tt.head + strings.Repeat("\x01", 16<<10)) // twice what is read before a handler is called
			wantCode(t, c.answer(), outcomes[tt.want].status, tt.want)
		})
	}
}

// What a field behind the file may still name decides whether the file is taken until then.
func TestAFormMayNameBehindItsFileWhatLetsItIn(t *testing.T) {
	s := picky(t)
	must(t, postgres.LearnProvider(t.Context(), s.pool, "uploadcare", provider.Capabilities{MaxSize: map[upload.ResourceType]int64{upload.Image: 10, "": 1000}}))
	for field, want := range map[string]int{"resource_type=raw": 202, "resource_type=image": 413, "provider=cloudinary": 202, "tags=a": 413} {
		name, value, _ := strings.Cut(field, "=")
		if r := s.post(t, "/v1/uploads", newForm().file("a.png", aPNG).field(name, value)); r.StatusCode != want {
			t.Errorf("with %s behind the file: %d %s, want %d", field, r.StatusCode, r.text, want)
		}
	}
	if r := s.do(t, "POST", "/v1/uploads?file_name=a.png", strings.NewReader(aPNG)); r.StatusCode != 413 {
		t.Errorf("a body, behind which nothing comes: %d %s", r.StatusCode, r.text)
	}
}

func TestARetryElsewhereObeysThatProvidersRules(t *testing.T) {
	s := picky(t)
	u := into[uploadView](t, s.do(t, "POST", "/v1/uploads?file_name=a.pdf", strings.NewReader(aPDF)), 202)
	s.change(t, u.ID, `status = 'failed', error_code = 'provider_rejected', error_message = 'No.', error_retryable = false, error_fixable_by = 'you'`)
	path := "/v1/uploads/" + string(u.ID) + "/retry"
	p := into[problem](t, s.do(t, "POST", path, strings.NewReader(`{"provider":"cloudinary"}`)), 415)
	if p.Code != upload.TypeNotAllowed {
		t.Errorf("got %+v", p)
	}
	if r := s.do(t, "POST", path, nil); r.StatusCode != 202 {
		t.Errorf("to its own provider: %d %s", r.StatusCode, r.text)
	}
}

func TestLimitsAreTold(t *testing.T) {
	s := picky(t)
	s.api.Quotas = quota.New(s.pool, postgres.Limits{StagedBytes: most(1000), Uploads: most(3)}, s.api.Ingest.Log)
	s.api.Ingest.Quotas = s.api.Quotas
	must(t, postgres.LearnProvider(t.Context(), s.pool, "cloudinary", provider.Capabilities{MaxSize: map[upload.ResourceType]int64{upload.Image: 10 * mib, "": 100 * mib}}))
	r := s.do(t, "GET", "/v1/limits", nil)
	into[limitsView](t, r, 200)
	for _, want := range []string{
		`"max_bytes":1048576,"types":["image/*","!image/svg+xml","application/pdf"],"sizes":[{"type":"image/*","max_bytes":20000},{"type":"image/gif","max_bytes":40000}],"default_provider":"uploadcare"`,
		`"cloudinary":{"types":["image/png"],"sizes":[{"type":"image/png","max_bytes":10000}],"max_bytes":{"image":10485760,"raw":104857600,"video":104857600}}`,
		`"uploadcare":{"types":null,"sizes":[],"max_bytes":{"image":null,"raw":null,"video":null}}`,
		`"tags":{"max":50,"max_characters":100}`, `"file_name":{"max_bytes":255}`, `"imports":false`,
		`"left":{"staged_bytes":1000,"stored_bytes":null,"uploads":3,"receiving":null}`,
	} {
		if !strings.Contains(r.text, want) {
			t.Errorf("%s is not in %s", want, r.text)
		}
	}
	tag := r.Header.Get("ETag")
	if again := s.do(t, "GET", "/v1/limits", nil, "If-None-Match: "+tag); again.StatusCode != 304 || again.text != "" || r.Header.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("who has %s gets %d %s", tag, again.StatusCode, again.text)
	}
	s.do(t, "POST", "/v1/uploads?file_name=a.png", strings.NewReader(aPNG))
	if changed := s.do(t, "GET", "/v1/limits", nil, "If-None-Match: "+tag); changed.StatusCode != 200 || !strings.Contains(changed.text, `"uploads":2`) {
		t.Errorf("after an upload: %d %s", changed.StatusCode, changed.text)
	}
	token := s.uploadToken(t, auth.Grant{User: "alice", MaxBytes: 500, Provider: "cloudinary"})
	if guest := s.do(t, "GET", "/v1/limits", nil, "Authorization: Bearer "+token); !strings.Contains(guest.text, `"max_bytes":500,`) ||
		!strings.Contains(guest.text, `"default_provider":"cloudinary"`) || strings.Contains(guest.text, `"uploadcare"`) {
		t.Errorf("a guest is told %s", guest.text)
	}
}
