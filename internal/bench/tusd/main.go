// Command tusd serves tusd's own handler and file store, the yardstick for receiving by tus. It is a module of
// its own, so that the project does not depend on it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tus/tusd/v2/pkg/filestore"
	"github.com/tus/tusd/v2/pkg/handler"
	"github.com/tus/tusd/v2/pkg/memorylocker"
	"golang.org/x/exp/slog"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tusd:", err)
		os.Exit(1)
	}
}

// run serves /files/ until ctx ends, with what comes in a folder. Nothing is waited for on the disk.
func run(ctx context.Context) error {
	address := flag.String("address", "", "to listen on")
	dir := flag.String("dir", "", "that keeps what comes")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	store := handler.NewStoreComposer()
	filestore.New(*dir).UseIn(store)
	memorylocker.New().UseIn(store)
	h, err := handler.NewHandler(handler.Config{
		StoreComposer: store, BasePath: "/files/",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.StripPrefix("/files/", h), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintln(os.Stdout, "ready")
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
