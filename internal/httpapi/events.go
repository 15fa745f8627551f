package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/events"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	eventsPath  = "/v1/events"
	eventStream = "text/event-stream"

	// lastEventIDParameter is for those who cannot set the header Last-Event-ID.
	lastEventIDParameter = "last_event_id"
)

func uploadEventsPath(id upload.ID) string { return uploadPath(id) + "/events" }

// userEvents answers with what happens to all of the caller's uploads.
func (a *API) userEvents(c *fiber.Ctx) error { return a.events(c, "") }

// uploadEvents answers with what has happened to an upload, and what does until its end.
func (a *API) uploadEvents(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	if _, err := a.find(user(c), id); err != nil {
		return err
	}
	return a.events(c, id)
}

func (a *API) events(c *fiber.Ctx, only upload.ID) error {
	query, err := queryOf(c)
	if err != nil {
		return err
	}
	c.Vary(fiber.HeaderAccept)
	if c.Accepts(eventStream, fiber.MIMEApplicationJSON) != eventStream {
		return a.listEvents(c, only, query)
	}
	after, given, err := lastEventID(c, query)
	if err != nil {
		return err
	}
	return a.streamEvents(c, only, after, given)
}

// lastEventID is the sequence number of the last event that the client has seen, if it has seen any.
func lastEventID(c *fiber.Ctx, query url.Values) (seq int64, given bool, err error) {
	text := c.Get("Last-Event-ID")
	if text == "" {
		text = query.Get(lastEventIDParameter)
	}
	if text == "" {
		return 0, false, nil
	}
	seq, err = strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 0 {
		return 0, false, invalidParameter("The id of the last event must be one that an event had, or 0 for all there are.")
	}
	return seq, true, nil
}

// eventList is a page of the log, oldest first. Reset tells that what came right after the place from which it was asked for is
// not there any more.
type eventList struct {
	Events []events.View `json:"events"`
	Reset  bool          `json:"reset"`
	Next   *string       `json:"next"`
}

// listEvents answers with a page of the log.
func (a *API) listEvents(c *fiber.Ctx, only upload.ID, query url.Values) error {
	path := eventsPath
	if only != "" {
		path = uploadEventsPath(only)
	}
	page, err := pageSize(query)
	if err != nil {
		return err
	}
	after, given, err := lastEventID(c, query)
	if err != nil {
		return err
	}
	if cursor := query.Get("cursor"); cursor != "" {
		place, err := a.Cursors.open(user(c), path, cursor)
		if err != nil {
			return err
		}
		if after, err = strconv.ParseInt(place, 10, 64); err != nil {
			return badCursor()
		}
		given = true
	}
	found, err := a.eventsAfter(user(c), only, after, page+1)
	if err != nil {
		return err
	}
	list := eventList{Events: []events.View{}}
	if given && after > 0 {
		bounds, err := a.eventLog(user(c))
		if err != nil {
			return err
		}
		list.Reset = !bounds.Reached(after)
	}
	if len(found) > page {
		found = found[:page]
		query.Del(lastEventIDParameter)
		list.Next = a.nextPage(user(c), path, query, strconv.FormatInt(found[page-1].Seq, 10))
	}
	for _, e := range found {
		list.Events = append(list.Events, events.ViewOf(e))
	}
	c.Set(fiber.HeaderCacheControl, "private, no-cache")
	return answer(c, http.StatusOK, list)
}

func (a *API) eventsAfter(user string, only upload.ID, after int64, limit int) (found []upload.Event, err error) {
	err = a.readAs(user, noUpload, func(ctx context.Context, db postgres.Querier) error {
		found, err = postgres.Events(ctx, db, user, only, after, limit)
		return err
	})
	return found, err
}

func (a *API) eventLog(user string) (bounds postgres.LogBounds, err error) {
	err = a.readAs(user, noUpload, func(ctx context.Context, db postgres.Querier) error {
		bounds, err = postgres.EventLog(ctx, db, user)
		return err
	})
	return bounds, err
}

// streamEvents sends events as they happen, those first that the client has missed. Who has seen the last that
// will be is told to ask no more (204; WHATWG HTML, "Server-sent events", §9.2.3).
func (a *API) streamEvents(c *fiber.Ctx, only upload.ID, after int64, given bool) error {
	if a.server.draining.Load() {
		return errDraining()
	}
	who := caller(c)
	s := &eventStreamer{api: a, user: strings.Clone(who.User), only: only, who: who, last: after}
	s.follower = a.Feed.Follow(s.user, only)
	if err := s.begin(given); err != nil {
		s.follower.Close()
		return err
	}
	if s.over || c.Method() == http.MethodHead {
		s.follower.Close()
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if s.over {
		return c.SendStatus(http.StatusNoContent)
	}
	c.Set(fiber.HeaderContentType, eventStream)
	c.Set("X-Accel-Buffering", "no") // by nginx
	if c.Method() != http.MethodHead {
		a.server.guard.stream(c.Context(), s.run)
	}
	return nil
}
