package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"slipway/internal/config"
	"slipway/internal/crc32c"
	"slipway/internal/process"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// rest lies between two files that are sent one at a time.
const rest = 50 * time.Millisecond

// measureLatency sends small files one at a time to a system at rest, and takes the time from the answer
// that accepts one to the news of its completion; beside it the provider's calls alone.
func measureLatency(ctx context.Context, s *stack, o options, r *report) error {
	if _, err := s.startAPI(ctx); err != nil {
		return err
	}
	if _, err := s.startWorker(ctx); err != nil {
		return err
	}
	w, err := newWatch(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	providers, err := providersOf(s)
	if err != nil {
		return err
	}
	for _, p := range providers {
		from, err := newSender(s, w, p.Name())
		if err != nil {
			return err
		}
		var ours, calls []float64 // milliseconds
		for range o.latency {
			took, err := from.send(ctx)
			if err != nil {
				return err
			}
			ours = append(ours, took)
			began := time.Now()
			if err := deliver(ctx, p, from.content); err != nil {
				return err
			}
			calls = append(calls, milliseconds(time.Since(began)))
			if err := pause(ctx); err != nil {
				return err
			}
		}
		what := "64 KiB accepted to completed, " + p.Name()
		r.addOver(what, "ms p50", quantile(ours, 0.5), quantile(calls, 0.5), 25)
		r.addOver("", "ms p99", quantile(ours, 0.99), quantile(calls, 0.99), none)
	}
	r.note("accepted to completed: one file at a time at rest, from the 202 to the news of its completion; the yardstick are the provider's calls alone, one file after the other in the same run.")
	return nil
}

// sender sends small files to one provider, one at a time.
type sender struct {
	client  *http.Client
	watch   *watch
	url     string
	token   string
	content []byte // of the latest
}

func newSender(s *stack, w *watch, provider string) (*sender, error) {
	who, err := token(user(1))
	return &sender{client: newClient(1), watch: w, url: s.url + "/v1/uploads?provider=" + provider, token: who, content: make([]byte, smallSize)}, err
}

// send returns the milliseconds from the answer that accepts a file to the news of its completion.
func (s *sender) send(ctx context.Context) (float64, error) {
	for i := range s.content {
		s.content[i] = byte(rand.Uint32())
	}
	req, err := smallRequest(ctx, s.url, s.token, "raw", s.content)
	if err != nil {
		return 0, err
	}
	if err := accepted(s.client.Do(req)); err != nil {
		return 0, err
	}
	accepted := time.Now()
	done, err := s.watch.completed(ctx)
	return milliseconds(done.Sub(accepted)), err
}

// times sends n files.
func (s *sender) times(ctx context.Context, n int) (all []float64, err error) {
	for range n {
		took, err := s.send(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, took)
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
		return nil
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// providersOf are the adapters that the worker uses.
func providersOf(s *stack) ([]provider.Provider, error) {
	var environ []string
	for k, v := range s.env {
		environ = append(environ, k+"="+v)
	}
	c, err := config.Load(config.Options{Environ: environ, Need: config.NeedWorker})
	if err != nil {
		return nil, err
	}
	return process.Providers(c)
}

// deliver makes the calls of a small file's push, and nothing else.
func deliver(ctx context.Context, p provider.Provider, content []byte) error {
	id := upload.NewID()
	src := provider.Source{
		UploadID: id, Key: "bench/" + string(id), FileName: "small.bin", ContentType: "application/octet-stream", ResourceType: upload.Raw,
		Size: smallSize, CRC32C: crc32c.Update(0, content), Body: bytes.NewReader(content),
	}
	session, err := p.Begin(ctx, src)
	if err != nil {
		return err
	}
	part, err := p.PushPart(ctx, session, src, 0, nil)
	if err != nil {
		return err
	}
	_, err = p.Commit(ctx, src, *part.Asset)
	return err
}
