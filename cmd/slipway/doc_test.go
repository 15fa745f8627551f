package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/upload"
)

// page is docs/cli.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are a text's blocks in a language.
func blocks(text, language string) (list []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

// shell is a bash that runs one command after the other.
type shell struct {
	t    *testing.T
	in   io.Writer
	out  *bufio.Scanner
	file string // takes what a command prints
}

func newShell(t *testing.T, env map[string]string) *shell {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile")
	cmd.Env = append(os.Environ(), pairsOf(env)...)
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &shell{t, in, bufio.NewScanner(out), filepath.Join(t.TempDir(), "printed")}
}

// run returns what the command has printed, and what it has ended with.
func (s *shell) run(command string) (lines []string, code int) {
	s.t.Helper()
	fmt.Fprintf(s.in, "{ %s\n} >'%s' 2>&1 </dev/null; code=$?; echo $code; (exit $code)\n", command, s.file)
	if !s.out.Scan() {
		s.t.Fatalf("%s: the shell has ended", command)
	}
	code, err := strconv.Atoi(s.out.Text())
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return lines, code
}

// resembles tells whether lines are as a page shows them: "…" is anything, and alone on its line any lines.
func resembles(lines, shown []string) bool {
	var expr strings.Builder
	for _, line := range shown {
		if line == "…" {
			expr.WriteString(`(?:.*\n)*?`)
			continue
		}
		line = regexp.MustCompile(`\s*…\s*`).ReplaceAllString(line, "…")
		expr.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`)
	}
	text := strings.Join(lines, "\n")
	if text != "" {
		text += "\n"
	}
	return regexp.MustCompile("^" + expr.String() + "$").MatchString(text)
}

func TestThePageOfTheCommandLine(t *testing.T) {
	text := page(t)
	s := start(t)
	installed(t)
	clearSettings(t)
	folder(t)
	write(t, "film.mp4", strings.Repeat("a film", 512<<10-1))
	write(t, "notes.txt", "notes\n")
	write(t, "broken.jpg", "no image\n")
	sh := newShell(t, s.env)
	for _, section := range strings.Split(text, "\n## ")[1:] {
		name, _, _ := strings.Cut(section, "\n")
		if name == "cancel" {
			become(t, s.stalled(t, "film.mp4")[0], upload.Pushing)
		}
		for _, block := range blocks(section, "console") {
			for _, step := range strings.Split("\n"+block, "\n$ ")[1:] {
				command, shown, _ := strings.Cut(strings.TrimSuffix(step, "\n"), "\n")
				var want []string
				if shown != "" {
					want = strings.Split(shown, "\n")
				}
				lines, code := sh.run(command)
				if !resembles(lines, want) || code != 0 {
					t.Errorf("%s: $ %s ends with %d and prints\n%s\nwant\n%s", name, command, code, strings.Join(lines, "\n"), shown)
				}
			}
		}
		switch name {
		case "put", "retry": // what was sent has to arrive before it is asked for
			for _, id := range strings.Fields(slipway(t.Context(), "list", "--quiet", "--all").stdout) {
				become(t, id, upload.Completed)
			}
		case "cancel":
			s.fault(t, "uploadcare", "")
		}
	}
}

func TestThePageRunsWhatGoesOn(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(blocks(page(t), "sh")[0]), "\n")
	s := start(t)
	installed(t)
	clearSettings(t)
	folder(t)
	more := map[string]struct{ flags, says string }{
		"dev":   {" --help", "Runs a whole system"}, // internal/e2e runs it
		"sim":   {" --port 0", "are simulated at"},
		"serve": {"", "worker is ready"},
	}
	if len(lines) != len(more) {
		t.Errorf("the page runs %q", lines)
	}
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		t.Run(line, func(t *testing.T) {
			how := more[strings.Fields(line)[1]]
			cmd := exec.CommandContext(t.Context(), "bash", "-c", "exec "+line+how.flags)
			cmd.Env = append(os.Environ(), pairsOf(s.env)...)
			cmd.Env = append(cmd.Env, "PORT=0", "WORKER_PORT=0")
			r, w := io.Pipe()
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := make(chan string, 1)
			go func() {
				var all strings.Builder
				for out := bufio.NewScanner(r); out.Scan(); {
					fmt.Fprintln(&all, out.Text())
					if strings.Contains(out.Text(), how.says) {
						_ = cmd.Process.Signal(syscall.SIGINT)
					}
				}
				said <- all.String()
			}()
			kill := time.AfterFunc(longest, func() { _ = cmd.Process.Kill() })
			defer kill.Stop()
			err := cmd.Wait()
			_ = w.Close()
			if text := <-said; err != nil || !strings.Contains(text, how.says) {
				t.Errorf("it ends with %v and says\n%s", err, text)
			}
		})
	}
}

func TestThePageHasEveryCommand(t *testing.T) {
	text := page(t)
	var commands func(c *cobra.Command)
	commands = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			commands(sub)
		}
		if c.Runnable() && c.Name() != "help" && !c.Hidden && !regexp.MustCompile(`(?m)^(\$ .*)?`+c.CommandPath()+`\b`).MatchString(strings.Join(append(blocks(text, "console"), blocks(text, "sh")...), "\n")) {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Runnable() && c.Name() != "help" && (c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Flags().Lookup("json") == nil && c.Name() != "serve" && c.Name() != "completion") {
			t.Errorf("%s: %q, --json %v", c.CommandPath(), c.Short, c.Flags().Lookup("json") != nil)
		}
	}
	commands(command())
}

func TestThePageHasTheExitCodes(t *testing.T) {
	text := page(t)
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) +(.*)$`).FindAllStringSubmatch(exitCodes, -1) {
		if row := fmt.Sprintf("| `%s` | %s |\n", m[1], m[2]); !strings.Contains(text, row) {
			t.Errorf("the page does not have %s", row)
		}
	}
}
