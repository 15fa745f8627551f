package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// What slipway ends with, for scripts.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitNotDelivered = 3
	exitInterrupted  = 128 + 2 // as shells have it: 128 and the number of the signal
)

const exitCodes = `Exit codes:
  0    it is done
  1    it could not be done, or not all of it
  2    the command was called in a wrong way
  3    nothing went wrong here, but an upload did not arrive: it failed, or was canceled or deleted
  130  interrupted, by Ctrl-C or by a signal`

// ending is an error that says what slipway ends with.
type ending struct {
	code int
	err  error
}

func (e *ending) Error() string { return e.err.Error() }
func (e *ending) Unwrap() error { return e.err }

var errInterrupted = &ending{exitInterrupted, errors.New("interrupted")}

// misused says what is wrong with how a command was called.
func misused(format string, a ...any) error {
	return &ending{exitUsage, fmt.Errorf(format, a...)}
}

// exitCode is what slipway ends with for err. An error without a code is from before a command ran: it is
// about how it was called.
func exitCode(err error) int {
	var e *ending
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitUsage
}

// coded gives a code to each error of c and of the commands below it.
func coded(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			if e := (*ending)(nil); err == nil || errors.As(err, &e) {
				return err
			}
			return &ending{exitFailed, err}
		}
	}
	for _, sub := range c.Commands() {
		coded(sub)
	}
}
