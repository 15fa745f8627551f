package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"slipway/internal/doctor"
	"slipway/internal/process"
)

// reconcile prints the differences between rows, staging and providers, or the whole plan as JSON.
func reconcile(cmd *cobra.Command, o doctor.ReconcileOptions, asJSON bool) error {
	o.Log = process.Log(o.Config, cmd.ErrOrStderr())
	plan, err := doctor.Reconcile(cmd.Context(), o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		err = printJSON(out, plan)
	} else {
		err = printPlan(out, plan)
	}
	open := plan.Open()
	switch {
	case err != nil:
		return err
	case len(plan.Unanswered) > 0:
		return errors.New("not everything could be compared")
	case open == 1:
		return errors.New("there is 1 difference")
	case open > 1:
		return fmt.Errorf("there are %d differences", open)
	}
	return nil
}

func printPlan(w io.Writer, p doctor.Plan) error {
	var b strings.Builder
	for _, d := range p.Differences {
		which := []string{string(d.UploadID), d.AssetID}
		which = slices.DeleteFunc(which, func(s string) bool { return s == "" })
		fmt.Fprintf(&b, "%-18s  %s  %s", d.Kind, printable(strings.Join(which, " ")), d.Text)
		if d.Bytes > 0 {
			fmt.Fprintf(&b, " (%s)", humanize.IBytes(uint64(d.Bytes)))
		}
		switch {
		case d.Done:
			b.WriteString(" → done: " + d.Action)
		case d.Action != "":
			b.WriteString(" → --apply would " + d.Action)
		}
		b.WriteByte('\n')
	}
	for _, u := range p.Unanswered {
		fmt.Fprintf(&b, "%-18s  could not be compared: %s\n", u.Part, u.Why)
	}
	var assets []string
	for name, n := range p.Compared.Assets {
		assets = append(assets, fmt.Sprintf("%d files at %s", n, name))
	}
	slices.Sort(assets)
	fmt.Fprintf(&b, "%s: compared %d staged and %d stored uploads with staging and %s; what is younger than %s was left alone.\n",
		p.Installation, p.Compared.Uploads, p.Compared.Stored, cmp.Or(strings.Join(assets, " and "), "no provider"), p.Grace)
	_, err := io.WriteString(w, b.String())
	return err
}
