package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestPutOnATerminal(t *testing.T) {
	s := start(t)
	folder(t)
	installed(t)
	long := strings.Repeat("ü", 40) + ".bin"
	write(t, long, noise(10*mib))
	write(t, "b.bin", noise(8*mib))
	way := narrow(t, s.url)
	way.open(7 * mib)
	x := onTerminal(t, 100, 12, "slipway", "put", long, "b.bin")
	x.shows("üüü…… to Slipway …% |…| … MiB of 10 MiB…", "b.bin to Slipway …% |…| … MiB of 8.0 MiB…")
	way.full(t)
	x.resize(90, 12)
	x.shows("üüü…… to Slipway …% |…| … MiB of 10 MiB…", "b.bin to Slipway …% |…| … MiB of 8.0 MiB…")
	x.types(ctrlC)
	x.ends(exitInterrupted)
	last := strings.Join(x.lines(), "\n")
	if strings.Count(last, ": interrupted. `slipway put ") != 2 || strings.Contains(last, "|") || !strings.Contains(last, "slipway: 2 of 2 files are not where they should be") {
		t.Errorf("it leaves\n%s", last)
	}

	s.fault(t, "uploadcare", `{"path":"^/base/","action":"stall"}`)
	t.Cleanup(func() { s.fault(t, "uploadcare", "") })
	way.open(1 << 60)
	x = onTerminal(t, 110, 12, "slipway", "put", "--wait", "--provider", "uploadcare", "b.bin")
	x.shows("b.bin was being sent with other options; it is sent anew", "b.bin: received, 8.0 MiB in …; it goes on by itself. Its id is …", "b.bin to uploadcare pushing …% |…| … of 8.0 MiB…")
	x.types(ctrlC)
	x.ends(exitInterrupted)
	last = strings.Join(x.lines(), "\n")
	if !strings.Contains(last, "b.bin: not waited for any longer; it goes on by itself: `slipway status ") || strings.Contains(last, "|") {
		t.Errorf("it leaves\n%s", last)
	}
}

func TestWhereThereAreNoBarsALineComesNowAndThen(t *testing.T) {
	var out bytes.Buffer
	s := newShow(&out)
	defer s.close()
	l := s.begin(0, "a.bin", "to Slipway", 1000)
	l.at(100)
	l.told = l.told.Add(-tellEvery)
	l.at(426)
	l.at(600)
	l.end()
	if out.String() != "a.bin: 42 % to Slipway\n" {
		t.Errorf("it says %q", out.String())
	}
}
