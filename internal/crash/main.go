// Command crash sends files through real processes while it kills, stops and starves whatever they stand on,
// and then counts: what was acknowledged is delivered once, with the right bytes, or its owner knows why not.
//
// What is sent and what goes wrong is chosen by the seed, and so is when; how the processes take it is theirs.
// It needs Go and PostgreSQL's binaries. As root on Linux staging is a small disk of its own, which is filled up;
// elsewhere the processes that receive are told that it is full.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// options say how much is sent, and how much goes wrong.
type options struct {
	seed     uint64
	uploads  int
	kills    int
	during   time.Duration // in which files are sent and things go wrong
	largest  int64         // bytes of a file
	apis     int
	workers  int
	clients  int           // that send at once
	line     int64         // bytes that a connection to a provider carries in a second
	patience time.Duration // until everything is final, once nothing goes wrong any more
	clearing bool          // whether to wait, too, until what was canceled on its way is looked for again
	parent   string        // of the folder for everything
	keep     bool
	plan     bool
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("crash", flag.ContinueOnError)
	f.SetOutput(out)
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "chooses the files, and what goes wrong when (default: the time)")
	f.IntVar(&o.uploads, "uploads", 500, "files to send")
	f.IntVar(&o.kills, "kills", 200, "processes to kill")
	f.DurationVar(&o.during, "for", 6*time.Minute, "time in which files are sent and things go wrong")
	largest := f.Int64("largest", 100, "MiB in the largest file")
	f.IntVar(&o.apis, "apis", 2, "processes that receive")
	f.IntVar(&o.workers, "workers", 3, "processes that deliver")
	f.IntVar(&o.clients, "clients", 8, "clients that send at once")
	line := f.Int64("line", 4096, "KiB that a connection to a provider carries in a second")
	f.DurationVar(&o.patience, "patience", 15*time.Minute, "time until everything is final, once nothing goes wrong any more")
	f.BoolVar(&o.clearing, "clearing", true, "wait until what was canceled on its way has been looked for again, which takes 3 minutes")
	f.StringVar(&o.parent, "dir", "", "where to make the temporary folder (default: the system's)")
	f.BoolVar(&o.keep, "keep", false, "keep the folder with what the processes have logged")
	f.BoolVar(&o.plan, "plan", false, "print what would be sent and what would go wrong, and do nothing")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.uploads < 1 || o.kills < 0 || o.during < time.Second || *largest < 1 || o.apis < 1 || o.workers < 1 || o.clients < 1 || *line < 1 {
		return o, errors.New("there must be at least one upload, API, worker and client, a second of time, and 1 MiB in the largest file")
	}
	o.largest, o.line = *largest*mib, *line*kib
	return o, nil
}

// run makes the plan of a seed, carries it out and judges what came of it.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	p := newPlan(o)
	fmt.Fprintf(out, "seed %d: %d uploads of %s, %d kills, in %s\n", o.seed, len(p.parcels), bytes(p.size()), p.kills(), o.during)
	if o.plan {
		p.print(out)
		return nil
	}
	l, err := newLab(ctx, o, out)
	if err != nil {
		return err
	}
	defer l.close()
	sent, err := l.carryOut(ctx, p)
	if err != nil {
		return err
	}
	r, err := l.judge(ctx, p, sent)
	if err != nil {
		return err
	}
	r.print(out)
	if n := r.faults(); n > 0 {
		return fmt.Errorf("%d faults; the same again with: -seed %d", n, o.seed)
	}
	return nil
}
