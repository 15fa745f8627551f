package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/nodetest"
)

const sharedSecret = "what the session server and Slipway both know"

// signIn is a sign-in service that publishes one key.
type signIn struct {
	*httptest.Server
	key atomic.Pointer[signingKey]
}

type signingKey struct {
	private ed25519.PrivateKey
	kid     string
	set     json.RawMessage
}

func newSignIn(t *testing.T) *signIn {
	s := &signIn{}
	s.rotate(t, "first")
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.key.Load().set) }))
	t.Cleanup(s.Close)
	return s
}

func (s *signIn) rotate(t *testing.T, kid string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := jwkset.NewMemoryStorage()
	key, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err == nil {
		err = set.KeyWrite(t.Context(), key)
	}
	text, jsonErr := set.JSONPublic(t.Context())
	if err := errors.Join(err, jsonErr); err != nil {
		t.Fatal(err)
	}
	s.key.Store(&signingKey{private, kid, text})
}

// token is the header with which a user asks who has signed in.
func (s *signIn) token(t *testing.T, user string) string {
	t.Helper()
	k := s.key.Load()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Minute).Unix()})
	token.Header["kid"] = k.kid
	signed, err := token.SignedString(k.private)
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + signed
}

// ask sends a request with headers, "Name: value", and returns the answer with its body.
func ask(t *testing.T, method, url string, body io.Reader, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func wantAnswer(t *testing.T, status int, method, url string, body io.Reader, headers ...string) string {
	t.Helper()
	resp, text := ask(t, method, url, body, headers...)
	if resp.StatusCode != status {
		t.Errorf("%s %s answers %d %s, want %d", method, url, resp.StatusCode, text, status)
	}
	return text
}

// blocks are the code blocks of a page of the documentation in a language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	return blocksIn(document(t, page), language)
}

func document(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func blocksIn(text, language string) (found []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// serve runs a server that a page of the documentation shows, in the folder where its packages are, and
// returns its address.
func serve(t *testing.T, dir, source, name string, env map[string]string, command ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	script := filepath.Join(dir, name)
	if err := os.WriteFile(script, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, cmd: exec.Command(command[0], append(command[1:], script)...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "PORT="+port)
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &lines{t: t, name: name}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t, 10*time.Second) })
	await(t, time.Minute, name+" to listen", func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v", name, p.err)
		default:
		}
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "http://127.0.0.1:" + port
}

// servers is a folder with the packages of the page's servers.
func servers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(nodetest.Install(t, "internal/e2e/servers"), "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flask is a Python that has it.
func flask(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import flask").Run() == nil {
			return python
		}
	}
	t.Fatal("there is no python3 with Flask; scripts/install-flask.sh gets it, or says how")
	return ""
}

func form(t *testing.T, fields ...string) (io.Reader, string) {
	t.Helper()
	var text bytes.Buffer
	w := multipart.NewWriter(&text)
	for n := 0; n+1 < len(fields); n += 2 {
		if err := w.WriteField(fields[n], fields[n+1]); err != nil {
			t.Fatal(err)
		}
	}
	file, err := w.CreateFormFile("file", "a.txt")
	if err == nil {
		_, err = io.WriteString(file, "hello")
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return &text, "Content-Type: " + w.FormDataContentType()
}

// What docs/auth.md says holds for a running system, and its servers are run as they stand there.
func TestWhoIsAsking(t *testing.T) {
	t.Parallel()
	issuer := newSignIn(t)
	settings := filepath.Join(t.TempDir(), ".env")
	env := fmt.Sprintf("DEV_USER=\nAUTH_JWKS_URL=%s/jwks.json\nAUTH_JWT_SECRET=%q\nAUTH_COOKIE=session\n", issuer.URL, sharedSecret)
	if err := os.WriteFile(settings, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	s := dev(t, "--env-file", settings)
	uploads := s.url + "/v1/uploads"
	wantAnswer(t, 401, "GET", uploads, nil)
	wantAnswer(t, 200, "GET", uploads, nil, issuer.token(t, "user_123"))

	ready := wantAnswer(t, 200, "GET", s.url+"/readyz?verbose", nil)
	if want := `"auth":["jwks","secret","cookie","api_keys","upload_tokens"],"jwks":{"ok":true,"keys":1,`; !strings.Contains(ready, want) {
		t.Errorf("readyz tells %s, want %s", ready, want)
	}

	key := exec.Command(filepath.Join(bin, "slipway"), "key", "create", "backend")
	key.Dir = filepath.Dir(s.dir)
	for name, value := range s.env {
		key.Env = append(key.Env, name+"="+value)
	}
	out, err := key.Output()
	if err != nil {
		t.Fatalf("slipway key create: %v", err)
	}
	secret := strings.TrimSpace(string(out))
	dir := servers(t)
	javascript, python := blocks(t, "auth.md", "javascript"), blocks(t, "auth.md", "python")
	if len(javascript) != 3 || len(python) != 1 {
		t.Fatalf("the page has %d and %d servers", len(javascript), len(python))
	}
	backend := map[string]string{"SLIPWAY_URL": s.url, "SLIPWAY_KEY": secret}

	for name, run := range map[string]func(t *testing.T) string{
		"Hono":    func(t *testing.T) string { return serve(t, dir, javascript[1], "hono.mjs", backend, "node") },
		"Express": func(t *testing.T) string { return serve(t, dir, javascript[2], "express.mjs", backend, "node") },
		"Flask":   func(t *testing.T) string { return serve(t, t.TempDir(), python[0], "server.py", backend, flask(t)) },
	} {
		t.Run(name+" hands out upload tokens", func(t *testing.T) {
			url := run(t) + "/upload-token"
			wantAnswer(t, 401, "POST", url, nil)
			var answer struct{ Token string }
			text := wantAnswer(t, 200, "POST", url, nil, "Cookie: session=session-of-anna")
			if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Token == "" {
				t.Fatalf("it answers %s", text)
			}
			body, kind := form(t, "token", answer.Token)
			var u struct{ ID string }
			if err := json.Unmarshal([]byte(wantAnswer(t, 202, "POST", s.url+"/v1/uploads", body, kind)), &u); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, 200, "GET", uploads+"/"+u.ID, nil, issuer.token(t, "user_123"))
			wantAnswer(t, 404, "GET", uploads+"/"+u.ID, nil, issuer.token(t, "user_456"))
			wantAnswer(t, 200, "GET", uploads+"/"+u.ID, nil, "Authorization: Bearer "+secret, "Slipway-User: user_123")
		})
	}

	t.Run("a cookie session", func(t *testing.T) {
		at := serve(t, dir, javascript[0], "session.mjs", map[string]string{"AUTH_JWT_SECRET": sharedSecret}, "node")
		resp, _ := ask(t, "POST", at+"/login", nil)
		name, value, _ := strings.Cut(resp.Header.Get("Set-Cookie"), "=")
		value, _, _ = strings.Cut(value, ";")
		cookie := "Cookie: " + name + "=" + value
		wantAnswer(t, 200, "GET", uploads, nil, cookie)
		wantAnswer(t, 202, "POST", uploads, strings.NewReader("hello"), cookie, "Origin: "+s.url)
		wantAnswer(t, 403, "POST", uploads, strings.NewReader("hello"), cookie, "Origin: https://evil.example")
		wantAnswer(t, 403, "POST", uploads, strings.NewReader("hello"), cookie)
	})

	t.Run("the key is rotated, and the sign-in service goes away", func(t *testing.T) {
		old := issuer.token(t, "user_123")
		issuer.rotate(t, "second")
		await(t, 15*time.Second, "the new key to be taken", func() bool {
			resp, _ := ask(t, "GET", uploads, nil, issuer.token(t, "user_123"))
			return resp.StatusCode == 200
		})
		wantAnswer(t, 401, "GET", uploads, nil, old)
		issuer.Close()
		wantAnswer(t, 200, "GET", uploads, nil, issuer.token(t, "user_123"))
	})
}
