package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/client"
	"slipway/internal/upload"
)

func TestOpenGivesTheFileOrThePageToTheBrowser(t *testing.T) {
	s := start(t)
	dir := folder(t)
	write(t, "a.bin", "content")
	write(t, "b.bin", "content")
	write(t, "bin/xdg-open", "#!/bin/sh\necho \"$1\" >'"+filepath.Join(dir, "opened")+"'\n")
	if err := os.Chmod("bin/xdg-open", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, value := range map[string]string{"SSH_CONNECTION": "", "SSH_TTY": "", "DISPLAY": ":0"} {
		t.Setenv(name, value)
	}
	delivered := s.sent(t, "uploadcare", "a.bin")[0]
	become(t, delivered, upload.Completed)
	waiting := s.stalled(t, "b.bin")[0]

	r := slipway(t.Context(), "open", delivered)
	text, err := os.ReadFile("opened")
	place := strings.TrimSpace(string(text))
	if r.err != nil || err != nil || r.stdout != "" || r.stderr != "Opened "+place+"\n" || fetch(t, place) != "content" {
		t.Errorf("got %+v with %s, %v", r, place, err)
	}
	page := s.url + "/uploads/" + waiting
	if r := slipway(t.Context(), "open", "--print", waiting); r.err != nil || r.stdout != page+"\n" {
		t.Errorf("of one that is on its way: %+v, want %s", r, page)
	}
	if r := slipway(t.Context(), "open", "--json", waiting); r.err != nil || r.stdout != `{"id":"`+waiting+`","url":"`+page+`","browser":true}`+"\n" {
		t.Errorf("as JSON: %+v", r)
	}
	t.Setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
	if r := slipway(t.Context(), "open", delivered); r.err != nil || r.stdout != place+"\n" || r.stderr != "" {
		t.Errorf("over ssh: %+v, want %s", r, place)
	}
	t.Setenv("SSH_CONNECTION", "")
	write(t, "bin/xdg-open", "#!/bin/sh\nexit 4\n")
	if r := slipway(t.Context(), "open", delivered); r.err != nil || r.stdout != place+"\n" || r.stderr != "No browser could be opened: exit status 4.\n" {
		t.Errorf("without a browser: %+v, want %s", r, place)
	}
}

func TestOpenGivesABrowserOnlyWhatIsOfTheWeb(t *testing.T) {
	for _, place := range []string{"file:///etc/passwd", "javascript:alert(1)", "x-thing://host", "-x", "", "https:///"} {
		u := client.Upload{Status: upload.Completed, Asset: &upload.Asset{URL: place}, URL: place, FileName: "a\x1b[2J"}
		if got, err := placeOf(u); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: got %q, %v", place, got, err)
		}
	}
}

func TestWhereABrowserIs(t *testing.T) {
	tests := map[string]struct {
		goos string
		env  map[string]string
		want bool
	}{
		"a desktop has one":               {"linux", map[string]string{"DISPLAY": ":0"}, true},
		"Wayland has one":                 {"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, true},
		"Windows beneath Linux has one":   {"linux", map[string]string{"WSL_DISTRO_NAME": "Debian"}, true},
		"a server has none":               {"linux", nil, false},
		"who comes by ssh sees none":      {"linux", map[string]string{"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a 1 b 22"}, false},
		"a Mac has one":                   {"darwin", nil, true},
		"who comes to a Mac by ssh, none": {"darwin", map[string]string{"SSH_TTY": "/dev/ttys001"}, false},
	}
	for name, tt := range tests {
		if got := hasBrowser(tt.goos, func(name string) string { return tt.env[name] }); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
