package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asSlipway has the test's program be slipway, for what only a process of its own shows.
const asSlipway = "SLIPWAY_TEST_IS_SLIPWAY"

// installed puts slipway on the PATH of the test.
func installed(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "bin")
	script := fmt.Sprintf("#!/bin/sh\nexport %s=1\nexec '%s' \"$@\"\n", asSlipway, self)
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "slipway"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestExitCodes(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	write(t, "good.bin", "content")
	write(t, "bad.bin", "content")
	s.fault(t, "cloudinary", invalidImage)
	for line, want := range map[string]int{
		"put good.bin":            0,
		"help":                    0,
		"list --status completed": 0,
		"put nothere":             exitFailed,
		"status 0193f1c2-0000-7000-8000-000000000000": exitFailed,
		"health " + s.url + "/nothing":                exitFailed,
		"lost":                                        exitUsage,
		"list --all-of-it":                            exitUsage,
		"list --status lost":                          exitUsage,
		"put":                                         exitUsage,
		"put --type song good.bin":                    exitUsage,
		"migrate --copy --moved":                      exitUsage,
		"put --wait --provider cloudinary bad.bin":    exitNotDelivered,
		"put --wait --provider cloudinary bad.bin lost.bin":    exitFailed,
		"put --json --wait --provider cloudinary bad.bin":      exitNotDelivered,
		"put --wait --provider uploadcare good.bin ./good.bin": 0,
	} {
		t.Run(line, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "slipway", strings.Fields(line)...).CombinedOutput()
			var ended *exec.ExitError
			got := 0
			if errors.As(err, &ended) {
				got = ended.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if got != want || (want == exitUsage) != bytes.Contains(out, []byte("See `slipway")) {
				t.Errorf("ends with %d, want %d:\n%s", got, want, out)
			}
		})
	}
}

func TestHelpNamesTheExitCodes(t *testing.T) {
	r := slipway(t.Context(), "help")
	for _, code := range []int{0, exitFailed, exitUsage, exitNotDelivered, exitInterrupted} {
		if !strings.Contains(r.stdout, fmt.Sprintf("\n  %-4d ", code)) {
			t.Errorf("%d is not in\n%s", code, r.stdout)
		}
	}
}
