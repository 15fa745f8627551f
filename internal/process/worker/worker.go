// Package worker runs the process that sends staged files to their providers.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"slipway/internal/config"
	"slipway/internal/fetch"
	"slipway/internal/fetch/source"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/process"
	"slipway/internal/push"
	"slipway/internal/quota"
	"slipway/internal/scan"
	"slipway/internal/sweep"
	"slipway/internal/upload"
)

// Options say how a worker runs.
type Options struct {
	Config    *config.Config
	Log       *slog.Logger
	UntilIdle bool // end when no upload waits for delivery
	Health    bool // answer /livez and /readyz on Config.WorkerPort

	OnlyDeletions bool // send nothing, and remove what is to be removed
}

// Run works until ctx ends; then it hands back what it is sending, and returns.
func Run(ctx context.Context, o Options) error {
	c, log := o.Config, o.Log
	base, err := process.OpenDirect(ctx, c, "slipway-worker", log)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to stop before it had begun
	}
	if err != nil {
		return err
	}
	defer base.Pool.Close()
	providers, err := process.Providers(c)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	owner := host + "/" + strconv.Itoa(os.Getpid()) + "/" + uuid.NewString()[:8]
	quotas := process.Quotas(c, base, log)
	defer quotas.Close()
	fetcher, err := fetcher(c, base, quotas, owner, log)
	if err != nil {
		return err
	}
	settings := push.Settings{
		Installation:  base.Installation.ID,
		Owner:         owner,
		FilesInFlight: c.Delivery.Files,
		PartsInFlight: c.Delivery.PartsPerFile,
		Connections:   cmp.Or(c.Delivery.Connections, 4*runtime.GOMAXPROCS(0)),
		KeepFailed:    c.Staging.Retention,
		Scanner:       scanner(c),
		VerifyWithin:  c.Delivery.Deadline,
		PollOnly:      base.Polls != "",
		OnlyDeletions: o.OnlyDeletions,
		Beside: []push.Lane{{Queue: upload.FetchQueue, AtOnce: c.Imports.Files, Add: func(kinds *river.Workers) {
			river.AddWorker(kinds, fetcher)
		}}},
	}
	var service *push.Service
	if err := process.Await(ctx, log, func() (err error) {
		service, err = push.Start(ctx, base.Pool, base.Names, base.Staging, providers, settings, log)
		return err
	}); err != nil {
		return err
	}
	sweeper := sweep.Sweeper{Pool: base.Pool, Queue: base.Queue, Staging: base.Staging, LeaseTTL: push.LeaseTTL, KeepFailed: c.Staging.Retention, KeepTrash: c.Staging.TrashTTL, KeepHistory: c.Database.HistoryRetention, DeliverWithin: c.Delivery.Deadline, AskedFor: push.VerifierDead, Log: log}

	running, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { sweeper.Run(running) })
	if o.Health {
		ln, err := net.Listen("tcp", net.JoinHostPort(c.HTTP.Host, strconv.Itoa(c.WorkerPort)))
		if err != nil {
			log.Warn("nobody can ask for the worker's health", "error", err)
		} else {
			parts.Go(func() { serveHealth(running, ln, base, log) })
		}
	}
	log.Info("worker is ready", "providers", c.Delivery.Providers)

	var failed error
	if o.UntilIdle {
		failed = awaitIdle(running, base)
	} else {
		<-running.Done()
	}
	log.Info("worker stops")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.DrainTimeout)
	defer cancel()
	err = service.Stop(stopping)
	stop()
	parts.Wait()
	return errors.Join(failed, err)
}

// scanner looks into files before they are sent, if the settings name one.
func scanner(c *config.Config) push.Scanner {
	if command := strings.Fields(c.Delivery.ScanCommand); len(command) > 0 {
		return scan.Command(command)
	}
	return nil
}

// fetcher brings files from the web into staging, as the API takes them in.
func fetcher(c *config.Config, base *process.Base, quotas *quota.Quotas, owner string, log *slog.Logger) (*fetch.Worker, error) {
	imports, err := process.Imports(c)
	if err != nil {
		return nil, err
	}
	most, err := process.MaxBytes(c, base)
	if err != nil {
		return nil, err
	}
	var web *source.Client
	if imports != nil {
		web = source.NewClient(imports.Policy, source.Options{})
	}
	return fetch.New(&ingest.Ingest{
		Pool: base.Pool, Queue: base.Queue, Staging: base.Staging, Quotas: quotas, Log: log,
		Providers: c.Delivery.Providers, DefaultProvider: c.Delivery.DefaultProvider,
		MaxBytes: most, Rules: process.Rules(c), ProviderRules: process.ProviderRules(c),
		DeliverWithin: c.Delivery.Deadline, Imports: imports,
	}, web, fetch.Settings{Owner: owner, AtOnce: c.Imports.Files, LeaseTTL: push.LeaseTTL}), nil
}

// awaitIdle returns when no upload waits for delivery any more, or when ctx ends.
func awaitIdle(ctx context.Context, base *process.Base) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		idle, err := postgres.Idle(ctx, base.Pool)
		switch {
		case ctx.Err() != nil || err == nil && idle:
			return nil
		case err != nil && !postgres.Unreachable(err):
			return fmt.Errorf("look for work: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// serveHealth answers whether the process lives and reaches its database, until ctx ends.
func serveHealth(ctx context.Context, ln net.Listener, base *process.Base, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := base.Pool.Ping(ctx); err != nil {
			log.Warn("not ready", "error", err)
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
		switch {
		case !r.URL.Query().Has("verbose"):
		case base.Polls != "":
			fmt.Fprintf(w, "jobs: polling, because %s\n", base.Polls)
		default:
			fmt.Fprintln(w, "jobs: listening")
		}
	})
	srv := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	end := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer end()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Warn("the worker's health is not served any more", "error", err)
	}
}
