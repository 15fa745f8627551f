package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/upload"
)

const (
	// pingTime is the longest that a stream is silent, so that whoever stands between knows that it lives, and we
	// that its reader does.
	pingTime = 12 * time.Second
	// replayBatch is how many events are read of the log at once.
	replayBatch = 100
	// comeBack is when a client is to connect again: not all at the same time.
	comeBackMin, comeBackMax = 500 * time.Millisecond, 3 * time.Second
)

// eventStreamer sends one client its events. It reads the log up to where its follower begins, and goes on with what that
// is given; and again, whenever the client was too slow for the follower.
type eventStreamer struct {
	api      *API
	user     string
	only     upload.ID // "": all of the user's
	who      auth.Caller
	follower *events.Follower

	conn   net.Conn
	first  []byte        // what the client is told before its events
	from   int64         // after this the follower has everything; up to it the log
	last   int64         // the client has seen everything up to this
	status upload.Status // of the last event that the client was sent, where that is of its only upload
	over   bool          // nothing more happens
}

// begin finds out where the stream begins. given tells whether the client has said what it has seen.
func (s *eventStreamer) begin(given bool) error {
	bounds, err := s.api.eventLog(s.user)
	if err != nil {
		return err
	}
	s.from = s.follower.Begin(bounds.End())
	retry := comeBackMin + rand.N(comeBackMax-comeBackMin)
	s.first = fmt.Appendf(nil, "retry: %d\n\n", retry.Milliseconds())
	switch {
	case given && s.last > 0 && !bounds.Reached(s.last):
		s.first = fmt.Appendf(s.first, "event: reset\nid: %d\ndata: {\"seq\":%[1]d}\n\n", s.from)
		s.last = s.from
	case !given && s.only == "":
		s.first = fmt.Appendf(s.first, "event: start\nid: %d\ndata: {\"seq\":%[1]d}\n\n", s.from)
		s.last = s.from
	case s.only != "":
		missed, err := s.api.eventsAfter(s.user, s.only, s.last, 1)
		if err != nil || len(missed) > 0 {
			return err
		}
		u, err := s.api.find(s.user, s.only)
		s.over = err == nil && u.Status.Final()
		return err
	}
	return nil
}

// run sends events until there are no more, the client goes or is too slow, what it has shown is not good any more, or
// ctx ends.
func (s *eventStreamer) run(ctx context.Context, conn net.Conn) {
	defer s.follower.Close()
	s.conn = conn
	ctx, cancel := s.api.Auth.While(ctx, s.who)
	defer cancel()
	if !s.send(s.first) {
		return
	}
	s.first = nil
	for s.replay(ctx) && s.live(ctx) {
		bounds, err := s.api.eventLog(s.user)
		if err != nil || !bounds.Reached(s.last) {
			return // it asks again, and is told
		}
		s.from = s.follower.Begin(bounds.End())
	}
}

// replay sends what the log has up to where the follower begins, and tells whether to go on.
func (s *eventStreamer) replay(ctx context.Context) bool {
	for s.last < s.from {
		found, err := s.api.eventsAfter(s.user, s.only, s.last, replayBatch)
		if err != nil || ctx.Err() != nil {
			return false
		}
		var text bytes.Buffer
		for _, e := range found {
			if e.Seq <= s.from {
				text.Write(events.Text(e))
				s.sent(e.Seq, e.Status)
			}
		}
		if !s.send(text.Bytes()) {
			return false
		}
		if len(found) < replayBatch || found[len(found)-1].Seq >= s.from {
			s.last = max(s.last, s.from)
		}
	}
	return true
}

// live sends what the follower is given, and tells whether to go on by the log, because that was too much.
func (s *eventStreamer) live(ctx context.Context) bool {
	ping := time.NewTimer(pingTime)
	defer ping.Stop()
	for {
		entries, behind := s.follower.Take()
		var text []byte
		for _, e := range entries {
			if e.Seq > s.last {
				text = append(text, e.Text...)
				s.sent(e.Seq, e.Status)
			}
		}
		if !s.send(text) {
			return false
		}
		switch {
		case behind:
			return true
		case s.only != "" && s.status.Final():
			return false
		}
		if len(text) > 0 {
			ping.Reset(pingTime)
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.follower.News():
		case <-ping.C:
			if !s.send([]byte(":\n\n")) {
				return false
			}
			ping.Reset(pingTime)
		}
	}
}

func (s *eventStreamer) sent(seq int64, status upload.Status) {
	s.last, s.status = seq, status
}

// send tells whether the client has taken it.
func (s *eventStreamer) send(text []byte) bool {
	if len(text) == 0 {
		return true
	}
	if s.conn.SetWriteDeadline(time.Now().Add(s.api.server.opts.SlowReader)) != nil {
		return false
	}
	_, err := s.conn.Write(text)
	return err == nil
}
