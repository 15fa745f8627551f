package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway/internal/client"
	"slipway/internal/config"
	"slipway/internal/upload"
)

// dotEnv is where a folder has its settings.
const dotEnv = ".env"

// devEnv is where `slipway dev` in the same folder has written its address.
var devEnv = filepath.Join(".slipway", "dev.env")

// place is a service, and who asks there.
type place struct {
	url   string // "": client.DefaultURL
	token string
	from  string // who has said so; "": nobody

	// astray is a token of the environment that would go where a file says: any folder may hold one that somebody else has written.
	astray bool
}

// findPlace returns the service that SLIPWAY_URL names in the environment, else in ./.env, else that of a development
// stack in this folder, else the one that answers where one does by default. SLIPWAY_TOKEN of the environment goes before
// that of the file.
func findPlace() (place, error) {
	p := place{url: os.Getenv("SLIPWAY_URL"), token: os.Getenv("SLIPWAY_TOKEN"), from: "SLIPWAY_URL"}
	if p.url != "" {
		return p, nil
	}
	for _, file := range []string{dotEnv, devEnv} {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		values, err := config.ReadDotEnv(file)
		if err != nil {
			return p, fmt.Errorf("%s cannot be read; set SLIPWAY_URL to the service's address", file)
		}
		if p.url = values["SLIPWAY_URL"]; p.url == "" {
			continue
		}
		p.from = file
		p.astray = p.token != "" && !onLoopback(p.url)
		if p.token == "" {
			p.token = values["SLIPWAY_TOKEN"]
		}
		return p, nil
	}
	p.from = ""
	return p, nil
}

// onLoopback tells whether an address leads to this machine.
func onLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// service is the client of the service at findPlace.
func service(cmd *cobra.Command) (*client.Client, error) {
	return serviceTelling(func(format string, a ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", a...) })
}

// serviceTelling is service that says by line what is waited for.
func serviceTelling(line func(format string, a ...any)) (*client.Client, error) {
	at, err := findPlace()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{
		URL: at.url, Token: at.token,
		Waiting: func(cause error, wait time.Duration) {
			if wait > time.Second {
				line("%s; trying again in %s", sentence(cause), wait.Round(time.Second))
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at.from, err)
	}
	if at.astray {
		c.Close()
		return nil, fmt.Errorf("SLIPWAY_TOKEN of the environment does not go to the address in %[1]s, which somebody else may have written; set SLIPWAY_URL in the environment too, or both in %[1]s", at.from)
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
		return sentence(err) + ". " + whence() + "Is Slipway running? Start it with `make run`, or set SLIPWAY_URL to where it is."
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		return sentence(err) + ". Set SLIPWAY_TOKEN to a token of yours."
	case errors.As(err, &refused) && refused.UploadID != "" && refused.Retryable:
		return fmt.Sprintf("%s. Its id is %s: `slipway status %s`.", sentence(err), refused.UploadID, refused.UploadID)
	}
	return sentence(err) + "."
}

// whence is a sentence about who has said where the service is.
func whence() string {
	at, err := findPlace()
	if err != nil {
		return ""
	}
	if at.from == "" {
		return "Nothing names another address. "
	}
	return "The address is from " + at.from + ". "
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
