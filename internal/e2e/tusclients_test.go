package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bdragon300/tusgo"

	"slipway/internal/nodetest"
)

// jsClient is a run of tus-js-client.
type jsClient struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// jsUpload has tus-js-client upload a file, with options of its own, from what it knows of earlier runs.
func jsUpload(t *testing.T, url, file, known, options string) *jsClient {
	t.Helper()
	dir := nodetest.Install(t, "internal/e2e/tusclient")
	c := &jsClient{cmd: exec.CommandContext(t.Context(), "node", filepath.Join(dir, "upload.mjs"))}
	c.cmd.Env = append(os.Environ(), "ENDPOINT="+url+tusRoot, "FILE="+file, "KNOWN="+known, "OPTIONS="+options)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, t.Output()
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.WaitDelay = 5 * time.Second
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = c.cmd.Wait() // where nobody has waited
	})
	return c
}

// wantUploaded waits for the client to be done, and returns the id of the upload.
func (c *jsClient) wantUploaded(t *testing.T, resumed bool) (id string) {
	t.Helper()
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("tus-js-client: %v", err)
	}
	var said struct {
		URL     string
		Resumed bool
	}
	if err := json.Unmarshal(c.out.Bytes(), &said); err != nil {
		t.Fatalf("tus-js-client said %s: %v", c.out.String(), err)
	}
	if said.Resumed != resumed {
		t.Errorf("the upload was resumed: %v, want %v", said.Resumed, resumed)
	}
	return uploadOf(said.URL)
}

// kill ends the client as a crash does.
func (c *jsClient) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func TestTusJSClient(t *testing.T) {
	t.Parallel()
	s := dev(t)
	for name, options := range map[string]string{
		"in one PATCH":               `{}`,
		"in chunks":                  `{"chunkSize":5000000}`,
		"with the creation":          `{"uploadDataDuringCreation":true}`,
		"in chunks from the first":   `{"uploadDataDuringCreation":true,"chunkSize":5000000}`,
		"in four at a time":          `{"parallelUploads":4}`,
		"without the method PATCH":   `{"overridePatchMethod":true,"chunkSize":5000000}`,
		"in three at a time by POST": `{"parallelUploads":3,"overridePatchMethod":true,"uploadDataDuringCreation":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			path, sum := file(t, "film.mp4", 12*mib+345)
			id := jsUpload(t, s.url, path, filepath.Join(t.TempDir(), "known"), options).wantUploaded(t, false)
			u := s.upload(t, id)
			if u.Size != 12*mib+345 || u.FileName != "film.mp4" {
				t.Errorf("the upload is %+v", u)
			}
			s.wantDelivered(t, id, sum)
		})
	}
}

// begun waits until of each of some uploads there is something.
func (d database) begun(t *testing.T, uploads int) {
	t.Helper()
	d.awaitRow(t, time.Minute, "the uploads to get on", `SELECT count(*) = $1 FROM slipway.uploads WHERE status = 'receiving' AND received_bytes > 0`, uploads)
}

// jsRun is a client, and what is between it and the database.
type jsRun struct {
	*jsClient
	api      *apiProcess
	database *ownPostgres
	start    func() *jsClient // another with the same file
}

// What tus-js-client makes of deaths: its own, the API's and the database's.
func TestTusJSClientResumes(t *testing.T) {
	t.Parallel()
	server, settings := startPostgres(t)
	s := dev(t, "--env-file", settings, "--without", "api")
	d := s.database(t)
	client := func(_ *testing.T, r *jsRun) {
		r.kill()
		r.jsClient = r.start()
	}
	api := func(t *testing.T, r *jsRun) {
		r.api.kill()
		r.api.again(t)
	}
	database := func(t *testing.T, r *jsRun) {
		r.database.crash(t)
		r.database.run(t)
	}
	for name, try := range map[string]struct {
		options string
		uploads int // that are receiving at the same time
		die     func(*testing.T, *jsRun)
		resumed bool
	}{
		"after it was killed":                          {`{}`, 1, client, true},
		"after it was killed with four at a time":      {`{"parallelUploads":4}`, 4, client, true},
		"after the API was killed":                     {`{}`, 1, api, false},
		"after the API was killed with four at a time": {`{"parallelUploads":4}`, 4, api, false},
		"after the database crashed between PATCHes":   {`{"chunkSize":500000}`, 1, database, false},
		"after the database crashed in a PATCH":        {`{}`, 1, database, false},
	} {
		t.Run(name, func(t *testing.T) {
			count := func() (n int) {
				d.row(t, `SELECT count(*) FROM slipway.uploads WHERE NOT partial`, nil, &n)
				return n
			}
			before := count()
			path, sum := file(t, "film.mp4", 24*mib)
			known := filepath.Join(t.TempDir(), "known")
			r := &jsRun{api: s.api(t), database: server}
			line := slowLine(t, r.api.url, 6*mib)
			r.start = func() *jsClient { return jsUpload(t, line, path, known, try.options) }
			r.jsClient = r.start()
			d.begun(t, try.uploads)
			try.die(t, r)
			id := r.wantUploaded(t, try.resumed)
			s.at(r.api).wantDelivered(t, id, sum)
			if made := count() - before; made != 1 {
				t.Errorf("%d uploads were made of one file", made)
			}
		})
	}
}

// goClient speaks tus by way of tusgo.
func goClient(t *testing.T, api string) *tusgo.Client {
	t.Helper()
	base, err := url.Parse(api + tusRoot)
	if err != nil {
		t.Fatal(err)
	}
	c := tusgo.NewClient(http.DefaultClient, base)
	if _, err := c.UpdateCapabilities(); err != nil {
		t.Fatal(err)
	}
	return c
}

// goSend sends a file by a stream, and asks where it is to go on when that breaks.
func goSend(ctx context.Context, stream *tusgo.UploadStream, from io.ReadSeeker) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := from.Seek(stream.Tell(), io.SeekStart)
		if err == nil {
			_, err = io.Copy(stream, from)
		}
		if err == nil {
			return nil
		}
		for ; err != nil; _, err = stream.Sync() {
			stream.ForceClean()
			select {
			case <-again.C:
			case <-ctx.Done():
				return fmt.Errorf("at byte %d: %w", stream.Tell(), err)
			}
		}
	}
}

func mustSend(t *testing.T, stream *tusgo.UploadStream, from io.ReadSeeker) {
	t.Helper()
	if err := goSend(t.Context(), stream, from); err != nil {
		t.Fatal(err)
	}
}

func TestTusGoClient(t *testing.T) {
	t.Parallel()
	const size = 12*mib + 345
	s := dev(t, "--without", "api")
	s = s.at(s.api(t))
	open := func(t *testing.T) (f *os.File, sum string) {
		path, sum := file(t, "film.mp4", size)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f, sum
	}
	names := map[string]string{"filename": "film.mp4"}
	sums := map[string]func(*tusgo.UploadStream) *tusgo.UploadStream{
		"in chunks":             func(u *tusgo.UploadStream) *tusgo.UploadStream { return u },
		"in one PATCH":          func(u *tusgo.UploadStream) *tusgo.UploadStream { u.ChunkSize = tusgo.NoChunked; return u },
		"in chunks with sha1":   func(u *tusgo.UploadStream) *tusgo.UploadStream { return u.WithChecksumAlgorithm("sha1") },
		"in chunks with sha256": func(u *tusgo.UploadStream) *tusgo.UploadStream { return u.WithChecksumAlgorithm("sha256") },
		"the length with the bytes": func(u *tusgo.UploadStream) *tusgo.UploadStream {
			u.Upload.RemoteSize, u.SetUploadSize = size, true
			return u
		},
	}
	for name, as := range sums {
		t.Run(name, func(t *testing.T) {
			f, sum := open(t)
			var u tusgo.Upload
			length := int64(size)
			if name == "the length with the bytes" {
				length = tusgo.SizeUnknown
			}
			c := goClient(t, s.url)
			if _, err := c.CreateUpload(&u, length, false, names); err != nil {
				t.Fatal(err)
			}
			mustSend(t, as(tusgo.NewUploadStream(c, &u)), f)
			s.wantDelivered(t, uploadOf(u.Location), sum)
		})
	}
	t.Run("across a death of the API", func(t *testing.T) {
		f, sum := open(t)
		api := s.api(t)
		c := goClient(t, slowLine(t, api.url, 4*mib))
		var u tusgo.Upload
		if _, err := c.CreateUpload(&u, size, false, names); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- goSend(t.Context(), tusgo.NewUploadStream(c, &u), f) }()
		s.database(t).begun(t, 1)
		api.kill()
		api.again(t)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		s.at(api).wantDelivered(t, uploadOf(u.Location), sum)
	})
	t.Run("in parts that are put together", func(t *testing.T) {
		f, sum := open(t)
		c := goClient(t, s.url)
		parts := make([]tusgo.Upload, 3)
		for n := range parts {
			from, to := int64(n)*size/3, int64(n+1)*size/3
			if _, err := c.CreateUpload(&parts[n], to-from, true, nil); err != nil {
				t.Fatal(err)
			}
			mustSend(t, tusgo.NewUploadStream(c, &parts[n]), io.NewSectionReader(f, from, to-from))
		}
		var whole tusgo.Upload
		if _, err := c.ConcatenateUploads(&whole, parts, names); err != nil {
			t.Fatal(err)
		}
		s.wantDelivered(t, uploadOf(whole.Location), sum)
	})
	t.Run("not at all any more", func(t *testing.T) {
		f, _ := open(t)
		c := goClient(t, s.url)
		var u tusgo.Upload
		if _, err := c.CreateUpload(&u, size+1, false, names); err != nil {
			t.Fatal(err)
		}
		mustSend(t, tusgo.NewUploadStream(c, &u), f)
		if _, err := c.DeleteUpload(u); err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetUpload(&u, u.Location); !errors.Is(err, tusgo.ErrUploadDoesNotExist) {
			t.Errorf("what was terminated is asked for: %v", err)
		}
	})
}
