package postgres_test

import (
	"reflect"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

func TestProviderIsPausedAndLearned(t *testing.T) {
	b := newBench(t)
	read := func() postgres.ProviderState {
		t.Helper()
		p, err := postgres.Provider(t.Context(), b.Pool, "uploadcare")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pause := func(d time.Duration) {
		t.Helper()
		if err := postgres.PauseProvider(t.Context(), b.Pool, "uploadcare", "provider_account", "The keys are wrong.", d); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(); !reflect.DeepEqual(got, postgres.ProviderState{Name: "uploadcare"}) {
		t.Errorf("unknown = %+v", got)
	}
	pause(time.Hour)
	pause(time.Minute) // does not shorten the first
	if got := read(); got.PausedUntil == nil || time.Until(*got.PausedUntil) < 50*time.Minute || got.PauseCode != "provider_account" || got.PauseReason == "" {
		t.Errorf("paused = %+v", got)
	}
	want := provider.Capabilities{MaxSize: map[upload.ResourceType]int64{upload.Image: 10 << 20, "": 100 << 20}, Parallel: 4, NeedsCommit: true}
	if err := postgres.LearnProvider(t.Context(), b.Pool, "uploadcare", want); err != nil {
		t.Fatal(err)
	}
	if got := read(); !reflect.DeepEqual(got.Capabilities, want) || got.PausedUntil != nil || got.PauseCode != "" || got.CheckedAt == nil {
		t.Errorf("learned = %+v, want %+v", got, want)
	}
	pause(time.Hour)
	if got := read(); !reflect.DeepEqual(got.Capabilities, want) {
		t.Errorf("a pause has changed what is known: %+v", got)
	}
	if err := postgres.LearnProvider(t.Context(), b.Pool, "cloudinary", provider.Capabilities{}); err != nil {
		t.Fatal(err)
	}
	if all, err := postgres.Providers(t.Context(), b.Pool); err != nil || len(all) != 2 || all[0].Name != "cloudinary" {
		t.Errorf("all = %+v, %v", all, err)
	}
}
