package httpapi

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/crc32c"
	"slipway/internal/ingest"
	"slipway/internal/upload"
)

var proxied = flag.Int64("proxied", 128<<20, "bytes in the large file that goes through nginx")

// proxy is nginx with the configuration of docs/proxy.md, before a site.
type proxy struct {
	*site
	host   string
	temp   string // where it would store what it does not pass on
	client *http.Client
	roots  *tls.Config
}

// behindNginx starts nginx in front of a site, changed only in what differs from machine to machine.
func behindNginx(t *testing.T, change func(*API, *Options)) *proxy {
	t.Helper()
	s := open(t, func(a *API, o *Options) {
		a.Ingest.MaxBytes = 16 << 30
		o.TrustedProxies = []string{"127.0.0.1"}
		if change != nil {
			change(a, o)
		}
	})
	text, err := os.ReadFile("../../docs/proxy.md")
	must(t, err)
	block := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/proxy.md has no configuration of nginx")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{site: s, host: ln.Addr().String(), temp: filepath.Join(t.TempDir(), "temp")}
	must(t, ln.Close())
	must(t, os.Mkdir(p.temp, 0o700))
	home := filepath.Dir(p.temp)
	cert, key := selfSigned(t, home)
	config := string(block[1])
	for theirs, ours := range map[string]string{
		"server 127.0.0.1:3000;":         "server " + s.addr + ";",
		"listen 443 ssl;":                "listen " + p.host + " ssl;",
		"/etc/ssl/media.example.com.pem": cert,
		"/etc/ssl/media.example.com.key": key,
	} {
		if strings.Count(config, theirs) != 1 {
			t.Fatalf("docs/proxy.md has %q %d times", theirs, strings.Count(config, theirs))
		}
		config = strings.Replace(config, theirs, ours, 1)
	}
	var main strings.Builder
	fmt.Fprintf(&main, "daemon off;\npid %s/pid;\nworker_processes 2;\nevents {}\n", home)
	if os.Geteuid() == 0 {
		fmt.Fprintln(&main, "user root;")
	}
	fmt.Fprintln(&main, "http {\naccess_log off;")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&main, "%s_temp_path %s/%s;\n", kind, p.temp, kind)
	}
	fmt.Fprintln(&main, config+"}")
	must(t, os.WriteFile(filepath.Join(home, "nginx.conf"), []byte(main.String()), 0o600))

	cmd := exec.Command(nginx(t), "-p", home, "-e", "stderr", "-c", filepath.Join(home, "nginx.conf"))
	var said logged
	cmd.Stderr = &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // of a signal
		if t.Failed() {
			t.Logf("nginx said:\n%s", said.String())
		}
	})
	pool := x509.NewCertPool()
	pemText, err := os.ReadFile(cert)
	must(t, err)
	pool.AppendCertsFromPEM(pemText)
	p.roots = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	transport := &http.Transport{TLSClientConfig: p.roots}
	t.Cleanup(transport.CloseIdleConnections)
	p.client = &http.Client{Transport: transport, Timeout: 5 * time.Minute}
	p.url, p.site.client = "https://"+p.host, p.client
	eventually(t, "nginx answers", func() bool {
		r, err := p.client.Get(p.url + "/livez")
		if err != nil {
			return false
		}
		return r.Body.Close() == nil && r.StatusCode == http.StatusOK
	})
	return p
}

// nginx finds one where scripts/fetch-nginx.sh looks and puts one.
func nginx(t *testing.T) string {
	t.Helper()
	cache := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		cache, err = os.UserCacheDir()
		must(t, err)
	}
	for _, program := range []string{"nginx", "/usr/sbin/nginx", filepath.Join(cache, "slipway", "nginx", "nginx")} {
		if out, err := exec.CommandContext(t.Context(), program, "-v").CombinedOutput(); err == nil && bytes.HasPrefix(out, []byte("nginx version:")) {
			return program
		}
	}
	t.Fatal("there is no nginx: run scripts/test-tools.sh, or install one so that it is found in PATH")
	return ""
}

func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
		<-tick.C
	}
}

// heldIn is how many bytes the files in a folder have.
func heldIn(t *testing.T, folder string) (bytes int64) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	}))
	return bytes
}

// sending is a body of so many bytes that calls at when it has come to its middle.
type sending struct {
	size, sent int64
	at         func()
	sum        uint32
	once       sync.Once
}

// pattern is what a body is made of, again and again; its length has no common factor with any buffer's.
var pattern = func() []byte {
	b := make([]byte, 1<<20+7)
	_, _ = rand.Read(b)
	return b
}()

func (b *sending) Read(p []byte) (int, error) {
	if b.sent == b.size {
		return 0, io.EOF
	}
	if b.sent >= b.size/2 && b.at != nil {
		b.once.Do(b.at)
	}
	n := copy(p[:min(int64(len(p)), b.size-b.sent)], pattern[b.sent%int64(len(pattern)):])
	b.sum = crc32c.Update(b.sum, p[:n])
	b.sent += int64(n)
	return n, nil
}

func TestALargeFormGoesThroughNginxWithoutRestingThere(t *testing.T) {
	p := behindNginx(t, nil)
	file := &sending{size: *proxied}
	file.at = func() {
		eventually(t, "what was sent is in staging before the rest is", func() bool { return heldIn(t, p.folder) > file.size/2-8*mib })
		if n := heldIn(t, p.temp); n > 0 {
			t.Errorf("nginx has stored %d bytes", n)
		}
	}
	const begin, end = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"film.mp4\"\r\nContent-Type: video/mp4\r\n\r\n", "\r\n--b--\r\n"
	req, err := http.NewRequestWithContext(t.Context(), "POST", p.url+"/upload", io.MultiReader(strings.NewReader(begin), file, strings.NewReader(end)))
	must(t, err)
	req.ContentLength = int64(len(begin)) + file.size + int64(len(end))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, "alice"))
	req.Header.Set("X-Forwarded-Host", "evil.example")
	req.Header.Set("X-Forwarded-Proto", "gopher")
	began := time.Now()
	resp, err := p.client.Do(req)
	must(t, err)
	took := time.Since(began)
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	t.Logf("%d MiB in %s", file.size>>20, took)
	got := into[guideAnswer](t, reply{resp, string(text)}, http.StatusAccepted)
	for name, link := range map[string]string{"Location": resp.Header.Get("Location"), "statusUrl": got.StatusURL, "fileUrl": got.FileURL} {
		if !strings.HasPrefix(link, "https://"+p.host+"/v1/") {
			t.Errorf("%s is %s, want an address of https://%s", name, link, p.host)
		}
	}
	u := into[uploadView](t, p.do(t, "GET", strings.TrimPrefix(got.StatusURL, p.url), nil), 200)
	if u.Size != file.size || u.CRC32C != crc32c.Base64(file.sum) {
		t.Errorf("the upload is %+v, want %d bytes with %s", u, file.size, crc32c.Base64(file.sum))
	}
	if n := heldIn(t, p.temp); n > 0 {
		t.Errorf("nginx keeps %d bytes", n)
	}
}

// A client that goes on sending reads the refusal all the same, word for word.
func TestRefusalsComeThroughNginxAsTheyAre(t *testing.T) {
	p := behindNginx(t, func(a *API, _ *Options) {
		a.Ingest.MaxBytes = 512 * mib
		a.Ingest.Rules = ingest.Rules{Types: []string{"image/*"}}
	})
	const size = 64 * mib
	tests := map[string]struct {
		declared int64
		who      string
		want     upload.Code
	}{
		"of a type":   {size, "alice", upload.TypeNotAllowed},
		"of a length": {600 * mib, "alice", upload.TooLarge},
		"of nobody":   {size, "", upload.Unauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				conn, err := tls.Dial("tcp", p.host, p.roots)
				must(t, err)
				must(t, conn.SetDeadline(time.Now().Add(2*patience)))
				var begin bytes.Buffer
				fmt.Fprintf(&begin, "POST /v1/uploads?file_name=a HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n", p.host, as(t, tt.who), tt.declared)
				if _, err := io.Copy(conn, io.MultiReader(&begin, &sending{size: size})); err != nil {
					t.Errorf("while it sends: %v", err)
				}
				client := &client{t: t, in: bufio.NewReader(conn)}
				wantCode(t, client.answer(), outcomes[tt.want].status, tt.want)
				must(t, conn.Close())
			}
		})
	}
	t.Run("of headers that nginx alone would refuse", func(t *testing.T) {
		if r := p.do(t, "GET", "/v1/limits", nil, "X-Large: "+strings.Repeat("x", 20<<10)); r.StatusCode != 200 {
			t.Errorf("20 KiB of headers get %d %s", r.StatusCode, r.text)
		}
	})
	p.wantNoTrace(t)
}

func TestTusGoesOnThroughNginx(t *testing.T) {
	p := behindNginx(t, nil)
	const size, cut = 24 * mib, 9 * mib
	file := func(from, to int) []byte {
		all, err := io.ReadAll(&sending{size: int64(to)})
		must(t, err)
		return all[from:]
	}
	r := p.do(t, "POST", tusPath, nil, "Tus-Resumable: 1.0.0", fmt.Sprintf("Upload-Length: %d", size), "Upload-Metadata: filename ZmlsbS5tcDQ=")
	if r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.text)
	}
	at, err := r.Request.URL.Parse(r.Header.Get("Location"))
	must(t, err)
	if !strings.HasPrefix(at.String(), p.url+tusPath) {
		t.Fatalf("the upload is at %s, by way of %s", at, p.url)
	}
	offset := func() (n int64) {
		r := p.do(t, "HEAD", at.Path, nil, "Tus-Resumable: 1.0.0")
		n, err := strconv.ParseInt(r.Header.Get("Upload-Offset"), 10, 64)
		if r.StatusCode != 200 || err != nil {
			t.Fatalf("HEAD gets %d %v", r.StatusCode, r.Header)
		}
		return n
	}

	conn, err := tls.Dial("tcp", p.host, p.roots)
	must(t, err)
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\n%s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		at.Path, p.host, as(t, "alice"), tusMIME, size, file(0, cut))
	must(t, err)
	eventually(t, "what was sent has come", func() bool { return heldIn(t, p.folder) >= cut-mib })
	if n := heldIn(t, p.temp); n > 0 {
		t.Errorf("nginx has stored %d bytes", n)
	}
	must(t, conn.Close())
	eventually(t, "what had come is kept", func() bool { return offset() >= cut-mib })

	from := int(offset())
	r = p.do(t, "PATCH", at.Path, bytes.NewReader(file(from, size)), "Tus-Resumable: 1.0.0", fmt.Sprintf("Upload-Offset: %d", from), "Content-Type: "+tusMIME)
	if r.StatusCode != 204 || r.Header.Get("Upload-Offset") != strconv.Itoa(size) {
		t.Errorf("the rest from %d gets %d %s", from, r.StatusCode, r.text)
	}
	u := into[uploadView](t, p.do(t, "GET", uploadsPath+"/"+at.Path[len(tusPath):], nil), 200)
	if want := crc32c.Base64(crc32c.Update(0, file(0, size))); u.Status != upload.Queued || u.CRC32C != want {
		t.Errorf("the upload is %+v, want %s", u, want)
	}

	// While nobody is there, a client is not told to begin again.
	p.end()
	for _, method := range []string{"HEAD", "PATCH"} {
		if r := p.do(t, method, at.Path, nil, "Tus-Resumable: 1.0.0"); r.StatusCode != 423 || r.Header.Get("Tus-Resumable") != "1.0.0" || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s gets %d %v", method, r.StatusCode, r.Header)
		}
	}
	if r := p.do(t, "GET", "/v1/uploads", nil); r.StatusCode != 502 {
		t.Errorf("another request gets %d", r.StatusCode)
	}
}

func TestEventsComeThroughNginxAsTheyHappen(t *testing.T) {
	p := behindNginx(t, nil)
	u := p.put(t, "a.txt")
	sub := p.subscribe(t, uploadsPath+"/"+string(u.ID)+"/events", "")
	if e := viewIn(t, sub.event()); e.Status != upload.Queued {
		t.Errorf("the history begins with %+v", e)
	}
	for _, status := range []upload.Status{upload.Pushing, upload.Completed} {
		p.tell(t, "alice", became(u.ID, status))
		if e := viewIn(t, sub.event()); e.Status != status {
			t.Errorf("it goes on with %+v, want %s", e, status)
		}
	}
	sub.wantEnd()
}
