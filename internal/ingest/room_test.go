package ingest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/client"
	"slipway/internal/httpapi"
	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/staging"
	"slipway/internal/staging/dir"
	"slipway/internal/upload"
)

// counting is a store that counts how often files begin to come in, or go on when they were broken off.
type counting struct {
	staging.Store
	begun atomic.Int64
}

func (c *counting) Extend(ctx context.Context, seg upload.Segment, sum uint32) (staging.Writer, error) {
	c.begun.Add(1)
	return c.Store.Extend(ctx, seg, sum)
}

// A fifth of what comes at the same time fits into staging. Whoever finds no room is told so before the first
// byte, and whoever waits as they are told gets in.
func TestFiftyClientsShareATightStaging(t *testing.T) {
	t.Parallel()
	const clients, size, budget = 50, 2e6, 20e6
	folder := t.TempDir()
	store := &counting{Store: must[*dir.Store](t)(dir.New(folder, dir.Options{}))}
	s := open(t, func(a *httpapi.API) {
		a.Quotas = quota.New(a.Pool, postgres.Limits{}, a.Ingest.Log)
		a.Quotas.Disk, a.Quotas.Budget = store, budget
		a.Ingest.Quotas, a.Ingest.Staging = a.Quotas, store
	})
	s.staging = must[*dir.Store](t)(dir.New(folder, dir.Options{}))
	s.worker(t)

	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	var waits atomic.Int64
	put := func(n int) error {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": fmt.Sprint("user ", n), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(jwtSecret))
		if err != nil {
			return err
		}
		c, err := client.New(client.Options{URL: s.url, Token: token, Transport: transport, Waiting: func(cause error, wait time.Duration) {
			waits.Add(1)
			var refused *client.Error
			if !errors.As(cause, &refused) || refused.Code != upload.NoRoom || refused.RetryAfter != wait {
				t.Errorf("client %d was told to wait %s: %v", n, wait, cause)
			}
		}})
		if err != nil {
			return err
		}
		f := client.File{Name: "a.bin", Size: size, Content: bytes.NewReader(content), Provider: []string{"uploadcare", "cloudinary"}[n%2]}
		u, err := c.Put(t.Context(), f)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		defer cancel()
		if u, err = c.Await(ctx, u.ID, func(client.Upload) {}); err == nil && u.Status != upload.Completed {
			err = fmt.Errorf("it is %s", u.Status)
		}
		return err
	}

	done := make(chan struct{})
	var watch, all sync.WaitGroup
	watch.Go(func() { s.neverHasMore(t, folder, budget, done) })
	for n := range clients {
		all.Go(func() {
			if err := put(n); err != nil {
				t.Errorf("client %d: %v", n, err)
			}
		})
	}
	all.Wait()
	close(done)
	watch.Wait()
	if waits.Load() == 0 {
		t.Error("nobody was told to wait")
	}
	if begun := store.begun.Load(); begun != clients {
		t.Errorf("files began to come in or went on %d times, want %d, each in one go", begun, clients)
	}
}

// neverHasMore looks until done whether a folder has more than so many bytes.
func (s *shore) neverHasMore(t *testing.T, folder string, most int64, done chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var sum int64
		_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error { // what leaves meanwhile is no error
			if info, ierr := os.Lstat(filepath.Join(folder, d.Name())); err == nil && ierr == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
			return nil
		})
		if sum > most {
			t.Errorf("there are %d bytes in staging, want at most %d", sum, most)
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
