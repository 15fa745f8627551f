package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/provider"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

func TestBadUploadsAreRefusedAndLeaveNoTrace(t *testing.T) {
	s := open(t, nil)
	must(t, postgres.LearnProvider(t.Context(), s.pool, "cloudinary", provider.Capabilities{
		MaxSize: map[upload.ResourceType]int64{upload.Raw: 1000, upload.Image: 2000, upload.Video: 3000},
	}))
	kib := func(n int) string { return strings.Repeat("x", n<<10) }
	file := func() *outgoing { return newForm().file("film.mp4", "hello") }
	named := func(name string) *outgoing { return newForm().file(name, "hello") }
	raw := func(body string) io.Reader { return strings.NewReader(body) }
	chunked := func(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }
	long := strings.Repeat("n", 300)

	type request struct {
		path    string
		form    *outgoing
		body    io.Reader // where there is no form
		headers []string
	}
	tests := map[string]struct {
		request
		status int
		code   upload.Code
	}{
		"a form without a file":                    {request{form: newForm().field("provider", "uploadcare")}, 422, upload.NoFile},
		"a file as text":                           {request{form: newForm().field("file", "film.mp4")}, 422, upload.NoFile},
		"a file in another field":                  {request{form: newForm().fileIn("video", "film.mp4", "hello")}, 422, upload.NoFile},
		"a body with another digest":               {request{body: raw("hello"), headers: []string{"Content-Digest: sha-256=:" + sha256Of("hullo") + ":"}}, 422, upload.DigestMismatch},
		"a large body with another digest":         {request{body: raw(kib(300)), headers: []string{"Repr-Digest: crc32c=:AAAAAA==:"}}, 422, upload.DigestMismatch},
		"a digest of the wrong length":             {request{body: raw("hello"), headers: []string{"Content-Digest: sha-256=:AAAA:"}}, 400, upload.InvalidRequest},
		"a digest that is none":                    {request{body: raw("hello"), headers: []string{"Content-Digest: sha-256=hello"}}, 400, upload.InvalidRequest},
		"two files":                                {request{form: file().file("second.mp4", "hello")}, 422, upload.SeveralFiles},
		"a form without its last boundary":         {request{body: raw("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello"), headers: []string{"Content-Type: multipart/form-data; boundary=b"}}, 400, upload.InvalidRequest},
		"a form without a boundary":                {request{body: raw("hello"), headers: []string{"Content-Type: multipart/form-data"}}, 415, upload.UnsupportedMedia},
		"a form with too much text":                {request{form: file().field("more", kib(65))}, 413, upload.FieldsTooLarge},
		"an unknown provider before the file":      {request{form: newForm().field("provider", "s3").file("a", "hello")}, 422, upload.UnknownProvider},
		"an unknown provider after the file":       {request{form: file().field("provider", "s3")}, 422, upload.UnknownProvider},
		"an unknown provider in the query":         {request{path: "?provider=s3", form: file()}, 422, upload.UnknownProvider},
		"an unknown resource type":                 {request{form: file().field("resource_type", "music")}, 422, upload.UnknownResourceType},
		"an empty file":                            {request{form: newForm().file("film.mp4", "")}, 422, upload.EmptyFile},
		"a name with a path":                       {request{form: named("../film.mp4")}, 422, upload.InvalidFileName},
		"a name with a path of Windows":            {request{form: file().field("fileName", `C:\film.mp4`)}, 422, upload.InvalidFileName},
		"a name that is a folder":                  {request{form: file().field("fileName", "..")}, 422, upload.InvalidFileName},
		"a name with a control character":          {request{form: file().field("fileName", "film\x00.mp4")}, 422, upload.InvalidFileName},
		"a name with a line end":                   {request{form: named("film%0A.mp4")}, 422, upload.InvalidFileName},
		"a name of 300 bytes":                      {request{form: named(long)}, 422, upload.InvalidFileName},
		"a blank name":                             {request{form: file().field("fileName", "  ")}, 422, upload.InvalidFileName},
		"metadata with a key that no provider has": {request{form: file().field("metadata[al bum]", "7")}, 422, upload.InvalidMetadata},
		"metadata without a key":                   {request{form: file().field("metadata[]", "7")}, 422, upload.InvalidMetadata},
		"metadata with too long a value":           {request{form: file().field("metadata[album]", long+long)}, 422, upload.InvalidMetadata},
		"metadata in the query":                    {request{path: "?metadata[al%20bum]=7", form: file()}, 422, upload.InvalidMetadata},
		"a tag that no provider takes":             {request{form: file().field("tags", "trip,two words")}, 422, upload.InvalidMetadata},
		"a file over the limit in a form":          {request{form: newForm().file("a", kib(1025))}, 413, upload.TooLarge},
		"a form far over the limit":                {request{form: newForm().file("a", kib(2048))}, 413, upload.TooLarge},
		"a file over its provider's limit":         {request{form: newForm().file("a", kib(4)).field("provider", "cloudinary")}, 413, upload.TooLargeForProvider},
		"a file over its type's limit there":       {request{form: newForm().file("a", kib(2)).field("provider", "cloudinary")}, 413, upload.TooLargeForProvider},
		"an encoded form":                          {request{form: file(), headers: []string{"Content-Encoding: gzip"}}, 415, upload.UnsupportedMedia},
		"an escape that is none in the query":      {request{path: "?provider=%zz", form: file()}, 422, upload.InvalidParameter},
		"bytes that are no text in the query":      {request{path: "?file_name=%ff", form: file()}, 422, upload.InvalidParameter},

		"a body without bytes":                   {request{body: http.NoBody}, 422, upload.EmptyFile},
		"chunks without bytes":                   {request{body: chunked("")}, 422, upload.EmptyFile},
		"a body over the limit":                  {request{body: raw(kib(1025))}, 413, upload.TooLarge},
		"chunks over the limit":                  {request{body: chunked(kib(1025))}, 413, upload.TooLarge},
		"a body over its provider's limit":       {request{path: "?provider=cloudinary&resource_type=raw", body: raw(kib(1))}, 413, upload.TooLargeForProvider},
		"chunks over their provider's limit":     {request{path: "?provider=cloudinary&resource_type=raw", body: chunked(kib(1))}, 413, upload.TooLargeForProvider},
		"an address to import from":              {request{body: raw(`{"url":"https://example.com/film.mp4"}`), headers: []string{"Content-Type: application/json"}}, 404, upload.ImportOff},
		"a disposition that cannot be read":      {request{body: raw("hello"), headers: []string{`Content-Disposition: attachment; filename="`}}, 400, upload.InvalidRequest},
		"a disposition with a path":              {request{body: raw("hello"), headers: []string{`Content-Disposition: attachment; filename="../film.mp4"`}}, 422, upload.InvalidFileName},
		"a name of 300 bytes for a body":         {request{path: "?file_name=" + long, body: raw("hello")}, 422, upload.InvalidFileName},
		"an unknown provider for a body":         {request{path: "?provider=s3", body: raw("hello")}, 422, upload.UnknownProvider},
		"an encoded body":                        {request{body: raw("hello"), headers: []string{"Content-Encoding: br"}}, 415, upload.UnsupportedMedia},
		"metadata that no provider takes, early": {request{path: "?metadata[a]=%00", body: raw("hello")}, 422, upload.InvalidMetadata},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			kind := ""
			if tt.form != nil {
				tt.body, kind = tt.form.end()
			}
			headers := tt.headers
			if kind != "" {
				headers = append([]string{kind}, headers...)
			}
			r := s.do(t, "POST", "/v1/uploads"+tt.path, tt.body, headers...)
			wantCode(t, r, tt.status, tt.code)
			if p := r.problem(t); len(p.Detail) < 20 || !strings.HasSuffix(p.Detail, ".") {
				t.Errorf("detail %q is no sentence", p.Detail)
			}
			s.wantNoTrace(t)
		})
	}
}

// postHead is the head of alice's request on a connection of its own.
func (s *site) postHead(t *testing.T, path string, headers ...string) string {
	return head("POST", path, append(headers, as(t, "alice"))...)
}

func TestBodiesThatAreFramedWrongLeaveNoTrace(t *testing.T) {
	s := open(t, nil)
	formHead := "Content-Type: multipart/form-data; boundary=b"
	first := strings.Repeat("x", 8<<10) // what is read of a body before anybody looks at the head
	const begun = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello"
	tests := map[string]struct {
		send   string
		ends   bool // the client ends its side then
		status int
		code   upload.Code
	}{
		"a length over the limit is refused before the body": {s.postHead(t, "/v1/uploads", "Content-Length: 10737418240") + first, false, 413, upload.TooLarge},
		"so is a form's": {s.postHead(t, "/upload", formHead, "Content-Length: 10737418240") + first, false, 413, upload.TooLarge},
		"an unknown provider is refused before the body":    {s.postHead(t, "/v1/uploads?provider=s3", formHead, "Content-Length: 100000") + first, false, 422, upload.UnknownProvider},
		"a body of which less came than was declared":       {s.postHead(t, "/v1/uploads", "Content-Length: 1000") + "hello", true, 400, upload.CutBody},
		"a body that is cut where its type is known":        {s.postHead(t, "/v1/uploads", "Content-Length: 100000") + first + first, true, 400, upload.CutBody},
		"a form that is cut where its type is known":        {s.postHead(t, "/upload", formHead, "Content-Length: 100000") + begun + first + first, true, 400, upload.CutBody},
		"a form of which less came than was declared":       {s.postHead(t, "/upload", formHead, "Content-Length: 1000") + begun, true, 400, upload.CutBody},
		"a form whose length ends before its last boundary": {s.postHead(t, "/upload", formHead, fmt.Sprint("Content-Length: ", len(begun))) + begun, false, 400, upload.InvalidRequest},
		"chunks that are cut":                               {s.postHead(t, "/v1/uploads", "Transfer-Encoding: chunked") + "5\r\nhello\r\n", true, 400, upload.CutBody},
		"no body at all":                                    {s.postHead(t, "/v1/uploads"), false, 411, upload.LengthRequired},
		"no body at all for the guide":                      {s.postHead(t, "/upload"), false, 415, upload.UnsupportedMedia},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t)
			c.send(tt.send)
			if tt.ends {
				must(t, c.CloseWrite())
			}
			wantCode(t, c.answer(), tt.status, tt.code)
			s.wantNoTrace(t)
		})
	}
}

func TestBytesBeyondTheDeclaredLengthAreNotTheFiles(t *testing.T) {
	s := open(t, nil)
	c := s.dial(t)
	c.send(s.postHead(t, "/v1/uploads", "Content-Length: 5") + "hello, and more\r\n\r\n")
	if u := into[uploadView](t, c.answer(), 202); u.Size != 5 {
		t.Errorf("size is %d, want 5", u.Size)
	}
	if next := c.answer(); next.StatusCode < 400 {
		t.Errorf("what came behind it was answered with %d %s", next.StatusCode, next.text)
	}
	if n := s.count(t, "slipway.uploads"); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

func TestBadQuestionsAreRefused(t *testing.T) {
	s := open(t, nil)
	known := s.put(t, "film.mp4")
	tests := map[string]struct {
		method, path string
		status       int
		code         upload.Code
	}{
		"an unknown status":                    {"GET", "/v1/uploads?status=done", 422, upload.InvalidParameter},
		"an unknown status beside a known one": {"GET", "/v1/uploads?status=failed,done", 422, upload.InvalidParameter},
		"an unknown provider":                  {"GET", "/v1/uploads?provider=s3", 422, upload.UnknownProvider},
		"an unknown provider of files":         {"GET", "/v1/files?provider=s3", 422, upload.UnknownProvider},
		"an unknown resource type":             {"GET", "/v1/files?resource_type=music", 422, upload.UnknownResourceType},
		"a page of nothing":                    {"GET", "/v1/uploads?limit=0", 422, upload.InvalidParameter},
		"a page that is too large":             {"GET", "/v1/files?limit=101", 422, upload.InvalidParameter},
		"a page of some":                       {"GET", "/v1/uploads?limit=some", 422, upload.InvalidParameter},
		"a cursor that is none":                {"GET", "/v1/uploads?cursor=!", 400, upload.InvalidCursor},
		"a cursor that was made up":            {"GET", "/v1/uploads?cursor=aGVsbG8", 400, upload.InvalidCursor},
		"a cursor of another list":             {"GET", "/v1/files?cursor=aGVsbG8", 400, upload.InvalidCursor},
		"an id that is none":                   {"GET", "/v1/uploads/1", 404, upload.NotFound},
		"an id with a path":                    {"GET", "/v1/uploads/..%2f..%2fetc", 404, upload.NotFound},
		"an id of 10 KB":                       {"GET", "/v1/uploads/" + strings.Repeat("a", 10<<10), 404, upload.NotFound},
		"an id in capitals":                    {"GET", "/v1/uploads/" + strings.ToUpper(string(known.ID)), 404, upload.NotFound},
		"a retry of an id that is none":        {"POST", "/v1/uploads/1/retry", 404, upload.NotFound},
		"a retry of what has not failed":       {"POST", "/v1/uploads/" + string(known.ID) + "/retry", 409, upload.NotFailed},
		"a file that is none":                  {"GET", "/v1/files/1", 404, upload.NotFound},
		"a row of no table":                    {"GET", "/v1/files/s3-1", 404, upload.NotFound},
		"a row written otherwise":              {"GET", "/v1/files/uploadcare-01", 404, upload.NotFound},
		"a row beyond all numbers":             {"GET", "/v1/files/uploadcare-99999999999/content", 404, upload.NotFound},
		"a route that is none":                 {"GET", "/v1/nothing", 404, upload.NotFound},
		"a method that is none":                {"PUT", "/v1/uploads", 405, upload.MethodNotAllowed},
		"a method that nobody knows":           {"BREW", "/v1/uploads/" + string(known.ID), 405, upload.MethodNotAllowed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { wantCode(t, s.do(t, tt.method, tt.path, nil), tt.status, tt.code) })
	}
}

func TestAFileThatNamesItsProviderLastIsHeldToThatOnesLimits(t *testing.T) {
	s := open(t, nil)
	must(t, postgres.LearnProvider(t.Context(), s.pool, "uploadcare", provider.Capabilities{MaxSize: map[upload.ResourceType]int64{"": 1000}}))
	large := strings.Repeat("x", 900<<10)
	wantCode(t, s.post(t, "/v1/uploads", newForm().file("a", large)), 413, upload.TooLargeForProvider)
	wantCode(t, s.do(t, "POST", "/v1/uploads", strings.NewReader(large)), 413, upload.TooLargeForProvider)
	s.wantNoTrace(t)
	r := s.post(t, "/v1/uploads", newForm().file("a", large).field("provider", "cloudinary"))
	if u := into[uploadView](t, r, 202); u.Provider != "cloudinary" {
		t.Errorf("provider is %s, want cloudinary", u.Provider)
	}
}

func TestWithoutRoomNothingIsTaken(t *testing.T) {
	s := open(t, func(a *API, _ *Options) {
		a.Ingest.Staging = full{a.Ingest.Staging}
		a.Quotas = quota.New(a.Pool, postgres.Limits{}, a.Ingest.Log)
		a.Quotas.Disk, a.Ingest.Quotas = a.Ingest.Staging, a.Quotas
	})
	for name, r := range map[string]reply{
		"a form": s.post(t, "/upload", newForm().file("a", "hello")),
		"a body": s.do(t, "POST", "/v1/uploads", strings.NewReader("hello")),
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, r, 507, upload.NoRoom)
			if r.Header.Get("Retry-After") == "" || !r.problem(t).Retryable {
				t.Errorf("not told when to come back: %s", r.text)
			}
		})
	}
	s.wantNoTrace(t)
	if r := s.do(t, "GET", "/readyz", nil); r.StatusCode != 503 {
		t.Errorf("readyz is %d without room", r.StatusCode)
	}
}

func TestWhileTheDatabaseIsDown(t *testing.T) {
	s := open(t, func(a *API, _ *Options) { a.PublicFiles, a.Webhooks.Cloudinary = true, webhookSecret })
	known := s.put(t, "film.mp4") // the providers' limits are known from now on: the bytes come in before the outage is noticed
	postgrestest.Outage(t, func() {
		id := string(known.ID)
		body, kind := newForm().file("a", "hello").end()
		var asked sync.WaitGroup // at once, for some wait until they believe in the outage
		for name, ask := range map[string]struct {
			method, path string
			body         io.Reader
			headers      []string
		}{
			"a body":          {"POST", "/v1/uploads", strings.NewReader("hello"), nil},
			"a form":          {"POST", "/upload", body, []string{kind}},
			"an upload":       {"GET", "/v1/uploads/" + id, nil, nil},
			"the uploads":     {"GET", "/v1/uploads", nil, nil},
			"a retry":         {"POST", "/v1/uploads/" + id + "/retry", nil, nil},
			"the files":       {"GET", "/v1/files", nil, nil},
			"a file":          {"GET", "/v1/files/" + id, nil, nil},
			"a public file":   {"GET", "/v1/files/" + id + "/content", nil, []string{as(t, "")}},
			"a row":           {"GET", "/v1/files/uploadcare-1/content", nil, nil},
			"a page":          {"GET", "/", nil, nil},
			"the status page": {"GET", "/uploads/" + id, nil, nil},
			"a notification":  {"POST", "/webhooks/cloudinary", strings.NewReader(pictured), told("cloudinary", pictured, time.Now())},
		} {
			asked.Go(func() {
				r, err := s.send(t, ask.method, ask.path, ask.body, ask.headers...)
				if err != nil || r.StatusCode != 503 || r.Header.Get("Retry-After") == "" ||
					!strings.Contains(r.text, `"code":"unavailable","retryable":true`) {
					t.Errorf("%s: got %+v, %v", name, r, err)
				}
			})
		}
		asked.Wait()
		if r := s.do(t, "GET", "/readyz?verbose", nil); r.StatusCode != 503 || !strings.Contains(r.text, `"database":{"ok":false`) {
			t.Errorf("readyz is %d %s", r.StatusCode, r.text)
		}
		if r := s.do(t, "GET", "/livez", nil); r.StatusCode != 200 {
			t.Errorf("livez is %d", r.StatusCode)
		}
		if ids := s.staged(t); len(ids) != 1 || ids[0] != string(known.ID) {
			t.Errorf("staging holds %v, want %s alone", ids, known.ID)
		}
	})
	s.put(t, "film.mp4")
	if n := s.count(t, "slipway.uploads"); n != 2 {
		t.Errorf("%d uploads, want those two that were acknowledged", n)
	}
}

func TestSmuggledTailsOnEveryRoute(t *testing.T) {
	s := open(t, func(a *API, o *Options) {
		takesWebhooks(a, o)
		a.Page = pageOf(t, PageOptions{})
	})
	for _, route := range s.app.GetRoutes(true) {
		for kind, body := range bodiesWithATail() {
			t.Run(route.Method+" "+route.Path+" "+kind, func(t *testing.T) {
				c := s.dial(t)
				c.send(route.Method + " " + addressed(route.Path) + " HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n" + as(t, "alice") + "\r\n" + body + head("GET", "/livez"))
				if _, err := c.read(route.Method); err != nil {
					t.Fatalf("first answer: %v", err)
				}
				if next, err := c.read("GET"); err == nil && next.text != "ok\n" {
					t.Errorf("second answer is %d %q, want that to GET /livez or none", next.StatusCode, next.text)
				}
			})
		}
	}
}

func sha256Of(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestADeclaredDigestThatIsRightIsAccepted(t *testing.T) {
	s := open(t, nil)
	for name, header := range map[string]string{
		"sha-256":                  "Content-Digest: sha-256=:" + sha256Of("hello") + ":",
		"crc32c":                   "Repr-Digest: crc32c=:mnG7TA==:",
		"one that is not known":    "Content-Digest: sha-512=:AAAA:",
		"both in one, with others": "Content-Digest: unixsum=:AAAA:, crc32c=:mnG7TA==:, sha-256=:" + sha256Of("hello") + ":",
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.do(t, "POST", "/v1/uploads", strings.NewReader("hello"), header); got.StatusCode != http.StatusAccepted {
				t.Errorf("answered %s: %s", got.Status, got.text)
			}
		})
	}
}
