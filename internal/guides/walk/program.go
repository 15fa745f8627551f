package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is a running process whose output is kept for whoever wants to know why it failed.
type program struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
	err   error // once ended
}

const (
	startTime = time.Minute
	endTime   = 30 * time.Second
)

// launch starts a program in dir, with env added to the environment.
func launch(ctx context.Context, log, dir string, env []string, command ...string) (*program, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	g := &program{name: strings.Join(command, " "), cmd: exec.CommandContext(ctx, command[0], command[1:]...), log: log, ended: make(chan struct{})}
	g.cmd.Dir, g.cmd.Stdout, g.cmd.Stderr = dir, out, out
	g.cmd.Env = append(g.cmd.Environ(), env...)
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.ended)
	}()
	return g, nil
}

// failed is an error with the end of what the program has printed.
func (g *program) failed(err error) error {
	text, readErr := os.ReadFile(g.log)
	const tail = 2000
	return errors.Join(fmt.Errorf("%s: %w\n%s", g.name, err, bytes.TrimSpace(text[max(0, len(text)-tail):])), readErr)
}

// wait is for a program that ends by itself.
func (g *program) wait() error {
	<-g.ended
	if g.err != nil {
		return g.failed(g.err)
	}
	return nil
}

// answers waits until something answers at a URL, whatever it says unless that it is unavailable.
func (g *program) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				return nil
			}
		}
		select {
		case <-g.ended:
			return g.failed(errors.Join(errors.New("it has ended"), g.err))
		case <-ctx.Done():
			return g.failed(fmt.Errorf("%s did not answer within %s", url, startTime))
		case <-tick.C:
		}
	}
}

// peak is the most memory that the program has had, in bytes, where the system tells; 0 elsewhere.
func (g *program) peak() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}

// stop asks the program to end. That it ended by the signal is no error.
func (g *program) stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
		return nil
	case <-time.After(endTime):
		_ = g.cmd.Process.Kill()
		<-g.ended
		return g.failed(fmt.Errorf("it did not end within %s", endTime))
	}
}
