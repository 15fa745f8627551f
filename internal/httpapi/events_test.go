package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/tmaxmax/go-sse"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// subscriber reads one stream.
type subscriber struct {
	t    testing.TB
	resp *http.Response
	next func() (sse.Event, error, bool)
	cut  func()
}

// subscribe opens a stream of alice's, unless the headers say otherwise. after is "" for none.
func (s *site) subscribe(t testing.TB, path, after string, headers ...string) *subscriber {
	t.Helper()
	ctx, cut := context.WithTimeout(t.Context(), 3*patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	must(t, err)
	req.Header.Set("Accept", eventStream)
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, "alice"))
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := s.client.Transport.RoundTrip(req)
	must(t, err)
	sub := &subscriber{t: t, resp: resp, cut: func() { cut(); resp.Body.Close() }}
	t.Cleanup(sub.cut)
	found := make(chan sse.Event)
	failed := make(chan error, 1)
	go func() {
		defer close(found)
		sse.Read(resp.Body, nil)(func(e sse.Event, err error) bool {
			if err != nil {
				failed <- err
				return false
			}
			select {
			case found <- e:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	sub.next = func() (sse.Event, error, bool) {
		select {
		case e, ok := <-found:
			if ok {
				return e, nil, true
			}
			select {
			case err := <-failed:
				return e, err, false
			default:
				return e, nil, false
			}
		case <-time.After(patience):
			return sse.Event{}, context.DeadlineExceeded, false
		}
	}
	return sub
}

// event is the next one, which has to come.
func (s *subscriber) event() sse.Event {
	s.t.Helper()
	e, err, ok := s.next()
	if !ok {
		s.t.Fatalf("no event came: %v", err)
	}
	return e
}

// wantEnd checks that the server ends the stream.
func (s *subscriber) wantEnd() {
	s.t.Helper()
	if e, err, ok := s.next(); ok || err != nil {
		s.t.Errorf("want the end of the stream, got %+v, %v", e, err)
	}
}

func viewIn(t testing.TB, e sse.Event) (v events.View) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.Data), &v); err != nil {
		t.Fatalf("%q: %v", e.Data, err)
	}
	if e.Type != "" || e.LastEventID != strconv.FormatInt(v.Seq, 10) {
		t.Errorf("event %q has the id %q and the number %d", e.Type, e.LastEventID, v.Seq)
	}
	return v
}

// tell writes events of an upload into the log.
func (s *site) tell(t testing.TB, user string, all ...upload.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return postgres.WriteEvents(ctx, tx, user, all...) }))
}

func pushed(id upload.ID, n int) upload.Event {
	return upload.Event{UploadID: id, Type: upload.ProgressMade, Status: upload.Pushing, Data: map[string]any{"pushed_bytes": n}}
}

func became(id upload.ID, status upload.Status) upload.Event {
	return upload.Event{UploadID: id, Type: upload.StatusChanged, Status: status}
}

func TestAnUploadsStreamHasItsHistoryAndEndsWithIt(t *testing.T) {
	s := open(t, nil)
	u, other := s.put(t, "a.txt"), s.put(t, "b.txt")
	path := "/v1/uploads/" + string(u.ID) + "/events"
	sub := s.subscribe(t, path, "")
	for name, want := range map[string]string{"Content-Type": eventStream, "X-Accel-Buffering": "no", "Cache-Control": "no-store", "Connection": ""} {
		if got := sub.resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if v := viewIn(t, sub.event()); v.UploadID != u.ID || v.Status != upload.Queued || v.Type != upload.StatusChanged {
		t.Errorf("first came %+v", v)
	}
	s.tell(t, "alice", became(u.ID, upload.Pushing), pushed(other.ID, 1), pushed(u.ID, 2))
	if v := viewIn(t, sub.event()); v.Status != upload.Pushing {
		t.Errorf("then came %+v", v)
	}
	if v := viewIn(t, sub.event()); v.UploadID != u.ID || v.Data["pushed_bytes"] != 2.0 {
		t.Errorf("then came %+v", v)
	}
	s.complete(t, u.ID)
	s.tell(t, "alice", became(u.ID, upload.Completed))
	last := sub.event()
	if v := viewIn(t, last); v.Status != upload.Completed {
		t.Errorf("at last came %+v", v)
	}
	sub.wantEnd()

	if again := s.subscribe(t, path, last.LastEventID); again.resp.StatusCode != http.StatusNoContent {
		t.Errorf("whoever has seen the end gets %d, want 204, so that it asks no more", again.resp.StatusCode)
	}
	whole := s.subscribe(t, path, "")
	for range 4 {
		viewIn(t, whole.event())
	}
	whole.wantEnd()
}

func TestAFailureThatWasRetriedIsNotTheEnd(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "a.txt")
	s.tell(t, "alice", became(u.ID, upload.Failed), became(u.ID, upload.Queued))
	sub := s.subscribe(t, "/v1/uploads/"+string(u.ID)+"/events", "0")
	for range 3 {
		sub.event()
	}
	s.tell(t, "alice", became(u.ID, upload.Canceled))
	sub.event()
	sub.wantEnd()
}

func TestAUsersStreamSaysWhereItBeginsAndHasNobodyElses(t *testing.T) {
	s := open(t, nil)
	s.put(t, "before.txt")
	sub := s.subscribe(t, eventsPath, "")
	start := sub.event()
	if start.Type != "start" || start.LastEventID == "" {
		t.Fatalf("first came %+v", start)
	}
	bobs := s.put(t, "b.txt", as(t, "bob"))
	u := s.put(t, "a.txt")
	if v := viewIn(t, sub.event()); v.UploadID != u.ID || v.UploadID == bobs.ID {
		t.Errorf("alice got %+v", v)
	}
	sub.cut()
	after := s.put(t, "c.txt")
	resumed := s.subscribe(t, eventsPath+"?last_event_id="+start.LastEventID, "")
	for _, want := range []upload.ID{u.ID, after.ID} {
		if v := viewIn(t, resumed.event()); v.UploadID != want {
			t.Errorf("got %+v, want an event of %s", v, want)
		}
	}
}

func TestWhoHasReadLessThanIsKeptIsTold(t *testing.T) {
	s := open(t, nil)
	s.put(t, "old.txt")
	s.put(t, "older.txt")
	s.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '91 days'`)
	kept := s.put(t, "new.txt")
	n, err := postgres.PruneEvents(t.Context(), s.pool, 90*24*time.Hour, 100)
	if err != nil || n != 2 {
		t.Fatalf("pruned %d events, %v", n, err)
	}
	for name, after := range map[string]string{"what is gone came next": "1", "it was never given that number": "4000000"} {
		t.Run(name, func(t *testing.T) {
			sub := s.subscribe(t, eventsPath, after)
			reset := sub.event()
			if reset.Type != "reset" {
				t.Fatalf("got %+v", reset)
			}
			u := s.put(t, "later.txt")
			if v := viewIn(t, sub.event()); v.UploadID != u.ID {
				t.Errorf("then came %+v", v)
			}
			if again := viewIn(t, s.subscribe(t, eventsPath, reset.LastEventID).event()); again.UploadID != u.ID {
				t.Errorf("whoever was told gets %+v when it comes back", again)
			}
		})
	}
	page := into[eventList](t, s.do(t, "GET", eventsPath+"?last_event_id=1", nil), 200)
	if !page.Reset || page.Events[0].UploadID != kept.ID {
		t.Errorf("as a page: %+v", page)
	}
}

func TestTheLogHasPages(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "a.txt")
	for n := range 6 {
		s.tell(t, "alice", pushed(u.ID, n))
	}
	for _, path := range []string{eventsPath, "/v1/uploads/" + string(u.ID) + "/events"} {
		var seqs []int64
		for next := &path; next != nil; {
			page := into[eventList](t, s.do(t, "GET", *next+map[bool]string{true: "?limit=3"}[next == &path], nil), 200)
			for _, e := range page.Events {
				seqs = append(seqs, e.Seq)
			}
			next = page.Next
		}
		if len(seqs) != 7 || !slices.IsSorted(seqs) {
			t.Errorf("%s has the events %v, want 7", path, seqs)
		}
	}
	for _, wrong := range []string{"?last_event_id=x", "?last_event_id=-1", "?limit=0"} {
		wantCode(t, s.do(t, "GET", eventsPath+wrong, nil), 422, upload.InvalidParameter)
	}
	wantCode(t, s.do(t, "GET", eventsPath+"?cursor=abc", nil), 400, upload.InvalidCursor)
}

// Whatever becomes of the connections, what all of them brought is the log: nothing twice, nothing missing, in order.
func TestWhatAllConnectionsBroughtIsTheLog(t *testing.T) {
	s := open(t, nil)
	mine, other := s.put(t, "a.txt"), s.put(t, "b.txt")
	const each, writers = 120, 3
	var writing, reading sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for n := range each {
				s.tell(t, "alice", pushed([]upload.ID{mine.ID, other.ID}[n%2], n))
			}
		})
	}
	for only, path := range map[upload.ID]string{"": eventsPath, mine.ID: "/v1/uploads/" + string(mine.ID) + "/events"} {
		for range 2 {
			reading.Go(func() {
				var seqs []int64
				last, connections := "0", 0
				for over := false; !over; connections++ {
					sub := s.subscribe(t, path, last)
					for n := 1 + rand.N(20); n > 0 && !over; n-- {
						e, err, ok := sub.next()
						if !ok {
							t.Errorf("%s ended: %v", path, err)
							return
						}
						v := viewIn(t, e)
						seqs, last, over = append(seqs, v.Seq), e.LastEventID, v.Status == upload.Canceled
					}
					sub.cut()
				}
				all, err := postgres.Events(t.Context(), s.pool, "alice", only, 0, 10*each*writers)
				if err != nil {
					t.Error(err)
				}
				if !slices.EqualFunc(seqs, all, func(seq int64, e upload.Event) bool { return seq == e.Seq }) {
					t.Errorf("%d connections to %s brought %d events, the log has %d: %v", connections, path, len(seqs), len(all), seqs)
				}
			})
		}
	}
	writing.Wait()
	s.tell(t, "alice", became(mine.ID, upload.Canceled))
	reading.Wait()
}

func TestADrainTellsFollowersToComeBack(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "a.txt")
	c := s.dial(t)
	c.send(head("GET", "/v1/uploads/"+string(u.ID)+"/events", as(t, "alice"), "Accept: text/event-stream"))
	resp, err := http.ReadResponse(c.in, nil)
	must(t, err)
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	line, err := body.ReadString('\n')
	if ms, failed := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(line, "retry: "), "\n")); err != nil || failed != nil || ms < 500 || ms > 3000 {
		t.Errorf("the stream begins with %q, %v", line, err)
	}
	for !strings.Contains(line, `"status":"queued"`) {
		line, err = body.ReadString('\n')
		must(t, err)
	}
	began := time.Now()
	s.end()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the drain took %s", took)
	}
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	s := open(t, nil)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(-29 * time.Second).Unix()}).SignedString([]byte(jwtSecret))
	must(t, err)
	sub := s.subscribe(t, eventsPath, "", "Authorization: Bearer "+signed)
	if e := sub.event(); e.Type != "start" {
		t.Fatalf("got %+v", e)
	}
	sub.wantEnd() // within the 30 s that clocks may differ, less 29
}

// Streams of one key end with it, those of another go on; and the keys are not read for each of them.
func TestAStreamEndsWithTheKeyThatItWasAskedWith(t *testing.T) {
	s := open(t, nil)
	made := func() (key postgres.APIKey, byKey, byToken string) {
		secret, key := auth.NewKey("backend", []string{auth.ActScope})
		key, err := postgres.InsertKey(t.Context(), s.pool, key, 0)
		must(t, err)
		token := into[tokenAnswer](t, s.do(t, "POST", "/v1/tokens", strings.NewReader(`{"user_id":"alice"}`), "Authorization: Bearer "+secret), http.StatusOK).Token
		return key, "Authorization: Bearer " + secret, "Authorization: Bearer " + token
	}
	revoked, byKey, byToken := made()
	_, otherKey, otherToken := made()
	ends := []*subscriber{s.subscribe(t, eventsPath, "", byKey, auth.UserHeader+": alice"), s.subscribe(t, eventsPath, "", byToken)}
	stays := []*subscriber{s.subscribe(t, eventsPath, "", otherKey, auth.UserHeader+": alice"), s.subscribe(t, eventsPath, "", otherToken), s.subscribe(t, eventsPath, "")}
	for _, sub := range append(ends, stays...) {
		sub.event()
	}
	for range 50 {
		s.subscribe(t, eventsPath, "", otherToken).event()
	}
	waitFor(t, func() bool { return s.api.Feed.Followers() == 55 })
	before, began := s.pool.Stat().AcquireCount(), time.Now()
	_, err := postgres.RevokeKey(t.Context(), s.pool, revoked.ID)
	must(t, err)
	for _, sub := range ends {
		sub.wantEnd()
	}
	if asked := s.pool.Stat().AcquireCount() - before; asked > 3+int64(time.Since(began)/time.Second) {
		t.Errorf("the database was asked %d times in %s", asked, time.Since(began))
	}
	s.put(t, "a.txt")
	for _, sub := range stays {
		sub.event()
	}
}

func TestWhoDoesNotReadIsCutOffAndResumes(t *testing.T) {
	s := open(t, func(_ *API, o *Options) { o.SlowReader = 500 * time.Millisecond })
	u := s.put(t, "a.txt")
	c := s.dial(t)
	must(t, c.SetReadBuffer(4<<10))
	c.send(head("GET", eventsPath+"?last_event_id=0", as(t, "alice"), "Accept: text/event-stream"))
	large := strings.Repeat("x", 32<<10)
	const all = 600 // more than a follower is kept, and than the system keeps of a connection
	for range all / 100 {
		var some []upload.Event
		for n := range 100 {
			e := pushed(u.ID, n)
			e.Data["of"] = large
			some = append(some, e)
		}
		s.tell(t, "alice", some...)
	}
	s.awaitNoStream(t)
	got := 0
	last := "0"
	resp, err := http.ReadResponse(c.in, nil)
	must(t, err)
	defer resp.Body.Close()
	sse.Read(resp.Body, nil)(func(e sse.Event, err error) bool {
		if err != nil {
			return false
		}
		got, last = got+1, e.LastEventID
		return true
	})
	if got == all+1 {
		t.Fatal("it got everything although it did not read")
	}
	for sub := s.subscribe(t, eventsPath, last); got <= all; got++ {
		viewIn(t, sub.event())
	}
}

// awaitNoStream waits until the server has closed every stream.
func (s *site) awaitNoStream(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(10 * time.Millisecond); s.api.Feed.Followers() > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are still open", s.api.Feed.Followers())
		}
	}
}

func TestADeafProcessStreamsAllTheSame(t *testing.T) {
	s := open(t, func(a *API, _ *Options) {
		a.Hub, a.Feed = hearing(t, a, "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	})
	sub := s.subscribe(t, eventsPath, "")
	sub.event()
	u := s.put(t, "a.txt")
	if v := viewIn(t, sub.event()); v.UploadID != u.ID {
		t.Errorf("got %+v", v)
	}
}

func TestAnotherProcessGoesOnWithAStream(t *testing.T) {
	s := open(t, nil)
	sub := s.subscribe(t, eventsPath, "")
	start := sub.event()
	first := s.put(t, "a.txt")
	if v := viewIn(t, sub.event()); v.UploadID != first.ID {
		t.Errorf("got %+v", v)
	}

	again := *s.api
	again.Hub, again.Feed = hearing(t, s.api, s.pool.Config().ConnString())
	other := &site{api: &again, pool: s.pool, client: s.client}
	other.running = run(t, Options{}, func(server *Server) { server.Mount(&again) })
	other.url = "http://" + other.addr
	resumed := other.subscribe(t, eventsPath, start.LastEventID)
	second := s.put(t, "b.txt")
	for _, want := range []upload.ID{first.ID, second.ID} {
		if v := viewIn(t, resumed.event()); v.UploadID != want {
			t.Errorf("got %+v, want an event of %s", v, want)
		}
	}
}

// hearing returns what a process of its own hears, at a database's address.
func hearing(t *testing.T, a *API, url string) (*events.Hub, *events.Feed) {
	hub := events.NewHub(url, postgres.DefaultNames, discard())
	hub.DB = a.Pool
	feed := events.NewFeed(hub, a.Pool, discard())
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { hub.Run(ctx) })
	parts.Go(func() { feed.Run(ctx) })
	t.Cleanup(func() { stop(); parts.Wait() })
	return hub, feed
}

func TestAStreamLeavesNothingOnItsConnection(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "a.txt")
	s.tell(t, "alice", became(u.ID, upload.Canceled))
	c := s.dial(t)
	c.send(head("GET", "/v1/uploads/"+string(u.ID)+"/events", as(t, "alice")) + "\r\n\r\n" + head("GET", "/livez") + "\r\n\r\n")
	if a := c.answer(); a.StatusCode != 200 || strings.Count(a.text, "data: ") != 2 || strings.Contains(a.text, "ok\n") {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	if a := fmt.Sprint(c.in.Buffered()); a != "0" {
		t.Errorf("%s bytes are left", a)
	}
}
