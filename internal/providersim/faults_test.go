package providersim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with the body it was sent, and counts how often it was asked.
type echo struct{ done atomic.Int32 }

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	e.done.Add(1)
	w.Header().Set("ETag", `"real"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusCreated)
	w.Write(body)
}

// serve puts h under new controls, on a listener that closes with the test.
func serve(t *testing.T, h http.Handler) (*Controls, string) {
	t.Helper()
	c := NewControls()
	s, err := Listen("127.0.0.1:0", c.Handler(h))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c, s.URL
}

// answer is what a client got: an answer, or an error instead of it or amid its body.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func send(t *testing.T, ctx context.Context, method, address, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(got), err}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestFaultHappensToTheRequest(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	tests := map[string]struct {
		rule Rule
		body string
		done int32 // how often the handler really worked
		ok   func(answer) bool
	}{
		"answer keeps the request from the handler": {
			Rule{Action: Answer, Status: 429, Header: map[string]string{"Retry-After": "7"}, Body: "slow down"}, "hello", 0,
			func(a answer) bool {
				return a.status == 429 && a.header.Get("Retry-After") == "7" && a.body == "slow down"
			},
		},
		"answer without a status is 503": {
			Rule{Action: Answer}, "hello", 0,
			func(a answer) bool { return a.status == 503 && a.body == "" },
		},
		"answer_after hides what was done": {
			Rule{Action: AnswerAfter, Status: 502}, "hello", 1,
			func(a answer) bool { return a.status == 502 && a.body == "" && a.header.Get("ETag") == "" },
		},
		"amend changes only what it names": {
			Rule{Action: Amend, Header: map[string]string{"ETag": `"wrong"`}}, "hello", 1,
			func(a answer) bool {
				return a.status == 201 && a.body == "hello" && a.header.Get("ETag") == `"wrong"`
			},
		},
		"reset_before does nothing": {
			Rule{Action: ResetBefore}, "hello", 0,
			func(a answer) bool { return errors.Is(a.err, syscall.ECONNRESET) || errors.Is(a.err, syscall.EPIPE) },
		},
		"reset_after loses the answer": {
			Rule{Action: ResetAfter}, "hello", 1,
			func(a answer) bool { return errors.Is(a.err, syscall.ECONNRESET) },
		},
		"drop_after closes without an answer": {
			Rule{Action: DropAfter}, "hello", 1,
			func(a answer) bool { return errors.Is(a.err, io.EOF) },
		},
		"truncate of a short answer is a shorter whole": {
			Rule{Action: Truncate}, "0123456789", 1,
			func(a answer) bool { return a.status == 201 && a.err == nil && a.body == "01234" },
		},
		"truncate of a long answer breaks off": {
			Rule{Action: Truncate}, long, 1,
			func(a answer) bool { return errors.Is(a.err, io.ErrUnexpectedEOF) && a.body == long[:len(long)/2] },
		},
		"corrupt turns one bit in the middle": {
			Rule{Action: Corrupt}, "aaaaaaaaa", 1,
			func(a answer) bool { return a.body == "aaaa`aaaa" },
		},
		"delay changes nothing else": {
			Rule{Action: Delay, Delay: 1}, "hello", 1,
			func(a answer) bool { return a.status == 201 && a.body == "hello" },
		},
		"throttle_bytes brings all bytes": {
			Rule{Action: ThrottleBytes, Rate: 1 << 20}, long, 1,
			func(a answer) bool { return a.body == long },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := &echo{}
			c, address := serve(t, h)
			if err := c.Faults.Add(tt.rule); err != nil {
				t.Fatal(err)
			}
			if got := send(t, soon(t), http.MethodPut, address+"/x", tt.body); !tt.ok(got) {
				t.Errorf("got status %d, error %v, header %v, %d bytes %.40q", got.status, got.err, got.header, len(got.body), got.body)
			}
			if got := h.done.Load(); got != tt.done {
				t.Errorf("the handler worked %d times, want %d", got, tt.done)
			}
			if hits := c.Faults.List()[0].Hits; hits != 1 {
				t.Errorf("%d hits, want 1", hits)
			}
		})
	}
}

func TestEarlyAnswerDoesNotReadTheBody(t *testing.T) {
	c, address := serve(t, &echo{})
	if err := c.Faults.Add(Rule{Action: Answer, Status: 413}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PUT /x HTTP/1.1\r\nHost: sim\r\nContent-Length: 1000000\r\n\r\nonly this")
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, len("HTTP/1.1 413"))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 413" {
		t.Errorf("read %q, %v", head, err)
	}
}

func TestThrottledBodyIsReadAtItsRate(t *testing.T) {
	c, address := serve(t, &echo{})
	if err := c.Faults.Add(Rule{Action: ThrottleBytes, Rate: 100_000}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	send(t, soon(t), http.MethodPut, address+"/x", strings.Repeat("x", 20_000))
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("20 kB at 100 kB/s took %v", took)
	}
}

func TestStallEnds(t *testing.T) {
	begin := func(t *testing.T) (*Controls, context.CancelFunc, <-chan error) {
		h := &echo{}
		c, address := serve(t, h)
		if err := c.Faults.Add(Rule{Action: Stall}); err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(soon(t))
		ended := make(chan error, 1)
		go func() { ended <- send(t, ctx, http.MethodPut, address+"/x", "hello").err }()
		until(t, "the stalled request has its bytes", func() bool {
			list := c.Requests.Find("", nil)
			return len(list) == 1 && list[0].Received == 5
		})
		return c, leave, ended
	}
	over := func(t *testing.T, c *Controls, ended <-chan error) {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a stalled request was answered")
			}
		case <-soon(t).Done():
			t.Fatal("the client still waits")
		}
		until(t, "the handler has returned", func() bool { return c.Requests.Find("", nil)[0].Ended })
	}
	t.Run("when the client leaves", func(t *testing.T) {
		c, leave, ended := begin(t)
		leave()
		over(t, c, ended)
	})
	t.Run("when the rules are cleared", func(t *testing.T) {
		c, leave, ended := begin(t)
		defer leave()
		c.Faults.Clear()
		over(t, c, ended)
	})
}

func TestRuleApplies(t *testing.T) {
	tests := map[string]struct {
		rules []Rule
		want  []int // status of PUT /part?n=1, GET /part?n=1, PUT /part?n=2, PUT /part?n=1
	}{
		"to every request when it names none":   {[]Rule{{Action: Answer}}, []int{503, 503, 503, 503}},
		"to a method":                           {[]Rule{{Action: Answer, Method: "GET"}}, []int{201, 503, 201, 201}},
		"to a path with its query":              {[]Rule{{Action: Answer, Path: `/part\?n=2$`}}, []int{201, 201, 503, 201}},
		"only so many times":                    {[]Rule{{Action: Answer, Times: 2}}, []int{503, 503, 201, 201}},
		"after those it skips":                  {[]Rule{{Action: Answer, Method: "PUT", Skip: 1, Times: 1}}, []int{201, 201, 503, 201}},
		"before those added later":              {[]Rule{{Action: Answer, Times: 1}, {Action: Answer, Status: 500}}, []int{503, 500, 500, 500}},
		"after one that skips the same request": {[]Rule{{Action: Answer, Skip: 3}, {Action: Answer, Status: 500, Times: 1}}, []int{500, 201, 201, 503}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, address := serve(t, &echo{})
			if err := c.Faults.Add(tt.rules...); err != nil {
				t.Fatal(err)
			}
			for i, request := range []string{"PUT /part?n=1", "GET /part?n=1", "PUT /part?n=2", "PUT /part?n=1"} {
				method, target, _ := strings.Cut(request, " ")
				if got := send(t, soon(t), method, address+target, ""); got.status != tt.want[i] {
					t.Errorf("%s, number %d: %d, want %d", request, i+1, got.status, tt.want[i])
				}
			}
		})
	}
}

func TestFaultsAreProgrammedOverHTTP(t *testing.T) {
	c, address := serve(t, &echo{})
	for body, want := range map[string]int{
		`{"action":"answer","status":500,"path":"/a"}`:            200,
		`[{"action":"delay","delay":1},{"action":"reset_after"}]`: 200,
		`{"action":"explode"}`:                                    400,
		`{"action":"answer","path":"("}`:                          400,
		`{"action":"throttle_bytes"}`:                             400,
		`{"acton":"answer"}`:                                      400,
		`nonsense`:                                                400,
	} {
		if got := send(t, soon(t), http.MethodPost, address+"/_sim/faults", body); got.status != want {
			t.Errorf("POST %s: %d %s, want %d", body, got.status, got.body, want)
		}
	}
	if n := len(c.Faults.List()); n != 3 {
		t.Errorf("%d rules, want 3", n)
	}
	var listed []RuleState
	if err := json.Unmarshal([]byte(send(t, soon(t), http.MethodGet, address+"/_sim/faults", "").body), &listed); err != nil || len(listed) != 3 {
		t.Errorf("listed %+v, %v", listed, err)
	}
	send(t, soon(t), http.MethodDelete, address+"/_sim/faults", "")
	if n := len(c.Faults.List()); n != 0 {
		t.Errorf("%d rules after DELETE", n)
	}
}

func TestRequestsTellWhatWasSent(t *testing.T) {
	c, address := serve(t, &echo{})
	send(t, soon(t), http.MethodPut, address+"/part?n=3", "hello")
	send(t, soon(t), http.MethodPut, address+"/part?n=4", "you")
	send(t, soon(t), http.MethodGet, address+"/info", "")
	var log RequestLog
	body := send(t, soon(t), http.MethodGet, address+`/_sim/requests?method=PUT&target=n%3D3$`, "").body
	if err := json.Unmarshal([]byte(body), &log); err != nil {
		t.Fatal(err)
	}
	if log.Seen != 3 || log.Count != 1 || log.Received != 5 || log.Requests[0].Status != 201 || !log.Requests[0].Ended {
		t.Errorf("log %+v", log)
	}
	send(t, soon(t), http.MethodDelete, address+"/_sim/requests", "")
	if n := len(c.Requests.Find("", nil)); n != 0 {
		t.Errorf("%d requests after DELETE", n)
	}
}

func TestRequestsForgetTheOldest(t *testing.T) {
	l := NewRequests()
	h := l.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i := range keptRequests + 5 {
		req, err := http.NewRequest(http.MethodGet, "http://sim/"+strconv.Itoa(i), bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		h.ServeHTTP(newHeld(), req)
	}
	list := l.Find("", nil)
	if len(list) != keptRequests || list[0].Target != "/5" || list[len(list)-1].Target != "/"+strconv.Itoa(keptRequests+4) {
		t.Errorf("%d kept, from %s to %s", len(list), list[0].Target, list[len(list)-1].Target)
	}
	if found := l.Find("", regexp.MustCompile(`^/7$`)); len(found) != 1 {
		t.Errorf("found %d requests for /7, want 1", len(found))
	}
}

func TestControlRoutesAreClosedToForeignPages(t *testing.T) {
	_, address := serve(t, &echo{})
	for origin, want := range map[string]int{"http://evil.example": 403, "null": 403, address: 200} {
		req, err := http.NewRequestWithContext(soon(t), http.MethodGet, address+"/_sim/clock", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("origin %s: %d, want %d", origin, resp.StatusCode, want)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not in time: " + what)
		}
	}
}
