package cloudinary_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/provider/providertest"
	simulator "slipway/internal/providersim/cloudinary"
	"slipway/internal/upload"
)

// net is an http.RoundTripper made of a function.
type net func(*http.Request) (*http.Response, error)

func (n net) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

// answered is what comes back instead of the real answer.
func answered(r *http.Request, status int, body string, header ...string) (*http.Response, error) {
	if r.Body != nil {
		_, err := io.Copy(io.Discard, r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp, nil
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func source(size int64) provider.Source {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{'c', 'l', 'd'}).Read(data)
	return provider.Source{
		UploadID: "0193f1c2-7c5e-7000-8000-000000000001", Key: "inst/0193f1c2-7c5e-7000-8000-000000000001",
		FileName: "film.mp4", ContentType: "video/mp4", ResourceType: upload.Video,
		Size: size, CRC32C: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)), Body: bytes.NewReader(data),
	}
}

// begun is a session of src whose parts before n have been sent.
func begun(t *testing.T, p *cloudinary.Provider, src provider.Source, n int) (provider.Session, []provider.Part) {
	t.Helper()
	s, err := p.Begin(within(t), src)
	if err != nil {
		t.Fatal(err)
	}
	var parts []provider.Part
	for i := range n {
		part, err := p.PushPart(within(t), s, src, i, parts)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return s, parts
}

func verdict(t *testing.T, err error) provider.Verdict {
	t.Helper()
	var e *provider.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *provider.Error", err)
	}
	return e.Verdict
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := cloudinary.Options{CloudName: "demo", APIKey: "1", APISecret: "abcd"}
	if _, err := cloudinary.New(good); err != nil {
		t.Errorf("good options: %v", err)
	}
	for name, spoil := range map[string]func(*cloudinary.Options){
		"no cloud name":                     func(o *cloudinary.Options) { o.CloudName = "" },
		"no key":                            func(o *cloudinary.Options) { o.APIKey = "" },
		"no secret":                         func(o *cloudinary.Options) { o.APISecret = "" },
		"an unknown signature algorithm":    func(o *cloudinary.Options) { o.SignatureAlgorithm = "md5" },
		"a chunk that fits no request":      func(o *cloudinary.Options) { o.ChunkSize = 100e6 },
		"a threshold that fits none":        func(o *cloudinary.Options) { o.PartsFrom = map[upload.ResourceType]int64{upload.Image: 100e6} },
		"a chunk of a negative size":        func(o *cloudinary.Options) { o.ChunkSize = -1 },
		"a signature algorithm in capitals": func(o *cloudinary.Options) { o.SignatureAlgorithm = "SHA1" },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			spoil(&bad)
			if _, err := cloudinary.New(bad); err == nil {
				t.Errorf("New(%+v) took it", bad)
			}
		})
	}
}

func TestBegin(t *testing.T) {
	_, opt := cloud(t)
	opt.PartsFrom = map[upload.ResourceType]int64{upload.Image: 5 * chunkSize}
	p := open(t, opt)
	tests := map[string]struct {
		rt       upload.ResourceType
		name     string
		size     int64
		parts    int
		partSize int64
		publicID string
	}{
		"a chunk's worth goes in one request":                {upload.Video, "film.mp4", chunkSize, 1, chunkSize, "inst/1"},
		"a byte more goes in two":                            {upload.Video, "film.mp4", chunkSize + 1, 2, chunkSize, "inst/1"},
		"a large image stays whole up to its own threshold":  {upload.Image, "a.png", 5 * chunkSize, 1, 5 * chunkSize, "inst/1"},
		"and goes in chunks above it":                        {upload.Image, "a.png", 5*chunkSize + 1, 6, chunkSize, "inst/1"},
		"a raw file's id has its extension":                  {upload.Raw, "Report.DOCX", 1, 1, chunkSize, "inst/1.docx"},
		"the last extension is the one":                      {upload.Raw, "a.tar.gz", 1, 1, chunkSize, "inst/1.gz"},
		"an extension that may not stand in an id is no one": {upload.Raw, "a.100% sure", 1, 1, chunkSize, "inst/1"},
		"a raw file may have none":                           {upload.Raw, "Makefile", 1, 1, chunkSize, "inst/1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := p.Begin(within(t), provider.Source{Key: "inst/1", FileName: tt.name, ResourceType: tt.rt, Size: tt.size})
			if err != nil {
				t.Fatal(err)
			}
			if s.Parts != tt.parts || s.PartSize != tt.partSize || !s.LastPartCompletes || s.ID == "" {
				t.Errorf("Begin = %+v, want %d parts of %d", s, tt.parts, tt.partSize)
			}
			if s.ExpiresAt.IsZero() != (tt.parts == 1) {
				t.Errorf("a session of %d parts expires at %v", tt.parts, s.ExpiresAt)
			}
			want := fmt.Sprintf(`{"public_id":%q,"resource_type":%q,"type":"upload"}`, tt.publicID, tt.rt)
			if string(s.State) != want {
				t.Errorf("state %s, want %s", s.State, want)
			}
		})
	}
	if _, err := p.Begin(within(t), provider.Source{Key: "inst/1", Size: 1}); err == nil {
		t.Error("a file without a resource type was taken")
	}
}

// resource is what the Admin API says of an asset.
func resource(t *testing.T, opt cloudinary.Options, path string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, opt.UploadPrefix+"/v1_1/"+cloudName+"/resources/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(apiKey, apiSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTagsAndMetadataArrive(t *testing.T) {
	for _, size := range []int64{10, 2*chunkSize + 1} {
		_, opt := cloud(t)
		src := source(size)
		src.Tags = []string{"trip", "a & b", "one, two"}
		src.Metadata = map[string]string{"sum": "1+1=2|3", "a=b": "x", "who": "père & fils"}
		p := open(t, opt)
		_, parts := begun(t, p, src, int((size+chunkSize-1)/chunkSize))

		a := parts[len(parts)-1].Asset
		if a == nil || a.ID != src.Key || a.Size != size || a.ResourceType != upload.Video || a.ContentType != src.ContentType || a.Version == 0 {
			t.Fatalf("asset = %+v", a)
		}
		got := resource(t, opt, "video/upload/"+src.Key)
		if tags := fmt.Sprint(got["tags"]); tags != "[trip a & b one  two]" {
			t.Errorf("%d bytes: tags %s", size, tags)
		}
		custom, err := json.Marshal(got["context"])
		if want := `{"custom":{"a=b":"x","sum":"1+1=2|3","who":"père \u0026 fils"}}`; err != nil || string(custom) != want {
			t.Errorf("%d bytes: context %s, want %s", size, custom, want)
		}
	}
}

// posted is the form of an upload.
func posted(r *http.Request) (*multipart.Form, error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	return multipart.NewReader(body, params["boundary"]).ReadForm(1 << 20)
}

func TestAPushReplacesAndADeletePurges(t *testing.T) {
	_, opt := cloud(t)
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		switch callOf(r) {
		case providertest.Part:
			form, err := posted(r)
			if err != nil {
				return nil, err
			}
			if got := form.Value["overwrite"]; len(got) != 1 || got[0] != "true" {
				t.Errorf("upload with overwrite %q, want true", got)
			}
		case providertest.Delete:
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			form, err := io.ReadAll(body)
			if err != nil {
				return nil, err
			}
			if !strings.Contains(string(form), "invalidate=true") {
				t.Errorf("destroy with %s, want invalidate=true", form)
			}
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, opt)
	_, parts := begun(t, p, source(10), 1)
	if err := p.Delete(within(t), *parts[0].Asset); err != nil {
		t.Error(err)
	}
}

func TestAnAssetKeepsTheTypeThatItsSessionBeganWith(t *testing.T) {
	for name, tt := range map[string]struct {
		before bool // whether it is authenticated
		want   string
	}{"public before": {false, "upload"}, "authenticated before": {true, "authenticated"}} {
		t.Run(name, func(t *testing.T) {
			sim, opt := cloud(t)
			types := func() (list []string) {
				for _, f := range sim.Inventory().Files {
					list = append(list, f.Type)
				}
				return list
			}
			opt.Authenticated = tt.before
			src := source(2*chunkSize + 1)
			s, parts := begun(t, open(t, opt), src, 2)

			opt.Authenticated = !tt.before
			p := open(t, opt)
			last, err := p.PushPart(within(t), s, src, 2, parts)
			if err != nil {
				t.Fatal(err)
			}
			if got := types(); len(got) != 1 || got[0] != tt.want || sign.Type(last.Asset.URL) != tt.want {
				t.Errorf("stored as %q at %s, want %s", got, last.Asset.URL, tt.want)
			}
			if strings.Contains(last.Asset.URL, "s--") {
				t.Errorf("the asset's address opens it: %s", last.Asset.URL)
			}
			found, err := p.Lookup(within(t), s, src, append(parts, last))
			if err != nil || found == nil || found.URL != last.Asset.URL {
				t.Errorf("Lookup = %+v, %v, want %s", found, err, last.Asset.URL)
			}
			if err := p.Delete(within(t), *last.Asset); err != nil || len(types()) > 0 {
				t.Errorf("Delete = %v, left is %q", err, types())
			}
		})
	}
}

func TestAnAssetWithoutAnAddressIsDeletedOfEitherType(t *testing.T) {
	for _, authenticated := range []bool{false, true} {
		sim, opt := cloud(t)
		opt.Authenticated = authenticated
		p := open(t, opt)
		_, parts := begun(t, p, source(10), 1)
		a := upload.Asset{ID: parts[0].Asset.ID, ResourceType: upload.Video}
		if err := p.Delete(within(t), a); err != nil || len(sim.Inventory().Files) > 0 {
			t.Errorf("authenticated %t: Delete = %v, left is %+v", authenticated, err, sim.Inventory().Files)
		}
	}
}

func TestTheFileNameIsWhatAFormMayHold(t *testing.T) {
	_, opt := cloud(t)
	var got string
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		form, err := posted(r)
		if err != nil {
			return nil, err
		}
		got = form.File["file"][0].Filename
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, opt)
	for name, want := range map[string]string{
		"père & fils (1).mp4":  "père & fils (1).mp4",
		`say "hi".mp4`:         `say "hi".mp4`,
		"a/b\\c.mp4":           "a_b_c.mp4",
		"x\r\nEvil: 1\x00.mp4": "xEvil: 1.mp4",
		"\xff\xfe.mp4":         ".mp4",
		"..":                   "file",
		"":                     "file",
	} {
		src := source(10)
		src.FileName = name
		begun(t, p, src, 1)
		if got != want {
			t.Errorf("%q was sent as %q, want %q", name, got, want)
		}
	}
}

func TestOneRequestHasNoChunkHeaders(t *testing.T) {
	_, opt := cloud(t)
	var seen []http.Header
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r.Header.Clone())
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, opt)
	begun(t, p, source(10), 1)
	if r := seen[0]; r.Get("Content-Range") != "" || r.Get("X-Unique-Upload-Id") != "" {
		t.Errorf("a file in one request was sent with %v", r)
	}
	seen = nil
	s, _ := begun(t, p, source(2*chunkSize+1), 3)
	for i, want := range []string{"bytes 0-65536/131075", "bytes 65537-131073/131075", "bytes 131074-131074/131075"} {
		if got := seen[i].Get("Content-Range"); got != want {
			t.Errorf("part %d: Content-Range %q, want %q", i, got, want)
		}
		if got := seen[i].Get("X-Unique-Upload-Id"); got != s.ID {
			t.Errorf("part %d: X-Unique-Upload-Id %q, want %q", i, got, s.ID)
		}
	}
}

func TestAReplayedRequestBeginsAnew(t *testing.T) {
	_, opt := cloud(t)
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		if _, err := io.CopyN(io.Discard, r.Body, r.ContentLength/2); err != nil {
			return nil, err
		}
		again, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = again
		return http.DefaultTransport.RoundTrip(r)
	})
	src := source(2*chunkSize + 1)
	_, parts := begun(t, open(t, opt), src, 3)
	if a := parts[2].Asset; a == nil || a.Size != src.Size {
		t.Errorf("asset = %+v", a)
	}
}

func TestAPartNeedsTheOneBefore(t *testing.T) {
	_, opt := cloud(t)
	p := open(t, opt)
	src := source(3 * chunkSize)
	s, parts := begun(t, p, src, 2)
	if _, err := p.PushPart(within(t), s, src, 2, parts[:1]); err == nil {
		t.Error("part 2 was sent without part 1")
	}
}

func TestDeadlineGrowsWithTheBytes(t *testing.T) {
	_, opt := cloud(t)
	var left []time.Duration
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		deadline, _ := r.Context().Deadline()
		left = append(left, time.Until(deadline).Round(time.Minute/2))
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		return nil, context.DeadlineExceeded
	})
	opt.ChunkSize = 20_000_000
	p := open(t, opt)
	src := source(0)
	src.Size, src.Body = 40_000_000, zeros{}
	s, _ := begun(t, p, src, 0)
	_, err := p.PushPart(context.Background(), s, src, 0, nil)
	if got := verdict(t, err); got != provider.Transient {
		t.Errorf("a part out of time is %v, want transient", got)
	}
	s, _ = begun(t, p, source(1), 0)
	_, err = p.PushPart(context.Background(), s, source(1), 0, nil)
	if got := verdict(t, err); got != provider.Unknown {
		t.Errorf("a last part out of time is %v, want outcome unknown", got)
	}
	if want := []time.Duration{3 * time.Minute, 5 * time.Minute / 2}; fmt.Sprint(left) != fmt.Sprint(want) {
		t.Errorf("deadlines in %v, want %v", left, want)
	}
}

// zeros is a staged file without end.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCheckReadsThePlanOnce(t *testing.T) {
	sim, opt := cloud(t)
	settings := sim.Settings()
	settings.Limits = simulator.FreePlan
	sim.Set(settings)
	var calls atomic.Int32
	opt.Transport = net(func(r *http.Request) (*http.Response, error) {
		calls.Add(1)
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, opt)
	if got := p.Capabilities().Limit(upload.Raw); got != 0 {
		t.Errorf("before the check the limit is %d, want none known", got)
	}
	for range 3 {
		if err := p.Check(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	for rt, want := range map[upload.ResourceType]int64{upload.Image: 10 << 20, upload.Video: 100 << 20, upload.Raw: 10 << 20} {
		if got := p.Capabilities().Limit(rt); got != want {
			t.Errorf("limit of %s is %d, want %d", rt, got, want)
		}
	}
	if got := calls.Load(); got != 4 {
		t.Errorf("three checks made %d calls, want 3 pings and 1 question for the plan", got)
	}
}

func TestAnswersThatBreakTheSDK(t *testing.T) {
	for _, body := range []string{"null", "", "<html>", `[]`, `{"error":"boom"}`, `{"result":1}`, `{"status":7}`} {
		t.Run(body, func(t *testing.T) {
			_, opt := cloud(t)
			opt.Transport = net(func(r *http.Request) (*http.Response, error) { return answered(r, 200, body) })
			p := open(t, opt)
			if got := verdict(t, p.Check(within(t))); got != provider.Transient {
				t.Errorf("check is %v, want transient", got)
			}
			if got := verdict(t, p.Delete(within(t), upload.Asset{ID: "a", ResourceType: upload.Raw})); got != provider.Transient {
				t.Errorf("delete is %v, want transient", got)
			}
		})
	}
}
