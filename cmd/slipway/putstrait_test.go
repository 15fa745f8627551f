package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/client"
)

const mib = 1 << 20

// strait is a way to a service on which bytes can be held up.
type strait struct {
	url string
	to  string // address of the service

	mu     sync.Mutex
	moved  *sync.Cond
	passed int64 // bytes that have gone to the service
	most   int64 // that may go
	conns  map[net.Conn]bool
}

// narrow leads SLIPWAY_URL through a strait until the test ends.
func narrow(t *testing.T, service string) *strait {
	t.Helper()
	u, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &strait{url: "http://" + ln.Addr().String(), to: u.Host, most: 1 << 60, conns: map[net.Conn]bool{}}
	s.moved = sync.NewCond(&s.mu)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.open(1 << 60)
		s.cut()
		all.Wait()
	})
	t.Setenv("SLIPWAY_URL", s.url)
	return s
}

func (s *strait) carry(conn net.Conn) {
	defer conn.Close()
	service, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	defer service.Close()
	s.mu.Lock()
	s.conns[conn], s.conns[service] = true, true
	s.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(conn, service)
		_ = conn.Close()
	})
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if _, failed := service.Write(buffer[:s.pass(n)]); err != nil || failed != nil {
			break
		}
	}
	_ = service.Close()
	back.Wait()
	s.mu.Lock()
	delete(s.conns, conn)
	delete(s.conns, service)
	s.mu.Unlock()
}

// bodiless is up to how many bytes a request has without a body. Those are never held up: how far a file has come can be
// asked at any time.
const bodiless = 1 << 10

// pass waits until n bytes may go.
func (s *strait) pass(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n > bodiless && s.passed+int64(n) > s.most {
		s.moved.Wait()
	}
	s.passed += int64(n)
	s.moved.Broadcast()
	return n
}

// open lets n bytes go in all.
func (s *strait) open(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = n
	s.moved.Broadcast()
}

// cut ends every connection, with what is on its way.
func (s *strait) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// count is how many bytes have gone.
func (s *strait) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passed
}

// full waits until no more may go.
func (s *strait) full(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(longest, func() {
		t.Error("the strait does not fill up")
		s.open(1 << 60)
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.most < 1<<60 && s.passed+32<<10 < s.most {
		s.moved.Wait()
	}
}

// noise is content that is different each time.
func noise(size int) string {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	content := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(content)
	return string(content)
}

// running is slipway in a process of its own.
type running struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	said           chan struct{} // has something whenever more was said on stderr
	mu             sync.Mutex
}

// launch starts slipway, which installed has put on the PATH.
func launch(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command("slipway", args...), said: make(chan struct{}, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

// Write takes what is said on stderr.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.said <- struct{}{}:
	default:
	}
	return r.stderr.Write(p)
}

func (r *running) heard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.String()
}

// says waits until it has said something.
func (r *running) says(want string) {
	r.t.Helper()
	deadline := time.After(longest)
	for !strings.Contains(r.heard(), want) {
		select {
		case <-r.said:
		case <-deadline:
			r.t.Fatalf("it does not say %q, but\n%s", want, r.heard())
		}
	}
}

func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// ends waits for the end, and returns what it has printed.
func (r *running) ends(want int) string {
	r.t.Helper()
	timer := time.AfterFunc(longest, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	_ = r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != want {
		r.t.Fatalf("it ends with %d, want %d:\n%s%s", got, want, &r.stdout, r.heard())
	}
	return r.stdout.String()
}

// told is what --json prints of one file.
type told struct {
	File     string
	Upload   client.Upload
	Received int64 `json:"received_bytes"`
	Error    *fault
}

func parse(t *testing.T, text string) (list []told) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var one told
		if err := dec.Decode(&one); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		list = append(list, one)
	}
}

// theOne is the only upload there is, with how far it has come by tus.
func (s *system) theOne(t *testing.T) (id string, offset int64) {
	t.Helper()
	u := s.only(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.url+"/v1/tus/"+string(u.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Tus-Resumable", "1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if offset, err = strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return string(u.ID), offset
}

// only is the upload that there is.
func (s *system) only(t *testing.T) client.Upload {
	t.Helper()
	list := s.uploads(t)
	if len(list) != 1 {
		t.Fatalf("the uploads are %+v, want one", list)
	}
	return list[0]
}

// uploads are those that there are, newest first, asked for outside the strait.
func (s *system) uploads(t *testing.T) []client.Upload {
	t.Helper()
	resp, err := http.Get(s.url + "/v1/uploads")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct {
		Uploads []client.Upload `json:"uploads"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	return page.Uploads
}

// received waits until the service says that n bytes have come of the newest upload.
func (s *system) received(t *testing.T, n int64) {
	t.Helper()
	deadline := time.After(longest)
	for {
		list := s.uploads(t)
		if len(list) > 0 && list[0].Received >= n {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%d bytes have not come: %+v", n, list)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wantNothingKept checks that no bookmark is left.
func wantNothingKept(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(os.Getenv("XDG_CACHE_HOME") + "/slipway/put")
	if err != nil || len(entries) > 0 {
		t.Errorf("what is kept: %v, %v", entries, err)
	}
}
