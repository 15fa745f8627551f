package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func eventText(seq int) string {
	return fmt.Sprintf("id: %d\ndata: {\"seq\":%[1]d,\"upload_id\":%q,\"type\":\"progress\",\"status\":\"pushing\",\"attempt\":1,\"data\":{\"pushed_bytes\":%[1]d},\"new\":[1, 2]}\n\n", seq, id)
}

// stream answers with a stream that ends without an end, as the service's do.
func stream(text ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 1730\n\n"+strings.Join(text, ""))
	}
}

// follow goes through n events.
func follow(ctx context.Context, c *asked, n int) (seqs []int64, err error) {
	for e, err := range c.Follow(ctx) {
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, e.Seq)
		if len(seqs) == n {
			break
		}
	}
	return seqs, nil
}

func TestFollowGoesOnWhereItWasCut(t *testing.T) {
	start := "event: start\nid: 4\ndata: {\"seq\":4}\n\n"
	whole := eventText(6)
	for cutAt := range len(whole) {
		var calls atomic.Int32
		var from []string
		c := serve(t, answers(&calls, func(w http.ResponseWriter, r *http.Request) {
			from = append(from, r.Header.Get("Last-Event-ID"))
			stream(start, eventText(5), whole[:cutAt])(w, r)
		}, problem(503, "draining", `,"retryable":true`, "Retry-After", "3"), func(w http.ResponseWriter, r *http.Request) {
			from = append(from, r.Header.Get("Last-Event-ID"))
			stream(eventText(6), ":\n\n", eventText(7))(w, r)
		}))
		if got, err := follow(t.Context(), c, 4); err != nil || !slices.Equal(got, []int64{4, 5, 6, 7}) {
			t.Fatalf("cut after %d bytes: got %d, %v", cutAt, got, err)
		}
		if from[0] != "" || from[1] != "5" && from[1] != "6" {
			t.Errorf("cut after %d bytes it asked for what is behind %q", cutAt, from)
		}
		if len(c.waits) != 2 || c.waits[1] < 3*time.Second {
			t.Errorf("it waited %s, and was asked to wait 3 s", c.waits)
		}
		c.Close()
	}
}

func TestFollowTellsThatEventsAreMissing(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, answers(&calls, stream("event: start\nid: 9\ndata: {\"seq\":9}\n\n"), stream("event: reset\nid: 3\ndata: {\"seq\":3}\n\n", eventText(5))))
	var told []string
	for e, err := range c.Follow(t.Context()) {
		text, _ := json.Marshal(e)
		if told = append(told, string(text)); err != nil || len(told) == 3 {
			break
		}
	}
	want := []string{`{"seq":9,"type":"start"}`, `{"seq":3,"type":"reset"}`, `{"seq":5,"upload_id":"` + string(id) + `","type":"progress","status":"pushing","attempt":1,"data":{"pushed_bytes":5},"new":[1,2]}`}
	if !slices.Equal(told, want) {
		t.Errorf("got %s", told)
	}
}

// streams is a client, and its transport, in a bubble of their own time. Each speaks on a stream, and then leaves it as it is.
func streams(t *testing.T, calls *int, each func(call int, say func(text string))) *asked {
	t.Helper()
	c, err := New(Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		call := *calls
		*calls++
		body, w := io.Pipe()
		context.AfterFunc(r.Context(), func() { _ = w.CloseWithError(context.Cause(r.Context())) })
		go each(call, func(text string) { _, _ = io.WriteString(w, text) })
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return &asked{Client: c}
}

func TestFollowLeavesAStreamThatFellSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, began := 0, time.Now()
		c := streams(t, &calls, func(call int, say func(string)) {
			if call == 0 {
				say("event: start\ndata: {\"seq\":1}\n\n")
				return
			}
			say(eventText(2))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		got, err := follow(ctx, c, 2)
		if took := time.Since(began); err != nil || !slices.Equal(got, []int64{1, 2}) || calls != 2 || took < quiet || took > quiet+longestWait {
			t.Errorf("got %d by %d streams in %s, %v", got, calls, took, err)
		}
	})
}

func TestFollowStaysWhereAStreamSpeaksNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := streams(t, &calls, func(_ int, say func(string)) {
			for range 20 {
				say(":\n\n")
				<-time.After(quiet - time.Second)
			}
			say(eventText(1))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if got, err := follow(ctx, c, 1); err != nil || len(got) != 1 || calls != 1 {
			t.Errorf("got %d by %d streams, %v", got, calls, err)
		}
	})
}

func TestFollowWaitsNoLongerThanAServiceMayBeAway(t *testing.T) {
	for asks, want := range map[time.Duration]int{absence - time.Minute: 2, absence: 1} {
		var calls atomic.Int32
		c := serve(t, answers(&calls, problem(503, "draining", `,"retryable":true`, "Retry-After", strconv.Itoa(int(asks/time.Second))), problem(401, "unauthorized", "")))
		if _, err := follow(t.Context(), c, 1); err == nil || int(calls.Load()) != want {
			t.Errorf("where it is to wait %s it asked %d times, want %d: %v", asks, calls.Load(), want, err)
		}
	}
}

func TestFollowEndsWhereAskingAgainDoesNotHelp(t *testing.T) {
	nobody := ask(t, "http://127.0.0.1:1")
	var silent *UnreachableError
	if _, err := follow(t.Context(), nobody, 1); !errors.As(err, &silent) || len(nobody.waits) != 0 {
		t.Errorf("where nobody is: %v after %s", err, nobody.waits)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"the token is not good": problem(401, "unauthorized", ""),
		"it is not Slipway":     reply(200, "<html>", "Content-Type", "text/html"),
	} {
		c := serve(t, handler)
		var refused *Error
		if _, err := follow(t.Context(), c, 1); !errors.As(err, &refused) || len(c.waits) != 0 {
			t.Errorf("%s: %v after %s", name, err, c.waits)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	c := serve(t, stream("event: start\ndata: {\"seq\":1}\n\n"))
	c.sleep = func(ctx context.Context, _ time.Duration) error { stop(); return ctx.Err() }
	if got, err := follow(ctx, c, 2); !errors.Is(err, context.Canceled) || len(got) != 1 {
		t.Errorf("interrupted: %d, %v", got, err)
	}
}

func TestHistoryGoesThroughItsPages(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		page := `{"events":[{"seq":8,"upload_id":"a","type":"x"}],"reset":false,"next":null}`
		if q.Get("cursor") == "" && q.Get("last_event_id") == "5" {
			page = `{"events":[{"seq":6,"upload_id":"a"},{"seq":7,"upload_id":"a"}],"reset":false,"next":"https://elsewhere/v1?cursor=c"}`
		}
		reply(200, page)(w, r)
	})
	var got []int64
	for e, err := range c.History(t.Context(), id, 5) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Seq)
	}
	if !slices.Equal(got, []int64{6, 7, 8}) {
		t.Errorf("got %d", got)
	}
}
