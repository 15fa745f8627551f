package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// Fault is one thing that is wrong with the settings, and what to do about it. It holds no secret.
type Fault struct {
	Variable string // or the file, where it is one that is wrong
	Problem  string
	Remedy   string
}

func (f Fault) Error() string { return f.Variable + " " + f.Problem + "; " + f.Remedy + "." }

// Faults are all that is wrong with the settings, at most one for each variable.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// add notes a fault, unless the variable has one: the first is the cause.
func (f *Faults) add(variable, problem, remedy string) {
	if !slices.ContainsFunc(*f, func(old Fault) bool { return old.Variable == variable }) {
		*f = append(*f, Fault{variable, problem, remedy})
	}
}

// PortTaken adds the remedy to the error of a listener when something else has its port: variable is
// the setting that chose it. Any other error, and nil, it returns as it is.
func PortTaken(err error, variable string, port int) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return Fault{variable, fmt.Sprintf("names port %d, where something is listening already", port), fmt.Sprintf("stop that, or give another port, such as %s=%d", variable, port+10)}
}
