package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// log is what the service has of an upload.
func (s *system) log(t *testing.T, id string) (lines []string) {
	t.Helper()
	c, err := client.New(client.Options{URL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for e, err := range c.History(t.Context(), upload.ID(id), 0) {
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(e)
		lines = append(lines, string(text))
	}
	return lines
}

func TestWatchTellsTheWholeHistory(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	id := s.sent(t, "uploadcare", "a.bin")[0]
	r := slipway(t.Context(), "watch", "--json", id)
	if got, want := strings.Split(strings.TrimSpace(r.stdout), "\n"), s.log(t, id); r.err != nil || !slices.Equal(got, want) || len(want) < 3 {
		t.Errorf("got %+v, want %s", r, want)
	}
	lines := slipway(t.Context(), "watch", strings.ToUpper(id), id)
	if lines.err != nil || !strings.Contains(lines.stdout, id+"  pushing  a.bin\n") || !strings.HasSuffix(lines.stdout, id+"  completed  a.bin\n") || strings.Count(lines.stdout, "completed") != 1 {
		t.Errorf("as lines: %+v", lines)
	}
}

func TestWatchEndsWhenAllHaveEnded(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	s.fault(t, "cloudinary", invalidImage)
	rejected, _ := s.put(t, "cloudinary", "a.bin")
	taken := s.sent(t, "uploadcare", "b.bin")[0]
	r := slipway(t.Context(), "watch", rejected, taken)
	if exitCode(r.err) != exitNotDelivered || r.err.Error() != "1 of 2 uploads did not arrive" ||
		!strings.Contains(r.stdout, rejected+"  failed  a.bin: ") || !strings.Contains(r.stdout, taken+"  completed  b.bin\n") {
		t.Errorf("%+v", r)
	}
	const nobodys = "0193f1c2-0000-7000-8000-000000000000"
	if r := slipway(t.Context(), "watch", taken, nobodys); exitCode(r.err) != exitFailed || r.err.Error() != nobodys+": There is no upload with this id." {
		t.Errorf("one that is not there: %+v", r)
	}
	if r := slipway(t.Context(), "watch", "film.mp4"); exitCode(r.err) != exitFailed || !strings.Contains(r.err.Error(), "this is no id") {
		t.Errorf("no id: %+v", r)
	}
}

// cutting stands before the service, and breaks off its streams of events after some bytes.
func (s *system) cutting(t *testing.T, cuts *atomic.Int32) string {
	t.Helper()
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			if strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
				cuts.Add(1)
				cut := iotest.ErrReader(io.ErrUnexpectedEOF)
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(r.Body, 200+rand.Int64N(900)), cut), r.Body}
			}
			return nil
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// shared is what a command prints while others look.
type shared struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestWatchMissesNothingWhereStreamsAreCut(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a", "content")
	var cuts atomic.Int32
	t.Setenv("SLIPWAY_URL", s.cutting(t, &cuts))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var told shared
	watch := command()
	watch.SetArgs([]string{"watch", "--json"})
	watch.SetOut(&told)
	watch.SetErr(io.Discard)
	ended := make(chan error, 1)
	go func() { ended <- watch.ExecuteContext(ctx) }()
	for told.String() == "" { // what happened before it listened is not its to tell
		become(t, s.sent(t, "uploadcare", "a")[0], upload.Completed)
	}
	var want []string
	for range 6 {
		id := s.sent(t, "uploadcare", "a")[0]
		become(t, id, upload.Completed)
		want = append(want, s.log(t, id)...)
	}
	last := want[len(want)-1]
	for deadline := time.Now().Add(longest); !strings.Contains(told.String(), last); {
		if time.Now().After(deadline) {
			t.Fatalf("it does not tell %s", last)
		}
		<-time.After(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; exitCode(err) != exitInterrupted {
		t.Errorf("it ends with %v", err)
	}
	got := strings.Split(strings.TrimSpace(told.String()), "\n")
	if n := len(got) - len(want); n < 0 || !slices.Equal(got[n:], want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if cuts.Load() < 4 {
		t.Errorf("only %d streams were cut", cuts.Load())
	}
}

func TestWatchSaysThatEventsAreMissing(t *testing.T) {
	const id = "0193f1c2-0000-7000-8000-000000000001"
	const began, ended = `{"seq":3,"upload_id":"` + id + `","type":"status","status":"pushing","data":{}}`, `{"seq":9,"upload_id":"` + id + `","type":"status","status":"completed","data":{}}`
	serve := func(t *testing.T) {
		var streams, looks atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v1/events":
				w.Header().Set("Content-Type", "text/event-stream")
				if streams.Add(1) == 1 {
					_, _ = io.WriteString(w, "event: start\ndata: {\"seq\":4}\n\n")
					return
				}
				_, _ = io.WriteString(w, "event: reset\ndata: {\"seq\":8}\n\n")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			case r.URL.Query().Get("last_event_id") == "0":
				_, _ = io.WriteString(w, `{"events":[`+began+`],"next":null}`)
			case r.URL.Query().Get("last_event_id") == "3":
				_, _ = io.WriteString(w, `{"events":[`+ended+`],"next":null}`)
			case looks.Add(1) == 1:
				_, _ = io.WriteString(w, `{"id":"`+id+`","status":"pushing","file_name":"a.bin"}`)
			default:
				_, _ = io.WriteString(w, `{"id":"`+id+`","status":"completed","file_name":"a.bin"}`)
			}
		}))
		t.Cleanup(s.Close)
		t.Setenv("SLIPWAY_URL", s.URL)
	}
	serve(t)
	if r := slipway(t.Context(), "watch", "--json", id); r.err != nil || r.stdout != began+"\n"+`{"seq":8,"type":"reset"}`+"\n"+ended+"\n" {
		t.Errorf("as JSON: %+v", r)
	}
	serve(t)
	if r := slipway(t.Context(), "watch", id); r.err != nil || !strings.Contains(r.stderr, "What happened in between is not known any more.\n") || !strings.HasSuffix(r.stdout, id+"  completed  a.bin\n") {
		t.Errorf("as lines: %+v", r)
	}
}

func TestATableThatWasWrappedIsDrawnOverAsAWhole(t *testing.T) {
	v := &tableView{drawn: []string{strings.Repeat("x", 100), "", "日本語"}}
	for columns, want := range map[int]int{120: 3, 100: 3, 99: 4, 50: 4, 5: 20 + 1 + 2} {
		if got := v.height(columns); got != want {
			t.Errorf("at %d columns it takes %d lines, want %d", columns, got, want)
		}
	}
}
