// Package devstack runs a whole system on one machine: a private Postgres, simulators of both
// providers, the API and the worker.
package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"slipway/internal/admin"
	"slipway/internal/config"
	"slipway/internal/doctor"
	"slipway/internal/postgres"
	"slipway/internal/postgres/pgembed"
	"slipway/internal/process/api"
	"slipway/internal/process/worker"
)

// Options say what a stack is made of.
type Options struct {
	Dir     string   // keeps the database, the simulators' files, staging and dev.env
	Port    int      // of the API; 0 is any free one
	SimPort int      // of the simulators; 0 is any free one
	Admin   int      // port of the admin pages, where there is an API; 0 is any free one
	EnvFile string   // real accounts and a real database, for those that it names; "" is none
	Without []string // "api", "worker": leave them to processes of their own
	Signed  bool     // files open only to signed links, whatever EnvFile says
	Log     *slog.Logger
	Out     io.Writer   // what a person reads
	Ready   func(Stack) // called once everything answers; nil is fine
}

// Stack is a running system.
type Stack struct {
	URL         string // of the API
	DatabaseURL string // of the owner, by TCP
	EnvFile     string // dev.env
	Env         map[string]string
}

const (
	database = "slipway" // the name of the stack's own
	signed   = "signed"  // the DELIVERY of files that open only to signed links
)

// Run starts a stack and blocks until ctx ends or a piece of it fails.
func Run(ctx context.Context, o Options) (err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("the stack's folder: %w", err)
	}
	given := map[string]string{}
	if o.EnvFile != "" {
		if given, err = config.ReadDotEnv(o.EnvFile); err != nil {
			return err
		}
	}
	if o.Signed {
		given["DELIVERY"] = signed
	}

	// Take the API's port first: when it is taken, nothing else has been started yet.
	var listener, adminListener net.Listener
	withAPI, withWorker := !slices.Contains(o.Without, "api"), !slices.Contains(o.Without, "worker")
	if withAPI {
		if listener, err = listen("--port", o.Port); err != nil {
			return err
		}
		defer listener.Close()
		if adminListener, err = listen("--admin-port", o.Admin); err != nil {
			return err
		}
		defer adminListener.Close()
		o.Port, o.Admin = portOf(listener), portOf(adminListener)
	}

	env := map[string]string{
		"DEV_USER": "user_123", "STAGING_DIR": filepath.Join(o.Dir, "staging"), "VERIFY_READBACK": "on",
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, ctx := errgroup.WithContext(ctx)
	var said []string

	if given["DATABASE_URL"] == "" {
		pg, err := pgembed.Start(ctx, pgembed.Options{Dir: filepath.Join(o.Dir, "postgres"), Log: o.Log})
		if err != nil {
			return fmt.Errorf("embedded Postgres: %w", err)
		}
		defer func() { err = errors.Join(err, pg.Stop()) }()
		if err := pg.CreateDatabase(ctx, database); err != nil {
			return fmt.Errorf("embedded Postgres: %w", err)
		}
		env["DATABASE_URL"] = pg.TCPURL(database)
		parts.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-pg.Done():
				return fmt.Errorf("embedded Postgres ended: %w", pg.Err())
			}
		})
		said = append(said, "database    embedded Postgres in "+pg.Dir())
	} else {
		host, name, err := postgres.Place(given["DATABASE_URL"])
		if err != nil {
			return err
		}
		said = append(said, fmt.Sprintf("database    REAL: %s on %s", name, host))
	}

	simulated := !namesAccount(given)
	if simulated {
		sims, err := StartSimulators(SimulatorOptions{
			Dir: filepath.Join(o.Dir, "providers"), Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.SimPort)), Signed: given["DELIVERY"] == signed,
		})
		if err != nil {
			return config.PortTaken(err, "--sim-port", o.SimPort)
		}
		defer func() { err = errors.Join(err, sims.Close()) }()
		maps.Copy(env, sims.Env())
		said = append(said, "uploadcare  simulated at "+sims.URL, "cloudinary  simulated at "+sims.URL)
	}
	maps.Copy(env, given)
	env["HOST"], env["PORT"] = "127.0.0.1", strconv.Itoa(o.Port)
	if withAPI {
		env["ADMIN_HOST"], env["ADMIN_PORT"] = "127.0.0.1", strconv.Itoa(o.Admin)
	}
	cfg, err := config.Load(config.Options{Environ: pairs(env), Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker})
	if err != nil {
		return err
	}
	if cfg.Links.Signed() {
		said = append(said, "delivery    signed: a file opens only by the links that the API gives out")
	}
	if !simulated {
		for _, p := range cfg.Delivery.Providers {
			said = append(said, fmt.Sprintf("%-11s REAL, or wherever %s says", p, o.EnvFile))
		}
	}

	err = postgres.Migrate(ctx, postgres.Options{
		URL: cfg.Database.DirectURL.Reveal(), Names: postgres.Names{Schema: cfg.Database.Schema, Guide: cfg.Database.GuideSchema},
	}, o.Log.With("part", "migrations"))
	if err != nil {
		return err
	}
	stack := Stack{URL: "http://localhost:" + strconv.Itoa(o.Port), DatabaseURL: env["DATABASE_URL"], Env: env, EnvFile: filepath.Join(o.Dir, "dev.env")}
	env["SLIPWAY_URL"] = stack.URL
	if err := writeEnv(stack.EnvFile, env); err != nil {
		return err
	}

	apiReady := make(chan struct{})
	if withAPI {
		parts.Go(func() error {
			return api.Run(ctx, api.Options{Config: cfg, Log: o.Log.With("part", "api"), Listener: listener, Admin: adminListener, Dev: true, Ready: func() { close(apiReady) }})
		})
	} else {
		close(apiReady)
		said = append(said, "api         not started; run it with: set -a; . "+stack.EnvFile+"; set +a; go run ./cmd/api")
	}
	if withWorker {
		parts.Go(func() error {
			return worker.Run(ctx, worker.Options{Config: cfg, Log: o.Log.With("part", "worker")})
		})
	} else {
		said = append(said, "worker      not started; run it with: set -a; . "+stack.EnvFile+"; set +a; go run ./cmd/worker")
	}
	parts.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-apiReady:
		}
		if simulated {
			subscribe(ctx, cfg, stack.URL, o.Log)
		}
		if withAPI {
			said = append(said, "jobs        http://localhost:"+strconv.Itoa(o.Admin)+admin.Jobs, "", "Slipway is ready at "+stack.URL, "  curl -X POST "+stack.URL+"/upload -F \"file=@film.mp4\" -F \"fileName=film.mp4\"")
		}
		fmt.Fprintf(o.Out, "\n%s\n  addresses and keys for scripts: %s\n\n", strings.Join(said, "\n"), stack.EnvFile)
		if o.Ready != nil {
			o.Ready(stack)
		}
		return nil
	})
	if err := parts.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// listen takes a loopback port, or says how to take another.
func listen(flag string, port int) (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return ln, config.PortTaken(err, flag, port)
}

func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }

// subscribe has the simulators tell the API what happens to its files, as slipway doctor --webhooks does.
func subscribe(ctx context.Context, c *config.Config, url string, log *slog.Logger) {
	doctor.Subscribe(ctx, c, url, func(f doctor.Finding) {
		log.Debug("webhooks", "part", f.Part, "level", f.Level, "finding", f.Text)
	})
}
