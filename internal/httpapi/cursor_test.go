package httpapi

import (
	"encoding/base64"
	"strings"
	"testing"

	"slipway/internal/upload"
)

func TestACursorIsGoodForOneUserAndOneList(t *testing.T) {
	s := open(t, nil)
	for range 3 {
		u := s.put(t, "film.mp4")
		s.complete(t, u.ID)
	}
	uploads := into[uploadList](t, s.do(t, "GET", "/v1/uploads?limit=2", nil), 200)
	files := into[fileList](t, s.do(t, "GET", "/v1/files?limit=2", nil), 200)
	if uploads.Next == nil || files.Next == nil {
		t.Fatal("there is no next page")
	}
	ofUploads, ofFiles := cursorIn(t, *uploads.Next), cursorIn(t, *files.Next)
	if next := into[uploadList](t, s.do(t, "GET", *uploads.Next, nil), 200); len(next.Uploads) != 1 {
		t.Errorf("the next page has %d uploads, want 1", len(next.Uploads))
	}
	if next := into[fileList](t, s.do(t, "GET", *files.Next, nil), 200); len(next.Files) != 1 {
		t.Errorf("the next page has %d files, want 1", len(next.Files))
	}

	changed := []byte(ofUploads)
	changed[len(changed)/2] ^= 1
	text, err := base64.RawURLEncoding.DecodeString(ofUploads)
	must(t, err)
	bare := base64.RawURLEncoding.EncodeToString(text[sealSize:])
	for name, ask := range map[string]struct{ path, user string }{
		"another user's":         {"/v1/uploads?cursor=" + ofUploads, "mallory"},
		"another user's file":    {"/v1/files?cursor=" + ofFiles, "mallory"},
		"another list's":         {"/v1/files?cursor=" + ofUploads, "alice"},
		"the other list's":       {"/v1/uploads?cursor=" + ofFiles, "alice"},
		"a changed one":          {"/v1/uploads?cursor=" + string(changed), "alice"},
		"one with more behind":   {"/v1/uploads?cursor=" + ofUploads + "AA", "alice"},
		"one without its seal":   {"/v1/uploads?cursor=" + bare, "alice"},
		"one that is too short":  {"/v1/uploads?cursor=AAAA", "alice"},
		"an id as it was before": {"/v1/uploads?cursor=" + base64.RawURLEncoding.EncodeToString([]byte(upload.NewID())), "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, s.do(t, "GET", ask.path, nil, as(t, ask.user)), 400, upload.InvalidCursor)
		})
	}
}

func TestCursorsOfOtherSecretsAndInstallationsAreNotTaken(t *testing.T) {
	sealer := func(secret, installation string) *Cursors {
		k, err := NewCursors([]byte(secret), installation)
		must(t, err)
		return k
	}
	cursor := sealer(jwtSecret, "one").seal("alice", uploadsPath, "place")
	if place, err := sealer(jwtSecret, "one").open("alice", uploadsPath, cursor); err != nil || place != "place" {
		t.Errorf("another process opens %q, %v", place, err)
	}
	for _, k := range []*Cursors{sealer(strings.Repeat("x", 32), "one"), sealer(jwtSecret, "two")} {
		if place, err := k.open("alice", uploadsPath, cursor); err == nil {
			t.Errorf("another key opens %q", place)
		}
	}
}

func cursorIn(t *testing.T, next string) string {
	t.Helper()
	_, cursor, ok := strings.Cut(next, "cursor=")
	if !ok {
		t.Fatalf("%s has no cursor", next)
	}
	cursor, _, _ = strings.Cut(cursor, "&")
	return cursor
}
