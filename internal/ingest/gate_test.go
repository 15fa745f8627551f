package ingest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gabriel-vasile/mimetype"

	"slipway/internal/upload"
)

func TestRulesNameTypes(t *testing.T) {
	const png, zip = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "PK\x03\x04\x14\x00"
	tests := map[string]struct {
		types, content string
		want           bool
	}{
		"none allow every type":                   {"", "anything", true},
		"by name":                                 {"image/png", png, true},
		"by kind":                                 {"image/*", png, true},
		"by another of its names":                 {"application/x-zip-compressed", zip, true},
		"not by the type that it is made of":      {"application/zip", zip + strings.Repeat("\x00", 24) + "mimetypeapplication/epub+zip", false},
		"text by its own type, not by its family": {"text/plain", "<!DOCTYPE html><html></html>", false},
		"text by its kind":                        {"text/*", "a,b\n1,2\n", true},
		"exceptions alone leave the rest":         {"!text/html", png, true},
		"an exception stands before its kind":     {"image/* !image/png", png, false},
		"an exception may come first":             {"!image/png image/*", png, false},
		"a prefix is no kind":                     {"image/pn*", png, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			content := mimetype.Detect([]byte(tt.content)).String()
			if got := (Rules{Types: strings.Fields(tt.types)}).allow(content); got != tt.want {
				t.Errorf("%q allows %s: %t", tt.types, content, got)
			}
		})
	}
}

// Whatever a file begins with, its type can be allowed and excepted by its name and its kind, and it is let in up to
// its size to the byte.
func FuzzGate(f *testing.F) {
	for _, seed := range []string{"", "hello", "\x89PNG\r\n\x1a\n", "PK\x03\x04", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "%PDF-1.7", "{\"a\":1}", "a,b\n1,2\n", "\xff\xfe\x00\x00", "ID3\x04", "\x00\x00\x00\x20ftypisom"} {
		f.Add([]byte(seed), int64(3))
	}
	f.Fuzz(func(t *testing.T, file []byte, most int64) {
		content := mimetype.Detect(file[:min(len(file), Sniffed)]).String()
		name := bare(content)
		kind := name[:strings.IndexByte(name, '/')] + "/*"
		for _, pattern := range []string{name, kind} {
			if !(Rules{Types: []string{pattern}}).allow(content) || (Rules{Types: []string{"!" + pattern}}).allow(content) {
				t.Errorf("%s is not allowed and excepted by %s", content, pattern)
			}
		}
		if got := (Rules{Sizes: []MaxSize{{kind, 1}, {name, 2}}}).most(content); got != 2 {
			t.Errorf("%s may have %d bytes, those of its kind", content, got)
		}

		var p Pass
		p.limit(max(most, 1), errTooLarge(most))
		got, err := io.ReadAll(p.Within(bytes.NewReader(file)))
		var refused *upload.Error
		switch fits := p.Fits(int64(len(file))) == nil; {
		case !bytes.HasPrefix(file, got), fits && (err != nil || len(got) != len(file)), !fits && (!errors.As(err, &refused) || int64(len(got)) != p.Most):
			t.Errorf("of %d bytes with a limit of %d came %d, %v", len(file), p.Most, len(got), err)
		}
	})
}
