package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func statusCommand() *cobra.Command {
	return forEach(&cobra.Command{
		Use:   "status ID...",
		Short: "Show where uploads are, and why",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Get(ctx, id)
		},
		tell: describe,
	})
}

func retryCommand() *cobra.Command {
	var provider string
	c := forEach(&cobra.Command{
		Use:     "retry ID...",
		Short:   "Send failed uploads on their way again",
		Example: "  slipway retry --provider cloudinary 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Retry(ctx, id, provider)
		},
		tell: func(w io.Writer, u client.Upload) {
			fmt.Fprintf(w, "%s is %s again\n", printable(u.FileName), u.Status)
		},
	}, upload.Failed)
	c.Flags().StringVar(&provider, "provider", "", "where to: uploadcare or cloudinary (default: where they were going)")
	complete(c, "provider", "uploadcare", "cloudinary")
	return c
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
	row("size", size(u.Size)+", "+u.ContentType)
	row("since", u.CreatedAt.Local().Format(time.DateTime))
	if u.Error != nil {
		row("error", fmt.Sprintf("%s (%s)%s", u.Error.Message, u.Error.Code, again(u)))
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
	if u.Status == upload.Pushing && u.Size > 0 {
		return fmt.Sprintf("%s %d%%", u.Status, 100*u.Pushed/u.Size)
	}
	return string(u.Status)
}

func listCommand() *cobra.Command {
	var statuses []string
	var f client.Filter
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		GroupID: "files",
		Short:   "List your uploads, newest first",
		Example: "  slipway list --status failed\n  slipway list --limit 1000 --json | jq -r .url",
		Args:    cobra.NoArgs,
		RunE: asking(func(cmd *cobra.Command, service *client.Client, _ []string) error {
			for _, name := range statuses {
				s, err := upload.ParseStatus(name)
				if err != nil {
					return misused("there is no status %q; there are %s", name, strings.Join(statusNames(), ", "))
				}
				f.Statuses = append(f.Statuses, s)
			}
			if limit < 1 {
				return misused("--limit %d: give 1 or more", limit)
			}
			f.PageSize = min(limit, 100)
			var found []client.Upload
			for u, err := range service.List(cmd.Context(), f) {
				if err != nil {
					return errors.New(explain(err))
				}
				if asJSON {
					if err := printJSON(cmd.OutOrStdout(), u); err != nil {
						return err
					}
				}
				if found = append(found, u); len(found) == limit {
					break
				}
			}
			if !asJSON {
				tabulate(cmd.OutOrStdout(), columnsOf(cmd.OutOrStdout()), found)
			}
			return nil
		}),
	}
	fs := c.Flags()
	fs.StringSliceVar(&statuses, "status", nil, "only those with this status; may be repeated")
	fs.StringVar(&f.Provider, "provider", "", "only those to this provider")
	fs.IntVar(&limit, "limit", 20, "how many at most")
	fs.BoolVar(&asJSON, "json", false, "print one JSON object for each upload")
	complete(c, "provider", "uploadcare", "cloudinary")
	complete(c, "status", statusNames()...)
	return c
}

func statusNames() []string {
	var names []string
	for _, s := range upload.Statuses() {
		names = append(names, string(s))
	}
	return names
}

// wide is from how many columns on a table shows all there is to show.
const wide = 110

// tabulate prints a table that fits the columns of a terminal; 0 is none, and nothing is cut.
func tabulate(w io.Writer, columns int, list []client.Upload) {
	full := columns == 0 || columns >= wide
	rows := [][]string{{"ID", "STATUS", "SIZE"}}
	if full {
		rows[0] = append(rows[0], "PROVIDER", "CREATED")
	}
	rows[0] = append(rows[0], "NAME")
	for _, u := range list {
		row := []string{string(u.ID), standing(u), size(u.Size)}
		if full {
			row = append(row, u.Provider, humanize.Time(u.CreatedAt))
		}
		rows = append(rows, append(row, printable(u.FileName)))
	}
	last := len(rows[0]) - 1
	widths := make([]int, last)
	for _, row := range rows {
		for i, cell := range row[:last] {
			widths[i] = max(widths[i], len(cell))
		}
	}
	room := columns
	for _, n := range widths {
		room -= n + 2
	}
	for _, row := range rows {
		for i, cell := range row[:last] {
			fmt.Fprintf(w, "%-*s  ", widths[i], cell)
		}
		name := row[last]
		if columns > 0 {
			name = runewidth.Truncate(name, max(room, 8), "…")
		}
		fmt.Fprintln(w, name)
	}
}
