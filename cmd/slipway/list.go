package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// largestPage is how many uploads the service tells at once (docs/uploads.md).
const largestPage = 100

func listCommand() *cobra.Command {
	var statuses []string
	var which choice
	var limit int
	var all, asJSON, quiet bool
	c := &cobra.Command{
		Use:     "list",
		GroupID: "files",
		Short:   "List your uploads, newest first",
		Long:    "Lists your uploads, newest first: in a table that fits the terminal, or as JSON, or only their ids for other commands.",
		Example: "  slipway list --status failed --after 24h\n  slipway list --all --json | jq -r .url\n  slipway cancel $(slipway list --all --quiet --status queued,retrying)",
		Args:    cobra.NoArgs,
		RunE: asking(func(cmd *cobra.Command, service *client.Client, _ []string) error {
			f := client.Filter{
				Provider: which.provider, ErrorCode: which.code, NamePrefix: which.name,
				CreatedAfter: which.after.at, CreatedBefore: which.before.at, PageSize: largestPage,
			}
			var err error
			if f.Statuses, err = parseStatuses(statuses); err != nil {
				return err
			}
			if limit < 1 {
				return misused("--limit %d: give 1 or more", limit)
			}
			if !all {
				f.PageSize = min(limit, largestPage)
			}
			out := cmd.OutOrStdout()
			table := &table{out: out, columns: columnsOf(out)}
			tell := table.add
			switch {
			case asJSON:
				tell = func(u client.Upload) error { return printJSON(out, u) }
			case quiet:
				tell = func(u client.Upload) error {
					_, err := fmt.Fprintln(out, u.ID)
					return err
				}
			}
			n := 0
			for u, err := range service.List(cmd.Context(), f) {
				if err != nil {
					return errors.Join(table.flush(!asJSON && !quiet && n > 0), errors.New(explain(err)))
				}
				if err := tell(u); err != nil {
					return err
				}
				if n++; n == limit && !all {
					break
				}
			}
			return table.flush(!asJSON && !quiet)
		}),
	}
	fs := c.Flags()
	fs.StringSliceVar(&statuses, "status", nil, "only those with this status; several by commas, or repeated")
	which.addTo(c)
	fs.IntVar(&limit, "limit", 20, "how many at most")
	fs.BoolVar(&all, "all", false, "all there are")
	fs.BoolVarP(&quiet, "quiet", "q", false, "print only the ids")
	fs.BoolVar(&asJSON, "json", false, "print one JSON object for each upload")
	c.MarkFlagsMutuallyExclusive("limit", "all")
	c.MarkFlagsMutuallyExclusive("quiet", "json")
	complete(c, "status", statusNames()...)
	complete(c, "limit")
	return c
}

func parseStatuses(names []string) (list []upload.Status, err error) {
	for _, name := range names {
		s, err := upload.ParseStatus(name)
		if err != nil {
			return nil, misused("there is no status %q; there are %s", name, strings.Join(statusNames(), ", "))
		}
		list = append(list, s)
	}
	return list, nil
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

// table prints uploads, page by page, so that they fit the columns of a terminal; 0 is none, and nothing is cut.
type table struct {
	out     io.Writer
	columns int
	headed  bool
	rows    []client.Upload
	widths  []int // of all columns but the last, as far as is known
}

func (t *table) add(u client.Upload) error {
	if t.rows = append(t.rows, u); len(t.rows) < largestPage {
		return nil
	}
	return t.flush(true)
}

// flush prints what waits, below a head, if it is to.
func (t *table) flush(shown bool) error {
	if !shown || t.headed && len(t.rows) == 0 {
		return nil
	}
	full := t.columns == 0 || t.columns >= wide
	var lines [][]string
	head := []string{"ID", "STATUS", "SIZE", "NAME"}
	if full {
		head = []string{"ID", "STATUS", "SIZE", "PROVIDER", "CREATED", "NAME"}
	}
	if !t.headed {
		lines = append(lines, head)
	}
	for _, u := range t.rows {
		line := []string{string(u.ID), standing(u), size(u.Size)}
		if full {
			line = append(line, u.Provider, humanize.Time(u.CreatedAt))
		}
		lines = append(lines, append(line, printable(u.FileName)))
	}
	t.headed, t.rows = true, t.rows[:0]
	var text []string
	text, t.widths = align(lines, t.widths, t.columns)
	_, err := fmt.Fprintln(t.out, strings.Join(text, "\n"))
	return err
}

// align makes lines of cells, in columns at least so wide as widths, and cut at so many columns; 0 cuts nothing.
func align(lines [][]string, widths []int, columns int) ([]string, []int) {
	for _, cells := range lines {
		for i, cell := range cells[:len(cells)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	text := make([]string, len(lines))
	for i, cells := range lines {
		var b strings.Builder
		for j, cell := range cells[:len(cells)-1] {
			b.WriteString(runewidth.FillRight(cell, widths[j]+2))
		}
		b.WriteString(cells[len(cells)-1])
		text[i] = b.String()
		if columns > 0 {
			text[i] = runewidth.Truncate(text[i], columns, "…")
		}
	}
	return text, widths
}
