package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// eventView prints events as they came.
type eventView struct{ out, errs io.Writer }

func (v *eventView) found(*watched) error                      { return nil }
func (v *eventView) happened(e client.Event, _ *watched) error { return printJSON(v.out, e) }
func (v *eventView) draw() error                               { return nil }
func (v *eventView) waits(why string)                          { fmt.Fprintln(v.errs, why) }

// lineView prints a line whenever there is something to say about an upload: another status, a tenth of the way, a fault.
type lineView struct{ out, errs io.Writer }

func (v *lineView) draw() error            { return nil }
func (v *lineView) waits(why string)       { fmt.Fprintln(v.errs, why) }
func (v *lineView) found(u *watched) error { return v.say(time.Now(), u) }

func (v *lineView) happened(e client.Event, u *watched) error {
	if u == nil { // a client.StreamReset
		fmt.Fprintln(v.errs, "What happened in between is not known any more.")
		return nil
	}
	return v.say(e.At, u)
}

func (v *lineView) say(at time.Time, u *watched) error {
	state := string(u.Status)
	if tenths := 10 * legDone(u.Upload) / max(u.Size, 1); tenths > 0 {
		state += fmt.Sprintf(" %d%%", 10*tenths)
	}
	line := state + "  " + printable(u.FileName)
	if why := trouble(u.Upload); why != "" {
		line += ": " + why
	}
	if u.told == line {
		return nil
	}
	u.told = line
	_, err := fmt.Fprintf(v.out, "%s  %s  %s\n", at.Local().Format(time.DateTime), u.ID, line)
	return err
}

// legDone is how many bytes have gone the way that the upload is on.
func legDone(u client.Upload) int64 {
	switch u.Status {
	case upload.Receiving:
		return u.Received
	case upload.Pushing:
		return u.Pushed
	}
	return 0
}

// trouble is what an upload suffers from.
func trouble(u client.Upload) string {
	if u.Error == nil {
		return ""
	}
	return printable(u.Error.Message) + again(u)
}

// tableView draws a table of what is known, and draws it anew in its place.
type tableView struct {
	out   *os.File
	known map[upload.ID]*watched

	note    string // why the service is away
	noted   time.Time
	drawn   []string // the lines that stand there
	columns int      // of the terminal, then
}

// noteTime is how long a note stands that is not renewed.
const noteTime = 10 * time.Second

func (v *tableView) found(*watched) error                  { return nil }
func (v *tableView) happened(client.Event, *watched) error { return nil }
func (v *tableView) waits(why string)                      { v.note, v.noted = why, time.Now() }

func (v *tableView) draw() error {
	columns, rows, err := term.GetSize(int(v.out.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		columns, rows = 80, 24
	}
	lines := v.lines(columns-1, max(rows-1, 4)) // a line that fills the last column is two on some terminals
	if columns == v.columns && slices.Equal(lines, v.drawn) {
		return nil
	}
	var b strings.Builder
	if up := v.height(columns); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteByte('\r')
	for _, line := range lines {
		b.WriteString(line + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	v.drawn, v.columns = lines, columns
	_, err = io.WriteString(v.out, b.String())
	return err
}

// height is how many lines of the terminal the table takes that stands there: it has wrapped what is too long now.
func (v *tableView) height(columns int) (n int) {
	for _, line := range v.drawn {
		n += max(1, (runewidth.StringWidth(line)+columns-1)/columns)
	}
	return n
}

// lines are the table in so many columns and rows.
func (v *tableView) lines(columns, rows int) []string {
	var foot []string
	if v.note != "" && time.Since(v.noted) < noteTime {
		foot = append(foot, runewidth.Truncate(v.note, columns, "…"))
	}
	shown, left := v.chosen(rows - 2 - len(foot)) // beside the head and the line about those that are left
	if left > 0 {
		foot = slices.Insert(foot, 0, fmt.Sprintf("… and %d more", left))
	}
	if len(shown) == 0 {
		return append([]string{"Nothing is on its way."}, foot...)
	}
	full := columns+1 >= wide
	head := []string{"ID", "STATUS", "SIZE", "NAME"}
	if full {
		head = []string{"ID", "STATUS", "SIZE", "PROVIDER", "PROGRESS", "NAME"}
	}
	cells := [][]string{head}
	for _, u := range shown {
		row := []string{string(u.ID), standing(u.Upload), size(u.Size)}
		if full {
			row = append(row, u.Provider, bar(u.Progress))
		}
		cells = append(cells, append(row, printable(u.FileName)))
	}
	text, _ := align(cells, []int{0, statusWidth}, columns)
	lines := text[:1:1]
	room := rows - len(text) - len(foot)
	for i, u := range shown {
		lines = append(lines, text[i+1])
		if why := trouble(u.Upload); why != "" && room > 0 {
			lines = append(lines, runewidth.Truncate("  "+why, columns, "…"))
			room--
		}
	}
	return append(lines, foot...)
}

// chosen are at most so many uploads as there is room for, oldest first, and how many are left: what is under way goes before
// what has ended, and of that what has ended last.
func (v *tableView) chosen(room int) (list []*watched, left int) {
	var ended []*watched
	for _, u := range v.known {
		switch {
		case u.ID == "": // it was not asked for yet
		case u.Status.Final():
			ended = append(ended, u)
		default:
			list = append(list, u)
		}
	}
	slices.SortFunc(ended, func(a, b *watched) int { return cmp.Compare(b.last, a.last) })
	older := func(a, b *watched) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortFunc(list, older)
	list = append(list, ended...)
	shown := list[:min(len(list), max(room, 1))]
	slices.SortFunc(shown, older)
	return shown, len(list) - len(shown)
}

// statusWidth is of the longest that a status is shown as, so that columns stay where they are.
const statusWidth = len("receiving 100%")

const barWidth = 20

// bar shows a part of the whole, 0 to 1.
func bar(done float64) string {
	n := min(max(int(done*barWidth), 0), barWidth)
	return strings.Repeat("█", n) + strings.Repeat("░", barWidth-n)
}
