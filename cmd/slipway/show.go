package main

import (
	"fmt"
	"io"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/schollz/progressbar/v3"
)

// show tells a person how files get on: with a bar on a terminal, in lines elsewhere.
type show struct {
	out     io.Writer
	columns int // 0: it is no terminal
	leg     *leg
}

func newShow(out io.Writer) *show {
	return &show{out: out, columns: columnsOf(out)}
}

// line shows a line, above the bar of the leg that is under way.
func (s *show) line(format string, a ...any) {
	if s.leg != nil && s.leg.bar != nil {
		_ = s.leg.bar.Clear()
	}
	fmt.Fprintf(s.out, format+"\n", a...)
}

// leg is one file's way to one place. Its methods are not for several goroutines at once.
type leg struct {
	show  *show
	name  string
	total int64
	bar   *progressbar.ProgressBar // nil: there is no terminal
	done  int64
}

// barRoom is what the bar's numbers take beside its name: columns.
const barRoom = 50

// begin shows the beginning of a leg.
func (s *show) begin(name, to string, total int64) *leg {
	l := &leg{show: s, name: name + " " + to, total: total}
	if s.columns > 0 {
		room := max(s.columns-barRoom, 12)
		l.name = runewidth.Truncate(name, max(room-runewidth.StringWidth(to)-1, 8), "…") + " " + to
	}
	l.restart()
	s.leg = l
	return l
}

func (l *leg) restart() {
	if l.show.columns == 0 {
		return
	}
	l.bar = progressbar.NewOptions64(l.total,
		progressbar.OptionSetWriter(l.show.out),
		progressbar.OptionSetDescription(l.name),
		progressbar.OptionFullWidth(),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionThrottle(65*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
}

// at shows how many bytes have gone. They may become fewer: then the leg has begun anew.
func (l *leg) at(n int64) {
	if l.bar == nil || n == l.done {
		return
	}
	if n < l.done {
		_ = l.bar.Clear()
		l.restart()
	}
	l.done = n
	_ = l.bar.Set64(n) // what cannot be drawn is not worth ending for
}

// state shows a word about the leg.
func (l *leg) state(word string) {
	if l.bar != nil && !l.bar.IsFinished() {
		l.bar.Describe(l.name + ", " + word)
	}
}

// end takes the bar away.
func (l *leg) end() {
	l.show.leg = nil
	if l.bar != nil {
		_ = l.bar.Exit()
		_ = l.bar.Clear()
	}
}
