package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureMemory takes the peak of the API's and of the worker's memory while many large files are on their
// way at once, as bodies and as forms, to both providers.
func measureMemory(ctx context.Context, s *stack, o options, r *report) error {
	api, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	worker, err := s.startWorker(ctx)
	if err != nil {
		return err
	}
	w, err := newWatch(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	who, err := token(user(1))
	if err != nil {
		return err
	}
	client := newClient(o.uploads)
	uploads, sending := errgroup.WithContext(ctx)
	for i := range o.uploads {
		kind, provider := []string{"raw", "multipart"}[i%2], []string{"uploadcare", "cloudinary"}[i/2%2]
		uploads.Go(func() error { return sendLarge(sending, client, s.url+"/v1/uploads", who, kind, provider, s.large) })
	}
	if err := shrinkUntil(ctx, s, uploads.Wait, w); err != nil {
		return err
	}
	for _, p := range []*child{api, worker} {
		peak, err := peakMemory(p.cmd.Process.Pid)
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("%d uploads of %d MiB at once, %s", o.uploads, o.size/mib, p.name), "MiB peak", float64(peak)/mib, 64)
	}
	return nil
}

// shrinkUntil keeps the simulators' disk small until all uploads are accepted and completed.
func shrinkUntil(ctx context.Context, s *stack, accepted func() error, w *watch) error {
	done := make(chan error, 1)
	go func() { done <- accepted() }()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for all := false; ; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			all, done = true, nil
		case <-tick.C:
		}
		if err := s.shrink(); err != nil {
			return err
		}
		if !all {
			continue
		}
		if n, err := w.left(ctx); err != nil || n == 0 {
			return err
		}
	}
}
