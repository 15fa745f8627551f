package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/joho/godotenv"

	"slipway/internal/devstack"
)

// machine stands for one that docs/running.md and docs/backup.md are followed on. What they put into /etc, /opt and
// /var/lib is in a folder, what systemd would run are processes of this test, and there is no user but this one.
type machine struct {
	*stack
	folder  string
	here    *strings.Replacer // from the pages' words to this machine's
	running map[string]*process
	remains map[string]bool // units that have run, and count as running
}

// newMachine has the providers simulated, and nothing of Slipway.
func newMachine(t *testing.T) *machine {
	t.Helper()
	sims, err := devstack.StartSimulators(devstack.SimulatorOptions{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sims.Close(); err != nil {
			t.Error(err)
		}
	})
	api, worker := freePort(t), freePort(t)
	m := &machine{
		stack:  &stack{url: "http://127.0.0.1:" + api, sim: sims.URL, env: sims.Env()},
		folder: t.TempDir(), running: map[string]*process{}, remains: map[string]bool{},
	}
	m.env["PORT"], m.env["WORKER_PORT"] = api, worker
	m.here = strings.NewReplacer(
		"/etc/slipway", m.path("/etc/slipway"), "/etc/systemd/system", m.path("/etc/systemd/system"),
		"/opt/slipway", m.path("/opt/slipway"), "/var/lib/slipway", m.path("/var/lib/slipway"),
		"--owner=slipway", "--owner="+strconv.Itoa(os.Getuid()), "--group=slipway", "--group="+strconv.Itoa(os.Getgid()),
		"127.0.0.1:3000", "127.0.0.1:"+api, "127.0.0.1:3003", "127.0.0.1:"+worker,
	)
	for _, dir := range []string{"/etc/systemd/system", "/opt", "/var/lib", "/src"} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	example, err := os.ReadFile(filepath.Join(root, ".env.example"))
	if err == nil {
		err = os.WriteFile(m.path("/src/.env.example"), example, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.builds(t, bin)
	return m
}

// path is where something is here that is at an absolute path there.
func (m *machine) path(there string) string { return m.folder + there }

// builds has `make build` leave the programs of another folder.
func (m *machine) builds(t *testing.T, programs string) {
	t.Helper()
	link := m.path("/src/bin")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink(programs, link); err != nil {
		t.Fatal(err)
	}
}

// configure fills in /etc/slipway/.env.
func (m *machine) configure(t *testing.T, databaseURL string) {
	t.Helper()
	m.env["DATABASE_URL"] = databaseURL
	var text strings.Builder
	for _, settings := range []map[string]string{m.env, {
		"HOST": "127.0.0.1", "DEV_USER": "user_123", "STAGING_DIR": m.path("/var/lib/slipway/staging"), "STAGING_RESERVE": "0", "UPLOAD_WAIT": "0s",
	}} {
		for name, value := range settings {
			fmt.Fprintf(&text, "%s=%s\n", name, value)
		}
	}
	if err := os.WriteFile(m.path("/etc/slipway/.env"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// install does what the page says up to running programs.
func (m *machine) install(t *testing.T, databaseURL string) {
	t.Helper()
	begin := section(t, "running.md", "On one machine")
	commands := blocksIn(begin, "bash")
	m.run(t, commands[0])
	m.configure(t, databaseURL)
	m.run(t, commands[1])
	m.addUnits(t, begin)
	m.run(t, commands[2])
}

// addUnits writes the units that a section shows, each with its place in its first line.
func (m *machine) addUnits(t *testing.T, text string) {
	t.Helper()
	var names []string
	for _, shown := range blocksIn(text, "ini") {
		first, rest, _ := strings.Cut(m.here.Replace(shown), "\n")
		path := strings.TrimPrefix(first, "# ")
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(rest), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(path); ext == ".service" || ext == ".timer" {
			names = append(names, filepath.Base(path))
		}
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // no Linux, or one without systemd
	}
	cmd := exec.Command(verify, append([]string{"verify"}, names...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+m.path("/etc/systemd/system")+":")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify %v: %v\n%s", names, err, out)
	}
}

// section is what a page says under a heading of the second level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(document(t, page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/%s has nothing %q", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// there is what stands for programs of the machine that would do something to this one. systemctl asks this
// test, and waits until it is done.
const there = `
systemctl() { local answer; echo "$*" >&3; read -r answer <&4; }
runuser() { shift 3; "$@"; }
useradd() { :; }
userdel() { :; }
cd %s
`

// absolute finds paths in commands, to see that all of them are mapped.
var absolute = regexp.MustCompile(`(?:^|[\s="'>])(/[a-z][^\s"']*)`)

// attempt runs commands of a page, and returns what they print.
func (m *machine) attempt(t *testing.T, commands ...string) (said string, err error) {
	t.Helper()
	script := m.here.Replace(strings.Join(commands, "\n"))
	for _, path := range absolute.FindAllStringSubmatch(script, -1) {
		if !strings.HasPrefix(path[1], m.folder) && path[1] != "/usr/sbin/nologin" {
			t.Fatalf("%s is not in the folder that stands for the machine", path[1])
		}
	}
	asked, ask, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	answered, answer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", fmt.Sprintf(there, m.path("/src"))+script)
	cmd.Env = []string{"PATH=" + postgresPrograms() + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	cmd.ExtraFiles = []*os.File{ask, answered}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(ask.Close(), answered.Close())
	for lines := bufio.NewScanner(asked); err == nil && lines.Scan(); {
		m.systemctl(t, strings.Fields(lines.Text()))
		_, err = fmt.Fprintln(answer, "done")
	}
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	t.Logf("%s\n%s", script, out.String())
	return out.String(), err
}

// run is attempt with commands that end well.
func (m *machine) run(t *testing.T, commands ...string) (said string) {
	t.Helper()
	said, err := m.attempt(t, commands...)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return said
}

// postgresPrograms is where the machine's newest psql and pg_dump are, before the PATH.
func postgresPrograms() string {
	if dir := os.Getenv("PG_BIN_DIR"); dir != "" {
		return dir + ":"
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	return strings.Join(append(dirs, ""), ":")
}

func version(dir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return n
}

// systemctl does what the pages ask systemd for.
func (m *machine) systemctl(t *testing.T, args []string) {
	t.Helper()
	units := slices.DeleteFunc(slices.Clone(args[1:]), func(arg string) bool { return arg == "--now" })
	for _, unit := range units {
		switch args[0] {
		case "enable", "start":
			m.startUnit(t, unit)
		case "disable", "stop":
			m.stopUnit(t, unit)
		case "restart":
			m.stopUnit(t, unit)
			m.startUnit(t, unit)
		default:
			t.Fatalf("systemctl %v is not known here", args)
		}
	}
}

// unit is what a file of systemd's says, with what is said of all slipway-*.service: values by their key.
func (m *machine) unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	files := []string{name}
	if filepath.Ext(name) == ".service" {
		files = append(files, "slipway-.service.d/common.conf")
	}
	values := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(m.path("/etc/systemd/system"), file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok {
				values[key] = append(values[key], value)
			} else if key != "" && !strings.HasPrefix(key, "[") {
				t.Fatalf("%s has the line %q", file, line)
			}
		}
	}
	return values
}

func (m *machine) startUnit(t *testing.T, name string) {
	t.Helper()
	if service, ok := strings.CutSuffix(name, ".timer"); ok { // the first of its times comes at once
		m.startUnit(t, service)
		return
	}
	if m.running[name] != nil || m.remains[name] {
		return
	}
	u := m.unit(t, name+".service")
	for wanted := range strings.FieldsSeq(strings.Join(u["Wants"], " ")) {
		if other, ok := strings.CutSuffix(wanted, ".service"); ok {
			m.startUnit(t, other)
		}
	}
	for _, dir := range u["StateDirectory"] {
		if err := os.MkdirAll(m.path("/var/lib/"+dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env, err := godotenv.Read(u["EnvironmentFile"]...)
	if err != nil {
		t.Fatal(err)
	}
	command := strings.Fields(u["ExecStart"][0])
	p := launch(t, env, u["WorkingDirectory"][0], command[0], command[1:]...)
	if !slices.Contains(u["Type"], "oneshot") {
		m.running[name] = p
		return
	}
	p.wait(t, time.Minute)
	m.remains[name] = slices.Contains(u["RemainAfterExit"], "yes")
}

func (m *machine) stopUnit(t *testing.T, name string) {
	t.Helper()
	delete(m.remains, name)
	p := m.running[name]
	if p == nil {
		return
	}
	delete(m.running, name)
	seconds, err := strconv.Atoi(m.unit(t, name+".service")["TimeoutStopSec"][0])
	if err != nil {
		t.Fatal(err)
	}
	p.stop(t, time.Duration(seconds)*time.Second)
	if p.err != nil {
		t.Errorf("%s ended with %v", name, p.err)
	}
}

// runs is the release that a unit runs.
func (m *machine) runs(t *testing.T, unit string) string {
	t.Helper()
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.running[unit].cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(filepath.Dir(path))
}

// ready waits until the API takes requests.
func (m *machine) ready(t *testing.T) {
	t.Helper()
	await(t, time.Minute, "the API to be ready", func() bool {
		resp, err := http.Get(m.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}
