package uploadcare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"slipway/internal/provider"
)

func TestFileName(t *testing.T) {
	long := strings.Repeat("é", 200)
	tests := map[string]struct{ name, want string }{
		"letters, accents, ampersands and brackets stay": {"père & fils (1).mp4", "père & fils (1).mp4"},
		"other scripts stay":                             {"写真.jpg", "写真.jpg"},
		"quotes do not end the header's value":           {`a"; name="x`, `a'; name='x`},
		"backslashes escape nothing":                     {`a\".txt`, `a_'.txt`},
		"line breaks begin no header":                    {"a\r\nX-Evil: 1\r\n\r\n.txt", "a__X-Evil: 1____.txt"},
		"control characters go":                          {"a\x00\x1f\x7f\u0085.txt", "a____.txt"},
		"bytes that are not UTF-8 go":                    {"a\xff.txt", "a_.txt"},
		"path parts become one name":                     {"../../etc/passwd", ".._.._etc_passwd"},
		"nothing becomes a name":                         {"", "file"},
		"a dot becomes a name":                           {".", "file"},
		"a long name keeps its extension":                {long + ".jpeg", strings.Repeat("é", 125) + ".jpeg"},
		"a long extension is none":                       {"a." + long, "a." + strings.Repeat("é", 126)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := fileName(tt.name)
			if got != tt.want {
				t.Errorf("fileName(%q) = %q, want %q", tt.name, got, tt.want)
			}
			if len(got) > 255 || !utf8.ValidString(got) {
				t.Errorf("fileName(%q) is %d bytes, valid UTF-8: %v", tt.name, len(got), utf8.ValidString(got))
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	fifty := map[string]string{}
	for i := range 50 {
		fifty[fmt.Sprintf("k%02d", i)] = "v"
	}
	tests := map[string]struct{ user, want map[string]string }{
		"the upload's id goes along": {nil, map[string]string{"upload_id": "the-id"}},
		"what fits is kept, the rest is left out": {
			map[string]string{
				"album": "7", "a.b:c-d_e": "x", "größe": "x", "with space": "x", strings.Repeat("k", 65): "x", "empty": "",
				"long": strings.Repeat("x", 513), "longest": strings.Repeat("é", 512), "nul": "a\x00b", "broken": "\xff",
			},
			map[string]string{"album": "7", "a.b:c-d_e": "x", "longest": strings.Repeat("é", 512), "upload_id": "the-id"},
		},
		"fifty of the user's leave no room for the id": {fifty, fifty},
		"the id is not the user's to choose":           {map[string]string{"upload_id": "another"}, map[string]string{"upload_id": "the-id"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := metadata(provider.Source{UploadID: "the-id", Metadata: tt.user}); !maps.Equal(got, tt.want) {
				t.Errorf("metadata = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTags(t *testing.T) {
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("t%02d", i)
	}
	tests := map[string]struct{ tags, want []string }{
		"they are lower-cased and said once": {[]string{"Trip", "trip", "2026"}, []string{"trip", "2026"}},
		"what does not fit is left out":      {[]string{"a b", "é", "", strings.Repeat("t", 101), "a_b.c-d"}, []string{"a_b.c-d"}},
		"fifty are the most":                 {many, many[:50]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tags(tt.tags); !slices.Equal(got, tt.want) {
				t.Errorf("tags = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPartSize(t *testing.T) {
	const gib, tib = 1 << 30, 1 << 40
	tests := map[string]struct{ chosen, size, want int64 }{
		"the smallest parts up to 256 MiB":            {0, 256*mib - 1, 5 * mib},
		"16 MiB from there":                           {0, 256 * mib, 16 * mib},
		"32 MiB from 1 GiB":                           {0, gib, 32 * mib},
		"64 MiB from 4 GiB":                           {0, 4 * gib, 64 * mib},
		"larger where 64 MiB would be too many parts": {0, 5 * tib, 525 * mib},
		"the operator's choice":                       {8 * mib, 20 * mib, 8 * mib},
		"never more than 10,000 parts":                {5 * mib, 100 * gib, 11 * mib},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := &Provider{opts: Options{PartSize: tt.chosen}}
			got := p.partSize(tt.size)
			if got != tt.want {
				t.Errorf("partSize(%d) = %d, want %d", tt.size, got, tt.want)
			}
			if n := (tt.size + got - 1) / got; n > maxParts {
				t.Errorf("%d bytes in %d parts", tt.size, n)
			}
		})
	}
}
