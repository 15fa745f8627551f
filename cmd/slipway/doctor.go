package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/doctor"
	"slipway/internal/sweep"
)

func doctorCommand() *cobra.Command {
	var envFile, url string
	var write, webhooks, asJSON bool
	var compare, apply bool
	var grace time.Duration
	c := &cobra.Command{
		Use:     "doctor",
		GroupID: "run",
		Short:   "Look at settings, database, staging and providers, and say what to do",
		Long: "Looks at everything that Slipway stands on, changes nothing, and prints one line for each finding; a fault comes with its\n" +
			"remedy. --write also stores one byte with every provider, fetches it and deletes it. --webhooks also has every provider\n" +
			"tell the API at PUBLIC_URL, or --url, what happens to its files, and shows who is told already. Exits with 1 when there\n" +
			"is a fault.\n\n" +
			"--reconcile does something else: it compares the rows of this installation with what staging and the providers have,\n" +
			"and prints every difference with what can be done about it; --apply does that. It may run while files come and go.",
		Example: "  slipway doctor --env-file .env\n  slipway doctor --webhooks --url https://uploads.example.com\n  slipway doctor --reconcile --apply",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := config.Options{
				Environ: os.Environ(), DotEnv: envFile, RequireDotEnv: cmd.Flags().Changed("env-file"),
				Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker,
			}
			settings, err := config.Load(o)
			if compare {
				if err != nil {
					return err
				}
				return reconcile(cmd, doctor.ReconcileOptions{Config: settings, Grace: grace, Apply: apply}, asJSON)
			}
			if apply {
				return misused("--apply goes with --reconcile")
			}
			var faults config.Faults
			if err != nil && !errors.As(err, &faults) {
				return err
			}
			from := "the environment"
			if _, err := os.Stat(envFile); err == nil {
				from += " and " + envFile
			}
			failed := 0
			sound := doctor.Examine(cmd.Context(), doctor.Options{
				Config: settings, Faults: faults, From: from, Write: write, Webhooks: webhooks || url != "", URL: url,
				Report: func(f doctor.Finding) {
					if f.Level == doctor.Fail {
						failed++
					}
					if err := printFinding(cmd, f, asJSON); err != nil {
						fmt.Fprintln(cmd.ErrOrStderr(), err)
					}
				},
			})
			switch {
			case interrupted(cmd.Context()):
				return errInterrupted
			case sound:
				return nil
			case failed == 1:
				return errors.New("there is 1 fault")
			}
			return fmt.Errorf("there are %d faults", failed)
		},
	}
	f := c.Flags()
	f.StringVar(&envFile, "env-file", ".env", "file with settings; the environment wins over it")
	f.BoolVar(&write, "write", false, "store one byte with every provider, fetch it and delete it")
	f.BoolVar(&webhooks, "webhooks", false, "have every provider tell the API what happens to its files")
	f.StringVar(&url, "url", "", "where the providers reach the API, if not at PUBLIC_URL; implies --webhooks")
	f.BoolVar(&compare, "reconcile", false, "compare rows, staging and what the providers have; change nothing")
	f.BoolVar(&apply, "apply", false, "with --reconcile: do what can be done about the differences")
	f.DurationVar(&grace, "grace", sweep.Grace, "with --reconcile: what is younger may be on its way, and is left alone")
	f.BoolVar(&asJSON, "json", false, "print one JSON object for each finding; with --reconcile one for the whole plan")
	return c
}

func printFinding(cmd *cobra.Command, f doctor.Finding, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, f)
	}
	line := fmt.Sprintf("%-4s  %-10s  %s", f.Level, f.Part, f.Text)
	if f.Remedy != "" {
		line += " → " + f.Remedy
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
