package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/client"
	"slipway/internal/client/bookmark"
	"slipway/internal/upload"
)

// send brings a file to the service, or goes on with what an earlier run has begun.
func (p *putter) send(ctx context.Context, r *result) {
	if interrupted(ctx) {
		r.Error = &fault{Detail: "not sent: interrupted."}
		return
	}
	f, info, err := openFile(r.File)
	if err != nil {
		r.Error = &fault{Detail: err.Error() + "."}
		return
	}
	defer f.Close()
	name := printable(filepath.Base(r.File))
	place := p.bookmark(ctx, r.File, name, info)
	defer place.close()
	if interrupted(ctx) {
		r.Error = &fault{Detail: "not sent: interrupted."}
		return
	}
	leg := p.show.begin(r.row, name, "to Slipway", info.Size())
	began, offset := time.Now(), int64(0)
	u, err := p.service.Put(ctx, client.File{
		Name: filepath.Base(r.File), Size: info.Size(), Content: f,
		Provider: p.provider, ResourceType: p.kind, Metadata: p.metadata, Tags: p.tags,
		Mark: place.entry.Mark, Keep: place.keep,
		Begun: func(from int64, lost error) {
			offset = from
			leg.at(from)
			p.tellBegin(name, from, info.Size(), lost)
		},
		Progress: leg.at,
	})
	leg.end()
	changed := false
	if now, err := f.Stat(); err == nil {
		changed = bookmark.FileOf(now) != bookmark.FileOf(info)
	}
	switch {
	case err == nil && u.Status.Final() && u.Status != upload.Completed: // it had come in before
		r.Upload, r.Error = &u, outcome(u)
		place.done()
	case err == nil, changed && errors.Is(err, client.ErrGarbled):
		r.Upload = &u
		p.show.line("%s: received, %s in %s; it goes on by itself. Its id is %s", name, size(u.Size-offset), time.Since(began).Round(10*time.Millisecond), u.ID)
		if changed {
			p.show.line("%s changed while it was being sent; what was received may be a mixture of old and new", name)
		}
		place.done()
	case errors.Is(err, client.ErrGarbled):
		r.Error = &fault{Detail: fmt.Sprintf("%s. Do not use what is delivered: `slipway rm %s`, and send the file again.", sentence(err), u.ID)}
		place.done()
	case u.ID != "": // it has come in, and that is all there is to know
		r.Error = faultOf(err)
		if interrupted(ctx) {
			r.Error = &fault{}
		}
		r.Error.Detail = strings.TrimSpace(fmt.Sprintf("%s It was received, and goes on by itself: `slipway status %s`.", r.Error.Detail, u.ID))
		place.done()
	default:
		r.Received = place.entry.Received
		r.Error = p.unsent(ctx, r, place, info.Size(), err)
	}
}

// tellBegin says where a file goes on that was broken off.
func (p *putter) tellBegin(name string, from, total int64, lost error) {
	switch {
	case lost != nil:
		p.show.line("%s is sent anew, for what had come of it is gone: %s", name, sentence(lost))
	case from == total:
		p.show.line("%s: all of it had come already", name)
	case from > 0:
		p.show.line("%s goes on at %s", name, percent(from, total))
	}
}

// unsent is why a file has not come in, and how to go on with it.
func (p *putter) unsent(ctx context.Context, r *result, place *bookmarked, total int64, err error) *fault {
	var silent *client.UnreachableError
	var refused *client.Error
	unknown := errors.As(err, &silent) && silent.Unknown || errors.As(err, &refused) && refused.Unknown
	onward := ""
	switch {
	case !place.kept:
	case unknown:
		onward = fmt.Sprintf(" It may have come in all the same; `%s` finds out, and goes on.", p.command(r.File))
	case place.entry.Received > 0:
		onward = fmt.Sprintf(" `%s` goes on at %s.", p.command(r.File), percent(place.entry.Received, total))
	case interrupted(ctx):
		onward = fmt.Sprintf(" `%s` goes on.", p.command(r.File))
	}
	switch {
	case interrupted(ctx) && unknown && onward == "":
		return &fault{Detail: "interrupted before it was answered; it may have come in all the same: look with `slipway list`."}
	case interrupted(ctx):
		return &fault{Detail: "interrupted." + onward}
	case refused != nil && refused.Code != "" && !refused.Retryable && !unknown && final(refused.Status):
		place.done()
		return faultOf(err)
	}
	f := faultOf(err)
	if unknown && onward != "" {
		f.Detail = sentence(err) + "."
	}
	f.Detail += onward
	return f
}

// final tells whether a refusal with this status is about the file, and not about who sends it, or when.
func final(status int) bool {
	switch status {
	case 401, 403, 409, 423, 429:
		return false
	}
	return status < 500
}

// command is what goes on with a file, as a person types it.
func (p *putter) command(path string) string {
	words := []string{"slipway", "put"}
	flag := func(name, value string) {
		if value != "" {
			words = append(words, "--"+name, quoted(value))
		}
	}
	flag("provider", p.provider)
	flag("type", p.resourceType)
	for _, pair := range p.meta {
		flag("meta", pair)
	}
	for _, tag := range p.tags {
		flag("tag", tag)
	}
	return strings.Join(append(words, quoted(path)), " ")
}

// quoted is a word as a shell takes it, where it has to be quoted.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./,:=+@%", r) || r > '~'
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return printable(word)
	}
	return "'" + strings.ReplaceAll(printable(word), "'", `'\''`) + "'"
}

// bookmarked is where it is kept how far one file has come.
type bookmarked struct {
	*bookmark.Bookmark // nil: nowhere
	entry              bookmark.Entry
	kept               bool // what is in the entry is known to a later run, too
	show               *show
}

// bookmark takes the place of a file, and looks whether its last entry is still of use.
func (p *putter) bookmark(ctx context.Context, path, name string, info os.FileInfo) *bookmarked {
	here := &bookmarked{show: p.show, entry: bookmark.Entry{File: bookmark.FileOf(info), Options: p.options()}}
	if p.shelf == nil {
		return here
	}
	whole, err := filepath.Abs(path)
	if err == nil {
		here.Bookmark, err = p.shelf.Take(ctx, p.service.Identity(), whole, func() {
			p.show.line("%s is being sent by another slipway; waiting for it", name)
		})
	}
	if err != nil {
		if !interrupted(ctx) {
			p.show.line("%s cannot be gone on with if it is interrupted: %v", name, err)
		}
		return here
	}
	last, ok := here.Entry()
	switch {
	case !ok:
		return here
	case last.File != here.entry.File:
		p.show.line("%s has changed since %s of it had come; it is sent anew", name, percent(last.Received, last.File.Size))
	case last.Options != here.entry.Options:
		p.show.line("%s was being sent with other options; it is sent anew", name)
	default:
		here.entry.Mark, here.kept = last.Mark, true
		return here
	}
	if last.ID != "" {
		_ = p.service.Abandon(ctx, last.ID) // it expires in any case
	}
	return here
}

// options is a digest of what is said of every file.
func (p *putter) options() string {
	text, err := json.Marshal(map[string]any{"provider": p.provider, "type": p.kind, "meta": p.metadata, "tags": p.tags})
	if err != nil {
		panic(err) // strings can be told in JSON
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

func (p *bookmarked) keep(m client.Mark) {
	p.entry.Mark = m
	if p.Bookmark == nil {
		return
	}
	err := p.Keep(p.entry)
	if p.kept = err == nil; err != nil {
		p.show.line("what is interrupted cannot be gone on with: %v", err)
	}
}

// done ends what there is to go on with.
func (p *bookmarked) done() {
	if p.kept = false; p.Bookmark != nil {
		p.Remove()
	}
}

func (p *bookmarked) close() {
	if p.Bookmark != nil {
		p.Close()
	}
}

// await watches the upload until nothing more happens to it.
func (p *putter) await(ctx context.Context, r *result) {
	name := printable(filepath.Base(r.File))
	leg := p.show.begin(r.row, name, "to "+r.Upload.Provider, r.Upload.Size)
	said := ""
	u, err := p.service.Await(ctx, r.Upload.ID, func(u client.Upload) {
		leg.at(u.Pushed)
		if u.Status == upload.Retrying || u.Error == nil {
			leg.state(string(u.Status))
		}
		if u.Error != nil && !u.Status.Final() && u.Error.Message != said {
			said = u.Error.Message
			p.show.line("%s: %s", name, trouble(u))
		}
	})
	leg.end()
	switch {
	case interrupted(ctx) && errors.Is(err, context.Canceled):
		r.Error = &fault{Detail: fmt.Sprintf("not waited for any longer; it goes on by itself: `slipway status %s`.", r.Upload.ID)}
		return
	case err != nil:
		r.Error = faultOf(err)
		r.Error.Detail += fmt.Sprintf(" The upload goes on by itself: `slipway status %s`.", r.Upload.ID)
		return
	}
	r.Upload = &u
	if u.Status != upload.Completed {
		r.Error = outcome(u)
		return
	}
	p.show.line("%s: delivered to %s", name, u.Provider)
}

// again says when an upload that waits goes on.
func again(u client.Upload) string {
	if u.NextAttemptAt == nil {
		return ""
	}
	return " It goes on at " + u.NextAttemptAt.Local().Format(time.TimeOnly) + "."
}

// outcome is why an upload did not arrive.
func outcome(u client.Upload) *fault {
	f := &fault{Detail: fmt.Sprintf("the upload is %s.", u.Status)}
	if u.Error != nil {
		f.Code, f.Detail = u.Error.Code, u.Error.Message
	}
	if u.Links.Retry != nil {
		f.Detail += fmt.Sprintf(" To try again: `slipway retry %s`.", u.ID)
	}
	return f
}
