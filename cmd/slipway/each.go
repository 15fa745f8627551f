package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// asking makes what a command asks of the service into its RunE. Who interrupts it is told no other reason
// for its end.
func asking(run func(cmd *cobra.Command, service *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		service, err := service(cmd)
		if err != nil {
			return err
		}
		defer service.Close()
		err = run(cmd, service, args)
		if err != nil && interrupted(cmd.Context()) {
			return errInterrupted
		}
		return err
	}
}

// question is what is asked about one upload, and how the answer is told to a person.
type question struct {
	ask  func(context.Context, *client.Client, upload.ID) (client.Upload, error)
	tell func(io.Writer, client.Upload)
}

// forEach makes c, which has a name and a description, a command that asks q about every id. The ids that a
// shell offers are of uploads with one of the statuses, or of any.
func forEach(c *cobra.Command, q question, offered ...upload.Status) *cobra.Command {
	var asJSON bool
	c.GroupID = "files"
	c.Args = cobra.MinimumNArgs(1)
	c.ValidArgsFunction = completeIDs(offered)
	c.RunE = asking(func(cmd *cobra.Command, service *client.Client, ids []string) error {
		failed := 0
		for _, text := range ids {
			u, err := askOne(cmd.Context(), service, q, text)
			switch {
			case interrupted(cmd.Context()):
				return errInterrupted
			case err != nil:
				failed++
				err = tellRefusal(cmd, asJSON, text, err)
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), u)
			default:
				q.tell(cmd.OutOrStdout(), u)
			}
			if err != nil {
				return err
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d could not be answered", failed, len(ids))
		}
		return nil
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each upload")
	return c
}

func askOne(ctx context.Context, service *client.Client, q question, text string) (client.Upload, error) {
	id, err := parseID(text)
	if err != nil {
		return client.Upload{}, err
	}
	return q.ask(ctx, service, id)
}

func parseID(text string) (upload.ID, error) {
	id, err := upload.ParseID(strings.ToLower(text))
	if err != nil {
		return "", errors.New("this is no id; `slipway list` shows them")
	}
	return id, nil
}

// refusal is an id that was not answered, as JSON.
type refusal struct {
	ID    string `json:"id"`
	Error *fault `json:"error"`
}

// tellRefusal says why there is no answer for an id.
func tellRefusal(cmd *cobra.Command, asJSON bool, id string, err error) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", printable(id), explain(err))
	if !asJSON {
		return nil
	}
	return printJSON(cmd.OutOrStdout(), refusal{id, faultOf(err)})
}
