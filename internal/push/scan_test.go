package push_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/providersim"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// signatures is a scanner that finds texts in files.
type signatures struct {
	texts map[string]string // what is found -> its name

	mu    sync.Mutex
	fails int           // scans that cannot tell
	hold  chan struct{} // scans that do not come to an end before it is closed
	scans []upload.ID
}

func (s *signatures) Scan(ctx context.Context, u upload.Upload, file staging.Reader) (string, error) {
	s.mu.Lock()
	s.scans = append(s.scans, u.ID)
	s.fails--
	fails, hold := s.fails >= 0, s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-hold:
		}
	}
	if fails {
		return "", errors.New("dial scanner:3310: connection refused")
	}
	content, err := io.ReadAll(io.NewSectionReader(file, 0, file.Size()))
	for text, name := range s.texts {
		if bytes.Contains(content, []byte(text)) {
			return name, err
		}
	}
	return "", err
}

func (s *signatures) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.scans)
}

// await returns when a scan has begun.
func (s *signatures) await(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.count() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing was scanned")
		}
		<-tick.C
	}
}

// sentFiles tells whether the provider was sent bytes of files.
func (y *yard) sentFiles(name string) bool {
	for _, r := range y.controls[name].Requests.Find("", nil) {
		if r.Method == "POST" || r.Method == "PUT" {
			return true
		}
	}
	return false
}

func TestWhatAScannerFindsDoesNotLeaveStaging(t *testing.T) {
	const bad = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
	for name := range calls {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			d := y.desk(t)
			scanner := &signatures{texts: map[string]string{bad: "Eicar-Test\nSignature" + strings.Repeat("!", 300)}}
			y.settings.Scanner = scanner
			y.worker(t)
			content := append(random(1000), bad...)
			u := y.awaitStatus(t, y.accept(t, name, content).ID, upload.Failed)
			if e := u.Error; e == nil || e.Code != upload.ContentRefused || e.Retryable || e.FixableBy != upload.ByYou ||
				!strings.Contains(e.Message, `"Eicar-Test\nSignature!`) || len(e.Message) > 400 {
				t.Errorf("the error is %+v", u.Error)
			}
			if y.sentFiles(name) {
				t.Errorf("%s was sent something", name)
			}
			if u.StagedUntil == nil || u.Unstaged != nil {
				t.Errorf("its bytes are kept until %v, gone at %v; want those of any failed upload", u.StagedUntil, u.Unstaged)
			}
			if good := y.awaitStatus(t, y.accept(t, name, random(1000)).ID, upload.Completed); good.Attempt != 1 {
				t.Errorf("another file took %d attempts", good.Attempt)
			}

			// A finding may be a mistake: a retry scans again.
			scanner.mu.Lock()
			scanner.texts = nil
			scanner.mu.Unlock()
			if r := d.retries(t, u.ID, `{}`); r.status != 202 {
				t.Fatalf("a retry gets %+v", r)
			}
			y.awaitStatus(t, u.ID, upload.Completed)
		})
	}
}

func TestAFileWaitsForItsScannerAtNoCost(t *testing.T) {
	y := newYard(t)
	scanner := &signatures{fails: 5}
	y.settings.Scanner = scanner
	y.ingest.MaxAttempts = 1
	y.worker(t)
	content := random(1000)
	id := y.accept(t, "uploadcare", content).ID
	waiting := y.awaitStatus(t, id, upload.Retrying)
	if e := waiting.Error; e == nil || e.Code != upload.ScanUnavailable || !e.Retryable || e.FixableBy != upload.ByOperator || strings.Contains(e.Message, "3310") {
		t.Errorf("while the scanner is away, its error is %+v", waiting.Error)
	}
	u := y.awaitStatus(t, id, upload.Completed)
	y.delivered(t, "uploadcare", content)
	if n := scanner.count(); n != 6 || u.Attempt != 1 {
		t.Errorf("%d scans and %d attempts, want 6 and 1", n, u.Attempt)
	}
}

func TestWhoTakesOverDoesNotScanAgain(t *testing.T) {
	for name := range calls {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			scanner := &signatures{}
			y.settings.Scanner = scanner
			y.settings.PartsInFlight = 1
			content := large(name)
			y.faults(t, name, []fault{{call: "a part", action: providersim.Stall}})
			stop := y.worker(t)
			u := y.accept(t, name, content)
			y.awaitRequest(t, name, calls[name]["a part"], false)
			stop()
			y.controls[name].Faults.Clear()
			y.worker(t)
			y.awaitStatus(t, u.ID, upload.Completed)
			y.delivered(t, name, content)
			if n := scanner.count(); n != 1 {
				t.Errorf("it was scanned %d times", n)
			}
		})
	}
}

func TestAStopDoesNotWaitForAScan(t *testing.T) {
	y := newYard(t)
	scanner := &signatures{hold: make(chan struct{})}
	y.settings.Scanner = scanner
	stop := y.worker(t)
	u := y.accept(t, "uploadcare", random(1000))
	scanner.await(t)
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if now := y.awaitStatus(t, u.ID, upload.Queued); now.Attempt != 0 || y.sentFiles("uploadcare") {
		t.Errorf("attempt %d was counted, or something was sent", now.Attempt)
	}
	close(scanner.hold)
	y.worker(t)
	y.awaitStatus(t, u.ID, upload.Completed)
	if n := scanner.count(); n != 2 {
		t.Errorf("it was scanned %d times, want one that was broken off and another", n)
	}
}
