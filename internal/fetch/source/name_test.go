package source

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestFileNames(t *testing.T) {
	for disposition, want := range map[string]string{
		`attachment; filename="film.mp4"`:                                 "film.mp4",
		`attachment; filename=film.mp4`:                                   "film.mp4",
		`inline; filename*=UTF-8''p%C3%A8re%20et%20fils.mp4`:              "père et fils.mp4",
		`attachment; filename="pere.mp4"; filename*=UTF-8''p%C3%A8re.mp4`: "père.mp4",
		`attachment; filename="../../etc/passwd"`:                         "passwd",
		`attachment; filename="C:\\Users\\me\\film.mp4"`:                  "film.mp4",
		`attachment; filename=".."`:                                       "",
		`attachment; filename="  "`:                                       "",
		`attachment; filename=""`:                                         "",
		`attachment`:                                                      "",
		``:                                                                "",
		`attachment; filename="a` + "\x01" + `b.txt"`:                     "ab.txt",
		`attachment; filename*=UTF-8''a%00b%0d%0a.txt`:                    "ab.txt",
		`attachment; filename*=UTF-8''exe%E2%80%AEfdp.exe`:                "exefdp.exe", // text that runs backwards
		`attachment; filename*=UTF-8''%FF%FE.txt`:                         ".txt",
		`attachment; filename="` + strings.Repeat("ä", 200) + `.jpeg"`:    strings.Repeat("ä", 125) + ".jpeg",
		`attachment; filename="` + strings.Repeat("a.", 200) + `"`:        strings.Repeat("a.", 127) + ".",
		`;;;`: "",
	} {
		if got := nameOf(disposition); got != want {
			t.Errorf("%s names %q, want %q", disposition, got, want)
		}
	}
	for address, want := range map[string]string{
		"https://example.com/a/film.mp4?x=1": "film.mp4",
		"https://example.com/p%C3%A8re.mp4":  "père.mp4",
		"https://example.com/a%2Fb.txt":      "b.txt",
		"https://example.com/":               "",
		"https://example.com":                "",
		"https://example.com/a/":             "",
		"https://example.com/a/..":           "",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := NameInPath(u); got != want {
			t.Errorf("%s names %q, want %q", address, got, want)
		}
	}
}

// Whatever a source calls its file, the name can be used.
func FuzzFileName(f *testing.F) {
	for _, s := range []string{`attachment; filename="a.txt"`, `a; filename*=UTF-8''%2e%2e%2fx`, "a; filename*0*=iso-8859-1''%ff; filename*1=b", "inline; filename=\"\\\"\""} {
		f.Add(s, "/a/"+s)
	}
	f.Fuzz(func(t *testing.T, disposition, p string) {
		for _, name := range []string{nameOf(disposition), NameInPath(&url.URL{Path: p}), cleanName(p)} {
			if name == "" {
				continue
			}
			if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, unicode.IsControl) ||
				strings.TrimSpace(name) == "" || name == "." || name == ".." {
				t.Errorf("%q, %q name a file %q", disposition, p, name)
			}
			if strings.HasSuffix(cleanName(name), path.Ext(name)) != true && len(path.Ext(name)) <= 16 {
				t.Errorf("%q loses its extension", name)
			}
		}
	})
}

// Whatever an answer says of its range, it is the one that was asked for or none.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 0-9223372036854775807/9223372036854775808", "bytes -1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if first, length, ok := contentRange(header); ok && (first < 0 || length != -1 && first >= length) {
			t.Errorf("%q begins at %d of %d", header, first, length)
		}
	})
}
