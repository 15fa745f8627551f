package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/postgres"
	"slipway/internal/process"
	"slipway/internal/process/api"
	"slipway/internal/process/worker"
)

func devCommand() *cobra.Command {
	o := devstack.Options{Out: os.Stdout}
	var verbose bool
	c := &cobra.Command{
		Use:     "dev",
		GroupID: "run",
		Short:   "Run everything on this machine: Postgres, simulated providers, API and worker",
		Long: "Runs a whole system on this machine, with no account: a private Postgres, simulators of Uploadcare and Cloudinary, the API and the worker.\n" +
			"Nothing is taken from the environment; --env-file names real accounts and a real database.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelInfo
			}
			o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			return devstack.Run(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "data", ".slipway", "folder that keeps everything")
	f.IntVar(&o.Port, "port", 3000, "port of the API")
	f.IntVar(&o.SimPort, "sim-port", 3001, "port of the simulated providers")
	f.IntVar(&o.Admin, "admin-port", 3002, "port of the admin pages, which show River's jobs")
	f.StringVar(&o.EnvFile, "env-file", "", "a .env file that names real accounts or a real database")
	f.StringSliceVar(&o.Without, "without", nil, "leave out: api, worker")
	f.BoolVar(&o.Signed, "signed", false, "open files only to signed links, as DELIVERY=signed does")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what happens")
	return c
}

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		GroupID: "run",
		Short:   "Run the API and a worker in one process",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, log, err := settings(config.NeedDatabase | config.NeedAPI | config.NeedWorker)
			if err != nil {
				return err
			}
			parts, ctx := errgroup.WithContext(cmd.Context())
			parts.Go(func() error { return api.Run(ctx, api.Options{Config: c, Log: log.With("part", "api")}) })
			parts.Go(func() error { return worker.Run(ctx, worker.Options{Config: c, Log: log.With("part", "worker")}) })
			return parts.Wait()
		},
	}
}

func migrateCommand() *cobra.Command {
	var copied, moved, rls, dataAPI bool
	c := &cobra.Command{
		Use:     "migrate",
		GroupID: "run",
		Short:   "Bring the database to this program's schema",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, log, err := settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			o := postgres.Options{URL: c.Database.DirectURL.Reveal(), Names: process.Names(c)}
			if err := postgres.Migrate(cmd.Context(), o, log); err != nil {
				return err
			}
			if copied || moved {
				pool, err := postgres.Open(cmd.Context(), o)
				if err != nil {
					return err
				}
				defer pool.Close()
				if err := postgres.Rehome(cmd.Context(), pool, o.URL, copied); err != nil {
					return err
				}
			}
			if rls {
				if err := secureGuideTables(cmd, o, c.Database.GuideSchema); err != nil {
					return err
				}
			}
			if dataAPI {
				if err := openDataAPI(cmd, o); err != nil {
					return err
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), "The database is ready.")
			return nil
		},
	}
	c.Flags().BoolVar(&copied, "copy", false, "this database is a copy: give it an installation id of its own")
	c.Flags().BoolVar(&moved, "moved", false, "this database has moved here, and the original is gone")
	c.Flags().BoolVar(&rls, "rls-guide-tables", false, "turn on row-level security of guide tables that were there before, with our policies; their owner keeps its access")
	c.Flags().BoolVar(&dataAPI, "data-api", false, "let users read their own files and uploads by Neon's Data API")
	c.MarkFlagsMutuallyExclusive("copy", "moved")
	return c
}

func secureGuideTables(cmd *cobra.Command, o postgres.Options, schema string) error {
	bound, err := postgres.SecureGuideTables(cmd.Context(), o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Row-level security is on for %[1]s.uploadcare_files and %[1]s.cloudinary_files; their owner is not bound by it.\n", schema)
	for _, role := range bound {
		fmt.Fprintln(out, "Note: "+role)
	}
	return nil
}

func openDataAPI(cmd *cobra.Command, o postgres.Options) error {
	roles, err := postgres.OpenDataAPI(cmd.Context(), o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if len(roles) == 0 {
		fmt.Fprintf(out, "Nothing was done for the Data API: there is no role %s. Enable it in Neon's console first.\n", strings.Join(postgres.DataAPIRoles, " or "))
		return nil
	}
	fmt.Fprintf(out, "The Data API shows users their own files and uploads, as %s.\n", strings.Join(roles, " and "))
	return nil
}

func simCommand() *cobra.Command {
	var o devstack.SimulatorOptions
	var host string
	var port int
	c := &cobra.Command{
		Use:     "sim",
		GroupID: "run",
		Short:   "Run the simulators of Uploadcare and Cloudinary",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Address = net.JoinHostPort(host, strconv.Itoa(port))
			sims, err := devstack.StartSimulators(o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Uploadcare and Cloudinary are simulated at %s\n", sims.URL)
			<-cmd.Context().Done()
			return sims.Close()
		},
	}
	f := c.Flags()
	f.StringVar(&host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&port, "port", 3001, "port to listen on")
	f.StringVar(&o.Dir, "data", ".slipway/providers", "folder that keeps the files")
	f.StringVar(&o.PublicURL, "public-url", "", "what delivery URLs begin with (default: the address)")
	f.BoolVar(&o.Signed, "signed", os.Getenv("DELIVERY") == "signed", "refuse unsigned reads (default where DELIVERY=signed)")
	f.StringVar(&o.PartsURL, "parts-url", "", "what part URLs begin with (default: the address under another name)")
	return c
}

func healthCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "health URL",
		GroupID: "run",
		Short:   "Ask a URL whether it is well: exit 0 for a 2xx answer",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if resp.StatusCode/100 != 2 {
				return fmt.Errorf("%s answered %s", args[0], resp.Status)
			}
			return nil
		},
	}
}

// settings are read from the environment and ./.env, and logged without their secrets.
func settings(need config.Need) (*config.Config, *slog.Logger, error) {
	c, err := config.Load(config.Options{Environ: os.Environ(), DotEnv: ".env", Need: need})
	if err != nil {
		return nil, nil, err
	}
	log := process.Log(c, os.Stderr)
	log.Info("settings", "config", c)
	return c, log, nil
}
