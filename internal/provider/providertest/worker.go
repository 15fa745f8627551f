package providertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// ledger is what a worker writes down; it goes through JSON between two processes.
type ledger struct {
	Session *provider.Session
	Parts   []provider.Part
	// Asked says that the step that makes the asset was begun: its outcome is to be looked up.
	Asked bool
	Asset *upload.Asset
}

// worker takes one file to the provider as a push does.
type worker struct {
	t      *testing.T
	fx     Fixture
	sky    *weather
	src    provider.Source
	ledger ledger
	errs   []error // what the attempts came to
}

func newWorker(t *testing.T, fx Fixture, size int64) *worker {
	sky := newWeather(fx.CallOf)
	t.Cleanup(sky.next.CloseIdleConnections)
	return &worker{t: t, fx: fx, sky: sky, src: source(size)}
}

// source is a file of size bytes, the same in every test.
func source(size int64) provider.Source {
	data := content(size)
	id := upload.NewID()
	return provider.Source{
		UploadID:     id,
		Key:          "inst/" + string(id),
		FileName:     "père & fils (1).bin",
		ContentType:  "application/octet-stream",
		ResourceType: upload.Raw,
		Size:         size,
		CRC32C:       crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)),
		Tags:         []string{"trip"},
		Metadata:     map[string]string{"album": "7"},
		Body:         bytes.NewReader(data),
	}
}

var (
	noiseMu sync.Mutex
	noise   []byte
)

// content is the first size bytes of a noise that is always the same.
func content(size int64) []byte {
	noiseMu.Lock()
	defer noiseMu.Unlock()
	if int64(len(noise)) < size {
		noise = make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{'s', 'l', 'i', 'p'}).Read(noise)
	}
	return noise[:size:size]
}

// push repeats attempts, each in a new process, until one succeeds.
func (w *worker) push(ctx context.Context) upload.Asset {
	w.t.Helper()
	for range 6 {
		a, err := w.attempt(ctx)
		if err == nil {
			return a
		}
		w.errs = append(w.errs, err)
	}
	w.t.Fatalf("the push did not end: %v", errors.Join(w.errs...))
	return upload.Asset{}
}

// attempt goes on in a new process from what the ledger says.
func (w *worker) attempt(ctx context.Context) (upload.Asset, error) {
	w.t.Helper()
	w.restart()
	a, err := w.work(ctx, w.fx.New(w.sky))
	if err != nil {
		w.learn(err)
	}
	return a, err
}

// restart keeps of the ledger what a database keeps.
func (w *worker) restart() {
	w.t.Helper()
	b, err := json.Marshal(w.ledger)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = ledger{}
	if err := json.Unmarshal(b, &w.ledger); err != nil {
		w.t.Fatal(err)
	}
}

// work is one attempt: begin, ask, send, complete, commit, as far as each is still to be done.
func (w *worker) work(ctx context.Context, p provider.Provider) (upload.Asset, error) {
	if w.ledger.Session == nil {
		s, err := p.Begin(ctx, w.src)
		if err != nil {
			return upload.Asset{}, err
		}
		w.ledger = ledger{Session: &s}
	}
	if w.ledger.Asset == nil && w.ledger.Asked {
		a, err := p.Lookup(ctx, *w.ledger.Session, w.src, w.ledger.Parts)
		if err != nil {
			return upload.Asset{}, err
		}
		w.ledger.Asset = a
	}
	if w.ledger.Asset == nil {
		a, err := w.send(ctx, p)
		if err != nil {
			return upload.Asset{}, err
		}
		w.ledger.Asset = &a
	}
	return p.Commit(ctx, w.src, *w.ledger.Asset)
}

func (w *worker) send(ctx context.Context, p provider.Provider) (upload.Asset, error) {
	s := *w.ledger.Session
	for n := range s.Parts {
		if w.has(n) {
			continue
		}
		if s.LastPartCompletes && n == s.Parts-1 {
			w.ledger.Asked = true
		}
		part, err := p.PushPart(ctx, s, w.src, n, w.ledger.Parts)
		if err != nil {
			return upload.Asset{}, err
		}
		if err := w.acknowledge(part); err != nil {
			return upload.Asset{}, err
		}
	}
	if s.LastPartCompletes {
		last := w.ledger.Parts[len(w.ledger.Parts)-1]
		if last.Asset == nil {
			return upload.Asset{}, fmt.Errorf("part %d completes the session and has no asset", last.Number)
		}
		return *last.Asset, nil
	}
	w.ledger.Asked = true
	return p.Complete(ctx, s, w.src, w.ledger.Parts)
}

func (w *worker) has(n int) bool {
	return slices.ContainsFunc(w.ledger.Parts, func(p provider.Part) bool { return p.Number == n })
}

// acknowledge records a part, if it says the truth about itself.
func (w *worker) acknowledge(part provider.Part) error {
	offset, length := w.ledger.Session.Range(part.Number, w.src.Size)
	sum := crc32.Checksum(content(w.src.Size)[offset:offset+length], crc32.MakeTable(crc32.Castagnoli))
	if part.Size != length || part.CRC32C != sum {
		return fmt.Errorf("part %d says %d bytes with crc32c %08x, was %d with %08x", part.Number, part.Size, part.CRC32C, length, sum)
	}
	if len(part.Carry) > 256 {
		return fmt.Errorf("part %d carries %d bytes, 256 are allowed", part.Number, len(part.Carry))
	}
	w.ledger.Parts = append(w.ledger.Parts, part)
	slices.SortFunc(w.ledger.Parts, func(a, b provider.Part) int { return cmp.Compare(a.Number, b.Number) })
	return nil
}

// learn draws from an error what the next attempt must know.
func (w *worker) learn(err error) {
	w.t.Helper()
	w.keepsSecrets(err)
	if e, ok := errors.AsType[*provider.Error](err); ok && (e.Verdict == provider.SessionLost || e.Verdict == provider.Integrity) {
		w.ledger = ledger{}
	}
}

func (w *worker) keepsSecrets(err error) {
	w.t.Helper()
	for _, secret := range w.fx.Secrets {
		if strings.Contains(err.Error(), secret) {
			w.t.Errorf("the error tells a secret (%s): %v", secret, err)
		}
	}
}

// within gives a call so much time that only a hanging one needs it.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
