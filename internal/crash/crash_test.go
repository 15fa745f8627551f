package main

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The run of `make crash`, as short as what is waited for allows: a lease of 15 s, and the pauses of accounts that
// were out of order.
func TestNothingIsLostInAShortRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := run(ctx, []string{
		"-seed", "5", "-uploads", "20", "-kills", "8", "-for", "4s", "-largest", "8", "-line", "512", "-clients", "16",
		"-patience", "4m", "-clearing=false",
	}, t.Output())
	if err != nil {
		t.Error(err)
	}
}

func TestASeedChoosesEverything(t *testing.T) {
	o := options{seed: 7, uploads: 300, kills: 100, during: time.Minute, largest: 100 * mib, apis: 2, workers: 3}
	one, same := newPlan(o), newPlan(o)
	if !reflect.DeepEqual(one, same) {
		t.Error("one seed makes two plans")
	}
	var text strings.Builder
	one.print(&text)
	for _, want := range []string{
		": kill for", ": stop for", "postgres: crash", "disk: fill up", "uploadcare: outage", "cloudinary: outage", "cloudinary: fault",
		"by /upload to", "by raw to", "by form to", "by tus to", "by url to", "by direct to uploadcare", "by direct to cloudinary", "with a key", "cancel it", "delete it",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if n := one.kills(); n != o.kills {
		t.Errorf("%d kills are planned, want %d", n, o.kills)
	}
	o.seed++
	if reflect.DeepEqual(one.parcels, newPlan(o).parcels) {
		t.Error("another seed makes the same plan")
	}
}

func TestSpread(t *testing.T) {
	tests := map[string]struct {
		all  []time.Duration
		want string
	}{
		"nothing has no middle":            {nil, "none"},
		"one is all there is":              {[]time.Duration{time.Second}, "p50 1s, p95 1s, most 1s, of 1"},
		"the order of what came is no odd": {[]time.Duration{3 * time.Second, time.Second, 2 * time.Second}, "p50 2s, p95 3s, most 3s, of 3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := spread(tt.all); got != tt.want {
				t.Errorf("spread(%v) = %s, want %s", tt.all, got, tt.want)
			}
		})
	}
}
