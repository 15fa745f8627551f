// Package browser runs pages in Chromium, in tests, as the people in front of them use them.
package browser

import (
	"os/exec"
	"testing"

	"slipway/internal/nodetest"
)

// Run runs a script of this folder in Node.js, with env ("NAME=value") added to the environment, and
// returns what it printed; chromium.mjs gives it a browser. A script that fails fails the test.
func Run(t *testing.T, script string, env ...string) string {
	t.Helper()
	return nodetest.Run(t, "internal/browser", script, append(env, "CHROMIUM="+chromium(t))...)
}

// chromium finds the browser where scripts/install-chromium.sh puts it.
func chromium(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	t.Fatal("Chromium is not installed; scripts/install-chromium.sh installs it, or says how to")
	return ""
}
