package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// bashWords splits a line for the script where bash-completion, which it expects, is not installed.
//
//go:embed completion.bash
var bashWords string

func completionCommand() *cobra.Command {
	scripts := map[string]func(root *cobra.Command, w io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error {
			if _, err := io.WriteString(w, bashWords); err != nil {
				return err
			}
			return root.GenBashCompletionV2(w, true)
		},
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that has your shell complete commands, flags, ids and providers",
		Example: "  source <(slipway completion bash)        # in ~/.bashrc\n" +
			"  source <(slipway completion zsh)         # in ~/.zshrc, behind compinit\n" +
			"  slipway completion fish | source         # in ~/.config/fish/config.fish",
		Args:                  cobra.ExactArgs(1),
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			script := scripts[args[0]]
			if script == nil {
				return misused("there is no script for %q; there are those for bash, zsh and fish", args[0])
			}
			return script(cmd.Root(), cmd.OutOrStdout())
		},
	}
}

const (
	// completionTime is how long a shell waits for what only the service knows.
	completionTime = 2 * time.Second

	silent = cobra.ShellCompDirectiveNoFileComp
)

// completing asks the service for what a shell offers. Who types is told nothing but that.
func completing(cmd *cobra.Command, ask func(context.Context, *client.Client) []cobra.Completion) []cobra.Completion {
	service, err := serviceTelling(func(string, ...any) {})
	if err != nil {
		return nil
	}
	defer service.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	return ask(ctx, service)
}

// completeIDs offers a shell the ids of the newest uploads with one of the statuses, or of any; none that is given already.
func completeIDs(statuses []upload.Status) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if cmd.Args != nil && cmd.Args(cmd, append(slices.Clip(given), "another")) != nil {
			return nil, silent
		}
		return completing(cmd, func(ctx context.Context, service *client.Client) (found []cobra.Completion) {
			for u, err := range service.List(ctx, client.Filter{Statuses: statuses, PageSize: largestPage}) {
				if err != nil || len(found) == largestPage {
					break
				}
				if !slices.Contains(given, string(u.ID)) {
					found = append(found, cobra.CompletionWithDesc(string(u.ID), fmt.Sprintf("%s, %s", printable(u.FileName), u.Status)))
				}
			}
			return found
		}), silent | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeProviders offers, for a flag, the providers that the service sends files to; all that there are when it does not answer.
func completeProviders(c *cobra.Command, flag string) {
	offer := func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		found := completing(cmd, func(ctx context.Context, service *client.Client) []cobra.Completion {
			names, err := service.Providers(ctx)
			if err != nil {
				return nil
			}
			return names
		})
		if found == nil {
			found = []cobra.Completion{"uploadcare", "cloudinary"}
		}
		return found, silent
	}
	if err := c.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // the flag is not there
	}
}
