package scan

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/upload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// staged is a file in staging.
type staged struct {
	*bytes.Reader
	failsFrom int64 // 0: nowhere
}

func (staged) Close() error { return nil }

var errDisk = errors.New("the disk is broken")

func (s staged) ReadAt(p []byte, off int64) (int, error) {
	if s.failsFrom > 0 && off >= s.failsFrom {
		return 0, errDisk
	}
	return s.Reader.ReadAt(p, off)
}

func TestAProgramDecides(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	tests := map[string]struct {
		program string
		finding string
		says    string // in the error; "": none
	}{
		"that finds nothing":                      {program: `test "$(wc -c)" = 1048576`},
		"that finds something":                    {program: `cat >/dev/null; echo "stream: Eicar FOUND"; echo more; exit 1`, finding: "stream: Eicar FOUND"},
		"that knows before it has read the file":  {program: `echo Eicar; exit 1`, finding: "Eicar"},
		"that is content before it has read it":   {program: `exit 0`},
		"that does not say what it has found":     {program: `exit 1`, finding: "something"},
		"that says too much":                      {program: `yes Eicar | tr -d '\n' | head -c 100000; exit 1`, finding: strings.Repeat("Eicar", 205)[:1024]},
		"that cannot tell":                        {program: `echo "ERROR: Could not connect to clamd" >&2; exit 2`, says: "exit status 2: ERROR: Could not connect to clamd"},
		"that dies":                               {program: `kill -9 $$`, says: "signal: killed"},
		"that is told nothing of our environment": {program: `test -z "$SECRET"`},
	}
	t.Setenv("SECRET", "s3cret")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			finding, err := Command{"sh", "-c", tt.program}.Scan(t.Context(), upload.Upload{}, staged{Reader: bytes.NewReader(large)})
			if finding != tt.finding || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it finds %.80q, %v; want %.80q, %q", finding, err, tt.finding, tt.says)
			}
		})
	}
	if finding, err := (Command{"no-such-scanner"}).Scan(t.Context(), upload.Upload{}, staged{Reader: bytes.NewReader(large)}); finding != "" || err == nil {
		t.Errorf("a program that is not there finds %q, %v", finding, err)
	}
}

func TestAFileThatCannotBeReadIsNotClean(t *testing.T) {
	file := staged{bytes.NewReader(make([]byte, 1<<20)), 512 << 10}
	if finding, err := (Command{"sh", "-c", "cat >/dev/null"}).Scan(t.Context(), upload.Upload{}, file); finding != "" || !errors.Is(err, errDisk) {
		t.Errorf("it finds %q, %v", finding, err)
	}
}

func TestAScanEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	finding, err := Command{"sh", "-c", "sleep 5 & wait"}.Scan(ctx, upload.Upload{}, staged{Reader: bytes.NewReader([]byte("hello"))})
	if took := time.Since(begun); finding != "" || err == nil || took > 10*time.Second {
		t.Errorf("it finds %q, %v after %s", finding, err, took)
	}
}
