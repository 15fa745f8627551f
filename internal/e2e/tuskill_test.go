package e2e

import (
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// checkpoint is the most that a death costs, in bytes, where they come faster than 16 MiB/s.
const checkpoint = 32 * mib

// What becomes of files on their way in whose API processes die, sleep or are not asked any more.
func TestReceivingSurvives(t *testing.T) {
	t.Parallel()
	s := dev(t, "--without", "api")
	d := s.database(t)
	for name, f := range map[string]func(*testing.T, *stack, database){
		"the API is killed in a large PATCH":                  killedInPatch,
		"an API that was stopped wakes after another is done": wokenAtTheEnd,
		"an API that was stopped wakes in another's PATCH":    wokenInAnothersPatch,
		"another API is asked while a PATCH stalls":           takenOver,
	} {
		t.Run(name, func(t *testing.T) { f(t, s, d) })
	}
}

// wantOffsetAfter checks how far an upload has come of which so much was sent before a death.
func wantOffsetAfter(t *testing.T, got, sent int64) {
	t.Helper()
	t.Logf("%.1f MiB of %.1f MiB that were sent are lost", float64(sent-got)/mib, float64(sent)/mib)
	if got > sent || got < sent-checkpoint-inFlight {
		t.Errorf("after %d bytes the offset is %d, want at most one checkpoint less", sent, got)
	}
}

func killedInPatch(t *testing.T, s *stack, _ database) {
	const size, until = 200 * mib, 150 * mib
	path, sum := file(t, "large.bin", size)
	api := s.api(t)
	at := api.create(t, "large.bin", size)
	p := api.patch(t, at, path, 0)
	p.send(t, until)
	api.kill()
	api.again(t)
	offset := api.offset(t, at)
	wantOffsetAfter(t, offset, until)
	api.wantRest(t, at, path, offset)
	s.at(api).wantDelivered(t, uploadOf(at), sum)
}

// at is the stack as this API shows it.
func (s *stack) at(a *apiProcess) *stack {
	shown := *s
	shown.url = a.url
	return &shown
}

// sleepInPatch stops an API that is in a PATCH with all but the last bytes of a file, of which it has written down
// some, and returns that PATCH.
func sleepInPatch(t *testing.T, d database, api *apiProcess, at, path string, until int64) *patch {
	t.Helper()
	p := api.patch(t, at, path, 0)
	p.send(t, until/2)
	d.awaitRow(t, 30*time.Second, "a checkpoint", `SELECT received_bytes > 0 FROM slipway.uploads WHERE id = $1`, uploadOf(at))
	p.send(t, until)
	api.suspend(t)
	return p
}

// wake lets a stopped API go on, and checks that it sees that it is too late.
func wake(t *testing.T, api *apiProcess, p *patch) {
	t.Helper()
	api.signal(t, syscall.SIGCONT)
	_, _ = io.Copy(p.conn, io.NewSectionReader(p.file, p.at, p.size-p.at)) // which it may refuse at any byte
	if status := p.answer(); status/100 == 2 {
		t.Errorf("the API that was stopped answers %d", status)
	}
}

func wokenAtTheEnd(t *testing.T, s *stack, d database) {
	const size, until = 120 * mib, 100 * mib
	path, sum := file(t, "large.bin", size)
	sleeper, other := s.api(t), s.api(t)
	at := sleeper.create(t, "large.bin", size)
	p := sleepInPatch(t, d, sleeper, at, path, until)

	began := time.Now()
	offset := other.offset(t, at)
	t.Logf("the other API takes over from one that is stopped in %s", time.Since(began).Round(time.Millisecond))
	wantOffsetAfter(t, offset, until)
	other.wantRest(t, at, path, offset)
	s.at(other).wantDelivered(t, uploadOf(at), sum)

	before := d.dump(t)
	wake(t, sleeper, p)
	if after := d.dump(t); after != before {
		t.Errorf("the sleeper changed\n%s to\n%s", before, after)
	}
	if sum2 := sumAt(t, other.url+"/v1/files/"+uploadOf(at)+"/content"); sum2 != sum {
		t.Error("the content link leads to other bytes than were sent")
	}
}

func wokenInAnothersPatch(t *testing.T, s *stack, d database) {
	const size, until, further = 120 * mib, 60 * mib, 100 * mib
	path, sum := file(t, "large.bin", size)
	sleeper, other := s.api(t), s.api(t)
	at := sleeper.create(t, "large.bin", size)
	p := sleepInPatch(t, d, sleeper, at, path, until)
	offset := other.offset(t, at)
	wantOffsetAfter(t, offset, until)
	second := other.patch(t, at, path, offset)
	second.send(t, further)

	wake(t, sleeper, p)
	second.send(t, size)
	if status := second.answer(); status != http.StatusNoContent {
		t.Fatalf("the PATCH of the other API ended with %d", status)
	}
	s.at(other).wantDelivered(t, uploadOf(at), sum)
}

// takenOver asks an API for an upload that another is receiving, and that itself is. Who hears nothing of it waits for a
// second each time; who hears of it is faster, once at least, however busy the machine is.
func takenOver(t *testing.T, s *stack, _ database) {
	const size, until, tries = 40 * mib, 20 * mib, 5
	first, second := s.api(t), s.api(t)
	for who, asked := range map[string]*apiProcess{"another process": second, "the same process": first} {
		fastest := time.Hour
		for n := 0; n < tries && fastest > 900*time.Millisecond; n++ {
			path, sum := file(t, "stalls.bin", size)
			at := first.create(t, "stalls.bin", size)
			p := first.patch(t, at, path, 0)
			p.send(t, until)
			began := time.Now()
			offset := asked.offset(t, at)
			fastest = min(fastest, time.Since(began))
			if offset != until {
				t.Errorf("%s says that %d bytes are there, want %d", who, offset, until)
			}
			if status := p.answer(); status < 400 || status == http.StatusNotFound {
				t.Errorf("the PATCH that was interrupted ended with %d", status)
			}
			asked.wantRest(t, at, path, offset)
			s.at(asked).wantDelivered(t, uploadOf(at), sum)
		}
		t.Logf("%s takes over in %s", who, fastest.Round(100*time.Microsecond))
		if fastest > 900*time.Millisecond {
			t.Errorf("%s takes over in %s at best of %d times", who, fastest, tries)
		}
	}
}
