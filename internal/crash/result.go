package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what came of a run.
type result struct {
	uploads, kills int
	small          bool // whether the disk was really full

	acknowledged int
	bytes        int64 // acknowledged
	recorded     int   // uploads, those included whose acknowledgement did not arrive
	completed    int
	ended        int            // canceled or deleted, as asked
	failed       map[string]int // by code
	stored       int            // assets at the providers

	unaccepted []string // was sent again and again, and never acknowledged
	lost       []string
	corrupted  []string
	duplicates []string // assets too many
	broken     []string // promises of another kind
	mishaps    []string

	pushed, needed, direct int64 // bytes that workers have sent, those that were acknowledged, those of browsers
	left                   int   // files that deaths have left in staging
	leftBytes              int64
	quits                  int // processes that ended by themselves, and were started again

	takeovers int
	given     []time.Duration // from a death until it was another's to go on
	delayed   []time.Duration // the same where the database was restarted meanwhile
	begun     []time.Duration // until another went on
}

func (r *result) lose(s sent, how string) {
	r.lost = append(r.lost, fmt.Sprintf("%s (%s, %s by %s to %s): %s", s.id, s.name(), bytes(s.size), s.route, s.provider, how))
}

func (r *result) wrong(format string, a ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, a...))
}

func (r *result) faults() int {
	return len(r.unaccepted) + len(r.lost) + len(r.corrupted) + len(r.duplicates) + len(r.broken) + len(r.mishaps)
}

func (r *result) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	var failed []string
	sum := 0
	for code, n := range r.failed {
		failed = append(failed, fmt.Sprintf("%d %s", n, code))
		sum += n
	}
	slices.Sort(failed)
	line("uploads", "%d, and %d processes killed", r.uploads, r.kills)
	line("acknowledged", "%d (%s); %d were recorded, with those whose answer was lost", r.acknowledged, bytes(r.bytes), r.recorded)
	line("completed", "%d", r.completed)
	line("ended as asked", "%d", r.ended)
	line("failed", "%d %s", sum, strings.Join(failed, ", "))
	line("never accepted", "%d", len(r.unaccepted))
	line("lost", "%d", len(r.lost))
	line("corrupted", "%d", len(r.corrupted))
	line("stored duplicates", "%d, of %d assets at the providers", len(r.duplicates), r.stored)
	line("broken promises", "%d", len(r.broken)+len(r.mishaps))
	line("bytes sent again", "%s: %s sent by workers for %s", bytes(max(0, r.pushed-r.needed)), bytes(r.pushed), bytes(r.needed))
	line("takeovers", "%d", r.takeovers)
	line("  death to takeover", "%s", spread(r.given))
	line("  with a restarted database", "%s; each gives all leases their whole time again", spread(r.delayed))
	line("  death to next attempt", "%s; an account that is paused keeps it waiting", spread(r.begun))
	line("left in staging", "%d files, %s, by deaths while they came in; removed", r.left, bytes(r.leftBytes))
	line("ended by themselves", "%d processes", r.quits)
	if !r.small {
		line("disk", "staging was on the machine's own disk; instead of filling it, the APIs were told that it is full")
	}
	_ = w.Flush() // as with every line, nobody is left to be told
	for _, all := range [][]string{r.unaccepted, r.lost, r.corrupted, r.duplicates, r.broken, r.mishaps} {
		for _, s := range all {
			fmt.Fprintln(out, "FAULT", s)
		}
	}
}

// spread is the middle, the 95th hundredth and the most of some durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[int(share*float64(len(all)-1)+0.5)].Round(100 * time.Millisecond)
	}
	return fmt.Sprintf("p50 %s, p95 %s, most %s, of %d", at(0.5), at(0.95), at(1), len(all))
}
