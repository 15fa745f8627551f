package providersim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// posted is what a receiver got, and how it is to answer.
type posted struct {
	body, signed string
	at           time.Time
	answer       chan<- int
}

// receiver is an address that takes notices; each waits there for its answer.
func receiver(t *testing.T) (address string, arrived <-chan posted) {
	t.Helper()
	posts := make(chan posted)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		at, err := time.Parse(time.RFC3339Nano, r.Header.Get("X-At"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := make(chan int, 1)
		select {
		case posts <- posted{string(body), r.Header.Get("X-Signed"), at, answer}:
		case <-r.Context().Done():
			return
		}
		select {
		case status := <-answer:
			w.WriteHeader(status)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, posts
}

// next is the next post, already answered.
func next(t *testing.T, arrived <-chan posted, status int) posted {
	t.Helper()
	select {
	case p := <-arrived:
		p.answer <- status
		return p
	case <-soon(t).Done():
		t.Fatal("nothing was posted")
		return posted{}
	}
}

// about is a notice whose signature shows what was signed.
func about(address, kind, asset string, waits ...time.Duration) Notice {
	return Notice{
		URL: address, Kind: kind, Asset: asset, Body: []byte(`{"asset":"` + asset + `"}`), Waits: waits,
		Sign: func(body []byte, at time.Time) http.Header {
			return http.Header{"X-Signed": {strings.ReplaceAll(string(body), "\n", "+")}, "X-At": {at.Format(time.RFC3339Nano)}}
		},
		Accepted: func(status int) bool { return status == http.StatusOK },
	}
}

func newNotices(t *testing.T) (*Notices, *Clock) {
	clock := NewClock()
	n := NewNotices(clock)
	t.Cleanup(n.Close)
	return n, clock
}

func program(t *testing.T, n *Notices, rules ...NoticeRule) {
	t.Helper()
	if err := n.Add(rules...); err != nil {
		t.Fatal(err)
	}
}

// become waits until a notice has that state and returns it.
func become(t *testing.T, n *Notices, id int64, state string) NoticeState {
	t.Helper()
	for ctx := soon(t); ; runtime.Gosched() {
		list := n.List()
		at := slices.IndexFunc(list, func(s NoticeState) bool { return s.ID == id })
		if at >= 0 && list[at].State == state {
			return list[at]
		}
		if ctx.Err() != nil {
			t.Fatalf("notice %d is not %s: %+v", id, state, list)
		}
	}
}

func TestNoticeMeetsItsRule(t *testing.T) {
	const whole = `{"asset":"a"}`
	tests := map[string]struct {
		rules []NoticeRule
		posts int
		state string
		ok    func(p posted, now time.Time) bool
	}{
		"without a rule it is sent faithfully": {
			nil, 1, NoticeAccepted,
			func(p posted, now time.Time) bool {
				return p.body == whole && p.signed == whole && now.Sub(p.at).Abs() < time.Minute
			},
		},
		"lose sends nothing": {[]NoticeRule{{Action: Lose}}, 0, NoticeLost, nil},
		"hold sends nothing": {[]NoticeRule{{Action: Hold}}, 0, NoticeHeld, nil},
		"double sends it twice": {
			[]NoticeRule{{Action: Double}}, 2, NoticeAccepted,
			func(p posted, _ time.Time) bool { return p.body == whole && p.signed == whole },
		},
		"double sends as many copies as asked": {
			[]NoticeRule{{Action: Double, Copies: 4}}, 4, NoticeAccepted,
			func(p posted, _ time.Time) bool { return p.body == whole },
		},
		"forge signs another body": {
			[]NoticeRule{{Action: Forge}}, 1, NoticeAccepted,
			func(p posted, _ time.Time) bool { return p.body == whole && p.signed != whole && p.signed != "" },
		},
		"stale is signed three hours ago": {
			[]NoticeRule{{Action: Stale}}, 1, NoticeAccepted,
			func(p posted, now time.Time) bool {
				return p.signed == whole && (now.Sub(p.at)-3*time.Hour).Abs() < time.Minute
			},
		},
		"stale may lie in the future": {
			[]NoticeRule{{Action: Stale, Age: -3600}}, 1, NoticeAccepted,
			func(p posted, now time.Time) bool { return (p.at.Sub(now) - time.Hour).Abs() < time.Minute },
		},
		"truncate brings half of the body": {
			[]NoticeRule{{Action: Truncate}}, 1, NoticeAccepted,
			func(p posted, _ time.Time) bool { return p.body == whole[:len(whole)/2] && p.signed == whole },
		},
		"the first rule that applies has it alone": {
			[]NoticeRule{{Kind: "^delete$", Action: Lose}, {Asset: "b", Action: Lose}, {Kind: "upl", Asset: "^a$", Action: Double}, {Action: Lose}},
			2, NoticeAccepted, func(p posted, _ time.Time) bool { return p.signed == whole },
		},
		"a rule skips the first": {
			[]NoticeRule{{Skip: 1, Action: Lose}}, 1, NoticeAccepted,
			func(p posted, _ time.Time) bool { return p.body == whole },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n, clock := newNotices(t)
			address, arrived := receiver(t)
			program(t, n, tt.rules...)
			n.Send(about(address, "upload", "a"))
			for range tt.posts {
				if p := next(t, arrived, http.StatusOK); !tt.ok(p, clock.Now()) {
					t.Errorf("posted %+v", p)
				}
			}
			become(t, n, 1, tt.state)
			n.Clear()
			n.Send(about(address, "upload", "b"))
			if p := next(t, arrived, http.StatusOK); p.body != `{"asset":"b"}` {
				t.Errorf("%s came beyond what was due", p.body)
			}
		})
	}
}

func TestSpentRuleLetsNoticesPass(t *testing.T) {
	n, _ := newNotices(t)
	address, arrived := receiver(t)
	program(t, n, NoticeRule{Action: Lose, Times: 1})
	n.Send(about(address, "upload", "a"))
	n.Send(about(address, "upload", "b"))
	if p := next(t, arrived, http.StatusOK); p.body != `{"asset":"b"}` {
		t.Errorf("posted %s", p.body)
	}
	if rules := n.Rules(); rules[0].Seen != 1 || rules[0].Hits != 1 {
		t.Errorf("rules %+v", rules)
	}
}

func TestHeldNoticesAreReleasedInTheOrderAsked(t *testing.T) {
	n, _ := newNotices(t)
	address, arrived := receiver(t)
	program(t, n, NoticeRule{Action: Hold})
	for _, asset := range []string{"1", "2", "3", "4"} {
		n.Send(about(address, "upload", asset))
	}
	released := make(chan error, 1)
	go func() { released <- n.Release(soon(t), 3, 1, 1, 4) }()
	for _, want := range []string{"3", "1", "1", "4"} {
		p := next(t, arrived, http.StatusOK)
		if p.body != `{"asset":"`+want+`"}` || p.signed != p.body {
			t.Errorf("posted %+v, want %s", p, want)
		}
	}
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	if got := become(t, n, 1, NoticeAccepted); len(got.Tries) != 2 || got.Tries[1].Status != http.StatusOK {
		t.Errorf("notice %+v", got)
	}
	become(t, n, 2, NoticeHeld)
	go func() { released <- n.Release(soon(t)) }()
	if p := next(t, arrived, http.StatusOK); p.body != `{"asset":"2"}` {
		t.Errorf("posted %+v", p)
	}
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	if err := n.Release(soon(t), 5); err == nil {
		t.Error("an unknown notice was released")
	}
}

func TestRefusedNoticeIsTriedAgainOnTheSimulatorsClock(t *testing.T) {
	n, clock := newNotices(t)
	address, arrived := receiver(t)
	n.Send(about(address, "upload", "a", 3*time.Minute, 6*time.Minute))
	first := next(t, arrived, http.StatusInternalServerError)
	clock.Advance(3 * time.Minute)
	second := next(t, arrived, http.StatusAccepted) // not 200
	if waited := second.at.Sub(first.at); waited < 3*time.Minute || waited > 4*time.Minute {
		t.Errorf("tried again after %s", waited)
	}
	clock.Advance(6 * time.Minute)
	next(t, arrived, http.StatusNotFound)
	got := become(t, n, 1, NoticeGivenUp)
	var statuses []int
	for _, try := range got.Tries {
		statuses = append(statuses, try.Status)
	}
	if !slices.Equal(statuses, []int{500, 202, 404}) {
		t.Errorf("answers %v", statuses)
	}
}

func TestReleasedNoticeThatIsRefusedIsTriedAgain(t *testing.T) {
	n, _ := newNotices(t)
	address, arrived := receiver(t)
	program(t, n, NoticeRule{Action: Lose})
	n.Send(about(address, "upload", "a", time.Millisecond))
	released := make(chan error, 1)
	go func() { released <- n.Release(soon(t), 1) }()
	next(t, arrived, http.StatusServiceUnavailable)
	next(t, arrived, http.StatusOK)
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	become(t, n, 1, NoticeAccepted)
}

func TestDelayedNoticeWaitsOnTheSimulatorsClock(t *testing.T) {
	n, clock := newNotices(t)
	address, arrived := receiver(t)
	program(t, n, NoticeRule{Action: Delay, Delay: 3_600_000, Times: 1})
	n.Send(about(address, "upload", "late"))
	n.Send(about(address, "upload", "soon"))
	if p := next(t, arrived, http.StatusOK); p.body != `{"asset":"soon"}` {
		t.Errorf("posted %s", p.body)
	}
	clock.Advance(time.Hour)
	if p := next(t, arrived, http.StatusOK); p.body != `{"asset":"late"}` {
		t.Errorf("posted %s", p.body)
	}
}

func TestReceiverThatIsNotThereIsNoted(t *testing.T) {
	n, _ := newNotices(t)
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	n.Send(about(s.URL, "upload", "a"))
	if got := become(t, n, 1, NoticeGivenUp); len(got.Tries) != 1 || got.Tries[0].Status != 0 || got.Tries[0].Error == "" {
		t.Errorf("notice %+v", got)
	}
}

func TestRedirectIsAnAnswerLikeAnyOther(t *testing.T) {
	n, _ := newNotices(t)
	s := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect))
	defer s.Close()
	n.Send(about(s.URL, "upload", "a"))
	if got := become(t, n, 1, NoticeGivenUp); got.Tries[0].Status != http.StatusTemporaryRedirect {
		t.Errorf("notice %+v", got)
	}
}

func TestClosedNoticesSendNothing(t *testing.T) {
	n, _ := newNotices(t)
	address, arrived := receiver(t)
	n.Send(about(address, "upload", "a", time.Hour))
	next(t, arrived, http.StatusInternalServerError)
	n.Send(about(address, "upload", "b"))
	n.Close() // returns though one waits an hour and the other for its answer
	n.Send(about(address, "upload", "c"))
	if got := n.List(); len(got) != 3 || len(got[2].Tries) != 0 {
		t.Errorf("notices %+v", got)
	}
}

func TestOldNoticesAreForgotten(t *testing.T) {
	n, _ := newNotices(t)
	program(t, n, NoticeRule{Action: Lose})
	for i := range keptNotices + 2 {
		n.Send(about("http://127.0.0.1", "upload", fmt.Sprint(i)))
	}
	if got := n.List(); len(got) != keptNotices || got[0].ID != 3 {
		t.Errorf("%d notices from %d", len(got), got[0].ID)
	}
}

func TestNoticesAreControlledByHTTP(t *testing.T) {
	c, simulator := serve(t, http.NotFoundHandler())
	defer c.Notices.Close()
	taker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer taker.Close()
	control := func(method, path, body string, status int) (shown NoticeLog) {
		t.Helper()
		a := send(t, soon(t), method, simulator+"/_sim/notices"+path, body)
		if a.status != status {
			t.Fatalf("%s %s: %d %s", method, body, a.status, a.body)
		}
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(a.body), &shown); err != nil {
				t.Fatal(err)
			}
		}
		return shown
	}
	control(http.MethodPost, "", `[{"kind":"upload","action":"hold"},{"action":"double","copies":3}]`, 200)
	control(http.MethodPost, "", `{"action":"reset_before"}`, 400)
	control(http.MethodPost, "", `{"action":"lose","kind":"("}`, 400)
	control(http.MethodPost, "/release", `{"ids":[1]}`, 400)
	c.Notices.Send(about(taker.URL, "upload", "a"))
	if shown := control(http.MethodGet, "", "", 200); len(shown.Rules) != 2 || shown.Rules[0].Hits != 1 ||
		len(shown.Notices) != 1 || shown.Notices[0].State != NoticeHeld || shown.Notices[0].Body != `{"asset":"a"}` {
		t.Errorf("shown %+v", shown)
	}
	if shown := control(http.MethodPost, "/release", `{}`, 200); shown.Notices[0].State != NoticeAccepted {
		t.Errorf("shown %+v", shown)
	}
	if shown := control(http.MethodDelete, "", "", 200); len(shown.Rules) != 0 || len(shown.Notices) != 1 {
		t.Errorf("shown %+v", shown)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	clock := NewClock()
	if err := clock.Wait(ctx, clock.Now().Add(time.Hour)); err == nil {
		t.Error("an hour passed at once")
	}
}
