package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	// lineRate is what a simulator takes over one connection, in bytes per second.
	lineRate = 20 * mib
	// slots are how many large files a worker sends to a provider at once.
	slots = 4
)

// measureLanes sends small files one at a time, first to a worker at rest, then to one that has large files queued
// for the same provider and is sending as many of them as it does at once.
func measureLanes(ctx context.Context, s *stack, o options, r *report) error {
	if _, err := s.startAPI(ctx); err != nil {
		return err
	}
	w, err := newWatch(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	s.env["PUSH_PARTS"] = strconv.Itoa(o.parts)
	most := 4*runtime.GOMAXPROCS(0) - 1 // as by default, less the one kept for small files
	for _, p := range []struct {
		name  string
		lines int // to it, for a large file
	}{
		{"uploadcare", o.parts},
		{"cloudinary", 1},
	} {
		if err := slow(ctx, s, p.name); err != nil {
			return err
		}
		s.env["PROVIDERS"] = p.name // what is queued for the other provider is left alone
		worker, err := s.startWorker(ctx)
		if err != nil {
			return err
		}
		from, err := newSender(s, w, p.name)
		if err != nil {
			return err
		}
		idle, err := from.times(ctx, o.latency)
		if err != nil {
			return err
		}
		behind, rate, err := behindLarge(ctx, s, o, p.name, from)
		if err != nil {
			return err
		}
		worker.stop()
		r.addGrowth(fmt.Sprintf("64 KiB behind %d × %d MiB, %s", o.backlog, o.size/mib, p.name), "ms p50", quantile(behind, 0.5), quantile(idle, 0.5), none)
		r.addGrowth("", "ms p95", quantile(behind, 0.95), quantile(idle, 0.95), 2)
		r.addRatio("", "MiB/s of large files meanwhile", rate, float64(min(slots*p.lines, most)*lineRate)/mib, none)
	}
	r.note("behind large files: accepted to completed while %d large files are being sent to the same provider, at %d MiB/s over each connection, and the others wait; "+
		"the yardstick is the same at rest, and of the large files' rate what the lines allow: far below it the processors are what everything waits for, the simulators' own work included. In staging the large files are one file under many names, and what the simulators have stored of them is cut, so that they need little disk.",
		slots, lineRate/mib)
	return nil
}

// slow sets a simulator's line.
func slow(ctx context.Context, s *stack, name string) error {
	url := s.env["UPLOADCARE_UPLOAD_BASE"] + "/_sim/" + name + "/line" // one server is both simulators
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(fmt.Sprintf(`{"bytes_per_second": %d}`, lineRate)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = content(resp, http.StatusOK)
	return err
}

// behindLarge queues large files and sends small ones while they are on their way, at so many MiB/s.
func behindLarge(ctx context.Context, s *stack, o options, name string, from *sender) (times []float64, rate float64, err error) {
	pool, err := s.database(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer pool.Close()
	if err := queueLarge(ctx, s, o, pool, name); err != nil {
		return nil, 0, err
	}
	all, end := context.WithCancel(ctx)
	defer end()
	g, ctx := errgroup.WithContext(all)
	g.Go(func() error { return shrinkUntilEnd(ctx, s) })
	g.Go(func() error {
		defer end()
		if err := awaitLarge(ctx, pool, name, "pushing", slots); err != nil {
			return err
		}
		began := time.Now()
		if times, err = from.times(ctx, o.latency); err != nil {
			return err
		}
		if rate, err = rateSince(ctx, pool, time.Since(began)); err != nil {
			return err
		}
		if n, err := countLarge(ctx, pool, name, "queued"); err != nil || n == 0 {
			return errors.Join(err, errors.New("no large file waited at the end: queue more"))
		}
		return nil
	})
	err = g.Wait()
	return times, rate, err
}

// rateSince is how many MiB/s of large files have been acknowledged.
func rateSince(ctx context.Context, pool *pgxpool.Pool, ago time.Duration) (rate float64, err error) {
	err = pool.QueryRow(ctx, `SELECT coalesce(sum(size), 0) / $2::float8 FROM slipway.push_parts WHERE acked_at > now() - $1::interval AND size > $3`,
		ago, mib*ago.Seconds(), smallSize).Scan(&rate)
	return rate, err
}

// queueLarge takes large files in, as ingest does, but for their bytes: each is another name of the same file.
func queueLarge(ctx context.Context, s *stack, o options, pool *pgxpool.Pool, name string) error {
	sum, err := sumOf(s.large)
	if err != nil {
		return err
	}
	queue, err := postgres.NewQueue(pool, postgres.DefaultNames)
	if err != nil {
		return err
	}
	for range o.backlog {
		u := upload.Upload{
			ID: upload.NewID(), UserID: user(2), Provider: name, ResourceType: upload.Raw, FileName: "large.bin",
			ContentType: "application/octet-stream", Size: o.size, CRC32C: sum, MaxAttempts: 10, CreatedAt: time.Now(),
		}
		if err := os.Link(s.large, filepath.Join(s.env["STAGING_DIR"], string(u.ID))); err != nil {
			return err
		}
		if err := accept(ctx, pool, queue, u); err != nil {
			return err
		}
	}
	return nil
}

func sumOf(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err = io.Copy(sum, f)
	return sum.Sum32(), err
}

// countLarge is how many large files for a provider have a status.
func countLarge(ctx context.Context, pool *pgxpool.Pool, name, status string) (n int, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM slipway.uploads WHERE provider = $1 AND status = $2 AND size > $3`, name, status, smallSize).Scan(&n)
	return n, err
}

func awaitLarge(ctx context.Context, pool *pgxpool.Pool, name, status string, want int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for {
		if n, err := countLarge(ctx, pool, name, status); err != nil || n >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d large files to be %s: %w", want, status, ctx.Err())
		case <-tick.C:
		}
	}
}

// shrinkUntilEnd keeps the simulators' disk small until ctx ends.
func shrinkUntilEnd(ctx context.Context, s *stack) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.shrink(); err != nil {
			return err
		}
	}
}
