package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/joho/godotenv"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway/internal/client"
	"slipway/internal/upload"
)

// devEnv is where `slipway dev` in the same folder has written its address.
var devEnv = filepath.Join(".slipway", "dev.env")

// service is the client of the service that SLIPWAY_URL names, or that a development stack in this
// folder has named, or that answers where one does by default.
func service(cmd *cobra.Command) (*client.Client, error) {
	return serviceTelling(func(format string, a ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", a...) })
}

// serviceTelling is service that says by line what is waited for.
func serviceTelling(line func(format string, a ...any)) (*client.Client, error) {
	address, from := os.Getenv("SLIPWAY_URL"), "SLIPWAY_URL"
	if address == "" {
		dev, err := godotenv.Read(devEnv)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s cannot be read; set SLIPWAY_URL to the service's address", devEnv)
		}
		address, from = dev["SLIPWAY_URL"], devEnv
	}
	c, err := client.New(client.Options{
		URL: address, Token: os.Getenv("SLIPWAY_TOKEN"),
		Waiting: func(cause error, wait time.Duration) {
			if wait > time.Second {
				line("%s; trying again in %s", sentence(cause), wait.Round(time.Second))
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return c, nil
}

// sentence is an error as a person is told it, without its full stop.
func sentence(err error) string { return strings.TrimSuffix(err.Error(), ".") }

// explain is an error of the service with what can be done about it.
func explain(err error) string {
	var silent *client.UnreachableError
	var refused *client.Error
	switch {
	case errors.As(err, &silent) && silent.Unknown, errors.As(err, &refused) && refused.Unknown && refused.UploadID == "":
		return sentence(err) + ". It may have been accepted all the same: look with `slipway list` before doing it again."
	case errors.As(err, &silent):
		return sentence(err) + ". Is Slipway running? Start it with `make run`, or set SLIPWAY_URL to where it is."
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		return sentence(err) + ". Set SLIPWAY_TOKEN to a token of yours."
	case errors.As(err, &refused) && refused.UploadID != "" && refused.Retryable:
		return fmt.Sprintf("%s. Its id is %s: `slipway status %s`.", sentence(err), refused.UploadID, refused.UploadID)
	}
	return sentence(err) + "."
}

// fault is what went wrong, as JSON.
type fault struct {
	Code   upload.Code `json:"code,omitempty"`
	Status int         `json:"status,omitempty"` // of HTTP
	Detail string      `json:"detail"`
}

func faultOf(err error) *fault {
	var refused *client.Error
	if errors.As(err, &refused) {
		return &fault{Code: refused.Code, Status: refused.Status, Detail: explain(err)}
	}
	return &fault{Detail: explain(err)}
}

// printJSON writes v on one line.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// columnsOf is how wide the terminal w is; 0 when it is none.
func columnsOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		return 80
	}
	return columns
}

// printable is a name as a terminal may show it: control characters would act on it.
func printable(name string) string {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return strconv.Quote(name)
	}
	return name
}

// interrupted tells whether the person wants no more.
func interrupted(ctx context.Context) bool { return ctx.Err() != nil }
