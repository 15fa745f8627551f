package httpapi

import (
	"slices"
	"testing"

	"slipway/internal/upload"
)

func TestAListIsNarrowed(t *testing.T) {
	s := open(t, nil)
	for _, name := range []string{"film_1.mp4", "filmx.mp4", "Film.mp4", "père.txt"} {
		u := s.put(t, name)
		switch name {
		case "filmx.mp4":
			s.change(t, u.ID, `status = 'failed', error_code = 'provider_rejected', created_at = '2026-01-02T03:04:05Z'`)
		case "Film.mp4":
			s.change(t, u.ID, `created_at = '2026-03-01T00:00:00Z'`)
		}
	}
	s.put(t, "film_of_bob.mp4", as(t, "bob"))
	for query, want := range map[string][]string{
		"q=film":                              {"film_1.mp4", "filmx.mp4"}, // the latter was created before
		"q=film_":                             {"film_1.mp4"},
		"q=%25":                               nil,
		"q=p%C3%A8":                           {"père.txt"},
		"error_code=provider_rejected":        {"filmx.mp4"},
		"error_code=none":                     nil,
		"created_before=2026-02-01T00:00:00Z": {"filmx.mp4"},
		"created_after=2026-01-15T00:00:00Z&created_before=2026-03-01T01:00:00%2B00:30":        {"Film.mp4"},
		"created_after=2026-01-02T03:04:05Z&created_before=2026-03-02T00:00:00Z&q=F":           {"Film.mp4"},
		"status=failed,queued&provider=uploadcare&q=film&error_code=provider_rejected&limit=1": {"filmx.mp4"},
	} {
		var names []string
		for _, u := range into[uploadList](t, s.do(t, "GET", "/v1/uploads?"+query, nil), 200).Uploads {
			names = append(names, u.FileName)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s has %q, want %q", query, names, want)
		}
	}
	for _, wrong := range []string{"created_after=yesterday", "created_before=2026-03-01", "q=%00"} {
		wantCode(t, s.do(t, "GET", "/v1/uploads?"+wrong, nil), 422, upload.InvalidParameter)
	}
}
