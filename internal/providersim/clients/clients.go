// Package clients runs the vendors' own JavaScript clients against the simulators, in tests.
package clients

import (
	"testing"

	"slipway/internal/nodetest"
)

// Run runs a script of this folder in Node.js, with env ("NAME=value") added to the environment,
// and returns what it printed. A script that fails fails the test.
func Run(t *testing.T, script string, env ...string) string {
	t.Helper()
	return nodetest.Run(t, "internal/providersim/clients", script, env...)
}
