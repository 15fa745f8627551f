// Command walk goes through both Neon guides, from top to bottom against a stack of its own, with the
// guides' own statements and commands, and prints what held.
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
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/devstack"
	"slipway/internal/guides"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "guides:", err)
		os.Exit(1)
	}
}

// walkLimit bounds the whole walk, a download of Postgres included.
const walkLimit = 10 * time.Minute

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, walkLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "slipway-guides")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user and must be able to enter
		return err
	}
	ready := make(chan devstack.Stack, 1)
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() {
		ended <- devstack.Run(running, devstack.Options{
			Dir: dir, Out: io.Discard, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
			Ready: func(s devstack.Stack) { ready <- s },
		})
	}()
	select {
	case err := <-ended:
		stop()
		return errors.Join(errors.New("the stack did not start"), err)
	case s := <-ready:
		w := &walk{stack: s, dir: dir, out: os.Stdout}
		w.uploadcare(ctx)
		w.cloudinary(ctx)
		stop()
		return errors.Join(<-ended, w.verdict())
	}
}

// walk is one way through the guides.
type walk struct {
	stack  devstack.Stack
	dir    string
	out    io.Writer
	held   int
	failed int
}

// step runs one thing that a guide says to do, and prints whether what it promises came.
func (w *walk) step(guide, what string, do func() error) {
	if err := do(); err != nil {
		w.failed++
		fmt.Fprintf(w.out, "FAILED  %s: %s: %v\n", guide, what, err)
		return
	}
	w.held++
	fmt.Fprintf(w.out, "held    %s: %s\n", guide, what)
}

func (w *walk) verdict() error {
	fmt.Fprintf(w.out, "%d held, %d failed\n", w.held, w.failed)
	if w.failed > 0 {
		return errors.New("not everything held")
	}
	return nil
}

func (w *walk) uploadcare(ctx context.Context) {
	const guide = "Uploadcare guide"
	w.step(guide, "create the table for file metadata", func() error { return w.exec(ctx, guides.UploadcareTable) })
	file, sum, err := w.picture("my-image.png")
	if err != nil {
		w.step(guide, "make a picture", func() error { return err })
		return
	}
	var answer struct {
		Success bool   `json:"success"`
		FileURL string `json:"fileUrl"`
	}
	w.step(guide, "test the upload endpoint with curl", func() error {
		err := curl(ctx, &answer, "-X", "POST", w.stack.URL+"/upload", "-F", "file=@"+file, "-F", "fileName=my-test-image.jpg")
		if err == nil && (!answer.Success || answer.FileURL == "") {
			err = fmt.Errorf("answered %+v", answer)
		}
		return err
	})
	w.step(guide, "file_url leads to the file", func() error { return opens(ctx, answer.FileURL, sum) })
	w.step(guide, "access file metadata with the SELECT", func() error {
		return w.finds(ctx, guides.UploadcareSelect, func(row []any) bool { return row[2] == answer.FileURL && row[3] == "user_123" && row[4] != nil })
	})
}

func (w *walk) cloudinary(ctx context.Context) {
	const guide = "Cloudinary guide"
	w.step(guide, "create the table for file metadata", func() error { return w.exec(ctx, guides.CloudinaryTable) })
	for _, kind := range []string{"image", "video"} {
		file, sum, err := w.picture("test-" + kind + ".png")
		if kind == "video" {
			file, sum, err = w.film("test-video.mp4")
		}
		if err != nil {
			w.step(guide, "make a file", func() error { return err })
			return
		}
		var signed struct {
			Success   bool   `json:"success"`
			Signature string `json:"signature"`
			Timestamp int64  `json:"timestamp"`
			APIKey    string `json:"api_key"`
		}
		w.step(guide, "1. get signature and parameters ("+kind+")", func() error {
			err := curl(ctx, &signed, "-X", "GET", w.stack.URL+"/generate-signature")
			if err == nil && (!signed.Success || signed.Signature == "" || signed.Timestamp == 0 || signed.APIKey == "") {
				err = fmt.Errorf("answered %+v", signed)
			}
			return err
		})
		var asset struct {
			PublicID     string `json:"public_id"`
			SecureURL    string `json:"secure_url"`
			ResourceType string `json:"resource_type"`
		}
		w.step(guide, "2. upload the file directly to Cloudinary ("+kind+")", func() error {
			api := w.stack.Env["CLOUDINARY_UPLOAD_PREFIX"] + "/v1_1/" + w.stack.Env["CLOUDINARY_CLOUD_NAME"] + "/" + kind + "/upload"
			err := curl(ctx, &asset, "-X", "POST", api, "-F", "file=@"+file, "-F", "api_key="+signed.APIKey,
				"-F", "timestamp="+strconv.FormatInt(signed.Timestamp, 10), "-F", "signature="+signed.Signature)
			if err == nil && (asset.PublicID == "" || asset.SecureURL == "" || asset.ResourceType != kind) {
				err = fmt.Errorf("answered %+v", asset)
			}
			return err
		})
		w.step(guide, "3. save metadata ("+kind+")", func() error {
			body, err := json.Marshal(asset)
			if err != nil {
				return err
			}
			var saved struct {
				Success bool `json:"success"`
			}
			err = curl(ctx, &saved, "-X", "POST", w.stack.URL+"/save-metadata", "-H", "Content-Type: application/json", "-d", string(body))
			if err == nil && !saved.Success {
				err = errors.New("success is not true")
			}
			return err
		})
		w.step(guide, "media_url leads to the file ("+kind+")", func() error { return opens(ctx, asset.SecureURL, sum) })
		if kind != "image" {
			continue
		}
		w.step(guide, "access file metadata with the SELECT", func() error {
			return w.finds(ctx, guides.CloudinarySelect, func(row []any) bool { return row[1] == asset.PublicID && row[2] == asset.SecureURL })
		})
		w.step(guide, "transform: w_300,c_fill in media_url", func() error {
			return opens(ctx, strings.Replace(asset.SecureURL, "/image/upload/", "/image/upload/w_300,c_fill/", 1), "")
		})
	}
}

// exec runs one of a guide's statements as the database's owner.
func (w *walk) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, w.stack.DatabaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// finds runs one of a guide's queries and looks for a row.
func (w *walk) finds(ctx context.Context, sql string, wanted func(row []any) bool) error {
	conn, err := pgx.Connect(ctx, w.stack.DatabaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return err
		}
		if wanted(row) {
			return nil
		}
	}
	return errors.Join(errors.New("the file is in no row"), rows.Err())
}

// picture makes a small image; sum is its SHA-256.
func (w *walk) picture(name string) (path, sum string, err error) {
	path = filepath.Join(w.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	h := sha256.New()
	img := image.NewRGBA(image.Rect(0, 0, 640, 480))
	for i := range img.Bounds().Dx() {
		img.Set(i, i*3/4, color.RGBA{R: uint8(i), G: 90, B: 200, A: 255})
	}
	err = png.Encode(io.MultiWriter(f, h), img)
	return path, fmt.Sprintf("%x", h.Sum(nil)), err
}

// film makes a file that begins as an MP4 does.
func (w *walk) film(name string) (path, sum string, err error) {
	content := append([]byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"), make([]byte, 1<<20)...)
	path = filepath.Join(w.dir, name)
	return path, fmt.Sprintf("%x", sha256.Sum256(content)), os.WriteFile(path, content, 0o600)
}

// curl runs the guide's command and decodes what it prints.
func curl(ctx context.Context, v any, args ...string) error {
	out, err := exec.CommandContext(ctx, "curl", append([]string{"-sS"}, args...)...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("curl is not installed: apt-get install curl")
	}
	if err != nil {
		return fmt.Errorf("curl: %w: %s", err, out)
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("curl printed %.200q", out)
	}
	return nil
}

// opens fetches a URL; sum is the SHA-256 of what must be there, "" when it may have been transformed.
func opens(ctx context.Context, url, sum string) error {
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
