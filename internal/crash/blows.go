package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// carryOut sends the files while the blows fall, and returns what became of them once all is over and everything
// is final, or the patience at an end.
func (l *lab) carryOut(ctx context.Context, p plan) ([]sent, error) {
	watching, leave := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer leave()
	for _, post := range l.posts {
		watchers.Go(func() { post.supervise(watching) })
	}
	watchers.Go(func() { l.watchJobs(watching) })
	if err := l.line(ctx, l.options.line); err != nil {
		return nil, err
	}

	l.began = time.Now()
	var blows sync.WaitGroup
	for target, all := range p.blows {
		blows.Go(func() {
			for _, b := range all {
				if !pause(ctx, time.Until(l.began.Add(b.at))) {
					return
				}
				l.strike(ctx, target, b)
			}
		})
	}
	sending, giveUp := context.WithDeadline(ctx, l.began.Add(l.during+l.patience))
	defer giveUp()
	answers := make(chan []sent, 1)
	go func() { answers <- l.sendAll(sending, p.parcels) }()
	blows.Wait()
	for _, name := range providers {
		if err := l.clearFaults(ctx, name); err != nil {
			return nil, err
		}
	}
	calm := time.Now()
	fmt.Fprintf(l.out, "%s: nothing goes wrong any more\n", since(l.began))
	all := <-answers
	fmt.Fprintf(l.out, "%s: all files are sent\n", since(l.began))
	if err := l.awaitEnd(ctx, calm.Add(l.patience)); err != nil {
		return nil, err
	}
	fmt.Fprintf(l.out, "%s: all is over\n", since(l.began))
	if err := l.line(ctx, 0); err != nil {
		return nil, err
	}
	return all, ctx.Err()
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// strike lets one blow fall, and returns when it is over.
func (l *lab) strike(ctx context.Context, target string, b blow) {
	var err error
	switch b.does {
	case kills:
		p := l.posts[target]
		pid, at := p.pid(), time.Now()
		p.kill()
		l.deaths.add(l.heldBy(ctx, pid), at)
		pause(ctx, b.lasts)
		err = p.start(nil)
	case stops:
		p := l.posts[target]
		p.signal(syscall.SIGSTOP)
		l.deaths.add(l.heldBy(ctx, p.pid()), time.Now())
		pause(ctx, b.lasts)
		p.signal(syscall.SIGCONT)
	case crashes:
		err = l.crashDatabase(ctx, b.lasts)
	case fills:
		err = l.fillUp(ctx, b.lasts)
	case faulty:
		err = l.control(ctx, http.MethodPost, target, "faults", b.rule)
	case outage:
		if err = l.control(ctx, http.MethodPost, target, "faults", b.rule); err == nil {
			pause(ctx, b.lasts)
			err = l.clearFaults(ctx, target)
		}
	}
	if err != nil && ctx.Err() == nil {
		l.mishap.add("the lab could not %s %s: %v", b.does, target, err)
	}
}

// crashDatabase stops Postgres as a crash does, and starts it again.
func (l *lab) crashDatabase(ctx context.Context, lasts time.Duration) error {
	s := l.db.Load()
	text, err := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
		return err
	}
	<-s.Done()
	l.deaths.ofDatabase(time.Now())
	pause(ctx, lasts)
	return l.startDatabase(ctx)
}

// fillUp leaves no room in staging for a while.
func (l *lab) fillUp(ctx context.Context, lasts time.Duration) error {
	if l.small {
		letGo, err := ballast(l.staging)
		if err != nil {
			return err
		}
		pause(ctx, lasts)
		return letGo()
	}
	all := map[string]string{"STAGING_RESERVE": "1PiB"}
	for _, env := range []map[string]string{all, nil} {
		for n := range l.apis {
			l.posts[api(n)].kill()
			if err := l.posts[api(n)].start(env); err != nil {
				return err
			}
		}
		pause(ctx, lasts)
	}
	return nil
}

func (l *lab) clearFaults(ctx context.Context, provider string) error {
	return l.control(ctx, http.MethodDelete, provider, "faults", nil)
}

// line sets how fast the connections to both providers are, 0 for as fast as the machine.
func (l *lab) line(ctx context.Context, bytesPerSecond int64) error {
	for _, name := range providers {
		if err := l.control(ctx, http.MethodPost, name, "line", providersim.LineSetting{BytesPerSecond: bytesPerSecond}); err != nil {
			return err
		}
	}
	return nil
}

// control asks a simulator's switch.
func (l *lab) control(ctx context.Context, method, provider, route string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, l.sims.URL+"/_sim/"+provider+"/"+route, strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, route, resp.Status)
	}
	return nil
}

// deaths are the pushes that were going on in processes when these were killed or stopped.
type deaths struct {
	mu       sync.Mutex
	all      []death
	restarts []time.Time // of the database
}

type death struct {
	id upload.ID
	at time.Time
}

func (d *deaths) add(ids []upload.ID, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		d.all = append(d.all, death{id, at})
	}
}

func (d *deaths) ofDatabase(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.restarts = append(d.restarts, at)
}

// restartNear tells whether the database was restarted between these times, or so shortly before that every lease
// had its whole time again.
func (d *deaths) restartNear(from, to time.Time) bool {
	const grace = 20 * time.Second
	return slices.ContainsFunc(d.restarts, func(at time.Time) bool { return at.After(from.Add(-grace)) && at.Before(to) })
}

// heldBy are the uploads that a process is pushing, as far as the database can be asked.
func (l *lab) heldBy(ctx context.Context, pid int) (ids []upload.ID) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := l.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(id::text), '{}')
		FROM slipway.uploads
		WHERE status = 'pushing' AND split_part(lease_owner, '/', 2) = $1`, strconv.Itoa(pid)).Scan(&ids)
	if err != nil {
		return nil
	}
	return ids
}

// unrepaired is for how long an upload on its way may be without a job that will run, or that runs under a live
// lease, while the database is up: a turn of the sweep (30 s), and as much again on a busy machine.
const unrepaired = time.Minute

// watchJobs looks for uploads that nothing brings on.
func (l *lab) watchJobs(ctx context.Context) {
	seen := map[upload.ID]time.Time{}
	told := map[upload.ID]bool{}
	var server any
	for pause(ctx, time.Second) {
		if now := any(l.db.Load()); now != server { // the lease of who could not renew it is nobody's fault
			server = now
			clear(seen)
		}
		var ids []upload.ID
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.pool.QueryRow(asking, `
			SELECT coalesce(array_agg(u.id::text), '{}')
			FROM slipway.uploads u
			LEFT JOIN slipway.river_job j ON j.id = u.job_id
			WHERE u.status IN ('queued', 'pushing', 'retrying')
			  AND coalesce(j.state, 'discarded') NOT IN ('available', 'scheduled', 'retryable', 'pending')
			  AND NOT coalesce(j.state = 'running' AND greatest(u.lease_until, j.attempted_at + interval '15 seconds') > now(), false)`).Scan(&ids)
		cancel()
		if err != nil {
			clear(seen)
			continue
		}
		maps.DeleteFunc(seen, func(id upload.ID, _ time.Time) bool { return !slices.Contains(ids, id) })
		for _, id := range ids {
			if _, ok := seen[id]; !ok {
				seen[id] = time.Now()
			}
			if time.Since(seen[id]) > unrepaired && !told[id] {
				told[id] = true
				l.mishap.add("nothing brought upload %s on for %s", id, unrepaired)
			}
		}
	}
}
