package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

func lostCalls(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		for _, call := range f.Calls {
			for _, bad := range []fault{lostRequest, lostAnswer, halfAnswer} {
				t.Run(fmt.Sprintf("%s at %s of %d bytes", bad.name, call, f.Size), func(t *testing.T) {
					w := newWorker(t, fx, f.Size)
					w.sky.add(call, bad)
					w.endsWell()
					if call == Complete {
						w.wants("the complete", w.errs[0], provider.Unknown)
					}
				})
			}
		}
	}
	t.Run("the question after a lost answer is lost too", func(t *testing.T) {
		w := newWorker(t, fx, fx.Large.Size)
		if slices.Contains(fx.Large.Calls, Complete) {
			w.sky.add(Complete, lostAnswer)
		} else {
			w.loseLastPart()
		}
		w.sky.add(Lookup, lostAnswer)
		w.endsWell()
	})
}

// loseLastPart sends all parts and loses the answer to the last.
func (w *worker) loseLastPart() {
	w.t.Helper()
	ctx := within(w.t, patience)
	p := w.fx.New(w.sky)
	s, err := p.Begin(ctx, w.src)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = ledger{Session: &s, Asked: true}
	for n := range s.Parts {
		if n == s.Parts-1 {
			w.sky.add(Part, lostAnswer)
		}
		part, err := p.PushPart(ctx, s, w.src, n, w.ledger.Parts)
		if n == s.Parts-1 {
			w.wants("last part with a lost answer", err, provider.Unknown)
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.acknowledge(part); err != nil {
			w.t.Fatal(err)
		}
	}
}

var nonsenses = []fault{
	answered("a 500 in JSON", Answer{Status: 500, Header: map[string]string{"Content-Type": "application/json"}, Body: `{"uuid":"","error":{"message":"boom"}}`}),
	answered("an empty 502", Answer{Status: 502}),
	answered("a 503 in HTML", Answer{Status: 503, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html><h1>503 Service Unavailable</h1></html>"}),
	answered("a 200 in HTML", Answer{Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html><h1>Sign in to the network</h1></html>"}),
	answered("an empty 200", Answer{Status: 200}),
	answered("a 200 with an empty object", Answer{Status: 200, Header: map[string]string{"Content-Type": "application/json"}, Body: `{}`}),
	answered("a redirect", Answer{Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/?signature=canary"}}),
}

func nonsense(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		for _, call := range f.Calls {
			for _, bad := range nonsenses {
				t.Run(fmt.Sprintf("%s at %s of %d bytes", bad.name, call, f.Size), func(t *testing.T) {
					w := newWorker(t, fx, f.Size)
					w.sky.add(call, bad)
					w.endsWell()
				})
			}
		}
	}
	for _, bad := range nonsenses {
		t.Run(bad.name+" at check and delete", func(t *testing.T) {
			w := newWorker(t, fx, fx.Small.Size)
			p := fx.New(w.sky)
			w.sky.add(Check, bad)
			w.wants("check", p.Check(within(t, patience)), provider.Transient, provider.Unknown)
			a := w.push(within(t, patience))
			w.sky.add(Delete, bad)
			w.wants("delete", p.Delete(within(t, patience), a), provider.Transient, provider.Unknown)
			w.clear(a)
		})
	}
}

// endsWell demands that the push meets its faults with verdicts that let it go on, and then ends
// with exactly one asset.
func (w *worker) endsWell() {
	w.t.Helper()
	a := w.push(within(w.t, patience))
	for _, err := range w.errs {
		w.wants("the push", err, provider.Transient, provider.Unknown, provider.SessionLost, provider.Integrity)
	}
	if left := w.sky.pending(); len(left) > 0 {
		w.t.Errorf("the push did not meet: %q", left)
	}
	w.onlyAsset(a.ID)
	w.clear(a)
}

// clear leaves the account empty for the next test.
func (w *worker) clear(a upload.Asset) {
	w.t.Helper()
	w.sky.reset()
	if err := w.fx.New(w.sky).Delete(within(w.t, patience), a); err != nil {
		w.t.Fatal(err)
	}
}

func refusals(t *testing.T, fx Fixture) {
	met := map[provider.Verdict]bool{}
	for _, r := range fx.Refusals {
		met[r.Want] = true
		t.Run(r.Name, func(t *testing.T) {
			size := fx.Small.Size
			if r.Large {
				size = fx.Large.Size
			}
			w := newWorker(t, fx, size)
			w.sky.add(r.Call, answered(r.Name, r.Answer))
			_, err := w.attempt(within(t, patience))
			w.wants("the push", err, r.Want)
			e, ok := errors.AsType[*provider.Error](err)
			if ok && r.Want == provider.Throttled && e.RetryAfter != 7*time.Second {
				t.Errorf("RetryAfter = %s, want 7s", e.RetryAfter)
			}
			if ok && strings.Contains(e.Message, "<") {
				t.Errorf("the message holds mark-up: %s", e.Message)
			}
		})
	}
	for _, v := range []provider.Verdict{provider.Throttled, provider.Reject, provider.Account, provider.Denied} {
		if !met[v] {
			t.Errorf("the fixture has no refusal that means %q", v)
		}
	}
}

func flippedByte(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		t.Run(fmt.Sprintf("%d bytes", f.Size), func(t *testing.T) {
			w := newWorker(t, fx, f.Size)
			w.sky.add(Part, flipped)
			_, err := w.attempt(within(t, patience))
			w.wants("the push", err, provider.Integrity)
			a := w.push(within(t, patience))
			w.onlyAsset(a.ID)
			w.clear(a)
		})
	}
}

func shortStaging(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		t.Run(fmt.Sprintf("%d bytes", f.Size), func(t *testing.T) {
			w := newWorker(t, fx, f.Size)
			w.src.Body = bytes.NewReader(content(f.Size - 1))
			_, err := w.attempt(within(t, patience))
			if e, ok := errors.AsType[*provider.Error](err); ok {
				t.Errorf("the provider is blamed: %v", e)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("push = %v, want io.ErrUnexpectedEOF", err)
			}
			if left := w.lasting(); len(left) != 0 {
				t.Errorf("the account keeps %+v", left)
			}
		})
	}
}

func canceled(t *testing.T, fx Fixture) {
	for _, f := range []File{fx.Small, fx.Large} {
		for _, call := range f.Calls {
			t.Run(fmt.Sprintf("%s of %d bytes", call, f.Size), func(t *testing.T) {
				standing := goleak.IgnoreCurrent()
				w := newWorker(t, fx, f.Size)
				reached := make(chan struct{})
				w.sky.add(call, silent(reached))
				ctx, cancel := context.WithCancel(within(t, patience))
				defer cancel()
				ended := make(chan error, 1)
				p := fx.New(w.sky)
				go func() {
					_, err := w.work(ctx, p)
					ended <- err
				}()
				<-reached
				cancel()
				select {
				case err := <-ended:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("push = %v, want context.Canceled", err)
					}
					if e, ok := errors.AsType[*provider.Error](err); ok {
						t.Errorf("the provider is blamed: %v", e)
					}
					w.keepsSecrets(err)
				case <-time.After(2 * time.Second):
					t.Fatal("the call goes on 2 s after it was canceled")
				}
				w.sky.next.CloseIdleConnections()
				goleak.VerifyNone(t, standing)
			})
		}
	}
}
