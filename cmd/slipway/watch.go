package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func watchCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "watch [ID...]",
		GroupID: "files",
		Short:   "Follow uploads as they get on",
		Long: "Follows uploads as they get on: in a table on a terminal, elsewhere in a line for each change, and with --json in a line for\n" +
			"each event (docs/events.md). It goes on by itself where the connection breaks, and misses nothing.\n\n" +
			"Of uploads that are named it tells their history first, and ends when nothing more happens to any of them: with 0 when all\n" +
			"are completed, else with 3. Without ids it follows all of yours until it is interrupted.",
		Example:           "  slipway watch\n  slipway watch 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e && echo delivered\n  slipway watch --json | jq -r 'select(.status == \"failed\") | .data.message'",
		ValidArgsFunction: completeIDs(underWay()),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids := make([]upload.ID, len(args))
			for i, text := range args {
				var err error
				if ids[i], err = parseID(text); err != nil {
					return fmt.Errorf("%s: %w", printable(text), err)
				}
			}
			w := &watcher{all: len(ids) == 0, blind: len(ids) == 0 && asJSON, known: map[upload.ID]*watched{}, news: make(chan news), lost: make(chan string, 1)}
			w.view = newView(cmd, w.known, asJSON)
			var err error
			if w.service, err = serviceTelling(w.waits); err != nil {
				return err
			}
			defer w.service.Close()
			err = w.run(cmd.Context(), ids)
			if err != nil && interrupted(cmd.Context()) {
				return errInterrupted
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each event")
	return c
}

// view is how a watcher shows what it sees.
type view interface {
	// found is called with an upload of which nothing was known but how it is.
	found(u *watched) error
	// happened is called with an event and the upload that has taken it in; nil where none is known.
	happened(e client.Event, u *watched) error
	// waits is called when the service is away.
	waits(why string)
	// draw is called when some time has passed, and at the end.
	draw() error
}

// newView is a table on a terminal that can show one, and lines elsewhere.
func newView(cmd *cobra.Command, known map[upload.ID]*watched, asJSON bool) view {
	out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
	switch {
	case asJSON:
		return &eventView{out, errs}
	case columnsOf(out) == 0 || os.Getenv("TERM") == "dumb":
		return &lineView{out, errs}
	}
	return &tableView{out: out.(*os.File), known: known}
}

// watched is an upload as far as the watcher has heard of it.
type watched struct {
	client.Upload
	last int64  // the sequence number of the last event that it has taken in
	told string // what was said of it last
}

// take has the upload become what the event says.
func (u *watched) take(e client.Event) {
	u.last, u.Status, u.Attempt, u.NextAttemptAt = e.Seq, e.Status, e.Attempt, nil
	if e.Type == upload.SessionOpened {
		u.Pushed = 0
	}
	if e.Data.Received != nil {
		u.Received = *e.Data.Received
	}
	if e.Data.Pushed != nil {
		u.Pushed = *e.Data.Pushed
	}
	switch e.Status {
	case upload.Queued, upload.Pushing, upload.Retrying:
		u.Received = u.Size
	}
	u.Progress = max(u.Progress, float64(u.Received+u.Pushed)/float64(2*max(u.Size, 1)))
	if e.Data.Progress != nil {
		u.Progress = *e.Data.Progress
	}
	switch {
	case e.Data.Code != "":
		u.Error = &upload.Error{Code: e.Data.Code, Message: e.Data.Message}
	case e.Type == upload.ProgressMade, e.Status == upload.Completed, e.Status == upload.Queued:
		u.Error = nil
	}
	if e.Status == upload.Completed {
		u.Progress, u.Pushed = 1, u.Size
	}
}

type news struct {
	event client.Event
	err   error
}

// watcher follows uploads and shows what happens to them.
type watcher struct {
	service *client.Client
	view    view
	all     bool // nobody has named any
	blind   bool // of all it shows events alone, whatever the uploads are
	named   []upload.ID
	known   map[upload.ID]*watched
	ended   []upload.ID // those of all that have, in the order in which they did
	news    chan news
	lost    chan string // why the service is away
}

const (
	// drawEvery is how often a table is drawn anew.
	drawEvery = 100 * time.Millisecond
	// endedKept is how many uploads that have ended are remembered where nobody has named them.
	endedKept = 50
)

func (w *watcher) run(ctx context.Context, ids []upload.ID) error {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.follow(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	for _, id := range ids {
		if w.known[id] == nil {
			w.known[id] = &watched{}
			w.named = append(w.named, id)
		}
	}
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			err = errInterrupted
		case why := <-w.lost:
			w.view.waits(why)
		case <-tick.C:
			err = w.view.draw()
		case n := <-w.news:
			if err = n.err; err == nil {
				err = w.take(ctx, n.event)
			}
			if err == nil && w.over() {
				return errors.Join(w.view.draw(), w.outcome())
			}
		}
		if err != nil {
			_ = w.view.draw() // why it ends matters more
			return explained(err)
		}
	}
}

// explained is an error of the service as a person is told it.
func explained(err error) error {
	var refused *client.Error
	var silent *client.UnreachableError
	if errors.As(err, &refused) || errors.As(err, &silent) {
		return errors.New(explain(err))
	}
	return err
}

func (w *watcher) follow(ctx context.Context) {
	for e, err := range w.service.Follow(ctx) {
		select {
		case <-ctx.Done():
			return
		case w.news <- news{e, err}:
		}
	}
}

// waits is told when the service is away.
func (w *watcher) waits(format string, a ...any) {
	select {
	case w.lost <- fmt.Sprintf(format, a...):
	default: // it is being told so
	}
}

func (w *watcher) take(ctx context.Context, e client.Event) error {
	switch {
	case w.blind && e.Type == client.StreamBegan:
		return nil
	case w.blind:
		return w.view.happened(e, nil)
	}
	switch e.Type {
	case client.StreamBegan, client.StreamReset:
		if e.Type == client.StreamReset {
			if err := w.view.happened(e, nil); err != nil {
				return err
			}
		}
		if w.all {
			return w.look(ctx)
		}
		for _, id := range w.named {
			if err := w.catchUp(ctx, id); err != nil {
				return fmt.Errorf("%s: %w", id, explained(err))
			}
		}
		return nil
	}
	u := w.known[e.UploadID]
	switch {
	case u == nil && !w.all:
		return nil
	case u == nil:
		return w.meet(ctx, e)
	case e.Status == upload.Queued && u.Size == 0: // its length came after its beginning
		if found, err := w.service.Get(ctx, u.ID); err == nil {
			u.Size, u.ContentType = found.Size, found.ContentType
		}
	}
	return w.happened(e, u)
}

func (w *watcher) happened(e client.Event, u *watched) error {
	if e.Seq <= u.last {
		return nil
	}
	u.take(e)
	if w.all && u.Status.Final() {
		w.retire(e.UploadID)
	}
	return w.view.happened(e, u)
}

// retire remembers an upload that has ended, and forgets the one that had the longest ago.
func (w *watcher) retire(id upload.ID) {
	if slices.Contains(w.ended, id) {
		return
	}
	if w.ended = append(w.ended, id); len(w.ended) <= endedKept {
		return
	}
	if oldest := w.known[w.ended[0]]; oldest != nil && oldest.Status.Final() {
		delete(w.known, w.ended[0])
	}
	w.ended = w.ended[1:]
}

// look asks for all of the user's uploads that are under way. Nothing else is known any more.
func (w *watcher) look(ctx context.Context) error {
	clear(w.known)
	w.ended = nil
	for found, err := range w.service.List(ctx, client.Filter{Statuses: underWay(), PageSize: largestPage}) {
		if err != nil {
			return err
		}
		u := &watched{Upload: found}
		w.known[u.ID] = u
		if err := w.view.found(u); err != nil {
			return err
		}
	}
	return nil
}

// meet asks for an upload of which the watcher hears for the first time.
func (w *watcher) meet(ctx context.Context, e client.Event) error {
	found, err := w.service.Get(ctx, e.UploadID)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Code == upload.NotFound {
		found = client.Upload{ID: e.UploadID} // it is gone again; what happened to it did all the same
	} else if err != nil {
		return err
	}
	u := &watched{Upload: found}
	w.known[e.UploadID] = u
	return w.happened(e, u)
}

// catchUp asks how an upload is, and then what it has been through: what happens in between is in both.
func (w *watcher) catchUp(ctx context.Context, id upload.ID) error {
	found, err := w.service.Get(ctx, id)
	if err != nil {
		return err
	}
	u := w.known[id]
	told := u.last
	u.Upload = found
	if told == 0 {
		u.Received, u.Pushed, u.Progress, u.Error = 0, 0, 0, nil // as its history begins
	}
	for e, err := range w.service.History(ctx, id, told) {
		if err != nil {
			return err
		}
		if err := w.happened(e, u); err != nil {
			return err
		}
	}
	if u.Status == found.Status {
		u.Upload = found
	}
	if u.last == 0 {
		return w.view.found(u)
	}
	return nil
}

// over tells whether nothing more happens to any of those that are named.
func (w *watcher) over() bool {
	for _, id := range w.named {
		if !w.known[id].Status.Final() {
			return false
		}
	}
	return !w.all
}

func (w *watcher) outcome() error {
	lost := 0
	for _, id := range w.named {
		if w.known[id].Status != upload.Completed {
			lost++
		}
	}
	switch {
	case lost == 0:
		return nil
	case len(w.named) == 1:
		return &ending{exitNotDelivered, fmt.Errorf("the upload is %s", w.known[w.named[0]].Status)}
	}
	return &ending{exitNotDelivered, fmt.Errorf("%d of %d uploads did not arrive", lost, len(w.named))}
}
