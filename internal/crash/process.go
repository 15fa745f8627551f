package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// post is a place where one of the built programs runs, again and again.
type post struct {
	name string // "api 0"
	bin  string
	dir  string // of the process, and for its log
	url  string // where it answers for its health

	mu    sync.Mutex
	env   map[string]string
	child *child // nil while none runs
	quits int    // that nobody asked for
}

// child is one process.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (c *child) lives() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func newPost(name, bin, dir, port string, env map[string]string) (*post, error) {
	p := &post{name: name, bin: bin, dir: filepath.Join(dir, name), url: "http://127.0.0.1:" + port, env: env}
	return p, os.MkdirAll(p.dir, 0o755)
}

// start runs the program with these settings beside its own, unless it runs.
func (p *post) start(more map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child != nil && p.child.lives() {
		return nil
	}
	log, err := os.OpenFile(p.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := &child{cmd: exec.Command(p.bin), done: make(chan struct{})} //nolint:noctx // a program of ours, that is killed soon enough
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = p.dir, log, log
	for _, pair := range c.cmd.Environ() { // nothing but what it needs to run at all
		if name, _, _ := strings.Cut(pair, "="); slices.Contains([]string{"PATH", "HOME", "TMPDIR"}, name) {
			c.cmd.Env = append(c.cmd.Env, pair)
		}
	}
	env := maps.Clone(p.env)
	maps.Copy(env, more)
	for k, v := range env {
		c.cmd.Env = append(c.cmd.Env, k+"="+v)
	}
	dieWithUs(c.cmd)
	if err := c.cmd.Start(); err != nil {
		return err
	}
	p.child = c
	go func() {
		_ = c.cmd.Wait() // how it ended, its log tells
		close(c.done)
	}()
	return nil
}

func (p *post) log() string { return filepath.Join(p.dir, "log") }

// pid is that of the process that runs, 0 when none does.
func (p *post) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child == nil {
		return 0
	}
	return p.child.cmd.Process.Pid
}

// signal sends one to the process, if there is one.
func (p *post) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child != nil {
		_ = p.child.cmd.Process.Signal(s) // it may have ended
	}
}

// kill ends the process at once.
func (p *post) kill() { _ = p.end(syscall.SIGKILL, 0) }

// stop asks the process to end, and sees to it that it does.
func (p *post) stop(limit time.Duration) error { return p.end(syscall.SIGTERM, limit) }

func (p *post) end(s syscall.Signal, limit time.Duration) error {
	p.mu.Lock()
	c := p.child
	p.child = nil
	if c != nil {
		_ = c.cmd.Process.Signal(syscall.SIGCONT) // who sleeps hears nothing else; it may have ended
		_ = c.cmd.Process.Signal(s)
	}
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	if s == syscall.SIGKILL {
		<-c.done
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(limit):
		_ = c.cmd.Process.Kill()
		<-c.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, limit)
	}
}

// supervise starts the process again when it has ended by itself, as every supervisor does, until ctx ends.
func (p *post) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		c := p.child
		p.mu.Unlock()
		var done chan struct{}
		if c != nil {
			done = c.done
		}
		select {
		case <-ctx.Done():
		case <-done:
			p.mu.Lock()
			quit := p.child == c
			if quit {
				p.quits++
			}
			p.mu.Unlock()
			if quit && pause(ctx, time.Second) {
				_ = p.start(nil) // what it says is in its log, and nothing answers
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pause waits, and tells whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// freePorts are some that nobody listens on at the moment.
func freePorts(n int) (ports []string, err error) {
	var all []net.Listener
	for range n {
		ln, failed := net.Listen("tcp", "127.0.0.1:0")
		if failed != nil {
			err = errors.Join(err, failed)
			break
		}
		all = append(all, ln)
		ports = append(ports, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	for _, ln := range all {
		err = errors.Join(err, ln.Close())
	}
	return ports, err
}
