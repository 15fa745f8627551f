package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// child is a program that runs beside this one.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string // the file with its output
	done chan struct{}
	err  error // set before done is closed
}

// start runs a program in a folder of its own, with env before what this program's environment says.
func start(ctx context.Context, dir string, env map[string]string, path string, args ...string) (*child, error) {
	p := &child{name: filepath.Base(path), done: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p.log = filepath.Join(dir, p.name+".log")
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = p.cmd.Environ()
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	dieWithUs(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and sees to it that it does.
func (p *child) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await returns when ok says so; an error when the process ends before.
func (p *child) await(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return p.failed(fmt.Errorf("not ready: %w", ctx.Err()))
		case <-p.done:
			return p.failed(errors.Join(errors.New("ended"), p.err))
		case <-tick.C:
		}
	}
	return nil
}

// failed adds to err the end of what the process has said.
func (p *child) failed(err error) error {
	b, _ := os.ReadFile(p.log) // without it err alone has to do
	return fmt.Errorf("%s: %w\n%s", p.name, err, b[max(0, len(b)-2000):])
}

// cpu measures what the process uses while f runs.
func (p *child) cpu(f func() error) (took, cpu time.Duration, err error) {
	took, cpu, err = cpuOf(p.cmd.Process.Pid, f)
	if err != nil {
		err = p.failed(err)
	}
	return took, cpu, err
}

// cpuOf measures what any process uses while f runs.
func cpuOf(pid int, f func() error) (took, cpu time.Duration, err error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := cpuTime(pid)
	return took, after - before, err
}

// freePort is one that nobody listens on at the moment.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), ln.Close()
}
