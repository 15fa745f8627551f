package providersim

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func open(t *testing.T, dir string) *Files {
	t.Helper()
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func save(t *testing.T, f *Files, pieces ...string) []Blob {
	t.Helper()
	var blobs []Blob
	for _, piece := range pieces {
		b, err := f.Save(strings.NewReader(piece))
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, b)
	}
	return blobs
}

func TestBlobsInARowReadAsOneContent(t *testing.T) {
	f := open(t, t.TempDir())
	blobs := save(t, f, "one", "", "two", strings.Repeat("three", 1000))
	want := "one" + "two" + strings.Repeat("three", 1000)
	if err := iotest.TestReader(f.Open(blobs...), []byte(want)); err != nil {
		t.Error(err)
	}
	sum := md5.Sum([]byte(want))
	if got, err := f.MD5(blobs...); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("MD5 %s, %v", got, err)
	}
}

func TestBlobsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	blobs := save(t, open(t, dir), "kept", "forgotten")
	if err := os.WriteFile(filepath.Join(dir, "partial", "cut"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}

	again := open(t, dir)
	if err := again.RemoveUnless(map[string]bool{blobs[0].Name: true}); err != nil {
		t.Fatal(err)
	}
	content := again.Open(blobs[0])
	defer content.Close()
	if got, err := io.ReadAll(content); err != nil || string(got) != "kept" {
		t.Errorf("read %q, %v", got, err)
	}
	var left []string
	for _, pattern := range []string{"*", "partial/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, names...)
	}
	if want := []string{filepath.Join(dir, blobs[0].Name), filepath.Join(dir, "partial")}; len(left) != 2 || !slices.Contains(left, want[0]) || !slices.Contains(left, want[1]) {
		t.Errorf("left on disk: %v, want %v", left, want)
	}
}

func TestACutBodyLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	cut := errors.New("cut")
	if b, err := f.Save(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cut))); !errors.Is(err, cut) || b.Size != 4 {
		t.Errorf("saved %+v, %v", b, err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "partial", "*")); err != nil || len(names) != 0 {
		t.Errorf("left on disk: %v, %v", names, err)
	}
}

func TestDeliveryAnswersRanges(t *testing.T) {
	f := open(t, t.TempDir())
	d := Delivery{Blobs: save(t, f, "01234", "56789"), ContentType: "video/mp4", ETag: "e-2", Modified: time.Unix(1_700_000_000, 0)}
	_, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.Serve(w, r, d) }))
	tests := map[string]struct {
		header map[string]string
		status int
		body   string
	}{
		"the whole":                      {nil, 200, "0123456789"},
		"across blobs":                   {map[string]string{"Range": "bytes=3-6"}, 206, "3456"},
		"the end":                        {map[string]string{"Range": "bytes=-2"}, 206, "89"},
		"behind the end":                 {map[string]string{"Range": "bytes=10-"}, 416, ""},
		"what the client has already":    {map[string]string{"If-None-Match": `"e-2"`}, 304, ""},
		"the whole if it is another now": {map[string]string{"Range": "bytes=3-6", "If-Range": `"old"`}, 200, "0123456789"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(soon(t), http.MethodGet, address+"/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range tt.header {
				req.Header.Set(key, value)
			}
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || tt.status < 300 && string(body) != tt.body {
				t.Errorf("%d %q, %v", resp.StatusCode, body, err)
			}
		})
	}
}

func TestTableOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	type row struct{ N int }
	table, err := OpenTable[row](path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := table.Put(fmt.Sprint("row ", i), row{i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Delete("row 0"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := table.Update("row 1", func(r *row) error { r.N = 10; return nil }); !ok || err != nil {
		t.Fatal(ok, err)
	}
	refused := errors.New("refused")
	if _, _, err := table.Update("row 2", func(r *row) error { r.N = 20; return refused }); !errors.Is(err, refused) {
		t.Errorf("update: %v", err)
	}
	// A process killed in the middle of a write leaves half a line.
	log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(log, bytes.NewReader([]byte(`{"key":"row 2","ro`)))
	log.Close()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the second opening reads what the first rewrote
		again, err := OpenTable[row](path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]row{}
		for key, r := range again.All() {
			got[key] = r
		}
		if len(got) != 2 || got["row 1"].N != 10 || got["row 2"].N != 2 {
			t.Errorf("rows %v", got)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClockIsMovedOverHTTP(t *testing.T) {
	c, address := serve(t, &echo{})
	before := c.Clock.Now()
	for body, want := range map[string]int{`{"advance":"25h"}`: 200, `{"advance":"-1h"}`: 400, `{"advance":"soon"}`: 400} {
		if got := send(t, soon(t), http.MethodPost, address+"/_sim/clock", body); got.status != want {
			t.Errorf("POST %s: %d, want %d", body, got.status, want)
		}
	}
	if moved := c.Clock.Now().Sub(before); moved < 25*time.Hour || moved > 26*time.Hour {
		t.Errorf("the clock moved by %v, want 25h", moved)
	}
}

func TestSlowLineHoldsRateAndLatency(t *testing.T) {
	_, address := serve(t, &echo{})
	if got := send(t, soon(t), http.MethodPost, address+"/_sim/line", `{"bytes_per_second":100000,"latency_ms":50}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	began := time.Now()
	body := strings.Repeat("x", 10_000)
	if got := send(t, soon(t), http.MethodPut, address+"/x", body); got.body != body {
		t.Errorf("got %d bytes, %v", len(got.body), got.err)
	}
	// 50 ms, then 0.1 s in and 0.1 s out; the last tenth of a second's worth may be in flight.
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("10 kB there and back at 100 kB/s took %v", took)
	}
}
