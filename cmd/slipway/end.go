package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func cancelCommand() *cobra.Command {
	return forEach(&cobra.Command{
		Use:     "cancel ID...",
		Short:   "End uploads that are on their way",
		Example: "  slipway cancel 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e\n  slipway cancel $(slipway list --all --quiet --status queued,retrying)",
		Long:    "Ends uploads that are on their way. What there is of their files goes, here and at their providers; their history stays.",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Cancel(ctx, id)
		},
		tell: func(w io.Writer, u client.Upload) { fmt.Fprintf(w, "%s is %s\n", printable(u.FileName), u.Status) },
	}, underWay()...)
}

func removeCommand() *cobra.Command {
	var yes bool
	c := forEach(&cobra.Command{
		Use:   "rm ID...",
		Short: "Delete uploads, here and at their providers",
		Long: "Deletes uploads for good, wherever they are: what there is of their files, here and at their providers, goes in the\n" +
			"background. On a terminal it asks before it deletes several; a script is asked nothing.",
		Example: "  slipway rm 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e\n  slipway rm --yes $(slipway list --quiet --all --status failed --before 7d)",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Delete(ctx, id)
		},
		tell: func(w io.Writer, u client.Upload) {
			if u.Status == upload.Deleting {
				fmt.Fprintf(w, "%s is being deleted\n", printable(u.FileName))
				return
			}
			fmt.Fprintf(w, "%s is %s\n", printable(u.FileName), u.Status)
		},
	})
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, ids []string) error {
		if in, ok := cmd.InOrStdin().(*os.File); ok && !yes && len(ids) > 1 && term.IsTerminal(int(in.Fd())) {
			if err := confirm(cmd, in, fmt.Sprintf("Delete these %d for good, here and at their providers?", len(ids))); err != nil {
				return err
			}
		}
		return run(cmd, ids)
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "ask nothing")
	return c
}

// confirm asks a person, and returns an error unless the answer is yes.
func confirm(cmd *cobra.Command, in io.Reader, question string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // ends with its line, or with the process
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-cmd.Context().Done():
		fmt.Fprintln(cmd.ErrOrStderr())
		return errInterrupted
	case said := <-answer:
		if said != "y" && said != "yes" {
			return errors.New("nothing was deleted")
		}
		return nil
	}
}

// underWay is every status that an upload leaves by itself.
func underWay() []upload.Status {
	var list []upload.Status
	for _, s := range upload.Statuses() {
		if !s.Final() {
			list = append(list, s)
		}
	}
	return list
}
