// Command api takes files in over HTTP and tells where they are.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"slipway/internal/config"
	"slipway/internal/process"
	"slipway/internal/process/api"
)

// gcPercent is how much garbage there may be for what is in use, unless GOGC says otherwise: thousands of connections that wait
// for slow senders make little of it, and memory is dearer here than the time to find it.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, err := config.Load(config.Options{Environ: os.Environ(), DotEnv: ".env", Need: config.NeedDatabase | config.NeedAPI})
	if err != nil {
		return err
	}
	log := process.Log(c, os.Stderr)
	log.Info("settings", "config", c)
	return api.Run(ctx, api.Options{Config: c, Log: log})
}
