package push_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/internal/ingest"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// send takes a file of a user's in.
func (y *yard) send(t *testing.T, user, providerName string, size int) (upload.Upload, error) {
	t.Helper()
	s, err := y.ingest.Receive(t.Context(), ingest.Request{User: user, Length: int64(size)}, bytes.NewReader(random(size)))
	if err != nil {
		return upload.Upload{}, err
	}
	return y.ingest.Accept(t.Context(), ingest.Request{User: user, Provider: providerName, FileName: "a.bin"}, s)
}

func (y *yard) sent(t *testing.T, user, providerName string, size int) upload.Upload {
	t.Helper()
	u, err := y.send(t, user, providerName, size)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// slow sets the line to a provider.
func (y *yard) slow(providerName string, s providersim.LineSetting) {
	y.controls[providerName].Line.Set(s)
}

// count is how many uploads a condition is true of; they are u, their jobs j.
func (y *yard) count(t *testing.T, condition string, args ...any) (n int) {
	t.Helper()
	err := y.pool.QueryRow(t.Context(), `
		SELECT count(*)
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id
		WHERE `+condition, args...).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitCount returns once a condition is true of so many uploads.
func (y *yard) awaitCount(t *testing.T, want int, condition string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n := y.count(t, condition, args...)
		if n >= want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: true of %d uploads, want %d", condition, n, want)
		}
		<-tick.C
	}
}

func TestABacklogDelaysNobodysFirstFileByMoreThanOneJob(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	var g errgroup.Group
	g.SetLimit(8)
	for range 1000 {
		g.Go(func() error {
			_, err := y.send(t, "ann", "uploadcare", 100)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	y.slow("uploadcare", providersim.LineSetting{LatencyMS: 50})
	y.worker(t)
	y.awaitCount(t, 5, `u.status = 'completed'`)
	for _, user := range []string{"bob", "cid", "dot"} {
		u := y.sent(t, user, "uploadcare", 100)
		accepted := time.Now()
		y.awaitStatus(t, u.ID, upload.Completed)
		before := y.count(t, `
			u.user_id = 'ann' AND j.attempted_at > $2
			AND j.attempted_at < (SELECT attempted_at FROM slipway.river_job WHERE id = $1)`, u.JobID, accepted)
		if before > 1 {
			t.Errorf("%d files of a backlog were begun before %s's first, want at most 1", before, user)
		}
	}
	if left := y.count(t, `u.user_id = 'ann' AND u.status = 'queued'`); left < 500 {
		t.Errorf("only %d of the backlog are left, so it proves nothing", left)
	}
}

func TestABacklogGoesOnWhileFirstFilesCome(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.settings.FilesInFlight, y.settings.Patience = 1, time.Millisecond
	for range 4 {
		y.sent(t, "ann", "uploadcare", 100)
	}
	y.slow("uploadcare", providersim.LineSetting{LatencyMS: 30})
	y.worker(t)
	const waits = `j.state = 'available' AND u.user_id <> 'ann'`
	for n, left := 0, 1; left > 0; left = y.count(t, `u.user_id = 'ann' AND u.status <> 'completed'`) {
		if y.count(t, waits) < 3 {
			y.sent(t, fmt.Sprintf("first-%d", n), "uploadcare", 100)
			n++
		}
		if n > 200 {
			t.Fatalf("200 first files have come, and %d of the backlog still wait", left)
		}
	}
	if y.count(t, waits) == 0 {
		t.Error("no first file waited at the end, so it proves nothing")
	}
}

func TestSmallFilesGoAtOnceWhileLargeOnesHaveAllTheirSlots(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"uploadcare", "cloudinary"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			y.slow(name, providersim.LineSetting{BytesPerSecond: 256 << 10})
			for range 3 {
				y.sent(t, "ann", name, upload.SmallFile)
			}
			y.worker(t)
			y.awaitCount(t, 2, `u.status = 'pushing'`)
			small := y.sent(t, "ann", name, 1000)
			y.awaitStatus(t, small.ID, upload.Completed)
			for status, want := range map[upload.Status]int{upload.Pushing: 2, upload.Queued: 1} {
				if n := y.count(t, `u.status = $1`, status); n != want {
					t.Errorf("when the small file is there, %d large ones are %s, want %d", n, status, want)
				}
			}
		})
	}
}

func TestSmallFilesStandInNoLineOfPartsWhereAnAccountTakesFew(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.exec(t, `INSERT INTO slipway.providers (name, max_parallel, quiet_since) VALUES ('uploadcare', 1, now())`)
	y.fault(t, "uploadcare", providersim.Rule{Method: "PUT", Action: providersim.Delay, Delay: 300})
	for range 2 {
		y.sent(t, "ann", "uploadcare", 20*mib)
	}
	y.worker(t)
	y.awaitCount(t, 2, `u.status = 'pushing'`)
	y.awaitCount(t, 1, `u.pushed_bytes > 0`)
	small := y.sent(t, "ann", "uploadcare", 1000)
	y.awaitStatus(t, small.ID, upload.Completed)
	var before int
	err := y.pool.QueryRow(t.Context(), `
		SELECT count(*)
		FROM slipway.push_parts large
		JOIN slipway.push_sessions s ON s.upload_id = $1
		JOIN slipway.push_parts small ON small.session_id = s.id
		JOIN slipway.uploads u ON u.id = $1
		WHERE large.session_id <> s.id AND large.acked_at BETWEEN u.started_at AND small.acked_at`, small.ID).Scan(&before)
	if err != nil {
		t.Fatal(err)
	}
	if before > 2 { // the one on its way, and one that went before the small file had come to the door
		t.Errorf("%d parts of large files went before a small file", before)
	}
	if y.count(t, `u.status = 'completed' AND u.size > 1000`) > 0 {
		t.Error("a large file was done before the small one")
	}
}

func TestOneProvidersSilenceKeepsTheOthersFilesNotWaiting(t *testing.T) {
	t.Parallel()
	providers := []string{"uploadcare", "cloudinary"}
	for i, silent := range providers {
		t.Run(silent, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			y.fault(t, silent, providersim.Rule{Method: "POST", Action: providersim.Stall})
			for _, size := range []int{100, 100, 100, upload.SmallFile, upload.SmallFile, upload.SmallFile} {
				y.sent(t, "ann", silent, size)
			}
			y.worker(t)
			y.awaitCount(t, 4, `u.status = 'pushing'`) // all slots of both lanes
			for _, size := range []int{100, upload.SmallFile} {
				y.awaitStatus(t, y.sent(t, "ann", providers[1-i], size).ID, upload.Completed)
			}
			if n := y.count(t, `u.provider = $1 AND u.status = 'completed'`, silent); n > 0 {
				t.Errorf("%d files have come through the silence", n)
			}
		})
	}
}
