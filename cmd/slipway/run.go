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
	var verbose, asJSON bool
	c := &cobra.Command{
		Use:     "dev",
		GroupID: "run",
		Short:   "Run everything on this machine: Postgres, simulated providers, API and worker",
		Long: "Runs a whole system on this machine, with no account: a private Postgres, simulators of Uploadcare and Cloudinary, the API and the worker.\n" +
			"Nothing is taken from the environment; --env-file names real accounts and a real database.",
		Example: "  slipway dev\n  slipway dev --port 4000 --sim-port 4001 --admin-port 4002\n  slipway dev --env-file .env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				o.Out = io.Discard
				o.Ready = func(s devstack.Stack) {
					if err := printJSON(cmd.OutOrStdout(), stack{s.URL, s.EnvFile}); err != nil {
						o.Log.Error("tell that the stack is ready", "error", err)
					}
				}
			}
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
	f.BoolVar(&asJSON, "json", false, "print a JSON object when everything answers")
	complete(c, "without", "api", "worker")
	return c
}

// stack is a development stack as JSON.
type stack struct {
	URL     string `json:"url"`
	EnvFile string `json:"env_file"`
}

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		GroupID: "run",
		Short:   "Run the API and a worker in one process",
		Long: "Runs the API and a worker in one process, as the commands api and worker do by themselves. Settings come from the environment\n" +
			"and ./.env (docs/configuration.md).",
		Example: "  slipway migrate && slipway serve",
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
	var copied, moved, rls, dataAPI, asJSON bool
	c := &cobra.Command{
		Use:     "migrate",
		GroupID: "run",
		Short:   "Bring the database to this program's schema",
		Long: "Brings the database of the settings to this program's schema, from whichever it has. Any number may run at the same time, and\n" +
			"where there is nothing to do nothing is done.",
		Example: "  slipway migrate\n  slipway migrate --copy        # this database is a branch, or restored from a backup",
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
			did := migration{Ready: true, Copied: copied, Moved: moved, GuideTables: []string{}, Bound: []string{}, DataAPI: []string{}}
			if rls {
				if did.Bound, err = postgres.SecureGuideTables(cmd.Context(), o); err != nil {
					return err
				}
				did.GuideTables = []string{c.Database.GuideSchema + ".uploadcare_files", c.Database.GuideSchema + ".cloudinary_files"}
			}
			if dataAPI {
				if did.DataAPI, err = postgres.OpenDataAPI(cmd.Context(), o); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), did)
			}
			did.tell(cmd.OutOrStdout(), dataAPI)
			return nil
		},
	}
	c.Flags().BoolVar(&copied, "copy", false, "this database is a copy: give it an installation id of its own")
	c.Flags().BoolVar(&moved, "moved", false, "this database has moved here, and the original is gone")
	c.Flags().BoolVar(&rls, "rls-guide-tables", false, "turn on row-level security of guide tables that were there before, with our policies; their owner keeps its access")
	c.Flags().BoolVar(&dataAPI, "data-api", false, "let users read their own files and uploads by Neon's Data API")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	c.MarkFlagsMutuallyExclusive("copy", "moved")
	return c
}

// migration is what was done, as JSON.
type migration struct {
	Ready       bool     `json:"ready"`
	Copied      bool     `json:"copied"`
	Moved       bool     `json:"moved"`
	GuideTables []string `json:"rls_guide_tables"` // whose row-level security is on
	Bound       []string `json:"notes"`            // about roles that it binds
	DataAPI     []string `json:"data_api_roles"`   // that may read
}

// tell says it to a person. dataAPI is whether the Data API was to be opened.
func (m migration) tell(out io.Writer, dataAPI bool) {
	if len(m.GuideTables) > 0 {
		fmt.Fprintf(out, "Row-level security is on for %s; their owner is not bound by it.\n", strings.Join(m.GuideTables, " and "))
	}
	for _, role := range m.Bound {
		fmt.Fprintln(out, "Note: "+role)
	}
	switch {
	case dataAPI && len(m.DataAPI) == 0:
		fmt.Fprintf(out, "Nothing was done for the Data API: there is no role %s. Enable it in Neon's console first.\n", strings.Join(postgres.DataAPIRoles, " or "))
	case dataAPI:
		fmt.Fprintf(out, "The Data API shows users their own files and uploads, as %s.\n", strings.Join(m.DataAPI, " and "))
	}
	fmt.Fprintln(out, "The database is ready.")
}

func simCommand() *cobra.Command {
	var o devstack.SimulatorOptions
	var host string
	var port int
	var asJSON bool
	c := &cobra.Command{
		Use:     "sim",
		GroupID: "run",
		Short:   "Run the simulators of Uploadcare and Cloudinary",
		Long: "Runs the simulators of Uploadcare and Cloudinary by themselves, as `slipway dev` does among others: for an API and a worker of\n" +
			"your own. Their settings are in simulators.env.",
		Example: "  slipway sim --port 4001",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Address = net.JoinHostPort(host, strconv.Itoa(port))
			sims, err := devstack.StartSimulators(o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), map[string]string{"url": sims.URL})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Uploadcare and Cloudinary are simulated at %s\n", sims.URL)
			}
			if err != nil {
				return errors.Join(err, sims.Close())
			}
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
	f.BoolVar(&asJSON, "json", false, "print a JSON object when they answer")
	return c
}

// health is what a URL answers, as JSON.
type health struct {
	URL    string `json:"url"`
	Status int    `json:"status"` // of HTTP
	Well   bool   `json:"well"`
}

func healthCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "health URL",
		GroupID: "run",
		Short:   "Ask a URL whether it is well: exit 0 for a 2xx answer",
		Example: "  slipway health http://localhost:3000/readyz",
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
			h := health{args[0], resp.StatusCode, resp.StatusCode/100 == 2}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), h); err != nil {
					return err
				}
			}
			if !h.Well {
				return fmt.Errorf("%s answered %s", args[0], resp.Status)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// settings are read from the environment and ./.env, and logged without their secrets.
func settings(need config.Need) (*config.Config, *slog.Logger, error) {
	c, err := config.Load(config.Options{Environ: os.Environ(), DotEnv: dotEnv, Need: need})
	if err != nil {
		return nil, nil, err
	}
	log := process.Log(c, os.Stderr)
	log.Info("settings", "config", c)
	return c, log, nil
}

// settingsHere are read from the environment and ./.env, or, where those name no database, from what a development stack
// in this folder has written.
func settingsHere(need config.Need) (*config.Config, error) {
	o := config.Options{Environ: os.Environ(), DotEnv: dotEnv, Need: need}
	c, err := config.Load(o)
	if _, missing := os.Stat(devEnv); c.Database.URL == "" && missing == nil {
		o.DotEnv = devEnv
		c, err = config.Load(o)
	}
	return c, err
}
