// Command slipway is what people use: to run the service, to look after it, and to send files.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"slipway/internal/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	c, err := command().ExecuteContextC(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "slipway:", err)
		if exitCode(err) == exitUsage {
			fmt.Fprintf(os.Stderr, "See `%s --help`.\n", c.CommandPath())
		}
	}
	os.Exit(exitCode(err))
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "slipway",
		Short: "Takes large files in and delivers them to Uploadcare or Cloudinary",
		Long: "Takes large files in and delivers them to Uploadcare or Cloudinary.\n\n" +
			"Files are sent to the Slipway at SLIPWAY_URL, by the user whom SLIPWAY_TOKEN names. Both are taken from the environment, or\n" +
			"from ./.env. Without SLIPWAY_URL it is the `slipway dev` in this folder, or else " + client.DefaultURL + ".\n\n" + exitCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: "files", Title: "Send files, and look after them:"}, &cobra.Group{ID: "run", Title: "Run the service:"})
	root.AddCommand(
		putCommand(), statusCommand(), listCommand(), watchCommand(), openCommand(), retryCommand(), cancelCommand(), removeCommand(),
		devCommand(), serveCommand(), migrateCommand(), keyCommand(), forgetCommand(), simCommand(), healthCommand(), doctorCommand(),
		completionCommand(), versionCommand(),
	)
	coded(root)
	return root
}
