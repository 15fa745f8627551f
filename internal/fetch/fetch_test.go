package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestFilesAreFetched(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.worker(t)
	picture := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), random(5000)...)
	tests := map[string]struct {
		path    string
		page    http.HandlerFunc
		asked   ingest.Request
		content []byte
		want    upload.Upload
	}{
		"of some bytes": {"/a.bin", file([]byte("hello"), ""), ingest.Request{}, []byte("hello"),
			upload.Upload{FileName: "a.bin", ContentType: "text/plain; charset=utf-8", ResourceType: upload.Raw}},
		"of many": {"/film.mp4", nil, ingest.Request{}, random(5*mib + 7),
			upload.Upload{FileName: "film.mp4", ContentType: "video/mp4", ResourceType: upload.Raw}},
		"that are called otherwise": {"/download?key=hush", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Disposition", `attachment; filename*=UTF-8''p%C3%A8re.png`)
			w.Header().Set("Content-Type", "application/octet-stream")
			file(picture, `"1"`)(w, r)
		}, ingest.Request{}, picture, upload.Upload{FileName: "père.png", ContentType: "image/png", ResourceType: upload.Image}},
		"that are called as was asked": {"/x", file(picture, ""), ingest.Request{FileName: "mine.png", ResourceType: "raw", Tags: []string{"trip"}}, picture,
			upload.Upload{FileName: "mine.png", ContentType: "image/png", ResourceType: upload.Raw}},
		"that are called nothing": {"/", file(picture, ""), ingest.Request{}, picture,
			upload.Upload{FileName: "file.png", ContentType: "image/png", ResourceType: upload.Image}},
		"of no length that is told": {"/chunked", func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				_, _ = w.Write(bytes.Repeat([]byte("0123456789"), 1000))
				_ = http.NewResponseController(w).Flush()
			}
		}, ingest.Request{}, bytes.Repeat([]byte("0123456789"), 10_000), upload.Upload{FileName: "chunked", ContentType: "text/plain; charset=utf-8", ResourceType: upload.Raw}},
		"from where an address leads on to": {"/moved/film.mp4", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere?token=hush", http.StatusFound)
		}, ingest.Request{}, picture, upload.Upload{FileName: "film.mp4", ContentType: "image/png", ResourceType: upload.Image}},
	}
	y.web.has("/elsewhere", file(picture, ""))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.page == nil {
				tt.page = file(tt.content, `"1"`)
			}
			path, _, _ := strings.Cut(tt.path, "?")
			y.web.has(path, func(w http.ResponseWriter, r *http.Request) {
				if tt.want.ContentType == "video/mp4" {
					w.Header().Set("Content-Type", "video/mp4")
				}
				tt.page(w, r)
			})
			u := y.imports(t, tt.path, tt.asked)
			if u.Status != upload.Fetching || u.ExpiresAt == nil {
				t.Errorf("it begins as %+v", u)
			}
			u = y.awaitStatus(t, u.ID, upload.Queued)
			y.arrived(t, u, tt.content)
			if u.FileName != tt.want.FileName || u.ContentType != tt.want.ContentType || u.ResourceType != tt.want.ResourceType {
				t.Errorf("it is %q, %s, %s, want %q, %s, %s", u.FileName, u.ContentType, u.ResourceType, tt.want.FileName, tt.want.ContentType, tt.want.ResourceType)
			}
		})
	}
	for _, r := range y.web.requests() {
		if r.Referer() != "" || len(r.Cookies()) > 0 || r.Header.Get("Authorization") != "" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("it was asked for with %v", r.Header)
		}
	}
	if strings.Contains(y.logged.String(), "hush") {
		t.Errorf("the log has what may be a token:\n%s", y.logged)
	}
}

func answer(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

func TestWhatASourceAnswers(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.source.Window, y.source.Open = 200*time.Millisecond, 500*time.Millisecond
	y.ingest.MaxBytes = 2 * mib
	y.ingest.Rules = ingest.Rules{Types: []string{"!image/svg+xml"}}
	y.worker(t)
	gone := make(chan time.Time, 1)
	once := func(n int, page http.HandlerFunc) http.HandlerFunc { // and then the file
		return func(w http.ResponseWriter, r *http.Request) {
			asked := 0
			for _, earlier := range y.web.requests() {
				if earlier.URL.Path == r.URL.Path {
					asked++
				}
			}
			if asked > n {
				page = file([]byte("hello"), "")
			}
			page(w, r)
		}
	}
	tests := map[string]struct {
		page  http.HandlerFunc
		code  upload.Code // "": it arrives
		asked int         // requests
		who   string
	}{
		"no such file":                     {answer(404), upload.SourceRefused, 1, upload.ByYou},
		"no such file any more":            {answer(410), upload.SourceRefused, 1, upload.ByYou},
		"who are you":                      {answer(401), upload.SourceRefused, 1, upload.ByYou},
		"not for you":                      {answer(403), upload.SourceRefused, 1, upload.ByYou},
		"not like that":                    {answer(405), upload.SourceRefused, 1, upload.ByYou},
		"no content":                       {answer(204), upload.SourceRefused, 1, upload.ByYou},
		"not modified":                     {answer(304), upload.SourceRefused, 1, upload.ByYou},
		"on to nowhere":                    {answer(302), upload.SourceRefused, 1, upload.ByYou},
		"a part that nobody asked for":     {answer(206, "Content-Range", "bytes 0-4/10"), upload.SourceRefused, 1, upload.ByYou},
		"nothing":                          {answer(200), upload.EmptyFile, 1, upload.ByYou},
		"nothing, of no length":            {answer(200, "Transfer-Encoding", "chunked"), upload.EmptyFile, 1, upload.ByYou},
		"too much, as declared":            {answer(200, "Content-Length", fmt.Sprint(2*mib+1)), upload.TooLarge, 1, upload.ByYou},
		"too much, as it turns out":        {func(w http.ResponseWriter, _ *http.Request) { writeAll(w, 2*mib+1) }, upload.TooLarge, 1, upload.ByYou},
		"an encoded file":                  {answer(200, "Content-Encoding", "gzip", "Content-Length", "5"), upload.SourceRefused, 1, upload.ByYou},
		"a type that is not allowed":       {file([]byte(`<svg xmlns="http://www.w3.org/2000/svg"></svg>`), ""), upload.TypeNotAllowed, 1, upload.ByYou},
		"a file that ends with the answer": {unframed, upload.SourceRefused, 1, upload.ByYou},
		"round and round":                  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, upload.SourceRefused, 6, upload.ByYou},
		"trouble":                          {answer(500), upload.SourceUnavailable, 3, upload.ByProvider},
		"trouble, and then the file":       {once(2, answer(502)), "", 3, ""},
		"not now":                          {once(2, answer(503)), "", 3, ""},
		"later":                            {once(3, answer(503, "Retry-After", "1")), "", 4, ""},
		"slower":                           {once(1, answer(429, "Retry-After", time.Now().Add(time.Second).UTC().Format(http.TimeFormat))), "", 2, ""},
		"a reset":                          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, upload.SourceUnavailable, 3, upload.ByProvider},
		"half of it":                       {cut(3, file([]byte("hello"), "")), upload.SourceUnavailable, 3, upload.ByProvider},
		"half of it, of no length":         {cut(3, func(w http.ResponseWriter, _ *http.Request) { writeAll(w, 10) }), upload.SourceUnavailable, 3, upload.ByProvider},
		"no answer":                        {stall(0, file([]byte("hello"), ""), gone), upload.SourceUnavailable, 3, upload.ByProvider},
		"silence in the middle":            {stall(3000, file(random(6000), ""), gone), upload.SourceUnavailable, 3, upload.ByProvider},
		"words without end":                {answer(200, "X-Long", strings.Repeat("x", 100<<10)), upload.SourceUnavailable, 3, upload.ByProvider},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := "/" + strings.ReplaceAll(name, " ", "-")
			y.web.has(path, tt.page)
			u := y.imports(t, path+"?token=hush", ingest.Request{})
			u = y.await(t, u.ID, "at its end", func(u upload.Upload) bool { return u.Status != upload.Fetching })
			asked := 0
			for _, r := range y.web.requests() {
				if r.URL.Path == path {
					asked++
				}
			}
			if asked != tt.asked {
				t.Errorf("it was asked for %d times, want %d", asked, tt.asked)
			}
			if tt.code == "" {
				y.arrived(t, u, []byte("hello"))
				return
			}
			if u.Status != upload.Failed || u.Error.Code != tt.code || u.Error.FixableBy != tt.who {
				t.Fatalf("it is %s, %+v", u.Status, u.Error)
			}
			if u.Unstaged == nil || u.ExpiresAt != nil || u.NextAttemptAt != nil {
				t.Errorf("it ends as %+v", u)
			}
			if _, err := y.ingest.Retry(t.Context(), "alice", u.ID, ""); err == nil {
				t.Error("it can be retried without its bytes")
			}
			y.forgotten(t, u.ID)
			if strings.Contains(u.Error.Message, "hush") || strings.Contains(u.Error.Message, "127.0.0.1") {
				t.Errorf("it says %s", u.Error.Message)
			}
		})
	}
	t.Cleanup(func() {
		if strings.Contains(y.logged.String(), "hush") {
			t.Errorf("the log has what may be a token:\n%s", y.logged)
		}
	})
}

func writeAll(w http.ResponseWriter, n int) {
	for ; n > 0; n -= 1000 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), min(n, 1000))); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

// unframed answers as servers did before there were lengths.
func unframed(w http.ResponseWriter, _ *http.Request) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = buf.WriteString("HTTP/1.0 200 OK\r\n\r\nhello")
	_ = buf.Flush()
	_ = conn.Close()
}

// What came before a break is not fetched again, where the source can tell that the file is still the same.
func TestABreakIsGoneOnFrom(t *testing.T) {
	content, other := random(8*mib), random(8*mib)
	tests := map[string]struct {
		first, then http.HandlerFunc
		resumed     bool // beyond the first byte
		want        []byte
	}{
		"by a strong tag":             {file(content, `"1"`), file(content, `"1"`), true, content},
		"by an old date":              {dated(content), dated(content), true, content},
		"not by a weak tag":           {file(content, `W/"1"`), file(content, `W/"1"`), false, content},
		"not without a tag":           {file(content, ""), file(content, ""), false, content},
		"not where it says it cannot": {headed(file(content, `"1"`), "Accept-Ranges", "none"), file(content, `"1"`), false, content},
		"not where it has changed":    {file(content, `"1"`), file(other, `"2"`), false, other},
		"not where it has changed, though the source does not look": {file(content, `"1"`),
			func(w http.ResponseWriter, r *http.Request) { r.Header.Del("If-Range"); file(other, `"2"`)(w, r) }, false, other},
		"not where it gives another range": {file(content, `"1"`), func(w http.ResponseWriter, r *http.Request) {
			if rangeFrom(r) > 0 {
				r.Header.Set("Range", "bytes=0-")
			}
			file(content, `"1"`)(w, r)
		}, false, content},
		"not where the range is beyond it": {file(content, `"1"`), func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			file(content[:5000], `"1"`)(w, r)
		}, false, content[:5000]},
		"not where it takes no ranges": {file(content, `"1"`), func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			file(content, `"1"`)(w, r)
		}, false, content},
	}
	y := newYard(t, postgres.Limits{})
	y.worker(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := "/" + strings.ReplaceAll(name, " ", "-")
			broken := false
			y.web.has(path, func(w http.ResponseWriter, r *http.Request) {
				page := tt.then
				if !broken {
					broken, page = true, cut(5*mib, tt.first)
				}
				page(w, r)
			})
			u := y.awaitStatus(t, y.imports(t, path, ingest.Request{}).ID, upload.Queued)
			y.arrived(t, u, tt.want)
			var from int64
			var condition string
			for _, r := range y.web.requests() {
				if r.URL.Path == path {
					from, condition = rangeFrom(r), r.Header.Get("If-Range")
				}
			}
			if tt.resumed && from < 4*mib {
				t.Errorf("it was asked for again from byte %d", from)
			}
			if from > 0 && condition == "" {
				t.Error("it was asked to go on with whatever file there is")
			}
		})
	}
}

func headed(page http.HandlerFunc, name, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		page(w, r)
	}
}

func dated(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), bytes.NewReader(content))
	}
}

// A source that breaks off again and again costs no attempt as long as each brings more.
func TestProgressGivesAttemptsBack(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.worker(t)
	content := random(8 * mib)
	y.web.has("/a", cut(mib+mib/2, file(content, `"1"`)))
	u := y.imports(t, "/a", ingest.Request{})
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET takeovers = 4`); err != nil {
		t.Fatal(err)
	}
	most := 0
	u = y.await(t, u.ID, "queued", func(u upload.Upload) bool {
		most = max(most, u.Attempt)
		return u.Status == upload.Queued || u.Received > 2*mib && one[int](t, y, `SELECT takeovers FROM slipway.uploads`) > 0
	})
	if u.Status != upload.Queued || most > 2 {
		t.Errorf("it is %s, at attempt %d, and the workers that it has cost are counted still", u.Status, most)
	}
	y.arrived(t, u, content)
	if n := len(y.web.requests()); n < 4 {
		t.Errorf("it was asked for %d times", n)
	}
}

func TestAWorkerThatStopsHandsOver(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	stop := y.worker(t)
	content := random(4 * mib)
	gone := make(chan time.Time, 1)
	y.web.has("/a", stall(2*mib+100, file(content, `"1"`), gone))
	u := y.imports(t, "/a", ingest.Request{})
	y.await(t, u.ID, "on its way", func(u upload.Upload) bool { return u.Received >= 2*mib })
	begun := time.Now()
	y.web.has("/a", file(content, `"1"`))
	stop()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	y.worker(t)
	u = y.awaitStatus(t, u.ID, upload.Queued)
	y.arrived(t, u, content)
	if from := rangeFrom(y.web.requests()[1]); from != 2*mib+100 {
		t.Errorf("another has gone on from byte %d", from)
	}
}

// Two workers in one process share a database; the one whose lease nobody renews is as good as dead.
func TestAnotherWorkerGoesOnForADeadOne(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.settings.LeaseTTL, y.settings.Beat = time.Second, time.Hour
	y.worker(t)
	content := random(4 * mib)
	gone := make(chan time.Time, 1)
	y.web.has("/a", stall(2*mib, file(content, `"1"`), gone))
	u := y.imports(t, "/a", ingest.Request{})
	y.await(t, u.ID, "on its way", func(u upload.Upload) bool { return u.Received >= 2*mib })

	// The first one does not hear that it is to let go: its lease is over before it looks again.
	y.web.has("/a", file(content, `"1"`))
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET lease_until = now() - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.river_job SET attempted_at = now() - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	y.settings.Beat = 100 * time.Millisecond
	y.worker(t)
	y.sweeper(t)
	u = y.awaitStatus(t, u.ID, upload.Queued)
	y.arrived(t, u, content)
	if from := rangeFrom(y.web.requests()[1]); from < 2*mib {
		t.Errorf("another has gone on from byte %d", from)
	}
	<-gone // the sleeper has ended, and changed nothing
	if now := y.read(t, u.ID); now.Version != u.Version {
		t.Errorf("it was changed afterwards: %+v", now)
	}
}

func TestACanceledImportStops(t *testing.T) {
	for name, end := range map[string]func(context.Context, pgx.Tx, *yard, upload.Upload) error{
		"canceled": func(ctx context.Context, tx pgx.Tx, y *yard, u upload.Upload) error {
			_, err := postgres.CancelUpload(ctx, tx, y.ingest.Queue, u.UserID, u.ID)
			return err
		},
		"deleted": func(ctx context.Context, tx pgx.Tx, y *yard, u upload.Upload) error {
			_, err := postgres.DeleteUpload(ctx, tx, y.ingest.Queue, u.UserID, u.ID)
			return err
		},
	} {
		for when, page := range map[string]int{"before the answer": 0, "in the middle": 2 * mib} {
			t.Run(name+" "+when, func(t *testing.T) {
				y := newYard(t, postgres.Limits{})
				y.worker(t)
				gone := make(chan time.Time, 1)
				y.web.has("/a", stall(page, file(random(4*mib), `"1"`), gone))
				u := y.imports(t, "/a", ingest.Request{})
				y.await(t, u.ID, "on its way", func(u upload.Upload) bool {
					return len(y.web.requests()) > 0 && u.Received >= int64(page)
				})
				begun := time.Now()
				err := postgres.AsUser(t.Context(), y.pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) error { return end(t.Context(), tx, y, u) })
				if err != nil {
					t.Fatal(err)
				}
				if took := (<-gone).Sub(begun); took > 2*time.Second {
					t.Errorf("it took %s to stop", took)
				}
				y.forgotten(t, u.ID)
				now := y.read(t, u.ID)
				if now.Status != upload.Canceled && now.Status != upload.Deleting && now.Status != upload.Deleted {
					t.Errorf("it is %s", now.Status)
				}
			})
		}
	}
}

func TestALargeFileIsBegun(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.ingest.MaxBytes = 1 << 40
	y.worker(t)
	const size = 3 << 30
	y.web.has("/a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(size)))
		stall(mib, func(w http.ResponseWriter, _ *http.Request) { writeAll(w, 2*mib) }, make(chan time.Time, 1))(w, r)
	})
	u := y.imports(t, "/a", ingest.Request{})
	y.await(t, u.ID, "begun", func(u upload.Upload) bool { return u.Size == size && u.Received >= mib/2 })
}

func TestAnImportThatIsOverdueFails(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.ingest.Imports.Within = 500 * time.Millisecond
	y.worker(t)
	gone := make(chan time.Time, 1)
	y.web.has("/silent", stall(10, file(random(4*mib), `"1"`), gone))
	y.web.has("/later", answer(503, "Retry-After", "3600"))
	for path, says := range map[string]string{"/silent": "in time.", "/later": "asks to wait"} {
		u := y.awaitStatus(t, y.imports(t, path, ingest.Request{}).ID, upload.Failed)
		if u.Error.Code != upload.ImportOverdue || !strings.Contains(u.Error.Message, says) {
			t.Errorf("%s: it says %+v", path, u.Error)
		}
		y.forgotten(t, u.ID)
	}
}

func TestAnImportWaitsForRoomWithinQuotas(t *testing.T) {
	most := int64(mib)
	y := newYard(t, postgres.Limits{StagedBytes: &most})
	content := random(mib - 100)
	y.web.has("/a", file(content, `"1"`))
	y.worker(t)
	first := y.awaitStatus(t, y.imports(t, "/a", ingest.Request{}).ID, upload.Queued)
	second := y.imports(t, "/a", ingest.Request{})
	u := y.await(t, second.ID, "told to wait", func(u upload.Upload) bool { return u.Error != nil })
	if u.Status != upload.Fetching || u.Error.Code != upload.StagedQuota || u.NextAttemptAt == nil || u.Attempt != 0 {
		t.Errorf("it waits as %+v, %+v", u, u.Error)
	}
	err := postgres.AsUser(t.Context(), y.pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) error {
		_, err := postgres.CancelUpload(t.Context(), tx, y.ingest.Queue, "alice", first.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var e *upload.Error
	if _, err := y.ingest.Import(t.Context(), ingest.Request{User: "alice", Length: -1}, "ftp://example.com/", 1); !errors.As(err, &e) || e.Code != upload.InvalidURL {
		t.Errorf("error = %v", err)
	}
}

// How long it takes until there is room nobody knows who has filled the disk.
func TestAnImportLooksForRoomOftenerThanItIsTold(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	full := &disk{}
	y.quotas.Disk = full
	y.web.has("/a", file(random(2*mib), `"1"`))
	y.worker(t)
	u := y.imports(t, "/a", ingest.Request{})
	told := y.await(t, u.ID, "told that there is no room", func(u upload.Upload) bool { return u.Error != nil && u.Error.Code == upload.NoRoom })
	if told.NextAttemptAt == nil || time.Until(*told.NextAttemptAt) > 5*time.Second {
		t.Errorf("it looks again at %v", told.NextAttemptAt)
	}
	full.free.Store(1 << 40)
	y.awaitStatus(t, u.ID, upload.Queued)
}

type disk struct{ free atomic.Int64 }

func (d *disk) Free(context.Context) (int64, error) { return d.free.Load(), nil }

// Bytes that are in staging count, also while nobody adds to them.
func TestABrokenImportKeepsTheRoomOfItsBytes(t *testing.T) {
	most := int64(4 * mib)
	y := newYard(t, postgres.Limits{StagedBytes: &most})
	y.settings.Backoff = func(int) time.Duration { return time.Minute }
	y.worker(t)
	content := random(3 * mib)
	y.web.has("/half", cut(2*mib, file(content, `"1"`)))
	y.web.has("/none", cut(0, file(content, `"1"`)))
	for path, want := range map[string]int64{"/half": 2 * mib, "/none": 0} {
		u := y.imports(t, path, ingest.Request{})
		y.await(t, u.ID, "waiting", func(u upload.Upload) bool { return u.NextAttemptAt != nil })
		if held := one[int64](t, y, `SELECT coalesce(sum(bytes), 0)::bigint FROM slipway.staging_reservations WHERE upload_id = $1`, u.ID); held != want {
			t.Errorf("%s holds %d bytes, want %d", path, held, want)
		}
	}
}

func TestSlowImportsOfOneUserLeaveSlotsToOthers(t *testing.T) {
	y := newYard(t, postgres.Limits{})
	y.settings.AtOnce = 4
	y.worker(t)
	gone := make(chan time.Time, 8)
	y.web.has("/slow", stall(0, file(random(10), ""), gone))
	y.web.has("/quick", file([]byte("hello"), ""))
	for range 8 {
		y.imports(t, "/slow", ingest.Request{})
	}
	await(t, "two slow ones", func() bool { return len(y.web.requests()) == 2 })
	u, err := y.ingest.Import(t.Context(), ingest.Request{User: "bob", Length: -1}, y.web.URL+"/quick", mib)
	if err != nil {
		t.Fatal(err)
	}
	y.arrived(t, y.awaitStatus(t, u.ID, upload.Queued), []byte("hello"))
	if n := len(y.web.requests()); n != 3 {
		t.Errorf("%d requests were made, want two of the slow ones' and one", n)
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); wait(t) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
