package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// show tells a person how files get on: with a bar for each on a terminal, in lines elsewhere. It is safe for
// several goroutines.
type show struct {
	out     io.Writer
	columns int
	bars    *mpb.Progress // nil: it is no terminal
	drawn   atomic.Int32  // bars

	mu sync.Mutex
}

func newShow(out io.Writer) *show {
	s := &show{out: out, columns: columnsOf(out)}
	if s.columns > 0 {
		s.bars = mpb.New(mpb.WithOutput(fromTheLeft{out}), mpb.WithWidth(s.columns), mpb.WithAutoRefresh(), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return s
}

// fromTheLeft is a terminal on which each frame begins in the first column, whatever keys it has echoed: ^C is one.
type fromTheLeft struct{ io.Writer }

func (w fromTheLeft) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(append([]byte{'\r'}, p...))
	return max(n-1, 0), err
}

// line shows a line, above the bars.
func (s *show) line(format string, a ...any) { s.write(s.out, fmt.Appendf(nil, format+"\n", a...)) }

// write writes lines to out, which does not disturb the bars when it is the same terminal.
func (s *show) write(out io.Writer, lines []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil && columnsOf(out) > 0 {
		if _, err := s.bars.Write(lines); err == nil {
			return
		}
	}
	_, _ = out.Write(lines) // there is nobody left to tell
}

// close ends what is drawn.
func (s *show) close() {
	if s.bars != nil {
		s.bars.Shutdown()
	}
}

const (
	// barRoom is what a bar and its numbers take beside its name: columns.
	barRoom = 58

	// tellEvery is how often a line says how far a file has come where there are no bars.
	tellEvery = 15 * time.Second

	mostBars = 8
)

// leg is one file's way to one place.
type leg struct {
	show     *show
	name, to string
	total    int64
	bar      *mpb.Bar // nil: there are none
	word     atomic.Pointer[string]

	mu    sync.Mutex
	done  int64
	from  int64 // from where its speed is measured
	since time.Time
	told  time.Time
}

// begin shows the beginning of a leg of the file in a row.
func (s *show) begin(row int, name, to string, total int64) *leg {
	now := time.Now()
	l := &leg{show: s, name: name, to: to, total: total, since: now, told: now}
	l.state("")
	if s.bars == nil || s.drawn.Load() >= mostBars {
		return l
	}
	s.drawn.Add(1)
	room := max(s.columns-barRoom-runewidth.StringWidth(to)-1, 8)
	l.bar = s.bars.New(0, mpb.BarStyle().Lbound("|").Filler("█").Tip("").Padding(" ").Rbound("|"),
		mpb.PrependDecorators(
			decor.Name(runewidth.Truncate(name, room, "…")+" "+to, decor.WCSyncSpaceR),
			decor.Any(func(decor.Statistics) string { return *l.word.Load() }, decor.WCSyncSpaceR),
			decor.Percentage(decor.WC{W: 5}),
		),
		mpb.AppendDecorators(decor.Any(l.numbers)),
		mpb.BarPriority(row),
		mpb.BarFillerMiddleware(s.within),
	)
	l.bar.SetTotal(total, false)
	return l
}

// within has a bar give way when the terminal has become narrower.
func (s *show) within(bar mpb.BarFiller) mpb.BarFiller {
	return mpb.BarFillerFunc(func(w io.Writer, st decor.Statistics) error {
		if st.AvailableWidth -= max(s.columns-columnsOf(s.out), 0); st.AvailableWidth < 4 {
			return nil
		}
		return bar.Fill(w, st)
	})
}

// numbers are how much has gone, and how fast.
func (l *leg) numbers(s decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := fmt.Sprintf("%s of %s", size(s.Current), size(s.Total))
	if took := time.Since(l.since); took > time.Second && s.Current > l.from {
		speed := float64(s.Current-l.from) / took.Seconds()
		text += fmt.Sprintf(", %s/s", size(int64(speed)))
		if left := float64(s.Total-s.Current) / speed; left >= 1 && left < 100*3600 {
			text += ", " + (time.Duration(left) * time.Second).String()
		}
	}
	return text
}

// at shows how many bytes have gone. They may become fewer: then they go again.
func (l *leg) at(n int64) {
	l.mu.Lock()
	begins := l.done == 0 || n < l.done
	l.done = n
	if begins {
		l.from, l.since = n, time.Now()
	}
	tell := l.show.bars == nil && n < l.total && time.Since(l.told) >= tellEvery
	if tell {
		l.told = time.Now()
	}
	l.mu.Unlock()
	switch {
	case l.bar != nil:
		l.bar.SetCurrent(n)
	case tell:
		l.show.line("%s: %s %s", l.name, percent(n, l.total), l.to)
	}
}

// state shows a word about the leg.
func (l *leg) state(word string) { l.word.Store(&word) }

// end takes the bar away.
func (l *leg) end() {
	if l.bar != nil {
		l.bar.Abort(true)
		l.bar.Wait()
		l.show.drawn.Add(-1)
	}
}

// percent is how much n is of all, never 100 % before it is all.
func percent(n, all int64) string { return fmt.Sprintf("%d %%", 100*n/max(all, 1)) }
