package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/cli/browser"
	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// opened is what was opened, as JSON.
type opened struct {
	ID      upload.ID `json:"id"`
	URL     string    `json:"url"`
	Browser bool      `json:"browser"` // it was given to one
}

func openCommand() *cobra.Command {
	var only, asJSON bool
	c := &cobra.Command{
		Use:     "open ID",
		GroupID: "files",
		Short:   "Open an upload's file in the browser",
		Long: "Opens the file of a completed upload in the browser; of another upload the page that shows how it gets on. Where there is no\n" +
			"browser, as over ssh, it prints the URL.",
		Example:           "  slipway open 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e\n  curl -LO \"$(slipway open --print 0193f1c2-5a3b-7c11-9d52-6f1a2b3c4d5e)\"",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeIDs(nil),
		RunE: asking(func(cmd *cobra.Command, service *client.Client, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", printable(args[0]), err)
			}
			u, err := service.Get(cmd.Context(), id)
			if err != nil {
				return errors.New(explain(err))
			}
			o := opened{ID: id}
			if o.URL, err = placeOf(u); err != nil {
				return err
			}
			if !only && hasBrowser(runtime.GOOS, os.Getenv) {
				browser.Stdout, browser.Stderr = cmd.ErrOrStderr(), cmd.ErrOrStderr()
				err := browser.OpenURL(o.URL)
				if err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "No browser could be opened: %v.\n", err)
				}
				o.Browser = err == nil
			}
			switch {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), o)
			case o.Browser:
				fmt.Fprintln(cmd.ErrOrStderr(), "Opened "+o.URL)
				return nil
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), o.URL)
			return err
		}),
	}
	c.Flags().BoolVar(&only, "print", false, "only print the URL")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// placeOf is where a person can look at an upload: its file, or the page that shows how it gets on.
func placeOf(u client.Upload) (string, error) {
	place := address(u)
	if u.Status != upload.Completed {
		base, found := strings.CutSuffix(u.URL, "/v1/files/"+string(u.ID)+"/content")
		if !found {
			return "", fmt.Errorf("%s is %s, and its page is not known", printable(u.FileName), u.Status)
		}
		place = base + "/uploads/" + string(u.ID)
	}
	// What the service says is not passed to a program unseen: it could be a file here, or a program's own scheme.
	if to, err := url.Parse(place); err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return "", fmt.Errorf("%s has no address that a browser should open", printable(u.FileName))
	}
	return place, nil
}

// hasBrowser tells whether a browser that is opened here is seen by who asks for it.
func hasBrowser(goos string, getenv func(string) string) bool {
	set := func(name string) bool { return getenv(name) != "" }
	switch {
	case set("SSH_CONNECTION"), set("SSH_TTY"):
		return false
	case goos == "darwin", goos == "windows":
		return true
	}
	return set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WSL_DISTRO_NAME")
}
