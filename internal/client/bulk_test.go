package client

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/upload"
)

func TestRetryAllGoesThroughItsBatches(t *testing.T) {
	var asked []string
	var calls atomic.Int32
	batch := func(n int, next string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = append(asked, r.URL.RawQuery+" "+string(body))
			reply(202, fmt.Sprintf(`{"retried":{"count":%d,"ids":[]},"not_retried":[{"code":"bytes_gone","message":"Gone.","count":1,"ids":["x"]}],"next":%s}`, n, next))(w, r)
		}
	}
	after := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := FailedFilter{ErrorCode: "provider_account", CreatedAfter: &after}
	c := serve(t, answers(&calls, batch(1000, `"https://elsewhere/v1/uploads/retry?cursor=c1"`), cut(0), batch(7, "null")))
	retried, refused := 0, 0
	for b, err := range c.RetryAll(t.Context(), f, true) {
		if err != nil {
			t.Fatal(err)
		}
		retried += b.Retried.Count
		refused += b.NotRetried[0].Count
	}
	const body = ` {"error_code":"provider_account","created_after":"2026-11-30T12:00:00Z","dry_run":true}`
	if retried != 1007 || refused != 2 || !slices.Equal(asked, []string{body, "cursor=c1" + body}) {
		t.Errorf("%d retried, %d not; it asked %q", retried, refused, asked)
	}
}

func TestRetryAllNamesAThousandAtATime(t *testing.T) {
	var sizes []int
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sizes = append(sizes, strings.Count(string(body), string(id)))
		reply(200, `{"retried":{"count":0,"ids":[]},"not_retried":[],"next":null}`)(w, r)
	})
	for _, err := range c.RetryAll(t.Context(), FailedFilter{IDs: slices.Repeat([]upload.ID{id}, 2001)}, true) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(sizes, []int{1000, 1000, 1}) {
		t.Errorf("it named %d", sizes)
	}
}

func TestListAsksForWhatItsFilterSays(t *testing.T) {
	var asked string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RawQuery
		reply(200, `{"uploads":[],"next":null}`)(w, r)
	})
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, err := range c.List(t.Context(), Filter{
		Statuses: []upload.Status{upload.Failed, upload.Queued}, Provider: "cloudinary", ErrorCode: "worker_lost", NamePrefix: "film &", CreatedAfter: &at, CreatedBefore: &at, PageSize: 7,
	}) {
		t.Errorf("it has an upload, %v", err)
	}
	if want := "created_after=2026-11-30T12%3A00%3A00Z&created_before=2026-11-30T12%3A00%3A00Z&error_code=worker_lost&limit=7&provider=cloudinary&q=film+%26&status=failed%2Cqueued"; asked != want {
		t.Errorf("it asked %s, want %s", asked, want)
	}
}
