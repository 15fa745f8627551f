package ingest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// piece makes a partial upload, which comes in by requests up to these bytes; after each, its sender falls asleep.
func (q *quay) piece(t *testing.T, content []byte, to ...int) upload.ID {
	t.Helper()
	id := must[upload.Upload](t)(q.Begin(t.Context(), ingest.Request{User: "ann", Length: int64(len(content))}, true, postgres.TusSaid{})).ID
	at := 0
	for _, to := range append(to, len(content)) {
		if at > 0 {
			q.exec(t, `UPDATE slipway.uploads SET receive_held = true WHERE id = $1`, id) // as somebody who sleeps has left it
		}
		if _, err := q.add(t, id, at, string(content[at:to])); err != nil {
			t.Fatal(err)
		}
		at = to
	}
	return id
}

func (q *quay) join(t *testing.T, ids ...upload.ID) (upload.Upload, error) {
	t.Helper()
	return q.Join(t.Context(), ingest.Request{User: "ann", FileName: "whole.bin"}, ids, postgres.TusSaid{})
}

func TestPiecesBecomeOneFile(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	want := slices.Concat([]byte("\x89PNG\r\n\x1a\n"), content(900<<10))
	a, b, c := q.piece(t, want[:5]), q.piece(t, want[5:400<<10], 100<<10, 200<<10), q.piece(t, want[400<<10:])
	used := q.ask(t, `SELECT coalesce(sum(uploads), 0) FROM slipway.usage_changes WHERE user_id = 'ann'`)
	u, err := q.join(t, a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	if u := q.wantFile(t, u.ID, want); u.ContentType != "image/png" || u.FileName != "whole.bin" || len(u.Segments) != 5 {
		t.Errorf("it is %+v", u)
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.uploads WHERE status = 'joined' AND joined_to = $1 AND job_id IS NULL`, u.ID); n != 3 {
		t.Errorf("%d pieces are joined to it", n)
	}
	if n := q.ask(t, `SELECT sum(uploads) FROM slipway.usage_changes WHERE user_id = 'ann'`) - used; used != 0 || n != 1 {
		t.Errorf("%d uploads are counted for the pieces, and %d for the file", used, n)
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.staging_reservations`); n != 0 {
		t.Errorf("room is held for %d pieces", n)
	}

	again, err := q.join(t, a, b, c)
	if err != nil || again.ID != u.ID {
		t.Errorf("joined once more it is %s, %v", again.ID, err)
	}
	q.wantOffset(t, a, 5) // for who asks whether its last request was heard
	for name, ids := range map[string][]upload.ID{"in another order": {b, a, c}, "fewer of them": {a, b}, "with another": {a, b, c, q.piece(t, []byte("more"))}} {
		if _, err := q.join(t, ids...); codeOf(err) != upload.PartialUsed {
			t.Errorf("joined %s it is %v", name, err)
		}
	}
	if _, err := q.add(t, a, 5, "more"); codeOf(err) != upload.PartialUsed {
		t.Errorf("more for a piece that is used is answered %v", err)
	}
	q.wantFile(t, u.ID, want)
}

func TestWhatCannotBeJoined(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	good, whole := q.piece(t, []byte("good")), q.begin(t, 5)
	unfinished := must[upload.Upload](t)(q.Begin(t.Context(), ingest.Request{User: "ann", Length: 10}, true, postgres.TusSaid{})).ID
	endless := must[upload.Upload](t)(q.Begin(t.Context(), ingest.Request{User: "ann", Length: -1}, true, postgres.TusSaid{})).ID
	foreign := must[upload.Upload](t)(q.Begin(t.Context(), ingest.Request{User: "bob", Length: 10}, true, postgres.TusSaid{})).ID
	expired := q.piece(t, []byte("old"))
	q.exec(t, `UPDATE slipway.uploads SET status = 'expired' WHERE id = $1`, expired)
	tests := map[string]struct {
		ids  []upload.ID
		code upload.Code
	}{
		"nothing":                        {nil, upload.InvalidRequest},
		"too many":                       {slices.Repeat([]upload.ID{good}, ingest.MaxPieces+1), upload.InvalidRequest},
		"one twice":                      {[]upload.ID{good, good}, upload.NotFound},
		"a whole one":                    {[]upload.ID{good, whole}, upload.InvalidRequest},
		"one that is not finished":       {[]upload.ID{good, unfinished}, upload.PartialUnfinished},
		"one whose length nobody knows":  {[]upload.ID{good, endless}, upload.PartialUnfinished},
		"somebody else's":                {[]upload.ID{good, foreign}, upload.NotFound},
		"one that there is not":          {[]upload.ID{good, upload.NewID()}, upload.NotFound},
		"one to which nobody has come":   {[]upload.ID{good, expired}, upload.Gone},
		"one that is to go to Nowhere":   {[]upload.ID{good}, upload.UnknownProvider},
		"one whose file's name is wrong": {[]upload.ID{good}, upload.InvalidFileName},
	}
	for name, tt := range tests {
		r := ingest.Request{User: "ann", FileName: "whole.bin"}
		switch tt.code {
		case upload.UnknownProvider:
			r.Provider = "nowhere"
		case upload.InvalidFileName:
			r.FileName = strings.Repeat("x", 300)
		}
		if u, err := q.Join(t.Context(), r, tt.ids, postgres.TusSaid{}); codeOf(err) != tt.code {
			t.Errorf("%s: %s, %v, want %s", name, u.ID, err, tt.code)
		}
	}
	u, err := q.join(t, good)
	if err != nil {
		t.Fatal(err)
	}
	q.wantFile(t, u.ID, []byte("good"))
}

// Both may be asked for the same file at once.
func TestPiecesAreJoinedOnce(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	twin := q.twin(t)
	for range 10 {
		a, b := q.piece(t, []byte("hello")), q.piece(t, []byte(" world"))
		type outcome struct {
			id  upload.ID
			err error
		}
		outcomes := make(chan outcome, 2)
		for _, q := range []*quay{q, twin} {
			go func() {
				u, err := q.Join(t.Context(), ingest.Request{User: "ann", FileName: "whole.bin"}, []upload.ID{a, b}, postgres.TusSaid{})
				outcomes <- outcome{u.ID, err}
			}()
		}
		first, second := <-outcomes, <-outcomes
		if first.err != nil || second.err != nil || first.id != second.id {
			t.Fatalf("one is told %s, %v, the other %s, %v", first.id, first.err, second.id, second.err)
		}
		q.wantFile(t, first.id, []byte("hello world"))
	}
	if n := q.ask(t, `SELECT count(*) FROM slipway.uploads WHERE NOT partial AND created_at > $1`, time.Now().Add(-time.Hour)); n != 10 {
		t.Errorf("10 files have become %d", n)
	}
}
