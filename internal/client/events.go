package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/tmaxmax/go-sse"

	"slipway/internal/upload"
)

// What a stream of events says beside what happens to uploads (docs/events.md, "Going on").
const (
	StreamBegan upload.EventType = "start" // what happens from here on comes; how the uploads are now has to be asked for
	StreamReset upload.EventType = "reset" // the log does not have any more what came before this; it has to be asked for as well
)

// Event is an entry of the log as the service tells it. As JSON it is what the service said, word for word.
type Event struct {
	Seq      int64            `json:"seq"`
	UploadID upload.ID        `json:"upload_id"` // "" of what the stream says itself
	Type     upload.EventType `json:"type"`
	Status   upload.Status    `json:"status"` // of the upload at that time
	Attempt  int              `json:"attempt"`
	Data     EventData        `json:"data"`
	At       time.Time        `json:"at"`

	said json.RawMessage
}

// EventData is what an event has to tell; what is nil or "" it does not.
type EventData struct {
	Received *int64      `json:"received_bytes"`
	Pushed   *int64      `json:"pushed_bytes"`
	Progress *float64    `json:"progress"` // of both ways together, 0 to 1
	Code     upload.Code `json:"code"`
	Message  string      `json:"message"`
	Reason   string      `json:"reason"`
	URL      string      `json:"url"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (e *Event) UnmarshalJSON(b []byte) error {
	type fields Event
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f.Seq <= 0 || f.UploadID == "" {
		return errors.New("this is no event")
	}
	f.said = bytes.Clone(b)
	*e = Event(f)
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (e Event) MarshalJSON() ([]byte, error) {
	if e.said != nil {
		return e.said, nil
	}
	return fmt.Appendf(nil, `{"seq":%d,"type":%q}`, e.Seq, e.Type), nil
}

const (
	// quiet is after how long a stream that says nothing is dead: a living one speaks every 12 s.
	quiet = 40 * time.Second
	// absence is how long a service that has been there may be away before nobody waits for its events any more.
	absence = 15 * time.Minute
)

var errQuiet = errors.New("the stream of events fell silent")

// listening is what a stream is asked for by.
var listening = request{method: http.MethodGet, path: "/v1/events"}

// Follow goes through what happens to all of the caller's uploads from now on, each event once and in order, however often
// the connection ends. It begins with StreamBegan, has a StreamReset where events are missing, and ends after an error.
func (c *Client) Follow(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := following{client: c, last: -1, lost: time.Now(), yield: yield}
		for try := 0; ; try++ {
			heard, err := f.connect(ctx)
			switch {
			case f.over:
				return
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case heard:
				try = 0
			}
			wait := min(firstWait<<min(try, 10), longestWait)
			wait += rand.N(wait) // a service that comes back is not asked by everybody at once
			if refused := (*Error)(nil); errors.As(err, &refused) {
				wait = max(wait, refused.RetryAfter)
			}
			if !c.repeatable(listening, err) || time.Since(f.lost)+wait > absence {
				yield(Event{}, err)
				return
			}
			c.opts.Waiting(err, wait)
			if c.sleep(ctx, wait) != nil {
				yield(Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// following is one Follow over all of its connections.
type following struct {
	client *Client
	last   int64     // the sequence number of the last event that was passed on; -1: none was
	lost   time.Time // when the service was last heard
	yield  func(Event, error) bool
	over   bool // nobody wants more
}

// connect passes on what one connection brings, tells whether that was anything, and returns why it ended.
func (f *following) connect(ctx context.Context) (heard bool, err error) {
	c := f.client
	call, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(min(c.opts.Stall, quiet), func() { cancel(errQuiet) })
	defer silence.Stop()
	connected := false
	traced := httptrace.WithClientTrace(call, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req, err := http.NewRequestWithContext(traced, listening.method, c.base+listening.path, http.NoBody)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if f.last >= 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(f.last, 10))
	}
	if c.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, c.silence(call, listening, connected, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return false, c.refusal(resp)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return false, c.stranger(resp)
	}
	c.met.Store(true)
	err = io.ErrUnexpectedEOF // how a stream without an end ends, unless somebody says otherwise
	body := listener{resp.Body, func() {
		f.lost, heard = time.Now(), true
		silence.Reset(min(c.opts.Stall, quiet))
	}}
	for said, broken := range sse.Read(body, &sse.ReadConfig{MaxEventSize: maxProblem}) {
		if broken != nil {
			err = broken
			break
		}
		e, whole := eventOf(said)
		if !whole {
			break // the connection was cut in the middle of it
		}
		if e.Seq > f.last || e.Type == StreamReset {
			f.last = e.Seq
			if f.over = !f.yield(e, nil); f.over {
				return true, nil
			}
		}
	}
	return heard, c.silence(call, listening, true, err)
}

// eventOf is what a stream has said, if all of it has come.
func eventOf(said sse.Event) (e Event, whole bool) {
	switch kind := upload.EventType(said.Type); kind {
	case StreamBegan, StreamReset:
		var place struct {
			Seq *int64 `json:"seq"`
		}
		if json.Unmarshal([]byte(said.Data), &place) != nil || place.Seq == nil {
			return e, false
		}
		return Event{Seq: *place.Seq, Type: kind}, true
	}
	return e, json.Unmarshal([]byte(said.Data), &e) == nil
}

// listener tells heard whenever something comes.
type listener struct {
	io.Reader
	heard func()
}

func (l listener) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.heard()
	}
	return n, err
}

// History goes through what the log has of an upload behind a sequence number, oldest first. It ends after an error.
func (c *Client) History(ctx context.Context, id upload.ID, after int64) iter.Seq2[Event, error] {
	const page = "100"
	query := url.Values{"limit": {page}, "last_event_id": {strconv.FormatInt(after, 10)}}
	return func(yield func(Event, error) bool) {
		for query := query; query != nil; {
			var list struct {
				Events []Event `json:"events"`
				Next   string  `json:"next"`
			}
			if _, err := c.call(ctx, request{method: http.MethodGet, path: uploadPath(id) + "/events", query: query, timeout: callTimeout}, &list); err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range list.Events {
				if !yield(e, nil) {
					return
				}
			}
			query = queryBehind(list.Next)
		}
	}
}

// queryBehind is the query of the next page's path, nil where there is none. Of the path itself nothing is believed: the token
// goes where it went before.
func queryBehind(next string) url.Values {
	u, err := url.Parse(next)
	if err != nil || next == "" {
		return nil
	}
	return u.Query()
}
