package uploadcare_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare"
	simulator "slipway/internal/providersim/uploadcare"
	"slipway/internal/upload"
)

// limited is a context for calls of which none takes long.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func sourceOf(data []byte) provider.Source {
	return provider.Source{
		UploadID: "0193f1c2-0000-7000-8000-000000000001", FileName: "père & fils (1).mp4", ContentType: "video/mp4",
		Size: int64(len(data)), CRC32C: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)), Body: bytes.NewReader(data),
		Tags: []string{"Trip"}, Metadata: map[string]string{"album": "7"},
	}
}

// deliver takes src the whole way, with nothing going wrong.
func deliver(t *testing.T, p provider.Provider, src provider.Source) upload.Asset {
	t.Helper()
	a, err := p.Commit(limited(t), src, pushed(t, p, src))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pushed is deliver up to the commit.
func pushed(t *testing.T, p provider.Provider, src provider.Source) upload.Asset {
	t.Helper()
	ctx := limited(t)
	s, err := p.Begin(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	var parts []provider.Part
	for n := range s.Parts {
		part, err := p.PushPart(ctx, s, src, n, parts)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	if s.LastPartCompletes {
		return *parts[0].Asset
	}
	a, err := p.Complete(ctx, s, src, parts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func verdictOf(err error) any {
	if e, ok := errors.AsType[*provider.Error](err); ok {
		return e.Verdict
	}
	return err
}

func TestNameMetadataAndTagsArrive(t *testing.T) {
	for name, size := range map[string]int{"in one piece": 1000, "in parts": 10 * mib} {
		t.Run(name, func(t *testing.T) {
			sim, opts := project(t)
			src := sourceOf(make([]byte, size))
			a := deliver(t, open(t, opts), src)
			files, err := sim.Inventory()
			if err != nil || len(files) != 1 {
				t.Fatalf("the project has %v, %v", files, err)
			}
			f := files[0]
			if f.Name != src.FileName || f.MimeType != "video/mp4" || !slices.Equal(f.Tags, []string{"trip"}) {
				t.Errorf("the project has %+v", f)
			}
			if want := map[string]string{"album": "7", "upload_id": string(src.UploadID)}; !maps.Equal(f.Metadata, want) {
				t.Errorf("metadata %v, want %v", f.Metadata, want)
			}
			if want := sim.URL + "/" + f.UUID + "/"; a.URL != want {
				t.Errorf("url = %s, want %s", a.URL, want)
			}
		})
	}
}

func TestAssetOfAnImage(t *testing.T) {
	_, opts := project(t)
	src := sourceOf(pngOf(t, 30, 20))
	src.FileName, src.ContentType = "a.png", "application/octet-stream"
	a := deliver(t, open(t, opts), src)
	want := upload.Asset{
		ID: a.ID, URL: a.URL, ResourceType: upload.Image, ContentType: "image/png", Size: src.Size, Width: 30, Height: 20, Format: "png",
	}
	if a != want {
		t.Errorf("asset = %+v, want %+v", a, want)
	}
}

func TestUnstoredFilesDieWithTheirDay(t *testing.T) {
	for name, forgets := range map[string]bool{"and are shown removed": false, "and are forgotten": true} {
		t.Run(name, func(t *testing.T) {
			sim, opts := project(t)
			configure(t, sim, func(c *simulator.Config) { c.ExpiredIs404 = forgets })
			p, src := open(t, opts), sourceOf([]byte("one day"))
			a := pushed(t, p, src)
			sim.Controls.Clock.Advance(25 * time.Hour)
			_, err := p.Commit(limited(t), src, a)
			if verdictOf(err) != provider.SessionLost {
				t.Errorf("commit = %v, want session lost", err)
			}
		})
	}
}

func TestPartAddressesDieWithTheirDay(t *testing.T) {
	sim, opts := project(t)
	p, src := open(t, opts), sourceOf(make([]byte, 10*mib))
	s, err := p.Begin(limited(t), src)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(s.ExpiresAt); left < 22*time.Hour || left > 23*time.Hour {
		t.Errorf("the session says it lives %s, want an hour less than a day", left)
	}
	sim.Controls.Clock.Advance(25 * time.Hour)
	_, err = p.PushPart(limited(t), s, src, 0, nil)
	if verdictOf(err) != provider.SessionLost {
		t.Errorf("part = %v, want session lost", err)
	}
	if strings.Contains(err.Error(), "X-Amz") {
		t.Errorf("the error tells the part's address: %v", err)
	}
}

func TestWaitsUntilTheFileIsReady(t *testing.T) {
	for name, size := range map[string]int{"in one piece": 1000, "in parts": 10 * mib} {
		t.Run(name, func(t *testing.T) {
			sim, opts := project(t)
			configure(t, sim, func(c *simulator.Config) { c.ReadyDelayMS = 250 })
			deliver(t, open(t, opts), sourceOf(make([]byte, size)))
		})
	}
	t.Run("and no longer than it may take", func(t *testing.T) {
		sim, opts := project(t)
		configure(t, sim, func(c *simulator.Config) { c.ReadyDelayMS = -1 })
		opts.ReadyTimeout = 150 * time.Millisecond
		p, src := open(t, opts), sourceOf([]byte("never ready"))
		_, err := p.PushPart(limited(t), provider.Session{Parts: 1, PartSize: src.Size, LastPartCompletes: true}, src, 0, nil)
		if verdictOf(err) != provider.Transient {
			t.Errorf("part = %v, want transient", err)
		}
	})
	t.Run("and a caller's deadline leaves the outcome unknown", func(t *testing.T) {
		sim, opts := project(t)
		configure(t, sim, func(c *simulator.Config) { c.ReadyDelayMS = -1 })
		p, src := open(t, opts), sourceOf(make([]byte, 10*mib))
		s, parts := allParts(t, p, src)
		ctx, cancel := context.WithTimeout(limited(t), time.Second)
		defer cancel()
		_, err := p.Complete(ctx, s, src, parts)
		if verdictOf(err) != provider.Unknown || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("complete = %v, want unknown", err)
		}
		if a, err := p.Lookup(limited(t), s, src, parts); a != nil || err != nil {
			t.Errorf("lookup = %v, %v, want nothing before the file is ready", a, err)
		}
	})
}

// allParts begins and sends every part.
func allParts(t *testing.T, p provider.Provider, src provider.Source) (provider.Session, []provider.Part) {
	t.Helper()
	s, err := p.Begin(limited(t), src)
	if err != nil {
		t.Fatal(err)
	}
	var parts []provider.Part
	for n := range s.Parts {
		part, err := p.PushPart(limited(t), s, src, n, parts)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return s, parts
}

func TestProjectsSettings(t *testing.T) {
	tests := map[string]struct {
		set  func(*simulator.Config)
		want any
	}{
		"signatures that are not demanded do no harm": {func(c *simulator.Config) { c.SignedUploads = false }, nil},
		"a file above the plan is refused":            {func(c *simulator.Config) { c.MaxFileSize = 999 }, provider.Reject},
		"an unpaid account takes nothing":             {func(c *simulator.Config) { c.Account = "unpaid" }, provider.Account},
		"a throttled request waits":                   {func(c *simulator.Config) { c.ThrottleNext, c.RetryAfter = 1, 7 }, provider.Throttled},
	}
	for name, tt := range tests {
		for how, size := range map[string]int{"in one piece": 1000, "in parts": 10 * mib} {
			t.Run(name+", "+how, func(t *testing.T) {
				sim, opts := project(t)
				configure(t, sim, tt.set)
				p, src := open(t, opts), sourceOf(make([]byte, size))
				s, err := p.Begin(limited(t), src)
				if err == nil {
					_, err = p.PushPart(limited(t), s, src, 0, nil)
				}
				if got := verdictOf(err); got != tt.want && (err != nil || tt.want != nil) {
					t.Errorf("push = %v, want %v", err, tt.want)
				}
			})
		}
	}
}

func configure(t *testing.T, sim *simulator.Running, set func(*simulator.Config)) {
	t.Helper()
	if err := sim.Configure(set); err != nil {
		t.Fatal(err)
	}
}

func TestNewNamesEveryWrongOption(t *testing.T) {
	_, err := uploadcare.New(uploadcare.Options{
		PublicKey: publicKey, PartETag: "sha1", PartSize: 1, Parallel: -1, UploadBase: "ftp://x", RESTBase: "https://x/path", CDNBase: "::",
	})
	if err == nil {
		t.Fatal("New took them")
	}
	for _, want := range []string{"secret key", "part ETag", "part size", "negative", "upload base", "REST base", "CDN base"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want a word about the %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("New tells a key: %v", err)
	}
}

func TestCapabilities(t *testing.T) {
	p := open(t, uploadcare.Options{PublicKey: publicKey, SecretKey: secretKey, MaxSize: 7, Parallel: 3})
	c := p.Capabilities()
	if c.Limit(upload.Video) != 7 || c.Parallel != 3 || !c.NeedsCommit || c.MaxTags != 50 || c.MaxMetadata != 50 {
		t.Errorf("capabilities = %+v", c)
	}
}

// answer is a service that does as it is told. A request always has a body.
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	return a(r)
}

func respond(status int, header http.Header, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

// onePart is a session whose only part has an address.
func onePart(address string, size int64) provider.Session {
	return provider.Session{ID: "x", PartSize: size, Parts: 1, State: []byte(`{"parts":["` + address + `"]}`)}
}

func TestPartETag(t *testing.T) {
	const other = `"00000000000000000000000000000000"`
	tests := map[string]struct {
		mode, etag string
		want       any
	}{
		"another part's MD5 is an integrity error":  {"md5", other, provider.Integrity},
		"what is no MD5 proves nothing":             {"md5", `"abc-3"`, nil},
		"a success without an ETag is not S3's":     {"md5", "", provider.Transient},
		"another MD5 passes where it is ignored":    {"ignore", other, nil},
		"a missing ETag passes where it is ignored": {"ignore", "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := open(t, uploadcare.Options{
				PublicKey: publicKey, SecretKey: secretKey, PartETag: tt.mode,
				Transport: answer(func(r *http.Request) (*http.Response, error) {
					_, err := io.Copy(io.Discard, r.Body)
					return respond(200, http.Header{"Etag": {tt.etag}}, ""), errors.Join(err, r.Body.Close())
				}),
			})
			src := sourceOf([]byte("a part"))
			part, err := p.PushPart(limited(t), onePart("http://parts.test/1", src.Size), src, 0, nil)
			if got := verdictOf(err); got != tt.want && (err != nil || tt.want != nil) {
				t.Errorf("part = %v, want %v", err, tt.want)
			}
			if err == nil && part.ETag != strings.Trim(tt.etag, `"`) {
				t.Errorf("etag = %s", part.ETag)
			}
		})
	}
}

func TestReplayedRequestsSendEverythingAgain(t *testing.T) {
	var got []string
	p := open(t, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey, PartETag: "ignore",
		Transport: answer(func(r *http.Request) (*http.Response, error) { // as net/http when an idle connection turns out dead
			_, _ = io.CopyN(io.Discard, r.Body, 3)
			_ = r.Body.Close()
			again, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			body, err := io.ReadAll(again)
			got = append(got, string(body))
			if int64(len(body)) != r.ContentLength {
				t.Errorf("%d bytes, promised %d", len(body), r.ContentLength)
			}
			if r.Method == http.MethodPost {
				return nil, errors.Join(err, again.Close(), io.ErrClosedPipe)
			}
			return respond(200, http.Header{"Etag": {"x"}}, ""), errors.Join(err, again.Close())
		}),
	})
	src := sourceOf([]byte("all of it"))
	part, err := p.PushPart(limited(t), onePart("http://parts.test/1", src.Size), src, 0, nil)
	if err != nil || part.CRC32C != src.CRC32C || got[0] != "all of it" {
		t.Errorf("part = %+v, %v, sent %q", part, err, got)
	}
	_, err = p.PushPart(limited(t), provider.Session{Parts: 1, LastPartCompletes: true}, src, 0, nil)
	if err == nil || !strings.Contains(got[1], "\r\n\r\nall of it\r\n--") {
		t.Errorf("post = %v, sent %q", err, got)
	}
}

func TestAnswersThatComeTooEarly(t *testing.T) {
	tests := map[string]struct {
		status  int
		verdict provider.Verdict
	}{
		"a success before the bytes is none":     {200, provider.Integrity},
		"a refusal before the bytes counts":      {403, provider.SessionLost},
		"a busy service before the bytes passes": {503, provider.Transient},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := open(t, uploadcare.Options{
				PublicKey: publicKey, SecretKey: secretKey, PartETag: "ignore",
				Transport: answer(func(r *http.Request) (*http.Response, error) {
					go func() { // net/http writes while it reads, and closes the body when it gives up
						_, _ = io.CopyN(io.Discard, r.Body, mib)
						_ = r.Body.Close()
					}()
					return respond(tt.status, http.Header{"Etag": {"x"}}, ""), nil
				}),
			})
			src := sourceOf(make([]byte, 2*mib))
			_, err := p.PushPart(limited(t), onePart("http://parts.test/1", src.Size), src, 0, nil)
			if verdictOf(err) != tt.verdict {
				t.Errorf("part = %v, want %v", err, tt.verdict)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	p := open(t, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey,
		Transport: answer(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "api.uploadcare.com" {
				t.Errorf("asked %s", r.URL)
			}
			return respond(302, http.Header{"Location": {"http://elsewhere.test/"}}, ""), r.Body.Close()
		}),
	})
	if err := p.Check(limited(t)); verdictOf(err) != provider.Transient {
		t.Errorf("check = %v, want transient", err)
	}
}

func TestStoredFileOfAnotherSizeIsNoSuccess(t *testing.T) {
	_, opts := project(t)
	p := open(t, opts)
	a := pushed(t, p, sourceOf([]byte("seven b")))
	if _, err := p.Commit(limited(t), sourceOf([]byte("eight by")), a); verdictOf(err) != provider.Integrity {
		t.Errorf("commit = %v, want integrity", err)
	}
}

func TestSlowCallsEnd(t *testing.T) {
	p := open(t, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey, CallTimeout: 50 * time.Millisecond, MinRate: 1 << 30,
		Transport: answer(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, errors.Join(r.Context().Err(), r.Body.Close())
		}),
	})
	src := sourceOf([]byte("slow"))
	_, err := p.PushPart(limited(t), onePart("http://parts.test/1", src.Size), src, 0, nil)
	if verdictOf(err) != provider.Transient || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("part = %v, want transient", err)
	}
	if err := p.Check(limited(t)); verdictOf(err) != provider.Transient {
		t.Errorf("check = %v, want transient", err)
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	at := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	p := open(t, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey,
		Transport: answer(func(r *http.Request) (*http.Response, error) {
			return respond(429, http.Header{"Retry-After": {at}}, `{"detail":"Request was throttled."}`), r.Body.Close()
		}),
	})
	e, ok := errors.AsType[*provider.Error](p.Check(limited(t)))
	if !ok || e.Verdict != provider.Throttled || e.RetryAfter < 80*time.Second || e.RetryAfter > 90*time.Second {
		t.Errorf("check = %+v", e)
	}
}

func pngOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zeros is a file of any size that takes no memory.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const id = "21975c81-7f57-4c7a-aef9-acfe28779f78"
	p := open(t, uploadcare.Options{
		PublicKey: publicKey, SecretKey: secretKey, PartETag: "ignore",
		Transport: answer(func(r *http.Request) (*http.Response, error) {
			_, err := io.Copy(io.Discard, r.Body)
			if err := errors.Join(err, r.Body.Close()); err != nil {
				return nil, err
			}
			switch r.URL.Path {
			case "/base/":
				return respond(200, http.Header{}, `{"file":"`+id+`"}`), nil
			case "/info/":
				return respond(200, http.Header{}, `{"uuid":"`+id+`","size":10485759,"is_ready":true}`), nil
			}
			return respond(200, http.Header{"Etag": {"x"}}, ""), nil
		}),
	})
	sessions := map[string]provider.Session{
		"in one piece": {Parts: 1, PartSize: 10*mib - 1, LastPartCompletes: true},
		"in parts":     onePart("http://parts.test/1", 256*mib),
	}
	for name, s := range sessions {
		t.Run(name, func(t *testing.T) {
			src := provider.Source{FileName: "zeros", Size: s.PartSize, Body: zeros{}}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := p.PushPart(limited(t), s, src, 0, nil); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 512<<10 {
				t.Errorf("%d bytes took %d bytes of memory", src.Size, used)
			}
		})
	}
}
