package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/providersim"
)

// plan is all that a seed chooses.
type plan struct {
	seed    uint64
	parcels []parcel
	blows   map[string][]blow // by what they hit, in the order of time
}

// parcel is a file to be sent, and what its owner wants of it afterwards.
type parcel struct {
	n        int
	at       time.Duration
	route    string
	provider string
	size     int64
	async    bool          // whether the answer is not to wait for the delivery
	keyed    bool          // whether each try says by a key that it is the same
	wish     string        // cancel, delete or ""
	after    time.Duration // from the acknowledgement to the wish
}

// The ways in. direct is the browser's: the file goes to the provider, and is saved here. Of url the service is told
// only where the file is.
var routes = []string{"/upload", "raw", "form", "tus", "url", "direct"}

// blow is something that goes wrong.
type blow struct {
	at    time.Duration
	does  string
	lasts time.Duration
	rule  providersim.Rule // of a fault at a provider
}

// What a blow does.
const (
	kills   = "kill"    // SIGKILL; it starts again when the blow is over
	stops   = "stop"    // SIGSTOP, then SIGCONT
	crashes = "crash"   // of the database: stop -m immediate, then start
	outage  = "outage"  // nothing that a provider is asked is done
	faulty  = "fault"   // the next requests of a kind
	fills   = "fill up" // of the disk
)

// What blows hit, besides "api 0", "worker 0" and so on.
const (
	database = "postgres"
	disk     = "disk"
)

var providers = []string{"uploadcare", "cloudinary"}

// directLargest is what a browser sends in one request, in bytes.
const directLargest = 8 * mib

func newPlan(o options) plan {
	p := plan{seed: o.seed, blows: map[string][]blow{}}
	r := rand.New(rand.NewPCG(o.seed, 1))
	for n := range o.uploads {
		p.parcels = append(p.parcels, newParcel(r, o, n))
	}
	slices.SortStableFunc(p.parcels, func(a, b parcel) int { return cmp.Compare(a.at, b.at) })

	r = rand.New(rand.NewPCG(o.seed, 2))
	add := func(target, does string, shortest, longest time.Duration) *blow {
		b := blow{at: time.Duration(r.Int64N(int64(o.during))), does: does, lasts: shortest + time.Duration(r.Int64N(int64(longest-shortest)))}
		p.blows[target] = append(p.blows[target], b)
		return &p.blows[target][len(p.blows[target])-1]
	}
	process := func() string {
		n := r.IntN(o.apis + o.workers)
		if n >= o.apis {
			return worker(n - o.apis)
		}
		return api(n)
	}
	for range o.kills {
		add(process(), kills, 0, 2*time.Second)
	}
	// A stop is longer than a lease now and then. An account that has been out of order is paused for half a minute, in
	// which nothing can die over it: that is for runs that last.
	share := func(n int) int { return max(1, o.kills/n) }
	for range share(10) {
		add(process(), stops, time.Second, min(25*time.Second, o.during))
	}
	for range share(25) {
		add(database, crashes, 100*time.Millisecond, 4*time.Second)
	}
	for range share(50) {
		add(disk, fills, time.Second, min(10*time.Second, o.during))
	}
	for _, name := range providers {
		for range o.kills / 50 {
			b := add(name, outage, time.Second, min(20*time.Second, o.during))
			b.rule = providersim.Rule{Action: []providersim.Action{providersim.Answer, providersim.ResetBefore}[r.IntN(2)]}
		}
		for range share(4) {
			b := add(name, faulty, time.Millisecond, time.Second)
			b.rule = newRule(r, name)
		}
	}
	for _, blows := range p.blows {
		slices.SortStableFunc(blows, func(a, b blow) int { return cmp.Compare(a.at, b.at) })
	}
	return p
}

func api(n int) string    { return "api " + strconv.Itoa(n) }
func worker(n int) string { return "worker " + strconv.Itoa(n) }

func newParcel(r *rand.Rand, o options, n int) parcel {
	p := parcel{
		n: n, at: time.Duration(r.Int64N(int64(o.during))),
		route: routes[r.IntN(len(routes))], provider: providers[r.IntN(len(providers))], async: r.IntN(2) == 0, keyed: r.IntN(2) == 0,
	}
	largest := o.largest
	if p.route == "direct" {
		largest = min(largest, directLargest)
	}
	p.size = int64(kib * math.Exp(r.Float64()*math.Log(float64(largest)/kib))) // as many of 1 to 10 KiB as of 10 to 100 MiB
	switch wish := r.IntN(20); {
	case wish == 0, wish == 1:
		p.wish, p.after = "cancel", time.Duration(r.Int64N(int64(3*time.Second)))
	case wish == 2:
		p.wish, p.after = "delete", time.Duration(r.Int64N(int64(10*time.Second)))
	}
	return p
}

// newRule is a fault that befalls one to three requests. Bytes are turned only in parts that the worker sends:
// nobody but the sender can notice them in what a browser has sent.
func newRule(r *rand.Rand, provider string) providersim.Rule {
	actions := []providersim.Action{
		providersim.Answer, providersim.AnswerAfter, providersim.ResetBefore, providersim.ResetAfter, providersim.DropAfter,
		providersim.Truncate, providersim.Delay, providersim.Corrupt,
	}
	rule := providersim.Rule{Times: 1 + r.IntN(3), Skip: r.IntN(3), Action: actions[r.IntN(len(actions))], Method: []string{"POST", "PUT"}[r.IntN(2)]}
	switch rule.Action {
	case providersim.Answer, providersim.AnswerAfter:
		rule.Status = []int{500, 502, 503, 429}[r.IntN(4)]
		if rule.Status == 429 {
			rule.Header = map[string]string{"Retry-After": strconv.Itoa(1 + r.IntN(4))}
		}
	case providersim.Delay:
		rule.Delay = 500 + r.IntN(5000)
	case providersim.Corrupt:
		rule.Method, rule.Path = "PUT", "partNumber="
	}
	if provider == "cloudinary" { // browsers send files there as workers do
		rule.Method, rule.Path = "POST", ""
		if rule.Action == providersim.Corrupt {
			rule.Action = providersim.ResetAfter
		}
	}
	return rule
}

func (p plan) size() (sum int64) {
	for _, x := range p.parcels {
		sum += x.size
	}
	return sum
}

func (p plan) kills() (n int) {
	for _, blows := range p.blows {
		for _, b := range blows {
			if b.does == kills {
				n++
			}
		}
	}
	return n
}

func (p plan) print(w io.Writer) {
	var lines []string
	line := func(at time.Duration, format string, a ...any) {
		lines = append(lines, fmt.Sprintf("%9.3fs  ", at.Seconds())+fmt.Sprintf(format, a...))
	}
	for _, x := range p.parcels {
		wish := ""
		if x.wish != "" {
			wish = fmt.Sprintf(", %s it %s after", x.wish, x.after.Round(time.Millisecond))
		}
		if x.keyed {
			wish = ", with a key" + wish
		}
		line(x.at, "file %d: %s by %s to %s%s", x.n, bytes(x.size), x.route, x.provider, wish)
	}
	for target, blows := range p.blows {
		for _, b := range blows {
			line(b.at, "%s: %s%s", target, b.does, b.details())
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}

func (b blow) details() string {
	switch b.does {
	case faulty:
		return fmt.Sprintf(" %s %s %s after %d, %d times", b.rule.Action, b.rule.Method, b.rule.Path, b.rule.Skip, b.rule.Times)
	case outage:
		return fmt.Sprintf(" (%s) for %s", b.rule.Action, b.lasts.Round(time.Millisecond))
	}
	return fmt.Sprintf(" for %s", b.lasts.Round(time.Millisecond))
}
