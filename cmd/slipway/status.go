package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func statusCommand() *cobra.Command {
	return forEach(&cobra.Command{
		Use:     "status ID...",
		Short:   "Show where uploads are, and why",
		Long:    "Shows where uploads are: of those that wait or have failed also why, who can mend it, and how to go on.",
		Example: "  slipway status 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Get(ctx, id)
		},
		tell: describe,
	})
}

// describe shows all about one upload that a person asks for.
func describe(w io.Writer, u client.Upload) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-9s %s\n", name, value)
		}
	}
	fmt.Fprintln(w, printable(u.FileName))
	row("id", string(u.ID))
	row("status", standing(u))
	if u.Attempt > 1 && !u.Status.Final() {
		row("attempt", fmt.Sprintf("%d of %d", u.Attempt, u.MaxAttempts))
	}
	row("to", fmt.Sprintf("%s, %s", u.Provider, cmp.Or(string(u.ResourceType), "type not known yet")))
	row("size", size(u.Size)+", "+printable(u.ContentType))
	row("since", u.CreatedAt.Local().Format(time.DateTime))
	if u.Error != nil {
		row("error", fmt.Sprintf("%s (%s)%s", printable(u.Error.Message), u.Error.Code, again(u)))
		row("mended by", u.Error.FixableBy)
	}
	if u.Links.Retry != nil {
		row("again", fmt.Sprintf("slipway retry %s%s", u.ID, until(u.StagedUntil)))
	}
	row("url", address(u))
}

func until(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " (until " + t.Local().Format(time.DateTime) + ")"
}

// standing is the status, and how far it has got.
func standing(u client.Upload) string {
	switch {
	case u.Status == upload.Pushing && u.Size > 0:
		return fmt.Sprintf("%s %d%%", u.Status, 100*u.Pushed/u.Size)
	case u.Status == upload.Receiving && u.Size > 0:
		return fmt.Sprintf("%s %d%%", u.Status, 100*u.Received/u.Size)
	}
	return string(u.Status)
}
