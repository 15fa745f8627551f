// Command worker sends staged files to their providers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"slipway/internal/config"
	"slipway/internal/process"
	"slipway/internal/process/worker"
)

func main() {
	untilIdle := flag.Bool("until-idle", false, "end when no upload waits for delivery")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx, *untilIdle); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, untilIdle bool) error {
	c, err := config.Load(config.Options{Environ: os.Environ(), DotEnv: ".env", Need: config.NeedDatabase | config.NeedWorker})
	if err != nil {
		return err
	}
	log := process.Log(c, os.Stderr)
	log.Info("settings", "config", c)
	return worker.Run(ctx, worker.Options{Config: c, Log: log, UntilIdle: untilIdle, Health: true})
}
