package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"

	"slipway/internal/upload"
)

// terminal is a program on a terminal, as who sits before it sees it.
type terminal struct {
	t      *testing.T
	file   *os.File
	screen vt10x.Terminal
	cmd    *exec.Cmd
	ended  chan struct{} // closed when all that it has written is on the screen
}

const ctrlC = "\x03"

// onTerminal runs a program that installed has put on the PATH, until it ends or the test does.
func onTerminal(t *testing.T, columns, rows int, command ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, cmd: exec.Command(command[0], command[1:]...), screen: vt10x.New(vt10x.WithSize(columns, rows)), ended: make(chan struct{})}
	x.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "PS1=$ ", "SSH_CONNECTION=", "SSH_TTY=")
	var err error
	if x.file, err = pty.StartWithSize(x.cmd, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.ended)
		_, _ = io.Copy(x.screen, x.file) // ends with an error when the program has (pty(7))
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		<-x.ended
		_ = x.cmd.Wait()
		_ = x.file.Close()
	})
	return x
}

func (x *terminal) types(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.file, keys); err != nil {
		x.t.Fatal(err)
	}
}

// lines are those of the screen that have something in them.
func (x *terminal) lines() (list []string) {
	for line := range strings.SplitSeq(x.screen.String(), "\n") {
		if line = strings.TrimRight(line, " "); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// shows waits until the screen is as patterns say, line by line; "…" stands for anything.
func (x *terminal) shows(patterns ...string) {
	x.t.Helper()
	deadline := time.After(longest)
	for {
		lines := x.lines()
		if matches(lines, patterns) {
			return
		}
		select {
		case <-deadline:
			x.t.Fatalf("the screen shows\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(patterns, "\n"))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// matches tells whether lines are as patterns say.
func matches(lines, patterns []string) bool {
	if len(lines) != len(patterns) {
		return false
	}
	for i, p := range patterns {
		expr := strings.ReplaceAll(regexp.QuoteMeta(p), "…", ".*")
		if !regexp.MustCompile("^" + expr + "$").MatchString(lines[i]) {
			return false
		}
	}
	return true
}

// ends waits for the end, and checks what it ends with.
func (x *terminal) ends(want int) {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(longest):
		x.t.Fatalf("it goes on:\n%s", strings.Join(x.lines(), "\n"))
	}
	err := x.cmd.Wait()
	if got := x.cmd.ProcessState.ExitCode(); got != want {
		x.t.Errorf("it ends with %d (%v), want %d:\n%s", got, err, want, strings.Join(x.lines(), "\n"))
	}
}

// resize gives the terminal another size.
func (x *terminal) resize(columns, rows int) {
	x.t.Helper()
	x.screen.Resize(columns, rows)
	if err := pty.Setsize(x.file, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		x.t.Fatal(err)
	}
}

func TestWatchDrawsItsTableInPlace(t *testing.T) {
	s := start(t)
	installed(t)
	folder(t)
	for _, name := range []string{"a.bin", "b.bin", "c.bin"} {
		write(t, name, "content")
	}
	x := onTerminal(t, 100, 12, "slipway", "watch")
	x.shows("Nothing is on its way.")
	ids := s.stalled(t, "a.bin", "b.bin")
	x.shows("ID  …  STATUS  …  SIZE  NAME", ids[0]+"  pushing 0% …  7 B   a.bin", ids[1]+"  pushing 0% …  7 B   b.bin")
	if r := slipway(t.Context(), "cancel", ids[0]); r.err != nil {
		t.Fatalf("%+v", r)
	}
	x.shows("ID  …", ids[0]+"  canceled …  a.bin", ids[1]+"  pushing 0% …  b.bin")
	x.resize(120, 12)
	x.shows("ID  …  PROVIDER    PROGRESS  …  NAME", ids[0]+"  canceled  …  a.bin", ids[1]+"  pushing 0% …  uploadcare  ██████████░░░░░░░░░░  b.bin")
	more := s.sent(t, "uploadcare", "c.bin")
	x.shows("ID  …", ids[0]+"  canceled …", ids[1]+"  pushing 0% …", more[0]+"  pushing 0% …")
	x.types(ctrlC)
	x.ends(exitInterrupted)
	if last := x.lines(); last[len(last)-1] != "^Cslipway: interrupted" || len(last) < 5 {
		t.Errorf("it leaves\n%s", strings.Join(last, "\n"))
	}
}

func TestWatchShowsWhatHasRoom(t *testing.T) {
	s := start(t)
	installed(t)
	folder(t)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		write(t, name, name)
	}
	ids := s.stalled(t, "a", "b", "c", "d", "e", "f")
	x := onTerminal(t, 60, 6, "slipway", "watch", ids[0], ids[1], ids[2], ids[3], ids[4], ids[5])
	x.shows("ID  …", ids[0]+"  pushing…", ids[1]+"  pushing…", ids[2]+"  pushing…", "… and 3 more")
	if r := slipway(t.Context(), "cancel", ids[0]); r.err != nil {
		t.Fatalf("%+v", r)
	}
	x.shows("ID  …", ids[1]+"  pushing…", ids[2]+"  pushing…", ids[3]+"  pushing…", "… and 3 more")
}

func TestWatchOnATerminalEndsWithItsUploads(t *testing.T) {
	s := start(t)
	installed(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	id := s.stalled(t, "a.bin")[0]
	x := onTerminal(t, 80, 12, "slipway", "watch", id)
	x.shows("ID  …", id+"  pushing 0% …")
	if r := slipway(t.Context(), "cancel", id); r.err != nil {
		t.Fatalf("%+v", r)
	}
	x.ends(exitNotDelivered)
	x.shows("ID  …", id+"  canceled …", "slipway: the upload is canceled")

	s.fault(t, "uploadcare", "")
	id = s.sent(t, "uploadcare", "b.bin")[0]
	become(t, id, upload.Completed)
	x = onTerminal(t, 80, 12, "slipway", "watch", id)
	x.ends(0)
	x.shows("ID  …", id+"  completed …  b.bin")
}

func TestRemoveAsksAPerson(t *testing.T) {
	s := start(t)
	installed(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	ids := s.sent(t, "uploadcare", "a.bin", "b.bin")
	for _, id := range ids {
		become(t, id, upload.Completed)
	}
	const question = "Delete these 2 for good, here and at their providers? [y/N]"
	ask := func() *terminal {
		x := onTerminal(t, 80, 12, append([]string{"slipway", "rm"}, ids...)...)
		x.shows(question)
		return x
	}
	for keys, code := range map[string]int{ctrlC: exitInterrupted, "\r": exitFailed, "n\r": exitFailed} {
		x := ask()
		x.types(keys)
		x.ends(code)
	}
	for _, id := range ids {
		become(t, id, upload.Completed)
	}
	x := ask()
	x.types("y\r")
	x.ends(0)
	x.shows(question+" y", "a.bin is being deleted", "b.bin is being deleted")

	one := onTerminal(t, 80, 12, "slipway", "rm", ids[0])
	one.ends(0)
	one.shows("a.bin is …delet…")
}

func TestBashCompletesWhatTheServiceKnows(t *testing.T) {
	s := start(t)
	installed(t)
	folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	ids := s.stalled(t, "a.bin", "b.bin")
	if _, err := exec.LookPath("bash"); err != nil {
		t.Fatal(err)
	}
	x := onTerminal(t, 100, 24, "bash", "--norc", "--noprofile", "-i")
	x.types("bind 'set enable-bracketed-paste off'; source <(slipway completion bash); clear\r")
	x.shows("$")
	for typed, want := range map[string]string{
		"slipway comp\t":                         "slipway completion",
		"slipway completion b\t":                 "slipway completion bash",
		"slipway put --prov\tcl\t":               "slipway put --provider cloudinary",
		"slipway retry --to u\t":                 "slipway retry --to uploadcare",
		"slipway list --status rec\t":            "slipway list --status receiving",
		"slipway cancel " + ids[0][:35] + "\t":   "slipway cancel " + ids[0][:35] + "…",
		"slipway watch " + ids[0] + " \t":        "slipway watch " + ids[0] + " " + ids[1],
		"slipway status " + ids[1] + " \t":       "slipway status " + ids[1] + " " + ids[0],
		"slipway rm " + ids[1] + " \t":           "slipway rm " + ids[1] + " " + ids[0],
		"slipway open " + ids[1] + " \t":         "slipway open " + ids[1],
		"slipway list --status=completed --al\t": "slipway list --status=completed --all",
	} {
		x.types(typed)
		x.shows("$ " + want)
		x.types("\x15") // Ctrl-U takes it back
		x.shows("$")
	}
	x.types("slipway cancel \t")
	x.shows("$ slipway cancel " + ids[0][:8] + "…")
	x.types("\t\t")
	x.shows("$ slipway cancel "+ids[0][:8]+"…", ids[1]+"  (b.bin, pushing)", ids[0]+"  (a.bin, pushing)", "$ slipway cancel "+ids[0][:8]+"…")
	x.types("\x15exit\r")
	x.ends(0)
}

func TestCompletionForEachShell(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default", "zsh": "#compdef slipway", "fish": "complete -c slipway"} {
		if r := slipway(t.Context(), "completion", shell); r.err != nil || !strings.Contains(r.stdout, want) || r.stderr != "" {
			t.Errorf("%s: %v %s", shell, r.err, r.stderr)
		}
	}
	r := slipway(t.Context(), "completion", "csh")
	if exitCode(r.err) != exitUsage || r.err.Error() != `there is no script for "csh"; there are those for bash, zsh and fish` {
		t.Errorf("%+v", r)
	}
}

func TestCompletionSaysNothingWhereNobodyAnswers(t *testing.T) {
	folder(t)
	t.Setenv("SLIPWAY_URL", "http://127.0.0.1:1")
	for line, want := range map[string]string{
		"status ":         ":36\n",
		"retry --to ":     "uploadcare\ncloudinary\n:4\n",
		"put --provider ": "uploadcare\ncloudinary\n:4\n",
	} {
		r := slipway(t.Context(), append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if r.err != nil && !errors.Is(r.err, os.ErrNotExist) || !strings.HasSuffix(r.stdout, want) {
			t.Errorf("%q: %+v, want %q", line, r, want)
		}
	}
}
