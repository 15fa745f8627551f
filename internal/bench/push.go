package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// measurePush lets the worker send large files to each simulator, beside a plain program that PUTs the same
// bytes in the same parts to a server that does the simulator's work: it writes them and sums them.
func measurePush(ctx context.Context, s *stack, o options, r *report) error {
	if _, err := s.startAPI(ctx); err != nil {
		return err
	}
	worker, err := s.startWorker(ctx)
	if err != nil {
		return err
	}
	_, url, err := s.startReceiver(ctx)
	if err != nil {
		return err
	}
	w, err := newWatch(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	who, err := token(user(1))
	if err != nil {
		return err
	}
	client := newClient(1)
	for _, p := range []struct {
		name     string
		part     int64
		parallel int
		sums     int
	}{
		{"uploadcare", 32 * mib, 4, 1},
		{"cloudinary", 20_000_000, 1, 2},
	} {
		ours := func() (sample, error) {
			var took time.Duration
			_, cpu, err := worker.cpu(func() error {
				if err := sendLarge(ctx, client, s.url+"/v1/uploads", who, "raw", p.name, s.large); err != nil {
					return err
				}
				var err error
				took, err = w.delivered(ctx)
				return err
			})
			if err != nil {
				return sample{}, err
			}
			return perGiB(o.size, took, cpu), s.shrink()
		}
		plain := func() (sample, error) {
			took, cpu, err := runPut(ctx, "-url", fmt.Sprintf("%s/part?sums=%d", url, p.sums), "-file", s.large,
				"-part", strconv.FormatInt(p.part, 10), "-parallel", strconv.Itoa(p.parallel))
			if err != nil {
				return sample{}, err
			}
			return perGiB(o.size, took, cpu), forget(s.received())
		}
		a, b, err := byTurns(o.rounds, ours, plain)
		if err != nil {
			return err
		}
		r.addRatio(fmt.Sprintf("push %d MiB to %s", o.size/mib, p.name), "MiB/s", a.rate, b.rate, none)
		r.addRatio("", "CPU-s/GiB of the worker", a.cpu, b.cpu, none)
	}
	r.note("push: the yardstick PUTs the same parts, 4 at once as for Uploadcare or one after the other as for Cloudinary, and sums nothing itself; the worker proves by MD5 and crc32c what it has sent.")
	return nil
}

// runPut runs the plain program as a process of its own, and returns what it printed and used.
func runPut(ctx context.Context, args ...string) (took, cpu time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	c := exec.CommandContext(ctx, self, append([]string{"put"}, args...)...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("plain PUT: %w", err)
	}
	took, err = time.ParseDuration(strings.TrimSpace(string(out)))
	return took, c.ProcessState.UserTime() + c.ProcessState.SystemTime(), err
}
