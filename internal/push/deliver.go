package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"slipway/internal/crc32c"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// attempt is one try at delivering one upload.
type attempt struct {
	*worker
	log *slog.Logger
	u   *upload.Upload
	p   provider.Provider
	src provider.Source
	s   *postgres.Session

	mu   sync.Mutex
	told time.Time // when progress last became an event
}

// deliver brings the upload to its provider and returns the lasting asset. Whatever it leaves
// behind at an error, the next attempt goes on from.
func (w *worker) deliver(ctx context.Context, log *slog.Logger, u *upload.Upload) (upload.Asset, error) {
	p, ok := w.providers[u.Provider]
	if !ok {
		return upload.Asset{}, errNoProvider
	}
	file, err := w.staging.Open(ctx, u.ID, u.Segments...)
	if err != nil {
		return upload.Asset{}, &stagingError{err}
	}
	defer file.Close()
	if file.Size() != u.Size {
		return upload.Asset{}, errCorrupted
	}
	body := &stagedBytes{Reader: file}
	a := &attempt{worker: w, log: log, u: u, p: p, src: provider.Source{
		UploadID: u.ID, Key: w.Installation + "/" + string(u.ID), FileName: u.FileName, ContentType: u.ContentType,
		ResourceType: u.ResourceType, Size: u.Size, CRC32C: u.CRC32C, Tags: u.Tags, Metadata: u.Metadata, Body: body,
	}}
	var asset upload.Asset
	if err = a.scan(ctx, body); err == nil {
		asset, err = a.run(ctx)
	}
	if err != nil && body.err() != nil {
		return asset, &stagingError{body.err()}
	}
	var pe *provider.Error
	switch {
	case errors.As(err, &pe) && pe.Verdict == provider.Integrity:
		return asset, a.integrity(ctx, file, err)
	case err != nil && body.endedEarly():
		return asset, errCorrupted
	}
	return asset, err
}

// run goes through the sessions of an attempt: nearly always one, another when the provider has
// forgotten the first.
func (a *attempt) run(ctx context.Context) (upload.Asset, error) {
	reason := ""
	for {
		asset, err := a.runSession(ctx, reason)
		var pe *provider.Error
		if !errors.As(err, &pe) || pe.Verdict != provider.SessionLost {
			return asset, err
		}
		a.log.Warn("the session is lost", "error", err)
		var lost int
		if err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) (err error) {
			lost, err = postgres.LoseSession(ctx, tx, *a.u)
			return err
		}); err != nil {
			return upload.Asset{}, err
		}
		if lost > maxSessionsLost {
			return upload.Asset{}, refusal(pe)
		}
		reason = pe.Reason()
	}
}

// refusal is what a session lost again and again comes to. A provider that answers each time that
// the request itself is bad has not forgotten anything: it does not want these bytes.
func refusal(pe *provider.Error) error {
	switch pe.Status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		r := *pe
		r.Verdict = provider.Reject
		return &r
	}
	return pe
}

// maxSessionsLost is how many sessions may be lost, without progress beyond them, before an attempt ends.
const maxSessionsLost = 1

func (a *attempt) runSession(ctx context.Context, reason string) (upload.Asset, error) {
	if err := a.resume(ctx, reason); err != nil {
		return upload.Asset{}, err
	}
	asset := a.s.Asset
	if asset == nil && a.s.Finishing {
		var err error
		if asset, err = a.lookup(ctx); err != nil {
			return upload.Asset{}, err
		}
	}
	if asset == nil {
		var err error
		if asset, err = a.send(ctx); err != nil {
			return upload.Asset{}, err
		}
	}
	if asset.Size != a.u.Size {
		return *asset, a.mismatch("the provider has %d bytes of %d", asset.Size, a.u.Size)
	}
	if !a.p.Capabilities().NeedsCommit {
		return *asset, nil
	}
	if a.s.Asset == nil {
		if err := a.write(ctx, func(ctx context.Context) error { return postgres.Pushed(ctx, a.pool, *a.u, a.s.Row, *asset) }); err != nil {
			return *asset, err
		}
	}
	return ask(ctx, a, func(ctx context.Context) (upload.Asset, error) { return a.p.Commit(ctx, a.src, *asset) })
}

// ask makes a call to the provider that moves no bytes of the file, if the account may be sent to now.
func ask[T any](ctx context.Context, a *attempt, call func(context.Context) (T, error)) (T, error) {
	if _, err := a.open(ctx, a.p); err != nil {
		var none T
		return none, err
	}
	ctx, end := during(ctx, callTimeout)
	defer end()
	return call(ctx)
}

// Bounds that no working system comes to: a lease is not renewed beyond them.
const (
	doorTimeout = time.Hour       // until what others have on their way is there
	partTimeout = 3 * time.Minute // of a call with bytes of the file, beside what they take at the slowest
	slowest     = 64 << 10        // bytes per second
	slowestRead = 4 << 20         // bytes per second, of staging
)

// callTimeout bounds a call that moves no bytes of the file, the waiting for a provider's
// processing included.
const callTimeout = 2 * time.Minute

// resume opens the session that the ledger has, or begins one and writes it down.
func (a *attempt) resume(ctx context.Context, reason string) error {
	s, err := postgres.OpenSession(ctx, a.pool, a.u.ID)
	if err != nil {
		return err
	}
	if s != nil && s.Asset == nil && !s.Finishing && !s.ExpiresAt.IsZero() && time.Now().After(s.ExpiresAt) {
		return &provider.Error{Provider: a.u.Provider, Op: "resume", Verdict: provider.SessionLost, Message: "the provider's session has expired"}
	}
	if s != nil {
		a.s = s
		return nil
	}
	begun, err := ask(ctx, a, func(ctx context.Context) (provider.Session, error) { return a.p.Begin(ctx, a.src) })
	if err != nil {
		return err
	}
	run := func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) (err error) {
			a.s, err = postgres.BeginSession(ctx, tx, *a.u, begun, reason)
			return err
		})
	}
	done := func(ctx context.Context) (bool, error) {
		s, err := postgres.OpenSession(ctx, a.pool, a.u.ID)
		if s == nil || s.ID != begun.ID {
			return false, err
		}
		a.s = s
		return true, err
	}
	return postgres.Once(ctx, run, done)
}

// lookup asks what became of a completing call whose answer is not known.
func (a *attempt) lookup(ctx context.Context) (*upload.Asset, error) {
	return ask(ctx, a, func(ctx context.Context) (*upload.Asset, error) {
		return a.p.Lookup(ctx, a.s.Session, a.src, a.s.Acked)
	})
}

// send pushes the parts that the ledger lacks and completes the session.
func (a *attempt) send(ctx context.Context) (*upload.Asset, error) {
	asset, err := a.sendParts(ctx)
	if err != nil {
		return nil, err
	}
	if sum := a.sum(); sum != a.u.CRC32C {
		return nil, a.mismatch("the parts as sent have crc32c %s, staging has %s", crc32c.Base64(sum), crc32c.Base64(a.u.CRC32C))
	}
	if asset != nil {
		return asset, nil
	}
	if err := a.finishing(ctx); err != nil {
		return nil, err
	}
	completed, err := ask(ctx, a, func(ctx context.Context) (upload.Asset, error) {
		return a.p.Complete(ctx, a.s.Session, a.src, a.s.Acked)
	})
	if outcomeUnknown(err) {
		return a.settle(ctx, err)
	}
	return &completed, err
}

// settle finds out what a completing call came to whose answer was lost.
func (a *attempt) settle(ctx context.Context, cause error) (*upload.Asset, error) {
	a.log.Warn("the outcome is unknown, asking for it", "error", cause)
	asset, err := a.lookup(ctx)
	if err != nil {
		return nil, err
	}
	if asset == nil {
		return nil, cause
	}
	return asset, nil
}

func outcomeUnknown(err error) bool {
	var pe *provider.Error
	return errors.As(err, &pe) && pe.Verdict == provider.Unknown
}

func (a *attempt) finishing(ctx context.Context) error {
	if a.s.Finishing {
		return nil
	}
	a.s.Finishing = true
	return a.write(ctx, func(ctx context.Context) error { return postgres.Finishing(ctx, a.pool, *a.u, a.s.Row) })
}

// sendParts pushes what is missing: in order, or several at once where the provider takes them so.
// It returns the asset when the last part's answer was one.
func (a *attempt) sendParts(ctx context.Context) (*upload.Asset, error) {
	// Who had the asset for an answer has died with it, or it would be known: that part has to be sent again.
	a.s.Acked = slices.DeleteFunc(a.s.Acked, func(p provider.Part) bool { return a.completes(p.Number) })
	acked := make([]bool, a.s.Parts)
	for _, p := range a.s.Acked {
		acked[p.Number] = true
	}
	width := min(a.p.Capabilities().Parallel, a.PartsInFlight)
	if a.s.LastPartCompletes {
		width = 1
	}
	var asset *upload.Asset
	var failed atomic.Bool
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(max(width, 1))
	for n := range a.s.Parts {
		if acked[n] {
			continue
		}
		g.Go(func() error {
			if failed.Load() {
				return nil
			}
			part, err := a.sendPart(ctx, n)
			if err == nil {
				err = a.ack(ctx, part)
			}
			if err != nil {
				failed.Store(true)
				if !leavesSession(err) {
					cancel()
				}
				return err
			}
			if part.Asset != nil { // only where parts go one after the other
				asset = part.Asset
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return asset, nil
}

// leavesSession tells whether the next attempt goes on in the same session, so that the other parts on their way
// are not in vain.
func leavesSession(err error) bool {
	var paused *pausedError
	var pe *provider.Error
	if !errors.As(err, &pe) {
		return errors.As(err, &paused)
	}
	switch pe.Verdict {
	case provider.Reject, provider.SessionLost, provider.Integrity:
		return false
	}
	return true
}

// triesPerPart is how often a part is sent within an attempt before the attempt ends.
const triesPerPart = 3

func (a *attempt) sendPart(ctx context.Context, n int) (provider.Part, error) {
	completes := a.completes(n)
	for try := 1; ; try++ {
		part, err := a.pushPart(ctx, n)
		if completes && outcomeUnknown(err) {
			asset, err2 := a.settle(ctx, err)
			if err2 == nil {
				_, size := a.s.Range(n, a.u.Size)
				return provider.Part{Number: n, Size: size, CRC32C: a.rest(), Asset: asset}, nil
			}
			err = err2
		}
		if err == nil || try == triesPerPart || ctx.Err() != nil || !worthRepeating(err) {
			return part, err
		}
		a.log.Warn("a part is sent again", "part", n, "try", try, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(a.Backoff(try) / 4):
		}
	}
}

// pushPart sends part n once, if the account may be sent to now, and as soon as not too much is on its way there.
func (a *attempt) pushPart(ctx context.Context, n int) (provider.Part, error) {
	state, err := a.open(ctx, a.p)
	if err != nil {
		return provider.Part{}, err
	}
	waiting, end := during(ctx, doorTimeout)
	done, err := a.narrow(waiting, a.u, cmp.Or(state.MaxParallel, a.fullParallel()))
	end()
	if err != nil {
		return provider.Part{}, err
	}
	defer done()
	if state.MaxParallel > 0 { // it may have been paused while others were waited for
		if _, err := a.open(ctx, a.p); err != nil {
			return provider.Part{}, err
		}
	}
	if a.completes(n) {
		if err := a.finishing(ctx); err != nil {
			return provider.Part{}, err
		}
	}
	_, size := a.s.Range(n, a.u.Size)
	call, end := during(ctx, partTimeout+time.Duration(size/slowest)*time.Second)
	defer end()
	part, err := a.p.PushPart(call, a.s.Session, a.src, n, a.acknowledged())
	var pe *provider.Error
	if errors.As(err, &pe) && pe.Verdict == provider.Throttled { // whoever sends is to know at once
		return part, a.throttle(ctx, pe)
	}
	return part, err
}

// completes tells whether the answer to part n is the asset.
func (a *attempt) completes(n int) bool { return a.s.LastPartCompletes && n == a.s.Parts-1 }

func worthRepeating(err error) bool {
	var pe *provider.Error
	return errors.As(err, &pe) && (pe.Verdict == provider.Transient || pe.Verdict == provider.Unknown)
}

// rest is the sum that the last part must have had for the whole to be right; a look-up has proven
// that the asset holds exactly the bytes of the file.
func (a *attempt) rest() uint32 {
	var before uint32
	for _, p := range a.acknowledged() {
		before = crc32c.Combine(before, p.CRC32C, p.Size)
	}
	_, size := a.s.Range(a.s.Parts-1, a.u.Size)
	return crc32c.Combine(before, 0, size) ^ a.u.CRC32C
}

func (a *attempt) acknowledged() []provider.Part {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.s.Acked[:len(a.s.Acked):len(a.s.Acked)]
}

// ack writes an acknowledged part into the ledger.
func (a *attempt) ack(ctx context.Context, p provider.Part) error {
	a.mu.Lock()
	tell := time.Since(a.told) >= time.Second && a.s.Parts > 1
	if tell {
		a.told = time.Now()
	}
	a.mu.Unlock()
	err := a.write(ctx, func(ctx context.Context) error {
		if !tell {
			return postgres.Ack(ctx, a.pool, *a.u, a.s.Row, []provider.Part{p}, false)
		}
		return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
			return postgres.Ack(ctx, tx, *a.u, a.s.Row, []provider.Part{p}, true)
		})
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := len(a.s.Acked)
	for i > 0 && a.s.Acked[i-1].Number > p.Number {
		i--
	}
	if i < len(a.s.Acked) { // others may be reading what is there: leave it alone
		a.s.Acked = slices.Clone(a.s.Acked)
	}
	a.s.Acked = slices.Insert(a.s.Acked, i, p)
	return nil
}

// writeLimit bounds one try to write what has happened.
const writeLimit = 5 * time.Second

// write notes what has happened at the provider, which whoever stops the attempt does not keep it from. A database
// that restarts is waited for as long as the lease lives; note may be done twice.
func (w *worker) write(ctx context.Context, note func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
		err := note(try)
		cancel()
		if err == nil || !postgres.Unreachable(err) || ctx.Err() != nil {
			return err
		}
		w.log.Warn("the database is waited for", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// sum is the crc32c of the parts as they were sent, in order.
func (a *attempt) sum() uint32 {
	var sum uint32
	for _, p := range a.s.Acked {
		sum = crc32c.Combine(sum, p.CRC32C, p.Size)
	}
	return sum
}

func (a *attempt) mismatch(format string, v ...any) error {
	return &provider.Error{Provider: a.u.Provider, Op: "verify", Verdict: provider.Integrity, Message: fmt.Sprintf(format, v...)}
}

// integrity finds out whose fault a mismatch is: bytes that staging has lost fail the upload, bytes
// that were hurt on their way are sent again in a new session.
func (a *attempt) integrity(ctx context.Context, file staging.Reader, cause error) error {
	ctx, end := during(ctx, partTimeout+time.Duration(file.Size()/slowestRead)*time.Second)
	defer end()
	buf := make([]byte, 1<<20)
	var sum uint32
	r := io.NewSectionReader(file, 0, file.Size())
	for {
		n, err := r.Read(buf)
		sum = crc32c.Update(sum, buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &stagingError{err}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if sum != a.u.CRC32C {
		return errCorrupted
	}
	if err := postgres.AbandonSession(ctx, a.pool, *a.u); err != nil {
		return err
	}
	return cause
}

// stagedBytes remembers that staging could not be read, or ended too early, which a provider's HTTP client
// reports as a fault of the request. Only here it is known: a lost connection to the database is an
// unexpected EOF, too.
type stagedBytes struct {
	staging.Reader
	mu     sync.Mutex
	failed error
	early  bool
}

// ReadAt lets others have the processor before it reads more of a large file. Where lines are fast, summing and sending
// large files keeps every processor busy, and a small file, which needs one for a moment at each of its steps,
// would wait for the time slices of all of them.
func (s *stagedBytes) ReadAt(p []byte, off int64) (int, error) {
	if s.Size() >= upload.SmallFile {
		runtime.Gosched()
	}
	n, err := s.Reader.ReadAt(p, off)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
		s.early = s.early || off+int64(n) < s.Size()
	case err != nil:
		s.failed = err
	}
	return n, err
}

func (s *stagedBytes) endedEarly() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early
}

func (s *stagedBytes) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}
