package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// apiProcess is an API of a stack, at an address of its own that it keeps when it is started anew.
type apiProcess struct {
	*process
	url string
	env map[string]string
}

// api runs an API with these settings, name and value in turn, besides the stack's.
func (s *stack) api(t *testing.T, settings ...string) *apiProcess {
	t.Helper()
	env := maps.Clone(s.env)
	for n := 0; n+1 < len(settings); n += 2 {
		env[settings[n]] = settings[n+1]
	}
	env["PORT"] = freePort(t)
	a := &apiProcess{url: "http://127.0.0.1:" + env["PORT"], env: env}
	a.again(t)
	return a
}

// again starts the API anew.
func (a *apiProcess) again(t *testing.T) {
	t.Helper()
	a.process = start(t, a.env, "api")
	await(t, time.Minute, "the API to be ready", func() bool {
		select {
		case <-a.done:
			t.Fatalf("the API ended: %v", a.err)
		default:
		}
		resp, err := http.Get(a.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// tusRoot is where uploads are made by tus.
const tusRoot = "/v1/tus/"

// tus sends a request of tus 1.0.0 with headers, "Name: value".
func (a *apiProcess) tus(t *testing.T, method, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	resp, text := ask(t, method, a.url+path, body, append(headers, "Tus-Resumable: 1.0.0", octets)...)
	if resp.StatusCode/100 != 2 {
		t.Logf("%s %s is answered %s %s", method, path, resp.Status, text)
	}
	return resp
}

const octets = "Content-Type: application/offset+octet-stream"

// create makes an upload by tus and returns its path.
func (a *apiProcess) create(t *testing.T, name string, size int64) (path string) {
	t.Helper()
	resp := a.tus(t, "POST", tusRoot, nil, fmt.Sprintf("Upload-Length: %d", size), "Upload-Metadata: filename "+base64.StdEncoding.EncodeToString([]byte(name)))
	at, err := resp.Location()
	if err != nil {
		t.Fatalf("the creation is answered %s without a Location", resp.Status)
	}
	return at.Path
}

// offset is how far an upload has come.
func (a *apiProcess) offset(t *testing.T, path string) int64 {
	t.Helper()
	resp := a.tus(t, "HEAD", path, nil)
	n, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD is answered %s with the offset %q", resp.Status, resp.Header.Get("Upload-Offset"))
	}
	return n
}

// wantRest sends what is left of a file, which completes its upload.
func (a *apiProcess) wantRest(t *testing.T, path, file string, offset int64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	resp := a.tus(t, "PATCH", path, io.NewSectionReader(f, offset, info.Size()-offset), fmt.Sprintf("Upload-Offset: %d", offset))
	if got := resp.Header.Get("Upload-Offset"); resp.StatusCode != http.StatusNoContent || got != fmt.Sprint(info.Size()) {
		t.Fatalf("the rest is answered %s with the offset %s, want 204 and %d", resp.Status, got, info.Size())
	}
}

// uploadOf is the id of the upload at a path or URL.
func uploadOf(at string) string { return path.Base(at) }

// patch is a PATCH of a file on its way.
type patch struct {
	conn *net.TCPConn
	file *os.File
	size int64
	at   int64 // what of the file the connection has taken
}

// inFlight is the most that a connection of patch has on its way, in bytes.
const inFlight = 8 * mib

// patch begins to send a file from an offset on. Nothing of it waits in this process.
func (a *apiProcess) patch(t *testing.T, path, file string, offset int64) *patch {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &patch{conn: conn.(*net.TCPConn), file: f, size: info.Size(), at: offset}
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n%s\r\nUpload-Offset: %d\r\nContent-Length: %d\r\n\r\n", path, octets, offset, p.size-offset)
	if err := errors.Join(err, p.conn.SetWriteBuffer(64<<10), conn.SetDeadline(time.Now().Add(2*time.Minute))); err != nil {
		t.Fatal(err)
	}
	return p
}

// send goes on up to a byte of the file.
func (p *patch) send(t *testing.T, until int64) {
	t.Helper()
	n, err := io.Copy(struct{ io.Writer }{p.conn}, io.NewSectionReader(p.file, p.at, until-p.at))
	if p.at += n; err != nil {
		t.Fatalf("the PATCH breaks at byte %d: %v", p.at, err)
	}
}

// answer is the status that the PATCH ends with, 0 where its connection ends without one.
func (p *patch) answer() int {
	resp, err := http.ReadResponse(bufio.NewReader(p.conn), &http.Request{Method: http.MethodPatch})
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// slowLine leads to a server by a connection of so many bytes a second, until the test ends.
func slowLine(t *testing.T, url string, bytesPerSecond int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	limit := rate.NewLimiter(rate.Limit(bytesPerSecond), 256<<10)
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go carry(t.Context(), client, strings.TrimPrefix(url, "http://"), limit)
		}
	}()
	return "http://" + ln.Addr().String()
}

func carry(ctx context.Context, client net.Conn, address string, limit *rate.Limiter) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer client.Close()
		_, _ = io.Copy(client, server)
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err := errors.Join(err, limit.WaitN(ctx, n)); err != nil && n == 0 {
			return
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
