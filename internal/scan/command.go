// Package scan has a program look into files.
package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Command is a program and its arguments, run for each file: the file is its standard input. It ends with 0 when it
// finds nothing, and with 1 when it finds something, whose name is the first line of its standard output; however
// else it ends, it could not tell. That is how clamdscan ends. It is told nothing of the file but its bytes, and
// nothing of this process's environment, which has secrets.
type Command []string

// goodbye is how long a program that was killed may leave its output open, by programs that it has started.
const goodbye = 2 * time.Second

// Scan implements push.Scanner.
func (c Command) Scan(ctx context.Context, _ upload.Upload, file staging.Reader) (finding string, err error) {
	cmd := exec.CommandContext(ctx, c[0], c[1:]...) //nolint:gosec // the operator's own
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = io.NewSectionReader(file, 0, file.Size())
	var said, complained beginning
	cmd.Stdout, cmd.Stderr = &said, &complained
	cmd.WaitDelay = goodbye
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &ended) && ended.ExitCode() == 1:
		return firstLine(said.text, "something"), nil
	}
	return "", fmt.Errorf("%s: %w: %s", c[0], err, firstLine(complained.text, firstLine(said.text, "no output")))
}

// beginning keeps the first bytes of what is written to it.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	const most = 1 << 10
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return len(p), nil
}

func firstLine(text []byte, otherwise string) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	if len(line) == 0 {
		return otherwise
	}
	return strings.ToValidUTF8(string(bytes.TrimSpace(line)), "\uFFFD")
}
