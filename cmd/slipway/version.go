package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version as JSON. Commit is "" where it is not known.
type release struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Changed bool   `json:"changed"` // there were changes beside the commit
	Go      string `json:"go"`
}

func versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  slipway version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := ownRelease()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), r)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// ownRelease is what this program was built from, as far as it knows.
func ownRelease() release {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release{Version: "unknown"}
	}
	r := release{Version: info.Main.Version, Go: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			r.Changed = s.Value == "true"
		}
	}
	return r
}

func (r release) String() string {
	text := r.Version
	if r.Commit != "" {
		text += ", commit " + r.Commit
	}
	if r.Changed {
		text += ", with changes"
	}
	if r.Go != "" {
		text += ", " + r.Go
	}
	return text
}
