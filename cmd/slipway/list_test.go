package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func TestTheTableFits(t *testing.T) {
	list := []client.Upload{
		{ID: "0193f1c2-0000-7000-8000-000000000001", Status: upload.Pushing, Size: 1000 << 20, Pushed: 420 << 20, Provider: "uploadcare", FileName: "日本語のとても長い名前のファイルですがまだ続きます.mp4", CreatedAt: time.Now()},
		{ID: "0193f1c2-0000-7000-8000-000000000002", Status: upload.Completed, Size: 1, Provider: "cloudinary", FileName: "a\nb", CreatedAt: time.Now()},
	}
	for columns, want := range map[int][]string{
		80:  {"pushing 42%  1000 MiB  日本語", "…", `"a\nb"`},
		140: {"uploadcare  now", "まだ続きます.mp4"},
		0:   {"PROVIDER", "まだ続きます.mp4"},
	} {
		var out strings.Builder
		table := &table{out: &out, columns: columns}
		for _, u := range list {
			if err := table.add(u); err != nil {
				t.Fatal(err)
			}
		}
		if err := table.flush(true); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("at %d columns, %q is not in\n%s", columns, w, out.String())
			}
		}
		for line := range strings.Lines(out.String()) {
			if n := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); columns > 0 && n > columns {
				t.Errorf("at %d columns a line has %d: %s", columns, n, line)
			}
		}
	}
}

func TestWhatOthersSayDoesNotActOnATerminal(t *testing.T) {
	const evil = "a\x1b[2J"
	u := client.Upload{FileName: evil, ContentType: evil, Status: upload.Failed, Error: &upload.Error{Message: evil}}
	var shown strings.Builder
	describe(&shown, u)
	p := &putter{out: &shown, show: newShow(&shown)}
	p.tell(&result{File: evil, Error: outcome(u)})
	if strings.Contains(shown.String(), "\x1b") || strings.Count(shown.String(), `[2J`) != 5 {
		t.Errorf("it shows %q", shown.String())
	}
}

func TestListStopsAtItsLimit(t *testing.T) {
	s := start(t)
	folder(t)
	for _, name := range []string{"a", "b", "c"} {
		write(t, name, name)
	}
	s.sent(t, "uploadcare", "a", "b", "c")
	r := slipway(t.Context(), "list", "--limit", "2", "--json")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var newest client.Upload
	if err := json.Unmarshal([]byte(lines[0]), &newest); err != nil || len(lines) != 2 || newest.FileName != "c" {
		t.Errorf("got %+v: %v", r, err)
	}
	if r := slipway(t.Context(), "list"); strings.Count(r.stdout, "\n") != 4 || !strings.HasPrefix(r.stdout, "ID ") {
		t.Errorf("the table is %s", r.stdout)
	}
}

func TestListAllThereIs(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("limit") != "100" {
			t.Errorf("it asks for %s", r.URL.RawQuery)
		}
		next := `"/v1/uploads?limit=100&cursor=c"`
		if asked++; asked == 3 {
			next = "null"
		}
		one := `{"id":"0193f1c2-0000-7000-8000-000000000001","status":"completed","provider":"uploadcare","file_name":"a.bin","size":1}`
		fmt.Fprintf(w, `{"uploads":[%s],"next":%s}`, strings.Join(slices.Repeat([]string{one}, 100), ","), next)
	}))
	t.Cleanup(s.Close)
	t.Setenv("SLIPWAY_URL", s.URL)
	r := slipway(t.Context(), "list", "--all")
	if r.err != nil || strings.Count(r.stdout, "\n") != 301 || strings.Count(r.stdout, "ID ") != 1 || asked != 3 {
		t.Errorf("asked %d times: %v\n%s", asked, r.err, r.stdout)
	}
	asked = 0
	if r := slipway(t.Context(), "list", "--limit", "250", "-q"); r.err != nil || r.stdout != strings.Repeat("0193f1c2-0000-7000-8000-000000000001\n", 250) {
		t.Errorf("got %+v", r)
	}
}

func TestListNarrowed(t *testing.T) {
	s := start(t)
	folder(t)
	for _, name := range []string{"film.mp4", "filter.txt", "a.bin"} {
		write(t, name, name)
	}
	bad := s.rejected(t, "film.mp4")[0]
	good := s.sent(t, "uploadcare", "filter.txt", "a.bin")
	for line, want := range map[string][]string{
		"":                                   {good[1], good[0], bad},
		"--name fil":                         {good[0], bad},
		"--code provider_rejected":           {bad},
		"--status failed,expired --after 1h": {bad},
		"--provider cloudinary --status canceled": nil,
		"--before 1h":    nil,
		"--all --name a": {good[1]},
	} {
		r := slipway(t.Context(), append([]string{"list", "--quiet"}, strings.Fields(line)...)...)
		if got := strings.Fields(r.stdout); r.err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %s (%v), want %s", line, got, r.err, want)
		}
	}
}
