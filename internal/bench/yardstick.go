package main

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/internal/crc32c"
)

// bufferSize is how much of a file is in memory at a time, in bytes, as in staging.
const bufferSize = 256 << 10

// receive is a server that takes files as plainly as can be: POST /raw and POST /multipart do the work of
// an ingest, PUT /part that of a simulator.
func receive(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("receive", flag.ContinueOnError)
	address := f.String("address", "", "to listen on")
	dir := f.String("dir", "", "that keeps what comes")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	r := receiver{dir: *dir, buffers: &sync.Pool{New: func() any { return new([bufferSize]byte) }}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /raw", answering(func(req *http.Request) error { return r.stage(req.Body) }))
	mux.HandleFunc("POST /multipart", answering(func(req *http.Request) error {
		parts, err := req.MultipartReader()
		if err != nil {
			return err
		}
		for {
			part, err := parts.NextPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil && part.FileName() != "" {
				err = r.stage(part)
			}
			if err != nil {
				return err
			}
		}
	}))
	mux.HandleFunc("PUT /part", answering(func(req *http.Request) error {
		sums, err := strconv.Atoi(req.FormValue("sums"))
		if err != nil {
			return err
		}
		return r.store(req.Body, sums)
	}))
	return serve(ctx, *address, mux)
}

func serve(ctx context.Context, address string, h http.Handler) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintln(os.Stdout, "ready")
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answering(take func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if err := take(req); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

type receiver struct {
	dir     string
	buffers *sync.Pool
}

// stage writes a file with its crc32c on the way, and makes it and its name durable.
func (r receiver) stage(body io.Reader) error {
	f, err := os.Create(filepath.Join(r.dir, rand.Text()))
	if err != nil {
		return err
	}
	var sum uint32
	err = r.copy(f, body, func(p []byte) { sum = crc32c.Update(sum, p) })
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// store writes a part with its MD5 on the way, and does not wait for the disk. A simulator of parts that
// go in order takes two sums: the part's and the whole file's.
func (r receiver) store(body io.Reader, sums int) error {
	f, err := os.Create(filepath.Join(r.dir, rand.Text()))
	if err != nil {
		return err
	}
	var all []hash.Hash
	for range sums {
		all = append(all, md5.New())
	}
	err = r.copy(f, body, func(p []byte) {
		for _, h := range all {
			h.Write(p)
		}
	})
	return errors.Join(err, f.Close())
}

func (r receiver) copy(f *os.File, body io.Reader, see func([]byte)) error {
	buf := r.buffers.Get().(*[bufferSize]byte)
	defer r.buffers.Put(buf)
	for {
		n, err := io.ReadFull(body, buf[:])
		see(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// put sends a file in parts to a receiver's PUT /part, several at once, and prints how long that took.
func put(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("put", flag.ContinueOnError)
	url := f.String("url", "", "to PUT to")
	path := f.String("file", "", "to send")
	part := f.Int64("part", 0, "bytes in a part")
	parallel := f.Int("parallel", 1, "parts at once")
	if err := f.Parse(args); err != nil {
		return err
	}
	file, err := os.Open(*path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: *parallel, WriteBufferSize: 128 << 10}
	client := &http.Client{Transport: transport}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(*parallel)
	for offset := int64(0); offset < info.Size(); offset += *part {
		g.Go(func() error {
			length := min(*part, info.Size()-offset)
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, *url, io.NewSectionReader(file, offset, length))
			if err != nil {
				return err
			}
			req.ContentLength = length
			return accepted(client.Do(req))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, time.Since(began))
	return nil
}

// accepted demands a 202.
func accepted(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = content(resp, http.StatusAccepted)
	return err
}

// content reads the body of an answer, which has to have the status.
func content(resp *http.Response, status int) ([]byte, error) {
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("answered %s: %.300s", resp.Status, body)
	}
	return body, err
}
