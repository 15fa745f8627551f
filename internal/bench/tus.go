package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureTus sends large files by tus, each in one PATCH, to the API and to tusd's own handler and file store, which
// waits for no disk: beside an API that is built to wait for none either, and beside the one that is delivered.
func measureTus(ctx context.Context, s *stack, o options, r *report) error {
	all, err := s.startTus(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		what     string
		files    int
		size     int64
		rate     float64 // that is aimed at
		cpu      float64
		unsynced bool
	}{
		{"1 file", 1, o.size, 1.2, 0.9, true},
		{"8 files at once", 8, o.size / 2, 1, 1, true},
		{"1 file, ours on the disk", 1, o.size, none, none, false},
		{"8 files at once, ours on the disk", 8, o.size / 2, none, none, false},
	} {
		ours := all.ours
		if kind.unsynced {
			ours = all.unsynced
		}
		to := func(server *tusServer) func() (sample, error) {
			return func() (sample, error) { return server.receive(ctx, s.large, kind.files, kind.size) }
		}
		a, b, err := byTurns(o.rounds, to(ours), to(all.tusd))
		if err != nil {
			return err
		}
		r.addRatio(fmt.Sprintf("tus PATCH of %d MiB, %s", kind.size/mib, kind.what), "MiB/s", a.rate, b.rate, kind.rate)
		r.addShare("", "CPU-s/GiB of the server", a.cpu, b.cpu, kind.cpu)
	}
	r.note("tus: the yardstick is tusd v2's handler and file store on net/http, which waits for no disk. Beside it ours is built with the tag unsynced, and then as it is delivered.")
	return nil
}

// tusServers are those that are compared, on one disk.
type tusServers struct{ ours, unsynced, tusd *tusServer }

// tusServer is one that speaks tus.
type tusServer struct {
	*child
	address string
	root    string // path where uploads are made
	token   string
	keeps   string // folder of what it receives
}

func (s *stack) startTus(ctx context.Context) (all tusServers, err error) {
	who, err := token(user(1))
	if err != nil {
		return all, err
	}
	if err := s.buildTus(ctx); err != nil {
		return all, err
	}
	ours := func(name string) (*tusServer, error) {
		if s.env["PORT"], err = freePort(); err != nil {
			return nil, err
		}
		s.address = "127.0.0.1:" + s.env["PORT"]
		p, err := s.startReady(ctx, name, "http://"+s.address)
		return &tusServer{p, s.address, "/v1/tus/", who, s.env["STAGING_DIR"]}, err
	}
	if all.ours, err = ours("api"); err != nil {
		return all, err
	}
	if all.unsynced, err = ours("api-unsynced"); err != nil {
		return all, err
	}
	port, err := freePort()
	if err != nil {
		return all, err
	}
	all.tusd = &tusServer{address: "127.0.0.1:" + port, root: "/files/", keeps: s.received()}
	all.tusd.child, err = s.startSaying(ctx, filepath.Join(s.bin, "tusd"), "-address", all.tusd.address, "-dir", all.tusd.keeps)
	return all, err
}

// buildTus builds what is compared besides the delivered API: one that waits for no disk, and tusd.
func (s *stack) buildTus(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "slipway/internal/bench").Output()
	if err != nil {
		return fmt.Errorf("find the benchmark's folder: %w", err)
	}
	for _, args := range [][]string{
		{"build", "-tags", "unsynced", "-o", filepath.Join(s.bin, "api-unsynced"), "slipway/cmd/api"},
		{"-C", filepath.Join(strings.TrimSpace(string(out)), "tusd"), "build", "-o", filepath.Join(s.bin, "tusd"), "."},
	} {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// receive measures the server while it takes the first size bytes of a file, several times at once.
func (t *tusServer) receive(ctx context.Context, path string, files int, size int64) (sample, error) {
	var at []string
	for range files {
		to, err := t.create(ctx, size)
		if err != nil {
			return sample{}, err
		}
		at = append(at, to)
	}
	took, cpu, err := t.cpu(func() error {
		sending, ctx := errgroup.WithContext(ctx)
		for _, to := range at {
			sending.Go(func() error { return t.patch(ctx, to, path, size) })
		}
		return sending.Wait()
	})
	if err != nil {
		return sample{}, err
	}
	return perGiB(int64(files)*size, took, cpu), forget(t.keeps)
}

// create makes an upload and returns its path.
func (t *tusServer) create(ctx context.Context, size int64) (path string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.address+t.root, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	req.Header.Set("Tus-Resumable", "1.0.0")
	req.Header.Set("Upload-Length", fmt.Sprint(size))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := content(resp, http.StatusCreated); err != nil {
		return "", t.failed(err)
	}
	at, err := resp.Location()
	if err != nil {
		return "", err
	}
	return at.Path, nil
}

// begin opens a connection with a PATCH of size bytes.
func (t *tusServer) begin(ctx context.Context, path string, size int64) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"+
		"Content-Type: application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n", path, t.token, size)
	return conn.(*net.TCPConn), err
}

// patch sends the first size bytes of a file, at as little cost as the kernel knows: the server is to be measured.
func (t *tusServer) patch(ctx context.Context, to, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := t.begin(ctx, to, size)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.Copy(conn, io.LimitReader(f, size)); err != nil { // sendfile
		return t.failed(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodPatch})
	if err != nil {
		return t.failed(err)
	}
	defer resp.Body.Close()
	if _, err := content(resp, http.StatusNoContent); err != nil {
		return t.failed(err)
	}
	return nil
}

const (
	slowRate = 20 << 10 // bytes of a slow client in a second
	slowTime = 10 * time.Second
)

// measureSlow takes what each of many clients adds to a server's memory who send slowly.
func measureSlow(ctx context.Context, s *stack, o options, r *report) error {
	all, err := s.startTus(ctx)
	if err != nil {
		return err
	}
	var each []float64
	for _, t := range []*tusServer{all.ours, all.tusd} {
		before, err := residentMemory(t.cmd.Process.Pid)
		if err != nil {
			return err
		}
		after, err := t.withSlow(ctx, o.slow)
		if err != nil {
			return err
		}
		each = append(each, float64(after-before)/1024/float64(o.slow))
	}
	r.rows = append(r.rows, row{fmt.Sprintf("%d slow clients by tus", o.slow), "KiB of memory for each", each[0], each[1], "-", judged("≤", 45, each[0] <= 45)})
	return nil
}

// withSlow returns the server's memory while so many clients send slowly.
func (t *tusServer) withSlow(ctx context.Context, clients int) (memory int64, err error) {
	const size = 2 * slowRate * int64(slowTime/time.Second)
	var conns []*net.TCPConn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range clients {
		at, err := t.create(ctx, size)
		if err != nil {
			return 0, err
		}
		conn, err := t.begin(ctx, at, size)
		if err != nil {
			return 0, err
		}
		conns = append(conns, conn)
	}
	ctx, cancel := context.WithTimeout(ctx, slowTime)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	bytes := make([]byte, slowRate/4)
	for {
		for _, c := range conns {
			if _, err := c.Write(bytes); err != nil {
				return memory, t.failed(err)
			}
		}
		now, err := residentMemory(t.cmd.Process.Pid)
		if err != nil {
			return memory, err
		}
		memory = max(memory, now)
		select {
		case <-ctx.Done():
			return memory, nil
		case <-tick.C:
		}
	}
}
