package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

func TestPutSaysAllThatIsKnownOfAFile(t *testing.T) {
	const name = `père & fils (1).mp4`
	for _, size := range []int64{1, small, small + 1} {
		s := new(tusService)
		c := serve(t, s.ServeHTTP)
		var marks []Mark
		var last int64
		f := file(size)
		f.Name, f.Provider, f.ResourceType = name, "cloudinary", upload.Video
		f.Metadata, f.Tags = map[string]string{"album": "7 & 8"}, []string{"trip", "sea"}
		f.Keep = func(m Mark) { marks = append(marks, m) }
		f.Begun = func(offset int64, lost error) {
			if offset != 0 || lost != nil {
				t.Errorf("it begins at %d: %v", offset, lost)
			}
		}
		f.Progress = func(n int64) {
			if n < last {
				t.Errorf("progress went from %d to %d", last, n)
			}
			last = n
		}
		u, err := c.Put(t.Context(), f)
		if err != nil || u.ID != id || u.Size != size || last != size {
			t.Fatalf("got %+v, %v after %d bytes", u, err, last)
		}
		for key, want := range map[string]string{"filename": name, "provider": "cloudinary", "resource_type": "video", "album": "7 & 8", "tags": "trip,sea", "filetype": "video/mp4"} {
			if pair := key + " " + base64.StdEncoding.EncodeToString([]byte(want)); !slices.Contains(strings.Split(s.metadata, ","), pair) {
				t.Errorf("%s is not in %s", pair, s.metadata)
			}
		}
		want := "POST GET"
		if size > small {
			want = "POST PATCH GET"
		}
		if got := s.methods(); s.token != "Bearer "+token || got != want {
			t.Errorf("%d bytes took %s by %q, want %s", size, got, s.token, want)
		}
		if marks[0].Key == "" || marks[0].ID != "" || marks[len(marks)-1] != (Mark{Key: s.key, ID: id, Received: size}) {
			t.Errorf("the marks are %+v", marks)
		}
	}
}

func TestContentTypes(t *testing.T) {
	for name, want := range map[string]string{"a.png": "image/png", "a.html": "text/html; charset=utf-8", "a": "application/octet-stream", "a.zzz": "application/octet-stream"} {
		if got := typeByName(name); got != want {
			t.Errorf("%s goes as %s, want %s", name, got, want)
		}
	}
}

func TestAFileGetsThereInAnyWeather(t *testing.T) {
	const size = 16 << 20
	restart := problem(423, upload.Locked, `,"retryable":true,"upload_id":"`+string(id)+`"`, "Retry-After", "2")
	tests := map[string]struct {
		size   int64
		faults map[string][]http.HandlerFunc
		asked  string
		wait   time.Duration // 0: any
		err    string        // "": it is there in the end
	}{
		"no room for a minute":              {size, faults("POST", problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "60")), "POST POST PATCH GET", time.Minute, ""},
		"too much of it for a while":        {size, faults("POST", problem(429, upload.StagedQuota, `,"retryable":true`, "Retry-After", "180")), "POST POST PATCH GET", 3 * time.Minute, ""},
		"too much of it until tomorrow":     {size, faults("POST", problem(429, upload.DailyQuota, `,"retryable":true`, "Retry-After", "7200")), "POST", 0, "Sorry."},
		"an outage for minutes":             {size, faults("POST", problem(503, upload.Unavailable, `,"retryable":true`, "Retry-After", "300")), "POST POST PATCH GET", 5 * time.Minute, ""},
		"no room for an hour":               {size, faults("POST", problem(507, upload.NoRoom, `,"retryable":true`, "Retry-After", "3600")), "POST", 0, "Sorry."},
		"a key that is being answered":      {size, faults("POST", problem(409, upload.KeyInFlight, `,"retryable":true`, "Retry-After", "5")), "POST POST PATCH GET", 5 * time.Second, ""},
		"a creation whose answer is lost":   {size, map[string][]http.HandlerFunc{"POST": {lostAnswer}}, "POST POST PATCH GET", 0, ""},
		"a small file's":                    {1000, map[string][]http.HandlerFunc{"POST": {lostAnswer}}, "POST POST GET", 0, ""},
		"a small file that breaks off":      {small, map[string][]http.HandlerFunc{"POST": {after(1 << 20)}}, "POST POST PATCH GET", 0, ""},
		"a restart amid the bytes":          {size, map[string][]http.HandlerFunc{"PATCH": {after(5 << 20), restart}}, "POST PATCH HEAD PATCH HEAD PATCH GET", 0, ""},
		"a restart that HEAD meets as well": {size, map[string][]http.HandlerFunc{"PATCH": {restart}, "HEAD": {restart, restart}}, "POST PATCH HEAD HEAD HEAD PATCH GET", 0, ""},
		"connections that break":            {size, map[string][]http.HandlerFunc{"PATCH": {after(1 << 20), after(9 << 20), after(15 << 20)}, "HEAD": {gone, gone}}, "POST PATCH HEAD HEAD HEAD PATCH HEAD PATCH HEAD PATCH GET", 0, ""},
		"a last answer that is lost":        {size, map[string][]http.HandlerFunc{"PATCH": {lostAnswer}}, "POST PATCH HEAD GET", 0, ""},
		"another who sends":                 {size, faults("PATCH", problem(409, upload.OffsetConflict, "")), "POST PATCH HEAD PATCH GET", 0, ""},
		"a proxy that does not know":        {size, map[string][]http.HandlerFunc{"POST": {reply(502, "")}, "PATCH": {reply(404, "<html>")}, "HEAD": {reply(504, "")}}, "POST POST PATCH HEAD HEAD PATCH GET", 0, ""},
		"quotas on the way":                 {size, faults("PATCH", problem(429, upload.RateLimited, `,"retryable":true`, "Retry-After", "7")), "POST PATCH HEAD PATCH GET", 7 * time.Second, ""},
		"a refusal":                         {size, faults("POST", problem(413, upload.TooLarge, "")), "POST", 0, "Sorry."},
		"a refusal of its content":          {size, faults("PATCH", problem(415, upload.TypeNotAllowed, "")), "POST PATCH", 0, "Sorry."},
		"an end by somebody else":           {size, faults("PATCH", problem(410, upload.Gone, "")), "POST PATCH", 0, "Sorry."},
		"an answer of the service's own":    {size, map[string][]http.HandlerFunc{"GET": {reply(502, "")}}, "POST PATCH GET GET", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &tusService{faults: tt.faults}
			c := serve(t, s.ServeHTTP)
			u, err := c.Put(t.Context(), file(tt.size))
			if got := s.methods(); got != tt.asked {
				t.Errorf("it asked %s, want %s", got, tt.asked)
			}
			if tt.err == "" && (err != nil || u.ID != id || u.Size != tt.size) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, %v, want %q", u.ID, err, tt.err)
			}
			if tt.wait > 0 && !slices.Equal(c.waits, []time.Duration{tt.wait}) {
				t.Errorf("it waited %v, want %s", c.waits, tt.wait)
			}
		})
	}
}

func TestAProxyThatTakesLessIsSentLess(t *testing.T) {
	for size, most := range map[int64]int64{small: 1 << 20, 100 << 20: 10 << 20, 3 << 20: 100} {
		s := new(tusService)
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > most {
				reply(413, "<html>")(w, r)
				return
			}
			s.ServeHTTP(w, r)
		})
		u, err := c.Put(t.Context(), file(size))
		if most < leastPiece {
			if err == nil {
				t.Error("a proxy that takes nothing is no error")
			}
			continue
		}
		if err != nil || u.Size != size || len(c.waits) > 0 {
			t.Errorf("%d bytes: got %+v, %v after %v", size, u, err, c.waits)
		}
	}
}

func TestPatienceIsForAFileThatDoesNotGetOn(t *testing.T) {
	s := new(tusService)
	for n := range 200 {
		s.faults = map[string][]http.HandlerFunc{"PATCH": append(s.faults["PATCH"], problem(423, upload.Locked, `,"retryable":true`, "Retry-After", "60"), after(int64(n+1)))}
	}
	if _, err := serve(t, s.ServeHTTP).Put(t.Context(), file(small+1)); err != nil {
		t.Errorf("it was given up although it got on: %v", err)
	}
	c := serve(t, (&tusService{always: map[string]http.HandlerFunc{"PATCH": gone}}).ServeHTTP)
	_, err := c.Put(t.Context(), file(small+1))
	var sum time.Duration
	for _, d := range c.waits {
		sum += d
	}
	if err == nil || sum < 14*time.Minute || sum > 15*time.Minute {
		t.Errorf("it waited %s in all (%v), want nearly a quarter of an hour", sum, err)
	}
}

func TestWhatMayHaveComeInIsSaidSo(t *testing.T) {
	tests := map[string]struct {
		size    int64
		always  map[string]http.HandlerFunc
		unknown bool
	}{
		"no answer to the last byte, ever":    {small + 1, map[string]http.HandlerFunc{"PATCH": lostAnswer, "HEAD": gone}, true},
		"no answer, and then nobody is known": {small + 1, map[string]http.HandlerFunc{"PATCH": lostAnswer, "HEAD": problem(401, upload.Unauthorized, "")}, true},
		"no answer to a small file":           {10, map[string]http.HandlerFunc{"POST": lostAnswer}, true},
		"no answer to some bytes":             {64 << 20, map[string]http.HandlerFunc{"PATCH": after(5), "HEAD": gone}, false},
		"an answer that it has not":           {small + 1, map[string]http.HandlerFunc{"PATCH": cut(small + 1)}, true},
		"a refusal":                           {small + 1, map[string]http.HandlerFunc{"POST": problem(401, upload.Unauthorized, "")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := serve(t, (&tusService{always: tt.always}).ServeHTTP)
			c.opts.Outage = time.Second
			_, err := c.Put(t.Context(), file(tt.size))
			var silent *UnreachableError
			var refused *Error
			unknown := errors.As(err, &silent) && silent.Unknown || errors.As(err, &refused) && refused.Unknown
			if err == nil || unknown != tt.unknown {
				t.Errorf("got %v, which says that it may have come in: %t, want %t", err, unknown, tt.unknown)
			}
		})
	}
}

func TestAnotherPutGoesOnWithTheMark(t *testing.T) {
	const size = 12 << 20
	other := Mark{Key: "other", ID: "0193f1c2-0000-7000-8000-000000000002", Received: 7}
	tests := map[string]struct {
		spoil func(*tusService, *Mark)
		asked string
		from  int64
		lost  bool
	}{
		"from where it was broken off":   {nil, "HEAD PATCH GET", 6 << 20, false},
		"also when only the key is kept": {func(_ *tusService, m *Mark) { *m = Mark{Key: m.Key} }, "POST PATCH GET", 6 << 20, false},
		"through bad weather": {func(s *tusService, _ *Mark) {
			s.faults = faults("HEAD", reply(503, ""), problem(423, upload.Locked, ""))
		}, "HEAD HEAD HEAD PATCH GET", 6 << 20, false},
		"when all of it had come": {func(s *tusService, _ *Mark) { s.add(zeros(size), size) }, "HEAD GET", size, false},
		"anew when it expired":    {func(s *tusService, _ *Mark) { s.gone = true }, "HEAD POST PATCH GET", 0, true},
		"anew when its key did": {func(s *tusService, m *Mark) {
			*m, s.faults = Mark{Key: m.Key}, faults("POST", problem(422, upload.KeyReused, ""))
		}, "POST POST PATCH GET", 0, true},
		"anew when it is somebody else's": {func(_ *tusService, m *Mark) { *m = other }, "HEAD POST PATCH GET", 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			interrupted := func(w http.ResponseWriter, r *http.Request) {
				interrupt()
				gone(w, r)
			}
			s := &tusService{faults: map[string][]http.HandlerFunc{"PATCH": {after(6 << 20), interrupted}}}
			c := serve(t, s.ServeHTTP)
			var mark Mark
			f := file(size)
			f.Keep = func(m Mark) { mark = m }
			if _, err := c.Put(ctx, f); err == nil || mark.ID != id || mark.Received != 6<<20 {
				t.Fatalf("interrupted: %v at %+v", err, mark)
			}
			s.forget()
			if tt.spoil != nil {
				tt.spoil(s, &mark)
			}
			f.Mark = mark
			f.Begun = func(from int64, lost error) {
				if from != tt.from || (lost != nil) != tt.lost {
					t.Errorf("it begins at %d: %v", from, lost)
				}
			}
			u, err := c.Put(t.Context(), f)
			if got := s.methods(); err != nil || u.Size != size || got != tt.asked {
				t.Errorf("got %v, %v by %s, want %s", u.ID, err, got, tt.asked)
			}
			if mark.Received != size || mark.ID != id {
				t.Errorf("the mark is %+v", mark)
			}
		})
	}
}

func TestOtherBytesThanWereSentAreNoticed(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 1<<20))
	for name, from := range map[string]int64{"in one go": 0, "by an earlier run": 5 << 20} {
		for _, garbled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %t", name, garbled), func(t *testing.T) {
				s := new(tusService)
				c := serve(t, s.ServeHTTP)
				f := File{Name: "a", Size: int64(len(content)), Content: strings.NewReader(string(content))}
				if from > 0 {
					s.create("key", f.Size)
					s.add(f.Content, from)
					f.Mark = Mark{Key: "key", ID: id}
				}
				if garbled {
					s.garbled = true
				}
				u, err := c.Put(t.Context(), f)
				if u.ID != id || garbled != errors.Is(err, ErrGarbled) || !garbled && err != nil {
					t.Errorf("got %v, %v", u.ID, err)
				}
			})
		}
	}
}

func TestAnUploadThatHasComeInIsNotAbandoned(t *testing.T) {
	for has, want := range map[int64]string{5: "HEAD DELETE", 10: "HEAD"} {
		s := new(tusService)
		s.create("key", 10)
		s.add(zeros(10), has)
		if err := serve(t, s.ServeHTTP).Abandon(t.Context(), id); err != nil || s.methods() != want {
			t.Errorf("with %d of 10 bytes it asked %s: %v, want %s", has, s.methods(), err, want)
		}
	}
}

func TestAnErrorHasNeitherMetadataNorToken(t *testing.T) {
	f := file(1000)
	f.Metadata = map[string]string{"private": "diary"}
	c := serve(t, cut(1000))
	c.opts.Outage = time.Second
	_, err := c.Put(t.Context(), f)
	if err == nil || strings.Contains(err.Error(), "diary") || strings.Contains(err.Error(), token) {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatBecomesShorter(t *testing.T) {
	f := file(8 << 20)
	f.Content = zeros(1 << 20)
	s := new(tusService)
	if _, err := serve(t, s.ServeHTTP).Put(t.Context(), f); !errors.Is(err, ErrShrunk) || strings.Contains(s.methods(), "HEAD") {
		t.Errorf("got %v after %s, want ErrShrunk", err, s.methods())
	}
}

func TestAFileThatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	f := file(8 << 20)
	f.Content = readerAt(func([]byte, int64) (int, error) { return 0, broken })
	if _, err := serve(t, new(tusService).ServeHTTP).Put(t.Context(), f); !errors.Is(err, broken) {
		t.Errorf("got %v, want the file's own error", err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestAConnectionThatTakesNothingMoreIsGivenUp(t *testing.T) {
	held := make(chan struct{})
	s := &tusService{always: map[string]http.HandlerFunc{"PATCH": func(http.ResponseWriter, *http.Request) { <-held }}}
	c := serve(t, s.ServeHTTP)
	t.Cleanup(func() { close(held) })
	c.opts.Stall, c.opts.Outage = 100*time.Millisecond, 1
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
	c := serve(t, new(tusService).ServeHTTP)
	if _, err := c.Put(ctx, f); !errors.Is(err, context.Canceled) || len(c.waits) > 0 {
		t.Errorf("got %v after waits %v", err, c.waits)
	}
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	var s atomic.Pointer[tusService]
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { s.Load().ServeHTTP(w, r) })
	perRun := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Store(new(tusService))
			if u, err := c.Put(b.Context(), file(256<<20)); err != nil || u.Size != 256<<20 {
				b.Fatal(u.Size, err)
			}
		}
	}).AllocedBytesPerOp()
	if perRun > 4<<20 {
		t.Errorf("256 MiB took %d bytes of memory", perRun)
	}
}
