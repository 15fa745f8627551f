package browser

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"slipway/web"
)

// TestThePage uses the page at / as people do: at an API where they sign in, at one that is killed, at one for
// whoever is at this machine, and at one without pages; before a worker that is killed.
func TestThePage(t *testing.T) {
	if web.Built() == nil {
		t.Fatal("the page is not built; make build builds it")
	}
	programs := build(t, "api", "worker")
	for _, script := range []string{"people.mjs", "page.mjs", "pictures.mjs"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			stack := devStack(t, "api", "worker")
			settings := map[string]string{"DEV_USER": "", "AUTH_JWT_SECRET": jwtSecret, "AUTH_COOKIE": "session", "MAX_UPLOAD_BYTES": "64MiB"}
			with := func(name, value string) map[string]string {
				s := maps.Clone(settings)
				s[name] = value
				return s
			}
			port := freePort(t)
			mortal := maps.Clone(stack.Env)
			maps.Copy(mortal, with("PORT", port))
			mortal["WORKER_PORT"] = "0"
			controls := httptest.NewServer(control(t, programs, mortal))
			defer controls.Close()
			t.Log(Run(t, script,
				"API="+serve(t, stack, settings), "LOGIN_API="+serve(t, stack, with("LOGIN_URL", "https://login.example/in?app=files")),
				"DEV_API="+serve(t, stack, nil), "NO_WEB_API="+serve(t, stack, with("WEB", "off")), "MORTAL_API=http://localhost:"+port,
				"SECRET="+jwtSecret, "SIM="+stack.Env["UPLOADCARE_UPLOAD_BASE"], "PROGRAMS="+controls.URL,
				"FOLDER="+t.TempDir(), "SCREENSHOTS="+os.Getenv("SCREENSHOTS")))
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// build builds commands, and returns where they are.
func build(t *testing.T, names ...string) (paths []string) {
	t.Helper()
	folder := t.TempDir()
	args := []string{"build", "-o", folder}
	for _, name := range names {
		args = append(args, "slipway/cmd/"+name)
		paths = append(paths, filepath.Join(folder, name))
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	return paths
}

// control runs a program on POST /<name>, unless it runs, and kills it on DELETE. None outlives the test.
func control(t *testing.T, programs []string, env map[string]string) http.Handler {
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	mux := http.NewServeMux()
	for _, path := range programs {
		p := &program{path: path, folder: t.TempDir(), env: environ, said: t.Output()}
		t.Cleanup(p.kill)
		mux.HandleFunc("POST /"+filepath.Base(path), func(w http.ResponseWriter, _ *http.Request) {
			if err := p.start(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
		mux.HandleFunc("DELETE /"+filepath.Base(path), func(http.ResponseWriter, *http.Request) { p.kill() })
	}
	return mux
}

// program is a command that runs as one process, or none.
type program struct {
	path   string
	folder string // that it runs in
	env    []string
	said   io.Writer

	mu      sync.Mutex
	running *exec.Cmd
}

func (p *program) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return nil
	}
	cmd := exec.Command(p.path)
	cmd.Dir, cmd.Env = p.folder, p.env
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.running = cmd
	return nil
}

func (p *program) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		_ = p.running.Process.Kill() // else it has ended by itself
		_ = p.running.Wait()         // says by what
		p.running = nil
	}
}
