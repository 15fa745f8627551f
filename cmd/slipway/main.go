// Command slipway is what people use: to run the service, to look after it, and to send files.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "slipway:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "Takes large files in and delivers them to Uploadcare or Cloudinary",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: "files", Title: "Send files:"}, &cobra.Group{ID: "run", Title: "Run the service:"})
	root.AddCommand(
		putCommand(), statusCommand(), listCommand(), retryCommand(),
		devCommand(), serveCommand(), migrateCommand(), keyCommand(), simCommand(), healthCommand(), doctorCommand(), versionCommand(),
	)
	return root
}
