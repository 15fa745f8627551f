package main

import (
	"errors"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	tests := map[string]struct {
		all  []float64
		at   float64
		want float64
	}{
		"one value is every quantile":          {[]float64{7}, 0.99, 7},
		"the median of three is the middle":    {[]float64{9, 1, 4}, 0.5, 4},
		"the median of four is between two":    {[]float64{1, 2, 4, 100}, 0.5, 3},
		"the last is the whole of them":        {[]float64{3, 1, 2}, 1, 3},
		"a quantile lies between its values":   {[]float64{0, 10}, 0.9, 9},
		"the lowest comes first when unsorted": {[]float64{5, 2, 8}, 0, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := quantile(tt.all, tt.at); got != tt.want {
				t.Errorf("quantile(%v, %v) = %v, want %v", tt.all, tt.at, got, tt.want)
			}
		})
	}
}

func TestByTurnsChangesWhoBegins(t *testing.T) {
	var order []string
	round := func(name string, rate float64) func() (sample, error) {
		return func() (sample, error) {
			order = append(order, name)
			return sample{rate: rate}, nil
		}
	}
	ours, yardstick, err := byTurns(3, round("ours", 3), round("plain", 4))
	if err != nil || ours.rate != 3 || yardstick.rate != 4 {
		t.Errorf("byTurns = %v, %v, %v", ours, yardstick, err)
	}
	if got, want := strings.Join(order, " "), "ours plain plain ours ours plain"; got != want {
		t.Errorf("the rounds were %s, want %s", got, want)
	}

	broken := errors.New("broken")
	if _, _, err := byTurns(3, func() (sample, error) { return sample{}, broken }, round("plain", 4)); !errors.Is(err, broken) {
		t.Errorf("a round that fails ends with %v, want its error", err)
	}
}

func TestAimsAreJudged(t *testing.T) {
	var r report
	r.addRatio("", "", 95, 100, 0.95)
	r.addRatio("", "", 94, 100, 0.95)
	r.addOver("", "", 30, 5, 25)
	r.addOver("", "", 31, 5, 25)
	r.add("", "", 64, 64)
	r.add("", "", 65, none)
	want := []string{"≥ 0.95 met", "≥ 0.95 MISSED", "≤ 25 met", "≤ 25 MISSED", "≤ 64 met", ""}
	for i, row := range r.rows {
		if row.aim != want[i] {
			t.Errorf("row %d is judged %q, want %q", i, row.aim, want[i])
		}
	}
}
