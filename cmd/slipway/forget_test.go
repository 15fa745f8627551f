package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"slipway/internal/forget"
	"slipway/internal/postgres"
)

// known has a service with a user of whom there are files at both providers, and sets the settings of its worker.
func known(t *testing.T) *system {
	t.Helper()
	s := start(t)
	clearSettings(t)
	folder(t)
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	write(t, "a.txt", "a")
	write(t, "b.txt", "b")
	for provider, file := range map[string]string{"uploadcare": "a.txt", "cloudinary": "b.txt"} {
		if r := slipway(t.Context(), "put", "--wait", "--provider", provider, file); r.err != nil {
			t.Fatalf("%+v", r)
		}
	}
	return s
}

// rows are how many there are of a user.
func (s *system) rows(t *testing.T, user string) (n int64) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: s.env["DATABASE_URL"]})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	held, err := postgres.HoldingOf(t.Context(), pool, user)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range held.Rows {
		n += rows
	}
	return n
}

func TestAUserIsForgottenOnlyWhenThatIsMeant(t *testing.T) {
	s := known(t)
	before := s.rows(t, "user_123")
	for want, args := range map[string][]string{
		`user_123 (2 uploads, 2 files with 2 B at providers, `: {"forget", "user_123"},
		`nothing is known of a user "User_123"`:                {"forget", "User_123", "--yes"},
		"a user's id has 1 to 255 bytes":                       {"forget", "", "--yes"},
		"accepts 1 arg(s), received 0":                         {"forget", "--yes"},
	} {
		if r := slipway(t.Context(), args...); r.err == nil || !strings.HasPrefix(r.err.Error(), want) || r.stdout != "" {
			t.Errorf("%v: got %+v, want %s", args, r, want)
		}
	}
	if screen := s.onTerminal(t, "n\n", "forget", "user_123"); !strings.Contains(screen, "Erase user_123 (2 uploads, 2 files with 2 B at providers") || !strings.Contains(screen, "nothing was deleted") {
		t.Errorf("the terminal shows %q", screen)
	}
	if after := s.rows(t, "user_123"); after != before {
		t.Errorf("of %d rows %d are left", before, after)
	}

	s.fault(t, "cloudinary", `{"path":"/destroy$","action":"answer","status":503,"times":1}`)
	r := slipway(t.Context(), "forget", "user_123", "--yes")
	if r.err != nil || !strings.HasPrefix(r.stdout, "Forgotten: user_123\n  2 files deleted at providers (2 B), ") || !strings.Contains(r.stdout, "\n  2 uploads and ") ||
		!strings.Contains(r.stderr, "cloudinary: 1 to be deleted") {
		t.Errorf("got %+v", r)
	}
	if left := s.rows(t, "user_123"); left != 0 {
		t.Errorf("%d rows are left", left)
	}
	if r := slipway(t.Context(), "forget", "user_123", "--yes"); exitCode(r.err) != exitFailed || !strings.Contains(r.err.Error(), "nothing is known") {
		t.Errorf("again: %+v", r)
	}
}

// onTerminal runs a command on a terminal, where a person types as soon as there is a question, and returns what it shows.
func (s *system) onTerminal(t *testing.T, typed string, args ...string) string {
	t.Helper()
	installed(t)
	screen, err := pty.Start(exec.CommandContext(t.Context(), "slipway", args...))
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	var shown strings.Builder
	buf := make([]byte, 4<<10)
	for asked := false; ; {
		n, err := screen.Read(buf)
		shown.Write(buf[:n])
		if !asked && strings.Contains(shown.String(), "[y/N] ") {
			asked = true
			if _, err := screen.WriteString(typed); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil { // EIO: its process has ended
			return shown.String()
		}
	}
}

func TestForgettingSaysWhatIsLeftWhereItIsNotWaitedFor(t *testing.T) {
	s := known(t)
	s.fault(t, "cloudinary", `{"path":"/destroy$","action":"answer","status":503}`)
	var report forget.Report
	for deadline := time.Now().Add(longest); ; { // the same command goes on, until all but that is done
		r := slipway(t.Context(), "forget", "user_123", "--yes", "--json", "--wait", "2s")
		report = forget.Report{}
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || report.Done || exitCode(r.err) != exitFailed || !strings.Contains(r.err.Error(), "the same command goes on") {
			t.Fatalf("got %+v, %v", r, err)
		}
		if len(report.Left) == 1 && report.Left[0].Code != "" || time.Now().After(deadline) {
			break
		}
	}
	if len(report.Left) != 1 || report.Left[0].Provider != "cloudinary" || report.Left[0].Code != "provider_unavailable" {
		t.Errorf("got %+v", report)
	}
	s.fault(t, "cloudinary", "")
	if r := slipway(t.Context(), "forget", "user_123", "--yes", "--json"); r.err != nil || !strings.Contains(r.stdout, `"done":true`) {
		t.Errorf("got %+v", r)
	}
	if left := s.rows(t, "user_123"); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

// Each process is killed a little later than the one before: by a tenth, so that a slow machine gets there as well.
func TestForgettingGoesOnAfterKills(t *testing.T) {
	s := known(t)
	installed(t)
	for life := 50 * time.Millisecond; ; life += life / 10 {
		cmd := exec.CommandContext(t.Context(), "slipway", "forget", "user_123", "--yes")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		if err == nil {
			break
		}
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			t.Fatal(err)
		}
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && !status.Signaled() {
			break // killed between its last statement and its last word, there is nothing left to do
		}
	}
	if left := s.rows(t, "user_123"); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}
