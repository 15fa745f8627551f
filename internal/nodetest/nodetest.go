// Package nodetest runs scripts in Node.js, in tests, with the packages that stand beside them.
package nodetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	installTime = 3 * time.Minute
	scriptTime  = 3 * time.Minute

	// farewell is for a script to end what it has started, once it is told to stop.
	farewell = 5 * time.Second
)

// Run runs a script of a folder of this module in Node.js, with env ("NAME=value") added to the
// environment, and returns what it printed. The folder's packages are installed first, where they are
// not yet as its package-lock.json says. A script that fails fails the test. Its standard input ends
// with the test's process, however that ends.
func Run(t *testing.T, folder, script string, env ...string) string {
	t.Helper()
	dir := Install(t, folder)
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, script))
	node.Env = append(os.Environ(), env...)
	node.Cancel = func() error { return node.Process.Signal(syscall.SIGTERM) }
	node.WaitDelay = farewell
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Install sees to it that the packages of a folder of this module are there, and returns where it is.
func Install(t *testing.T, folder string) (dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed: %s needs Node.js 20 or later with npm (https://nodejs.org)", program, folder)
		}
	}
	root, err := module()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(root, filepath.FromSlash(folder))
	if err := install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// module is this module's folder, found from the folder of the test that runs.
func module() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// install makes node_modules what package-lock.json says. Of several processes one installs
// and the others wait.
func install(ctx context.Context, dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, ".install.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	wanted, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(wanted)
	stamp := filepath.Join(dir, "node_modules", ".installed") // gone with node_modules
	if got, err := os.ReadFile(stamp); err == nil && string(got) == hex.EncodeToString(sum[:]) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in %s: %w\n%s", dir, err, bytes.TrimSpace(out))
	}
	return os.WriteFile(stamp, []byte(hex.EncodeToString(sum[:])), 0o600)
}
