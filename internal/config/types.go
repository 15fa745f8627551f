package config

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/gabriel-vasile/mimetype"
)

// TypeSizes are the most bytes in a file, by the type of its content.
type TypeSizes []TypeSize

// TypeSize is the most bytes in a file of one type, such as "video/mp4", or of all of a kind, "image/*".
type TypeSize struct {
	Type  string
	Bytes int64
}

func (s TypeSizes) String() string {
	items := make([]string, len(s))
	for i, size := range s {
		items[i] = size.Type + "=" + humanize.IBytes(uint64(max(size.Bytes, 0)))
	}
	return strings.Join(items, ",")
}

// parseTypeSizes takes a list of type=size.
func parseTypeSizes(s string) (any, error) {
	var sizes TypeSizes
	items, _ := parseList(s)
	for _, item := range items.([]string) {
		kind, text, found := strings.Cut(item, "=")
		n, err := parseSize(text)
		if err != nil || !found || n.(int64) < 1 {
			return nil, fmt.Errorf("%q is no size of a type", item)
		}
		sizes = append(sizes, TypeSize{strings.ToLower(kind), n.(int64)})
	}
	return sizes, nil
}

// checkTypes notes types that no file has by its content: what they allow could never come in.
func (c *Config) checkTypes(faults *Faults) {
	for _, of := range []struct {
		prefix string
		types  []string
		sizes  TypeSizes
	}{
		{"", c.HTTP.AllowedTypes, c.HTTP.MaxBytesByType},
		{"UPLOADCARE_", c.Uploadcare.AllowedTypes, c.Uploadcare.MaxBytesByType},
		{"CLOUDINARY_", c.Cloudinary.AllowedTypes, c.Cloudinary.MaxBytesByType},
	} {
		for i, t := range of.types {
			of.types[i] = strings.ToLower(t)
			faults.pattern(of.prefix+"ALLOWED_TYPES", strings.TrimPrefix(of.types[i], "!"))
		}
		for _, s := range of.sizes {
			faults.pattern(of.prefix+"MAX_BYTES_BY_TYPE", s.Type)
		}
	}
}

// pattern notes a fault when p names no type that is known by a file's bytes.
func (f *Faults) pattern(variable, p string) {
	kind, rest, _ := strings.Cut(p, "/")
	if kind != "" && !strings.ContainsAny(kind, "*!") && rest == "*" || mimetype.Lookup(p) != nil {
		return
	}
	f.add(variable, fmt.Sprintf("has %q, which no file is by its content", p), "give types such as video/mp4, or all of a kind, such as image/*")
}
