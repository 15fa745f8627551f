package providertest

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// patience is more than any call here takes.
const patience = 30 * time.Second

func arrives(t *testing.T, fx Fixture) {
	for _, size := range slices.Concat(fx.Sizes, []int64{fx.Small.Size, fx.Large.Size}) {
		w := newWorker(t, fx, size)
		a, err := w.attempt(within(t, patience))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if a.Size != size {
			t.Errorf("%d bytes: the asset says %d", size, a.Size)
		}
		if got := fetched(t, fx, a); got != sum(size) {
			t.Errorf("%d bytes: %s serves others than were pushed", size, a.URL)
		}
		if err := fx.New(w.sky).Delete(within(t, patience), a); err != nil {
			t.Fatalf("%d bytes: delete: %v", size, err)
		}
	}
	for _, f := range []File{fx.Small, fx.Large} {
		w := newWorker(t, fx, f.Size)
		w.push(within(t, patience))
		if got := w.sky.calls(); !slices.Equal(got, f.Calls) {
			t.Errorf("%d bytes took the calls %q, the fixture says %q", f.Size, got, f.Calls)
		}
	}
}

func anyName(t *testing.T, fx Fixture) {
	for _, name := range []string{
		`père & fils (1).mp4`, `quote " and \ slash.bin`, "line\r\nX-Evil: yes\r\n.bin", "nul\x00.bin", "\xff\xfe.bin",
		"日本語のとても長い名前.bin", "no extension", ".", "",
	} {
		for _, f := range []File{fx.Small, fx.Large} {
			w := newWorker(t, fx, f.Size)
			w.src.FileName = name
			a, err := w.attempt(within(t, patience))
			if err != nil {
				t.Errorf("%q, %d bytes: %v", name, f.Size, err)
				continue
			}
			if got := fetched(t, fx, a); got != sum(f.Size) {
				t.Errorf("%q, %d bytes: %s serves others than were pushed", name, f.Size, a.URL)
			}
		}
	}
}

func parallel(t *testing.T, fx Fixture) {
	ctx := within(t, patience)
	w := newWorker(t, fx, fx.Large.Size)
	p := fx.New(w.sky)
	most := p.Capabilities().Parallel
	if most < 1 {
		t.Fatalf("Parallel = %d, want at least 1", most)
	}
	s, err := p.Begin(ctx, w.src)
	if err != nil {
		t.Fatal(err)
	}
	w.ledger = ledger{Session: &s}
	if most > 1 && !s.LastPartCompletes {
		var wg sync.WaitGroup
		parts, errs := make([]provider.Part, s.Parts), make([]error, s.Parts)
		for n := range s.Parts {
			wg.Go(func() { parts[n], errs[n] = p.PushPart(ctx, s, w.src, n, nil) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			if err := w.acknowledge(part); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := w.push(ctx)
	w.onlyAsset(a.ID)
}

func resumes(t *testing.T, fx Fixture) {
	ctx := within(t, patience)
	w := newWorker(t, fx, fx.Large.Size)
	p := fx.New(w.sky)
	s, err := p.Begin(ctx, w.src)
	if err != nil {
		t.Fatal(err)
	}
	if s.Parts < 3 {
		t.Fatalf("a file of %d bytes goes in %d parts, the fixture promised 3", w.src.Size, s.Parts)
	}
	if want := int((w.src.Size + s.PartSize - 1) / s.PartSize); s.Parts != want {
		t.Errorf("session has %d parts of %d bytes, want %d", s.Parts, s.PartSize, want)
	}
	w.ledger = ledger{Session: &s}
	for n := range s.Parts - 2 {
		part, err := p.PushPart(ctx, s, w.src, n, w.ledger.Parts)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.acknowledge(part); err != nil {
			t.Fatal(err)
		}
	}
	w.sky.reset()
	a, err := w.attempt(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.sky.count(Part); got != 2 {
		t.Errorf("the second process sent %d parts, 2 were missing", got)
	}
	w.onlyAsset(a.ID)
}

func repeats(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		ctx := within(t, patience)
		w := newWorker(t, fx, f.Size)
		first := w.push(ctx)
		p := fx.New(w.sky)
		if s := *w.ledger.Session; !s.LastPartCompletes {
			again, err := p.Complete(ctx, s, w.src, w.ledger.Parts)
			if err != nil || again.ID != first.ID {
				t.Errorf("%d bytes: complete again = %q, %v, want %q", f.Size, again.ID, err, first.ID)
			}
		}
		again, err := p.Commit(ctx, w.src, *w.ledger.Asset)
		if err != nil || again != first {
			t.Errorf("%d bytes: commit again = %+v, %v, want %+v", f.Size, again, err, first)
		}
		w.onlyAsset(first.ID)
		w.clear(first)
	}
}

func looksUp(t *testing.T, fx Fixture) {
	ctx := within(t, patience)
	w := newWorker(t, fx, fx.Large.Size)
	p := fx.New(w.sky)
	s, err := p.Begin(ctx, w.src)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := p.Lookup(ctx, s, w.src, nil); a != nil || err != nil {
		t.Errorf("lookup before a byte was sent = %v, %v, want nothing", a, err)
	}
	w.ledger = ledger{Session: &s}
	want := w.push(ctx)
	a, err := p.Lookup(ctx, s, w.src, w.ledger.Parts)
	if err != nil {
		t.Fatal(err)
	}
	if a == nil || a.ID != want.ID || a.Size != want.Size {
		t.Errorf("lookup of a finished push = %+v, want %s", a, want.ID)
	}
}

func deletes(t *testing.T, fx Fixture) {
	ctx := within(t, patience)
	w := newWorker(t, fx, fx.Small.Size)
	p := fx.New(w.sky)
	a := w.push(ctx)
	w.sky.add(Delete, lostAnswer)
	w.wants("delete with a lost answer", p.Delete(ctx, a), provider.Transient, provider.Unknown)
	for range 2 {
		if err := p.Delete(ctx, a); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if left := w.lasting(); len(left) != 0 {
		t.Errorf("after the delete the account keeps %+v", left)
	}
	_, err := p.Commit(ctx, w.src, a)
	if e, ok := errors.AsType[*provider.Error](err); p.Capabilities().NeedsCommit && (!ok || e.Verdict != provider.SessionLost) {
		t.Errorf("commit of a deleted asset: %v, want session lost", err)
	}
}

func checks(t *testing.T, fx Fixture) {
	ctx := within(t, patience)
	w := newWorker(t, fx, fx.Small.Size)
	good := fx.New(w.sky)
	if err := good.Check(ctx); err != nil {
		t.Errorf("check with good keys: %v", err)
	}
	if c := good.Capabilities(); c.MaxTags < 1 || c.MaxMetadata < 1 {
		t.Errorf("capabilities %+v, want tags and metadata", c)
	}
	wrong := fx.WrongKeys(w.sky)
	w.wants("check with wrong keys", wrong.Check(ctx), provider.Account)
	for _, f := range []File{fx.Small, fx.Large} {
		w := newWorker(t, fx, f.Size)
		_, err := w.work(ctx, wrong)
		w.wants(fmt.Sprintf("push of %d bytes with wrong keys", f.Size), err, provider.Denied)
	}
	if left := w.lasting(); len(left) != 0 {
		t.Errorf("wrong keys left %+v", left)
	}
}

// sum is the MD5 of the first size bytes that the suite pushes.
func sum(size int64) string {
	m := md5.Sum(content(size))
	return hex.EncodeToString(m[:])
}

// fetched is the MD5 of what the world gets at url.
// fetched is the MD5 of what the world gets of an asset; where that takes a signed link, the asset's own
// address gives nothing.
func fetched(t *testing.T, fx Fixture, a upload.Asset) string {
	t.Helper()
	to, err := fx.Links.Link(a, provider.Transform{}, time.Now())
	if err != nil || to.Signed != fx.Signed {
		t.Fatalf("the link to %s is %+v, %v", a.URL, to, err)
	}
	if fx.Signed {
		if status, _ := get(t, a.URL); status != http.StatusUnauthorized && status != http.StatusForbidden {
			t.Errorf("GET %s without a signature: %d", a.URL, status)
		}
	}
	status, sum := get(t, to.URL)
	if status != http.StatusOK {
		t.Errorf("GET %s: %d", to.URL, status)
	}
	return sum
}

func get(t *testing.T, url string) (status int, sum string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := md5.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, hex.EncodeToString(h.Sum(nil))
}

func (w *worker) lasting() []Stored {
	w.t.Helper()
	list, err := w.fx.Lasting()
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// onlyAsset demands that the account keeps the pushed file as id, and nothing else.
func (w *worker) onlyAsset(id string) {
	w.t.Helper()
	want := []Stored{{ID: id, Size: w.src.Size, MD5: sum(w.src.Size)}}
	if got := w.lasting(); !slices.Equal(got, want) {
		w.t.Errorf("the account keeps %+v, want %+v", got, want)
	}
}

// wants demands that err is a provider's with the verdict, and tells no secret.
func (w *worker) wants(what string, err error, verdicts ...provider.Verdict) {
	w.t.Helper()
	e, ok := errors.AsType[*provider.Error](err)
	if !ok || !slices.Contains(verdicts, e.Verdict) {
		w.t.Errorf("%s: %v, want the verdict %v", what, err, verdicts)
		return
	}
	w.keepsSecrets(err)
	if e.Op == "" || e.Provider == "" {
		w.t.Errorf("%s: the error names no provider or step: %+v", what, e)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Errorf("%s: looks like a staged file that is too short: %v", what, err)
	}
	if errors.Is(err, context.Canceled) {
		w.t.Errorf("%s: looks canceled: %v", what, err)
	}
}
