package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func TestAKilledPutGoesOnWhereItStopped(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	content := noise(40 * mib)
	write(t, film, content)
	way := narrow(t, s.url)
	way.open(20 * mib)
	first := launch(t, "put", film)
	way.full(t)
	s.received(t, 19*mib)
	first.kill()
	way.cut()
	id, offset := s.theOne(t)
	if offset < 19*mib || offset > 20*mib {
		t.Errorf("of 20 MiB that passed, %d bytes have come", offset)
	}
	before := way.count()
	way.open(1 << 60)
	second := launch(t, "put", "--wait", "--json", film)
	list := parse(t, second.ends(0))
	if sent := way.count() - before; sent > int64(len(content))-offset+64<<10 {
		t.Errorf("%d bytes were sent for the %d that were missing", sent, int64(len(content))-offset)
	}
	if len(list) != 1 || list[0].Upload.ID != upload.ID(id) || fetch(t, list[0].Upload.Asset.URL) != content {
		t.Errorf("it comes to %+v", list)
	}
	if want := fmt.Sprintf("%s goes on at %d %%\n", film, 100*offset/int64(len(content))); !strings.Contains(second.heard(), want) {
		t.Errorf("%q is not in %s", want, second.heard())
	}
	wantNothingKept(t)
}

// serving is the service in a process of its own.
func (s *system) serving(t *testing.T, port string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command("slipway", "serve"), said: make(chan struct{}, 1)}
	r.cmd.Env, r.cmd.Dir = append(os.Environ(), append(pairsOf(s.env), "PORT="+port)...), t.TempDir()
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	deadline := time.After(longest)
	for {
		resp, err := http.Get("http://127.0.0.1:" + port + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return r
			}
		}
		select {
		case <-deadline:
			t.Fatalf("the service does not begin:\n%s", r.heard())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestPutOutlivesTheService(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	content := noise(60 * mib)
	write(t, "a.bin", content)
	port := freePort(t)
	service := s.serving(t, port)
	way := narrow(t, "http://127.0.0.1:"+port)
	way.open(50 * mib)
	put := launch(t, "put", "--wait", "--json", "a.bin")
	way.full(t)
	service.kill()
	way.open(1 << 60)
	put.says("trying again in")
	s.serving(t, port)
	list := parse(t, put.ends(0))
	const checkpoint = 32 * mib // docs/tus.md
	if sent := way.count(); sent > int64(len(content))+checkpoint+8*mib {
		t.Errorf("%d bytes were sent", sent)
	}
	if len(list) != 1 || fetch(t, list[0].Upload.Asset.URL) != content {
		t.Errorf("it comes to %+v:\n%s", list, put.heard())
	}
}

func TestTwoPutsOfOneFileSendItOnce(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	write(t, "a.bin", noise(10*mib))
	way := narrow(t, s.url)
	way.open(5 * mib)
	first := launch(t, "put", "a.bin")
	way.full(t)
	second := launch(t, "put", "./a.bin")
	second.says("a.bin is being sent by another slipway; waiting for it\n")
	way.open(1 << 60)
	if one, two := first.ends(0), second.ends(0); one != two || !strings.HasSuffix(one, "/content\n") {
		t.Errorf("the URLs are %q and %q", one, two)
	}
	s.only(t)
	if !strings.Contains(second.heard(), "a.bin: all of it had come already\n") {
		t.Errorf("the second says %s", second.heard())
	}
	wantNothingKept(t)

	way.open(way.count() + 5*mib)
	third := launch(t, "put", "a.bin")
	way.full(t)
	s.received(t, mib)
	fourth := launch(t, "put", "a.bin")
	fourth.says("waiting for it")
	third.kill()
	way.cut() // with what the system holds of the file
	way.open(1 << 60)
	fourth.ends(0)
	if !strings.Contains(fourth.heard(), "a.bin goes on at ") {
		t.Errorf("who waited says %s", fourth.heard())
	}
}

// brokenOff begins to put a file, and is interrupted in the middle.
func (s *system) brokenOff(t *testing.T, way *strait, args ...string) outcomeOf {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	way.open(way.count() + 5*mib)
	ended := make(chan outcomeOf, 1)
	go func() { ended <- slipway(ctx, append([]string{"put"}, args...)...) }()
	way.full(t)
	s.received(t, mib)
	interrupt()
	r := <-ended
	way.cut()
	way.open(1 << 60)
	if exitCode(r.err) != exitInterrupted {
		t.Fatalf("%+v", r)
	}
	return r
}

func TestWhatCannotBeGoneOnWithIsSentAnew(t *testing.T) {
	s := start(t)
	folder(t)
	way := narrow(t, s.url)
	for name, tt := range map[string]struct {
		spoil func(id string)
		again []string
		says  string
		then  upload.Status // of the upload that was begun
	}{
		"for the file has changed": {
			func(string) { write(t, "a.bin", noise(10*mib+1)) }, nil, "a.bin has changed since ", upload.Canceled,
		},
		"for its time of change is another": {
			func(string) {
				if err := os.Chtimes("a.bin", time.Time{}, time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}, nil, "a.bin has changed since ", upload.Canceled,
		},
		"for it is to be another upload": {
			func(string) {}, []string{"--meta", "album=7"}, "a.bin was being sent with other options; it is sent anew\n", upload.Canceled,
		},
		"for it was ended": {
			func(id string) {
				if r := slipway(t.Context(), "cancel", id); r.err != nil {
					t.Fatalf("%+v", r)
				}
			}, nil, "a.bin is sent anew, for what had come of it is gone: The upload was ended, or nobody went on with it in time\n", upload.Canceled,
		},
		"for who sends it is somebody else": {
			func(string) {
				t.Setenv("SLIPWAY_TOKEN", tokenOf(t, s, "user_456"))
			}, nil, "a.bin: received, ", upload.Receiving,
		},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, "a.bin", noise(10*mib))
			r := s.brokenOff(t, way, "--json", "a.bin")
			list := parse(t, r.stdout)
			if len(list) != 1 || list[0].Received < mib || !strings.Contains(list[0].Error.Detail, "interrupted. `slipway put a.bin` goes on at ") {
				t.Errorf("%+v", r)
			}
			id := newest(t)
			before := os.Getenv("SLIPWAY_TOKEN")
			tt.spoil(id)
			r = slipway(t.Context(), append(append([]string{"put"}, tt.again...), "a.bin")...)
			if r.err != nil || !strings.Contains(r.stderr, tt.says) || strings.Contains(r.stdout, id) {
				t.Errorf("%+v, want %q and another upload", r, tt.says)
			}
			t.Setenv("SLIPWAY_TOKEN", before)
			become(t, id, tt.then)
			if tt.then == upload.Receiving {
				if r := slipway(t.Context(), "put", "a.bin"); r.err != nil || !strings.Contains(r.stdout, id) {
					t.Errorf("its owner goes on with %+v, want %s", r, id)
				}
			}
			wantNothingKept(t)
		})
	}
}

// newest is the id of the upload that was begun last.
func newest(t *testing.T) string {
	t.Helper()
	var u client.Upload
	if r := slipway(t.Context(), "list", "--limit", "1", "--json"); json.Unmarshal([]byte(r.stdout), &u) != nil {
		t.Fatalf("%+v", r)
	}
	return string(u.ID)
}

// tokenOf is a user's token.
func tokenOf(t *testing.T, s *system, user string) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(s.env["AUTH_JWT_SECRET"]))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAnInterruptedPutNamesTheCommandThatGoesOn(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, film, noise(10*mib))
	r := s.brokenOff(t, narrow(t, s.url), "--provider", "cloudinary", "--meta", "album=7 & 8", "--tag", "trip", film)
	want := "`slipway put --provider cloudinary --meta 'album=7 & 8' --tag trip '" + film + "'` goes on at "
	if !strings.Contains(r.stderr, want) {
		t.Errorf("%q is not in %s", want, r.stderr)
	}
}

func TestNoSecretIsKept(t *testing.T) {
	s := start(t)
	folder(t)
	write(t, "a.bin", noise(10*mib))
	token := tokenOf(t, s, "user_123")
	t.Setenv("SLIPWAY_TOKEN", token)
	s.brokenOff(t, narrow(t, s.url), "--meta", "private=diary", "a.bin")
	kept := 0
	err := filepath.WalkDir(os.Getenv("XDG_CACHE_HOME"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kept++
		text, err := os.ReadFile(path)
		if info, _ := d.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %s", path, info.Mode())
		}
		for _, secret := range []string{token, strings.Split(token, ".")[1], "diary", "a.bin"} {
			if strings.Contains(path+string(text), secret) {
				t.Errorf("%q is in %s: %s", secret, path, text)
			}
		}
		return err
	})
	if err != nil || kept != 2 {
		t.Errorf("%d files are kept: %v", kept, err)
	}
}

func TestPutGoesOnWithoutAPlaceForBookmarks(t *testing.T) {
	start(t)
	dir := folder(t)
	write(t, "a.bin", "content")
	write(t, "file", "")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "file"))
	r := slipway(t.Context(), "put", "a.bin")
	if r.err != nil || !strings.Contains(r.stderr, "what is interrupted cannot be gone on with: ") {
		t.Errorf("%+v", r)
	}
}

func TestSeveralFilesAreToldInTheirOrder(t *testing.T) {
	s := start(t)
	folder(t)
	var names []string
	for n, size := range []int{20 * mib, 5, 10 * mib, 1, mib, 3} {
		names = append(names, fmt.Sprintf("%d.bin", n))
		write(t, names[n], noise(size))
	}
	args := append([]string{"put"}, names...)
	r := slipway(t.Context(), args...)
	if r.err != nil {
		t.Fatalf("%+v", r)
	}
	for n, url := range strings.Fields(r.stdout) {
		id := strings.TrimSuffix(strings.TrimPrefix(url, s.url+"/v1/files/"), "/content")
		if shown := slipway(t.Context(), "status", id); !strings.HasPrefix(shown.stdout, names[n]+"\n") {
			t.Errorf("URL %d is that of %s", n, shown.stdout)
		}
	}
	r = slipway(t.Context(), append(args, "--json", "nothere")...)
	list := parse(t, r.stdout)
	if exitCode(r.err) != exitFailed || len(list) != len(names)+1 || strings.Count(r.stdout, "\n") != len(list) {
		t.Fatalf("%+v", r)
	}
	for _, one := range list {
		if (one.Error != nil) != (one.File == "nothere") || one.Error == nil && one.Upload.FileName != one.File {
			t.Errorf("%+v", one)
		}
	}
}

func TestWhatHadComeInAndFailedIsToldSo(t *testing.T) {
	const id = "0193f1c2-0000-7000-8000-000000000001"
	var again atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			created(w, r, id)
		case r.Method == http.MethodHead:
			again.Store(true)
			w.Header().Set("Tus-Resumable", "1.0.0")
			w.Header().Set("Upload-Length", "7")
			w.Header().Set("Upload-Offset", "7")
		case !again.Load(): // who dies before being told that all has come
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprintf(w, `{"id":%q,"status":"failed","error":{"code":"provider_rejected","message":"No."},"links":{"retry":"/"}}`, id)
		}
	}))
	t.Cleanup(s.Close)
	folder(t)
	installed(t)
	t.Setenv("SLIPWAY_URL", s.URL)
	write(t, "a.bin", "content")
	first := launch(t, "put", "a.bin")
	first.says("trying again in ")
	first.kill()
	second := launch(t, "put", "a.bin")
	second.ends(exitNotDelivered)
	if !strings.Contains(second.heard(), "a.bin: No. To try again: `slipway retry "+id+"`.\n") {
		t.Errorf("it says %s", second.heard())
	}
	wantNothingKept(t)
}

func TestASignalInterruptsPut(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	write(t, "a.bin", noise(10*mib))
	way := narrow(t, s.url)
	way.open(5 * mib)
	put := launch(t, "put", "a.bin")
	way.full(t)
	if err := put.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	put.ends(exitInterrupted)
	if !strings.Contains(put.heard(), "a.bin: interrupted. `slipway put a.bin` goes on at ") {
		t.Errorf("it says %s", put.heard())
	}
}
