package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/forget"
	"slipway/internal/postgres"
	"slipway/internal/process"
	"slipway/internal/process/worker"
)

func forgetCommand() *cobra.Command {
	var yes, asJSON bool
	var wait time.Duration
	c := &cobra.Command{
		Use:     "forget USER",
		GroupID: "run",
		Short:   "Erase a user: their files, here and at the providers, and all rows about them",
		Long: "Erases a user for good: their files at the providers and in staging, and then every row about them, with its history. It waits\n" +
			"for the providers, and works the deletions itself beside the workers that run. It may be ended at any time; the same\n" +
			"command goes on where it was.\n\n" +
			"Settings are those of a worker, from the environment or ./.env, or else those of a `slipway dev` in this folder. Shut the user\n" +
			"out where they sign in first: what they send after it has ended is a new beginning.",
		Example: "  slipway forget user_123\n  slipway forget user_123 --yes --json --wait 10m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			user := args[0]
			if !auth.NamesUser(user) {
				return misused("a user's id has 1 to 255 bytes of text")
			}
			settings, err := settingsHere(config.NeedDatabase | config.NeedWorker)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			base, err := process.OpenDirect(cmd.Context(), settings, "slipway-forget", log)
			if err != nil {
				return err
			}
			defer base.Pool.Close()
			held, err := postgres.HoldingOf(cmd.Context(), base.Pool, user)
			switch {
			case err != nil:
				return err
			case len(held.Rows) == 0:
				return unknownUser(user)
			}
			if !yes {
				in, ok := cmd.InOrStdin().(*os.File)
				if !ok || !term.IsTerminal(int(in.Fd())) {
					return misused("%s would be erased for good; say --yes where nobody can be asked", holding(user, held))
				}
				if err := confirm(cmd, in, "Erase "+holding(user, held)+" for good?"); err != nil {
					return err
				}
			}
			report, err := eraseUser(cmd, settings, base, user, wait, log)
			if errors.Is(err, forget.ErrUnknown) {
				return unknownUser(user)
			}
			if asJSON {
				if failed := printJSON(cmd.OutOrStdout(), report); failed != nil {
					return failed
				}
			} else {
				printReport(cmd.OutOrStdout(), report)
			}
			switch {
			case interrupted(cmd.Context()):
				return errInterrupted
			case wait > 0 && errors.Is(err, context.DeadlineExceeded):
				return errors.New("the providers have not deleted everything yet; the same command goes on")
			case err == nil && !report.Done:
				return errors.New("not everything could be erased")
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "ask nothing")
	f.BoolVar(&asJSON, "json", false, "print a JSON object")
	f.DurationVar(&wait, "wait", 0, "how long to wait for the providers (default: as long as it takes)")
	return c
}

func unknownUser(user string) error {
	return fmt.Errorf("nothing is known of a user %q; ids are as your tokens name them, to the letter", user)
}

// eraseUser erases a user beside a worker that removes what is at the providers.
func eraseUser(cmd *cobra.Command, c *config.Config, base *process.Base, user string, wait time.Duration, log *slog.Logger) (report forget.Report, err error) {
	working, stop := context.WithCancel(cmd.Context())
	defer stop()
	parts, ctx := errgroup.WithContext(working)
	parts.Go(func() error { return worker.Run(ctx, worker.Options{Config: c, Log: log, OnlyDeletions: true}) })
	e := forget.Eraser{Pool: base.Pool, Queue: base.Queue, Staging: base.Staging, Tell: func(left []postgres.Leaving) {
		for _, l := range left {
			fmt.Fprintln(cmd.ErrOrStderr(), leaving(l))
		}
	}}
	erasing, cancel := ctx, context.CancelFunc(func() {})
	if wait > 0 {
		erasing, cancel = context.WithTimeout(ctx, wait)
	}
	defer cancel()
	report, err = e.Erase(erasing, user)
	stop()
	return report, cmp.Or(parts.Wait(), err) // a worker that has failed is why the eraser was ended
}

func leaving(l postgres.Leaving) string {
	text := fmt.Sprintf("%s: %d to be deleted", l.Provider, l.Count)
	if l.Message != "" {
		text += ". " + strings.TrimSuffix(l.Message, ".")
	}
	if l.Again != nil {
		text += fmt.Sprintf("; again %s", humanize.Time(*l.Again))
	}
	return text
}

// holding is what there is of a user, in words.
func holding(user string, h postgres.Holding) string {
	return fmt.Sprintf("%s (%s, %s with %s at providers, %s in staging, %s)", printable(user), many(h.Rows["slipway.uploads"], "upload"),
		many(h.Files.Files, "file"), size(h.Files.Bytes), size(h.Staged.Bytes), many(h.Rows["slipway.upload_events"], "event"))
}

func many(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanize.Comma(n) + " " + what
}

func printReport(w io.Writer, r forget.Report) {
	title := "Forgotten: "
	if !r.Done {
		title = "Not all of it is erased yet: "
	}
	fmt.Fprintln(w, title+printable(r.User))
	fmt.Fprintf(w, "  %s deleted at providers (%s), %s removed from staging (%s)\n",
		many(r.Files, "file"), size(r.FileBytes), many(r.Staged, "file"), size(r.StagedBytes))
	fmt.Fprintf(w, "  %s and %s erased\n", many(r.Uploads, "upload"), many(r.Events, "event"))
	for _, table := range r.Tables() {
		fmt.Fprintf(w, "  %8s  %s\n", humanize.Comma(r.Rows[table]), table)
	}
	for _, l := range r.Left {
		fmt.Fprintf(w, "  left: %s (%s, %d)", l.What, l.Provider, l.Count)
		if l.Message != "" {
			fmt.Fprintf(w, ": %s", l.Message)
		}
		fmt.Fprintln(w)
	}
}
