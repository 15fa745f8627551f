package providersim

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"time"
)

// noticeTime bounds one try of a notice.
const noticeTime = 30 * time.Second

// Notice is one notification, as its service sends it.
type Notice struct {
	URL   string
	Kind  string // what happened, in the service's word
	Asset string // which asset it happened to, by the service's id
	Body  []byte

	After time.Duration   // before the first try
	Waits []time.Duration // before each further one; none are none

	Sign     func(body []byte, at time.Time) http.Header // the headers of a try
	Accepted func(status int) bool                       // whether an answer ends the tries
}

// What can have become of a notice.
const (
	NoticeWaiting  = "waiting"  // for a try, or for the answer to one
	NoticeHeld     = "held"     // for Release
	NoticeLost     = "lost"     // by a rule
	NoticeAccepted = "accepted" // by the receiver
	NoticeGivenUp  = "given_up" // after the last try
)

// NoticeState is a notice and what has become of it.
type NoticeState struct {
	ID    int64       `json:"id"` // from 1, in the order of what happened
	At    time.Time   `json:"at"` // when it happened, on the simulator's clock
	URL   string      `json:"url"`
	Kind  string      `json:"kind"`
	Asset string      `json:"asset"`
	Body  string      `json:"body"`
	State string      `json:"state"`
	Tries []NoticeTry `json:"tries"` // answered or broken off, in that order
}

// NoticeTry is one POST to the receiver.
type NoticeTry struct {
	At     time.Time `json:"at"`     // when it was sent, on the simulator's clock
	Status int       `json:"status"` // of the answer; 0 is none
	Error  string    `json:"error,omitempty"`
}

// notice is what is remembered of one; its state is guarded by Notices.mu.
type notice struct {
	NoticeState
	sent Notice
}

// Send sends a notice, or does with it what the first rule that applies says.
func (n *Notices) Send(sent Notice) {
	e, fault := n.enter(sent)
	copies := 1
	switch fault.Action {
	case Lose, Hold:
		copies = 0
	case Double:
		copies = fault.Copies
	}
	for range copies {
		n.start(func() { n.follow(e, fault, 0, e.At) })
	}
}

// enter remembers a notice and finds the rule that has it.
func (n *Notices) enter(sent Notice) (*notice, NoticeRule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	e := &notice{sent: sent, NoticeState: NoticeState{
		ID: n.last, At: n.clock.Now(), URL: sent.URL, Kind: sent.Kind, Asset: sent.Asset, Body: string(sent.Body),
		State: NoticeWaiting, Tries: []NoticeTry{},
	}}
	if n.log = append(n.log, e); len(n.log) > keptNotices {
		n.log = slices.Delete(n.log, 0, 1)
	}
	var fault NoticeRule
	for _, r := range n.rules {
		if r.kind.MatchString(e.Kind) && r.asset.MatchString(e.Asset) && meet(r.Skip, r.Times, &r.Seen, &r.Hits) {
			fault = r.NoticeRule
			break
		}
	}
	switch fault.Action {
	case Lose:
		e.State = NoticeLost
	case Hold:
		e.State = NoticeHeld
	}
	return e, fault
}

// start runs f behind, unless the notices are closed.
func (n *Notices) start(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() == nil {
		n.sent.Go(f)
	}
}

// follow makes the tries of a notice from the given one on, until one is accepted. Each
// waits from the one before it, the first from what happened.
func (n *Notices) follow(e *notice, fault NoticeRule, try int, since time.Time) {
	for ; try <= len(e.sent.Waits); try++ {
		wait := e.sent.After + time.Duration(fault.Delay)*time.Millisecond
		if try > 0 {
			wait = e.sent.Waits[try-1]
		}
		if n.clock.Wait(n.ctx, since.Add(wait)) != nil {
			return
		}
		var accepted bool
		if since, accepted = n.try(n.ctx, e, fault); accepted {
			return
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.State == NoticeWaiting {
		e.State = NoticeGivenUp
	}
}

// try posts a notice once, and returns when that was and whether it was accepted.
func (n *Notices) try(ctx context.Context, e *notice, fault NoticeRule) (at time.Time, accepted bool) {
	try := NoticeTry{At: n.clock.Now()}
	status, err := n.post(ctx, e.sent, fault, try.At)
	accepted = err == nil && e.sent.Accepted(status)
	if try.Status = status; err != nil {
		try.Error = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e.Tries = append(e.Tries, try)
	if accepted {
		e.State = NoticeAccepted
	}
	return try.At, accepted
}

func (n *Notices) post(ctx context.Context, sent Notice, fault NoticeRule, at time.Time) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	body, signed := sent.Body, sent.Body
	switch fault.Action {
	case Truncate:
		body = body[:len(body)/2]
	case Forge:
		signed = append(slices.Clone(body), '\n')
	case Stale:
		at = at.Add(-time.Duration(fault.Age) * time.Second)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sent.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = sent.Sign(signed, at)
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxControlBody))
	return resp.StatusCode, err
}
