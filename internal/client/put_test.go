package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/upload"
)

// zeros is a file of n zero bytes that takes no room.
type zeros int64

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(int64(z)-off, 0)))
	clear(p[:n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func file(size int64) File { return File{Name: "a.bin", Size: size, Content: zeros(size)} }

// accept takes a file as the service does.
func accept(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || int64(len(body)) != r.ContentLength {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"id":%q,"status":"queued","size":%d,"crc32c":%q}`, id, len(body), crc32c.Base64(crc32c.Update(0, body)))
}

func TestPutSaysAllThatIsKnownOfAFile(t *testing.T) {
	const name = `père & fils (1).mp4`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, params, err := mime.ParseMediaType(r.Header.Get("Content-Disposition"))
		if err != nil || params["filename"] != name {
			t.Errorf("Content-Disposition %q: %v", r.Header.Get("Content-Disposition"), err)
		}
		if strings.ContainsFunc(r.Header.Get("Content-Disposition"), func(c rune) bool { return c > '~' }) {
			t.Errorf("the header is not ASCII: %q", r.Header.Get("Content-Disposition"))
		}
		q := r.URL.Query()
		if q.Get("provider") != "cloudinary" || q.Get("resource_type") != "video" || q.Get("metadata[album]") != "7 & 8" || !slices.Equal(q["tags"], []string{"trip", "sea"}) {
			t.Errorf("the query is %v", q)
		}
		if r.Header.Get("Authorization") != "Bearer "+token || r.ContentLength != 3<<20 || r.Header.Get("Content-Type") == "" || r.Method != "POST" || r.URL.Path != "/v1/uploads" {
			t.Errorf("%s %s of %d bytes with %v", r.Method, r.URL.Path, r.ContentLength, r.Header)
		}
		accept(w, r)
	})
	var last int64
	f := file(3 << 20)
	f.Name, f.Provider, f.ResourceType = name, "cloudinary", upload.Video
	f.Metadata, f.Tags = map[string]string{"album": "7 & 8"}, []string{"trip", "sea"}
	f.Progress = func(n int64) {
		if n < last {
			t.Errorf("progress went from %d to %d", last, n)
		}
		last = n
	}
	u, err := c.Put(t.Context(), f)
	if err != nil || u.ID != id || u.Size != 3<<20 || last != 3<<20 {
		t.Errorf("got %+v, %v after %d bytes", u, err, last)
	}
}

func TestContentTypes(t *testing.T) {
	for name, want := range map[string]string{"a.png": "image/png", "a.html": "text/html; charset=utf-8", "a": "application/octet-stream", "a.zzz": "application/octet-stream"} {
		if got := typeByName(name); got != want {
			t.Errorf("%s goes as %s, want %s", name, got, want)
		}
	}
}

func TestAFileIsSentAgainWhereThatDoesNoHarm(t *testing.T) {
	const size = 8 << 20
	unknown := problem(503, upload.Unavailable, `,"retryable":true,"upload_id":"`+string(id)+`"`)
	inFlight := problem(409, upload.KeyInFlight, `,"retryable":true`, "Retry-After", "5")
	tests := map[string]struct {
		handlers []http.HandlerFunc
		posts    int32
		wait     time.Duration // 0: any
		err      string        // "": it is there in the end
	}{
		"no room for a minute":                  {[]http.HandlerFunc{problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "60"), accept}, 2, time.Minute, ""},
		"no room for minutes":                   {[]http.HandlerFunc{problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "300"), accept}, 2, 5 * time.Minute, ""},
		"too much of it for a while":            {[]http.HandlerFunc{problem(429, upload.StagedQuota, `,"retryable":true`, "Retry-After", "180"), accept}, 2, 3 * time.Minute, ""},
		"too much of it until tomorrow":         {[]http.HandlerFunc{problem(429, upload.DailyQuota, `,"retryable":true`, "Retry-After", "7200")}, 1, 0, "Sorry."},
		"an outage for minutes":                 {[]http.HandlerFunc{problem(503, upload.Unavailable, `,"retryable":true`, "Retry-After", "300")}, 1, 0, "Sorry."},
		"no room for an hour":                   {[]http.HandlerFunc{problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "3600")}, 1, 0, "Sorry."},
		"a restart":                             {[]http.HandlerFunc{problem(503, upload.Draining, `,"retryable":true`, "Retry-After", "2"), accept}, 2, 2 * time.Second, ""},
		"a refusal amid the bytes":              {[]http.HandlerFunc{problem(408, upload.SlowBody, `,"retryable":true`), accept}, 2, 0, ""},
		"a connection that breaks amid them":    {[]http.HandlerFunc{cut(1 << 20), accept}, 2, 0, ""},
		"one that breaks after all of them":     {[]http.HandlerFunc{cut(size), accept}, 2, 0, ""},
		"a first try that is still answered":    {[]http.HandlerFunc{cut(size), inFlight, inFlight, accept}, 4, 0, ""},
		"a refusal for good":                    {[]http.HandlerFunc{problem(413, upload.TooLarge, "")}, 1, 0, "Sorry."},
		"a proxy that does not know":            {[]http.HandlerFunc{reply(502, ""), accept}, 2, 0, ""},
		"a service that does not know, and has": {[]http.HandlerFunc{unknown, reply(202, uploadJSON(upload.Queued, 1))}, 2, 0, ""},
		"a service that does not know, nor has": {[]http.HandlerFunc{unknown, inFlight, accept}, 3, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls, posts atomic.Int32
			next := answers(&calls, tt.handlers...)
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					posts.Add(1)
				}
				next(w, r)
			})
			u, err := c.Put(t.Context(), file(size))
			if posts.Load() != tt.posts {
				t.Errorf("it was sent %d times, want %d", posts.Load(), tt.posts)
			}
			if tt.err == "" && (err != nil || u.ID != id) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, %v, want %q", u.ID, err, tt.err)
			}
			if tt.wait > 0 && !slices.Equal(c.waits, []time.Duration{tt.wait}) {
				t.Errorf("it waited %v, want %s", c.waits, tt.wait)
			}
		})
	}
}

func TestWhatMayHaveBeenAcceptedIsSaidSo(t *testing.T) {
	const size = 16 << 20
	lost := cut(size)
	tests := map[string]struct {
		handlers []http.HandlerFunc
		unknown  bool
	}{
		"no answer to all bytes, ever":         {[]http.HandlerFunc{lost}, true},
		"no answer, and then a dead service":   {[]http.HandlerFunc{lost, gone}, true},
		"no answer, and then a proxy's":        {[]http.HandlerFunc{lost, reply(502, "")}, true},
		"no answer, and then one to wait":      {[]http.HandlerFunc{lost, problem(409, upload.KeyInFlight, `,"retryable":true`)}, true},
		"no answer, and then nobody is known":  {[]http.HandlerFunc{lost, problem(401, upload.Unauthorized, "")}, true},
		"the service does not know":            {[]http.HandlerFunc{problem(503, upload.Unavailable, `,"retryable":true,"upload_id":"`+string(id)+`"`)}, true},
		"no answer, and then a refusal":        {[]http.HandlerFunc{lost, problem(413, upload.TooLarge, "")}, false},
		"no answer, and then there is no room": {[]http.HandlerFunc{lost, problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "3600")}, false},
		"not all bytes, and a dead service":    {[]http.HandlerFunc{gone}, false},
		"a refusal":                            {[]http.HandlerFunc{problem(401, upload.Unauthorized, "")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			c := serve(t, answers(&calls, tt.handlers...))
			c.opts.Patience = time.Second
			_, err := c.Put(t.Context(), file(size))
			var silent *UnreachableError
			var refused *Error
			unknown := errors.As(err, &silent) && silent.Unknown || errors.As(err, &refused) && refused.Unknown
			if err == nil || unknown != tt.unknown {
				t.Errorf("got %v, which says that it may have been accepted: %t, want %t", err, unknown, tt.unknown)
			}
		})
	}
}

// gone ends the connection before a byte of the body.
func gone(w http.ResponseWriter, r *http.Request) { cut(0)(w, r) }

// A try that cannot have been carried out says nothing of the next one; one that may have been is asked for again.
func TestOneFileHasOneKeyWhileItMayHaveBeenAccepted(t *testing.T) {
	const size = 8 << 20
	var keys []string
	var calls atomic.Int32
	next := answers(&calls, cut(1<<20), cut(size), problem(503, upload.Draining, `,"retryable":true`), accept)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		next(w, r)
	})
	for range 2 {
		if _, err := c.Put(t.Context(), file(size)); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 5 || keys[0] == keys[1] || keys[1] != keys[2] || keys[2] != keys[3] || keys[3] == keys[4] || len(keys[0]) != 38 || keys[0][0] != '"' {
		t.Errorf("the keys are %q", keys)
	}
}

// Who asks again for an answer may get it before all bytes are sent again; those of the first time are compared.
func TestAnAnswerThatComesBeforeTheBytes(t *testing.T) {
	const size = 64 << 20
	for name, sum := range map[string]string{"": crc32c.Base64(crc32c.Update(0, make([]byte, size))), "garbled": "AAAAAQ=="} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			early := func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusAccepted)
				fmt.Fprintf(w, `{"id":%q,"status":"queued","size":%d,"crc32c":%q}`, id, size, sum)
			}
			u, err := serve(t, answers(&calls, cut(size), early)).Put(t.Context(), file(size))
			if u.ID != id || (name == "") != (err == nil) || err != nil && !errors.Is(err, ErrGarbled) {
				t.Errorf("got %v, %v", u.ID, err)
			}
		})
	}
}

func TestAnErrorHasNeitherQueryNorToken(t *testing.T) {
	f := file(1000)
	f.Metadata = map[string]string{"private": "diary"}
	c := serve(t, cut(1000))
	c.opts.Patience = time.Second
	_, err := c.Put(t.Context(), f)
	if err == nil || strings.Contains(err.Error(), "diary") || strings.Contains(err.Error(), token) {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatBecomesShorter(t *testing.T) {
	f := file(4 << 20)
	f.Content = zeros(1 << 20)
	var calls atomic.Int32
	c := serve(t, answers(&calls, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	if _, err := c.Put(t.Context(), f); !errors.Is(err, ErrShrunk) || calls.Load() > 1 {
		t.Errorf("got %v after %d requests, want ErrShrunk after one", err, calls.Load())
	}
}

func TestAFileThatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	f := file(4 << 20)
	f.Content = readerAt(func([]byte, int64) (int, error) { return 0, broken })
	if _, err := serve(t, accept).Put(t.Context(), f); !errors.Is(err, broken) {
		t.Errorf("got %v, want the file's own error", err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestOtherBytesThanWereSentAreNoticed(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		reply(202, fmt.Sprintf(`{"id":%q,"status":"queued","crc32c":"AAAAAQ=="}`, id))(w, r)
	})
	if _, err := c.Put(t.Context(), file(10)); !errors.Is(err, ErrGarbled) {
		t.Errorf("got %v, want ErrGarbled", err)
	}
}

func TestAServiceThatTakesNothingMoreIsGivenUp(t *testing.T) {
	held := make(chan struct{})
	c := serve(t, func(http.ResponseWriter, *http.Request) { <-held })
	t.Cleanup(func() { close(held) })
	c.opts.Stall, c.opts.Patience = 100*time.Millisecond, 1
	_, err := c.Put(t.Context(), file(1<<30))
	if !errors.Is(err, errStalled) {
		t.Errorf("got %v, want that it stalled", err)
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := file(64 << 20)
	f.Progress = func(n int64) {
		if n > 1<<20 {
			cancel()
		}
	}
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	if _, err := c.Put(ctx, f); !errors.Is(err, context.Canceled) || len(c.waits) > 0 {
		t.Errorf("got %v after waits %v", err, c.waits)
	}
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `{"id":%q,"status":"queued","size":%d}`, id, n)
	})
	perRun := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if u, err := c.Put(b.Context(), file(256<<20)); err != nil || u.Size != 256<<20 {
				b.Fatal(u.Size, err)
			}
		}
	}).AllocedBytesPerOp()
	if perRun > 4<<20 {
		t.Errorf("256 MiB took %d bytes of memory", perRun)
	}
}
