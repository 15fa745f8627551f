// Command bench measures Slipway's own programs beside yardsticks, plain programs that do the same work
// in the same run. Take the ratios: the figures themselves are the machine's.
//
// It needs Go, Linux (it reads /proc) and, for the memory of ten uploads of 1 GiB, 11 GiB of disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	run := bench
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		run = roles[os.Args[1]]
		os.Args = os.Args[1:]
	}
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// roles are what this program is when it starts itself as a process to be measured.
var roles = map[string]func(context.Context, []string) error{
	"receive": receive,
	"put":     put,
	"read":    read,
	"follow":  followPlainly,
}

const (
	mib = 1 << 20
	gib = 1 << 30

	smallSize = 64 << 10 // bytes of what is called a small file
)

// options say how much is measured.
type options struct {
	rounds  int
	size    int64 // bytes of a large file
	small   int   // small files in a round
	clients int   // that send small files at once
	latency int   // small files sent one at a time
	backlog int   // large files queued before small ones
	parts   int   // of such a one on their way at once
	uploads int   // large files at once
	slow    int   // clients that send slowly at once
	polls   int   // questions in a round
	streams int   // event streams at once
	rows    int   // uploads in the database, at most
	only    string
	parent  string // of the folder for everything
	limit   time.Duration
}

// section is a part of the run; it has a stack of its own.
type section struct {
	name    string
	measure func(context.Context, *stack, options, *report) error
}

var sections = []section{
	{"small", measureSmall}, // first, for files that were removed make new ones dearer on some disks
	{"ingest", measureIngest},
	{"tus", measureTus},
	{"slow", measureSlow},
	{"push", measurePush},
	{"latency", measureLatency},
	{"lanes", measureLanes},
	{"memory", measureMemory},
	{"reads", measureReads},
	{"streams", measureStreams},
}

func parse(args []string) (options, error) {
	var o options
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each")
	size := f.Int64("size", 1024, "MiB in a large file")
	f.IntVar(&o.small, "small", 3000, "files of 64 KiB in a round")
	f.IntVar(&o.clients, "clients", 16, "clients that send them at once")
	f.IntVar(&o.latency, "latency", 200, "files of 64 KiB sent one at a time")
	f.IntVar(&o.backlog, "backlog", 50, "large files queued while files of 64 KiB are sent")
	f.IntVar(&o.parts, "parts", 4, "parts of each that are sent at once, where the provider takes them so")
	f.IntVar(&o.uploads, "uploads", 10, "large files at once while memory is watched")
	f.IntVar(&o.slow, "slow", 1000, "clients that send slowly by tus at once")
	f.IntVar(&o.polls, "polls", 4000, "questions in a round of reads")
	f.IntVar(&o.streams, "streams", 1000, "event streams at once, at least 200")
	f.IntVar(&o.rows, "rows", 1_000_000, "uploads in the database for the last round of reads")
	f.StringVar(&o.only, "only", strings.Join(names, ","), "what to measure")
	f.StringVar(&o.parent, "dir", "", "where to make the temporary folder (default: the system's)")
	f.DurationVar(&o.limit, "limit", 30*time.Minute, "end after this in any case")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("-only %s: there are %s", name, strings.Join(names, ", "))
		}
	}
	if o.rounds < 1 || *size < 16 || o.small < 1 || o.clients < 1 || o.latency < 1 || o.backlog < 1 || o.parts < 1 || o.uploads < 1 || o.slow < 1 || o.polls < 1 || o.streams < 200 || o.rows < fewRows {
		return o, errors.New("every number must be at least 1, a large file has at least 16 MiB, and there are at least 1000 rows and 200 streams")
	}
	o.size = *size * mib
	return o, nil
}

func bench(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	g, err := newGround(ctx, o)
	if err != nil {
		return err
	}
	defer g.close()

	r := &report{out: os.Stdout, title: fmt.Sprintf("%d cores, %s, %s/%s; the median of %d, ours and the yardstick by turns",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, o.rounds)}
	for _, s := range sections {
		if !slices.Contains(strings.Split(o.only, ","), s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		if err := g.withStack(ctx, s.name, func(st *stack) error { return s.measure(ctx, st, o, r) }); err != nil {
			r.print()
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	r.print()
	return nil
}

// sample is what one round came to.
type sample struct {
	rate float64 // MiB or files in a second
	cpu  float64 // seconds for a GiB, or milliseconds for a file
}

// byTurns measures ours and the yardstick in turn. Who begins changes, so that neither always comes after
// the other's writes to the disk.
func byTurns(rounds int, ours, yardstick func() (sample, error)) (a, b sample, err error) {
	var all [2][]sample
	for i := range 2 * rounds {
		which := (i ^ i>>1) & 1
		s, err := []func() (sample, error){ours, yardstick}[which]()
		if err != nil {
			return a, b, err
		}
		fmt.Fprintf(os.Stderr, "  %-9s %8.1f/s %8.3f CPU\n", []string{"ours", "yardstick"}[which], s.rate, s.cpu)
		all[which] = append(all[which], s)
	}
	return middle(all[0]), middle(all[1]), nil
}

// middle takes the median of each figure.
func middle(all []sample) sample {
	var rate, cpu []float64
	for _, s := range all {
		rate, cpu = append(rate, s.rate), append(cpu, s.cpu)
	}
	return sample{rate: quantile(rate, 0.5), cpu: quantile(cpu, 0.5)}
}

// quantile sorts all; between two values it lies where q does.
func quantile(all []float64, q float64) float64 {
	slices.Sort(all)
	at := q * float64(len(all)-1)
	low, high := all[int(at)], all[min(int(at)+1, len(all)-1)]
	return low + (high-low)*(at-float64(int(at)))
}

// perGiB is a sample of size bytes.
func perGiB(size int64, took, cpu time.Duration) sample {
	return sample{rate: float64(size) / mib / took.Seconds(), cpu: cpu.Seconds() * gib / float64(size)}
}

// perFile is a sample of n files, or of n questions.
func perFile(n int, took, cpu time.Duration) sample {
	return sample{rate: float64(n) / took.Seconds(), cpu: float64(cpu.Microseconds()) / 1000 / float64(n)}
}
