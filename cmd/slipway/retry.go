package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func retryCommand() *cobra.Command {
	var to string
	var which choice
	var all, dryRun bool
	c := forEach(&cobra.Command{
		Use:   "retry [ID...]",
		Short: "Send failed uploads on their way again",
		Long: "Sends failed uploads on their way again: those that are named, or with --all every failed one of yours, or those that --code,\n" +
			"--provider, --name, --after and --before choose. They go on where they stopped. --to sends those that are named to another\n" +
			"provider, where they begin anew.",
		Example: "  slipway retry 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e\n  slipway retry --to cloudinary 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e\n" +
			"  slipway retry --all --dry-run\n  slipway retry --code provider_account --after 24h",
	}, question{
		ask: func(ctx context.Context, service *client.Client, id upload.ID) (client.Upload, error) {
			return service.Retry(ctx, id, to)
		},
		tell: func(w io.Writer, u client.Upload) {
			fmt.Fprintf(w, "%s is %s again\n", printable(u.FileName), u.Status)
		},
	}, upload.Failed)
	c.Args = cobra.ArbitraryArgs
	each := c.RunE
	c.RunE = func(cmd *cobra.Command, ids []string) error {
		chosen := all || which.any()
		switch {
		case chosen && len(ids) > 0:
			return misused("name uploads, or choose them by flags, not both; where those that are named go is said by --to")
		case !chosen && len(ids) == 0:
			return misused("name uploads, or choose failed ones by --all or another flag")
		case to != "" && (chosen || dryRun):
			return misused("--to goes with the ids of uploads, and nothing else")
		case len(ids) > 0 && !dryRun:
			return each(cmd, ids)
		}
		f := client.FailedFilter{
			Provider: which.provider, ErrorCode: which.code, NamePrefix: which.name,
			CreatedAfter: which.after.at, CreatedBefore: which.before.at,
		}
		for _, text := range ids {
			id, err := parseID(text)
			if err != nil {
				return fmt.Errorf("%s: %w", printable(text), err)
			}
			f.IDs = append(f.IDs, id)
		}
		return retryMany(cmd, f, dryRun)
	}
	fs := c.Flags()
	fs.StringVar(&to, "to", "", "send them to this provider (default: where they were going)")
	fs.BoolVar(&all, "all", false, "all failed ones")
	which.addTo(c)
	fs.BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	fs.Lookup("json").Usage = "print one JSON object for each upload, or for each batch of those that are chosen"
	completeProviders(c, "to")
	return c
}

// retryMany retries what f chooses, batch by batch, and says what it came to.
func retryMany(cmd *cobra.Command, f client.FailedFilter, dryRun bool) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	return asking(func(cmd *cobra.Command, service *client.Client, _ []string) error {
		out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
		watched := columnsOf(errs) > 0
		sum := retried{dryRun: dryRun}
		var broken error
		for b, err := range service.RetryAll(cmd.Context(), f, dryRun) {
			if err != nil {
				broken = err
				break
			}
			sum.add(b)
			if asJSON {
				if err := printJSON(out, b); err != nil {
					return err
				}
			}
			if watched && b.Next != "" {
				fmt.Fprintf(errs, "\r%s so far …\x1b[K", humanize.Comma(int64(sum.count)))
			}
		}
		if watched {
			fmt.Fprint(errs, "\r\x1b[K")
		}
		if !asJSON && (broken == nil || sum.count > 0) {
			fmt.Fprint(out, sum.String())
		}
		switch refused := sum.refused(); {
		case broken != nil:
			return errors.New(explain(broken))
		case refused > 0 && !dryRun:
			return fmt.Errorf("%s of %s could not be retried", humanize.Comma(int64(refused)), humanize.Comma(int64(sum.count+refused)))
		}
		return nil
	})(cmd, nil)
}

// retried is what all batches came to.
type retried struct {
	dryRun bool
	count  int
	not    []client.RetryRefusal // one for each code
}

func (s *retried) add(b client.RetryBatch) {
	s.count += b.Retried.Count
next:
	for _, r := range b.NotRetried {
		for i := range s.not {
			if s.not[i].Code == r.Code {
				s.not[i].Count += r.Count
				continue next
			}
		}
		s.not = append(s.not, r)
	}
}

func (s *retried) refused() (n int) {
	for _, r := range s.not {
		n += r.Count
	}
	return n
}

func (s *retried) String() string {
	var b strings.Builder
	switch {
	case s.count == 0 && len(s.not) == 0:
		return "No failed upload is among them.\n"
	case s.dryRun:
		fmt.Fprintf(&b, "Would be retried: %s.\n", uploads(s.count))
	default:
		fmt.Fprintf(&b, "Retried: %s.\n", uploads(s.count))
	}
	for _, r := range s.not {
		fmt.Fprintf(&b, "Not retried: %s. %s (%s)\n", uploads(r.Count), r.Message, r.Code)
	}
	return b.String()
}

func uploads(n int) string {
	if n == 1 {
		return "1 upload"
	}
	return humanize.Comma(int64(n)) + " uploads"
}
