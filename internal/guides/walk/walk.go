package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"slipway/internal/devstack"
)

// walk is one way through the guides.
type walk struct {
	stack  devstack.Stack
	dir    string
	out    io.Writer
	held   int
	failed int
}

// step runs one thing that a guide says to do, and prints whether what it promises came.
func (w *walk) step(guide, what string, do func() error) (ok bool) {
	if err := do(); err != nil {
		w.failed++
		fmt.Fprintf(w.out, "FAILED  %s: %s: %v\n", guide, what, err)
		return false
	}
	w.held++
	fmt.Fprintf(w.out, "held    %s: %s\n", guide, what)
	return true
}

func (w *walk) verdict() error {
	fmt.Fprintf(w.out, "%d held, %d failed\n", w.held, w.failed)
	if w.failed > 0 {
		return errors.New("not everything held")
	}
	return nil
}

// reader is somebody who does what a guide says.
type reader struct {
	guide       string
	user        string
	server      string // stands where the guide has http://localhost:3000
	access      string // a line of curl's configuration by which the server knows the user; "" where it needs none
	databaseURL string
}

// shell runs a command as it is printed, but for what is to be filled in (old, new, …), and decodes what it
// prints.
func (w *walk) shell(ctx context.Context, access string, v any, command string, fill ...string) error {
	if err := os.WriteFile(filepath.Join(w.dir, ".curlrc"), []byte("silent\nshow-error\n"+access+"\n"), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.NewReplacer(fill...).Replace(command))
	cmd.Env = append(cmd.Environ(), "CURL_HOME="+w.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %.500s (curl is needed: apt-get install curl)", err, out)
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("it printed %.500q", out)
	}
	return nil
}

// execute runs a statement as the owner of a database.
func execute(ctx context.Context, databaseURL, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// selects runs one of the guides' queries for the reader, and returns the URLs that it finds.
func (r reader) selects(ctx context.Context, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, r.databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, strings.ReplaceAll(sql, "user_123", r.user))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		if err != nil {
			return "", err
		}
		for _, v := range values {
			if v == nil {
				return "", errors.New("a column is empty")
			}
		}
		return fmt.Sprint(values[2]), nil // file_url, media_url
	})
}

// picture makes a small image.
func (w *walk) picture(name string) (path string, err error) {
	path = filepath.Join(w.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	img := image.NewRGBA(image.Rect(0, 0, 640, 480))
	for i := range img.Bounds().Dx() {
		img.Set(i, i*3/4, color.RGBA{R: uint8(i), G: 90, B: 200, A: 255})
	}
	return path, png.Encode(f, img)
}

// film makes a file of this many bytes that begins as an MP4 does, and takes no room for the rest.
func (w *walk) film(name string, size int64) (path string, err error) {
	path = filepath.Join(w.dir, name)
	return path, errors.Join(os.WriteFile(path, []byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"), 0o600), os.Truncate(path, size))
}

// sumOf is the SHA-256 of a file.
func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// opens fetches a URL, where the bytes of a file must be; of "" when they may have been transformed.
func opens(ctx context.Context, url, file string) error {
	var sum string
	if file != "" {
		var err error
		if sum, err = sumOf(file); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || n == 0:
		return fmt.Errorf("%s answered %s with %d bytes", url, resp.Status, n)
	case sum != "" && fmt.Sprintf("%x", h.Sum(nil)) != sum:
		return fmt.Errorf("%s holds other bytes", url)
	}
	return nil
}
