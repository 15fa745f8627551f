// Command walk goes through both Neon guides and docs/from-the-guides.md, from top to bottom against a stack
// of its own, with their own statements, commands and servers, and prints what held.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"slipway/internal/devstack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "guides:", err)
		os.Exit(1)
	}
}

// walkLimit bounds the whole walk, a download of Postgres included.
const walkLimit = 10 * time.Minute

func run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, walkLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "slipway-guides")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user and must be able to enter
		return err
	}
	ready := make(chan devstack.Stack, 1)
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- devstack.Run(running, devstack.Options{
			Dir: dir, Out: io.Discard, Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelError})),
			Ready: func(s devstack.Stack) { ready <- s },
		})
	}()
	select {
	case err := <-ended:
		return errors.Join(errors.New("the stack did not start"), err)
	case s := <-ready:
		w := &walk{stack: s, dir: dir, out: out}
		w.uploadcareGuide(ctx)
		w.cloudinaryGuide(ctx)
		w.fromTheGuides(ctx)
		stop()
		return errors.Join(<-ended, w.verdict())
	}
}
