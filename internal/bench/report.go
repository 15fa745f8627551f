package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// report is the table that a run ends with.
type report struct {
	title string
	out   io.Writer
	notes []string
	rows  []row
}

// row is one figure, ours beside the yardstick's.
type row struct {
	what, unit      string
	ours, yardstick float64 // NaN: none
	compared        string  // the one with the other
	aim             string  // and whether it is met; "": none
}

// none stands where there is no figure, or no aim.
var none = math.NaN()

func (r *report) note(format string, a ...any) { r.notes = append(r.notes, fmt.Sprintf(format, a...)) }

// add writes down a figure by itself. It is to be at most aim.
func (r *report) add(what, unit string, ours, aim float64) {
	r.rows = append(r.rows, row{what, unit, ours, none, "-", judged("≤", aim, ours <= aim)})
}

// addRatio compares by division. The ratio is to be at least aim.
func (r *report) addRatio(what, unit string, ours, yardstick, aim float64) {
	ratio := ours / yardstick
	r.rows = append(r.rows, row{what, unit, ours, yardstick, fmt.Sprintf("%.2f", ratio), judged("≥", aim, ratio >= aim)})
}

// addShare compares by division, too. The ratio is to be at most aim.
func (r *report) addShare(what, unit string, ours, yardstick, aim float64) {
	share := ours / yardstick
	r.rows = append(r.rows, row{what, unit, ours, yardstick, fmt.Sprintf("%.2f", share), judged("≤", aim, share <= aim)})
}

// addOver compares by subtraction. What is over the yardstick is to be at most aim.
func (r *report) addOver(what, unit string, ours, yardstick, aim float64) {
	over := ours - yardstick
	r.rows = append(r.rows, row{what, unit, ours, yardstick, fmt.Sprintf("%+.1f", over), judged("≤", aim, over <= aim)})
}

// addGrowth compares the figure at a large size with that at a small one. It is to grow to at most aim times.
func (r *report) addGrowth(what, unit string, large, small, aim float64) {
	growth := large / small
	r.rows = append(r.rows, row{what, unit, large, small, fmt.Sprintf("%.2f", growth), judged("≤", aim, growth <= aim)})
}

func judged(sign string, aim float64, met bool) string {
	switch {
	case math.IsNaN(aim):
		return ""
	case met:
		return fmt.Sprintf("%s %g met", sign, aim)
	}
	return fmt.Sprintf("%s %g MISSED", sign, aim)
}

func (r *report) print() {
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\n\n\t\tours\tyardstick\tcompared\taim\n", r.title)
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", row.what, row.unit, figure(row.ours), figure(row.yardstick), row.compared, row.aim)
	}
	_ = w.Flush() // the terminal's own trouble
	fmt.Fprintln(r.out)
	for _, n := range r.notes {
		fmt.Fprintln(r.out, n)
	}
}

func figure(f float64) string {
	switch {
	case math.IsNaN(f):
		return "-"
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
