package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/dustin/go-humanize"
)

const mask = "***"

// Secret is a value that no print shows.
type Secret string

// Reveal returns the value for the one who uses it.
func (s Secret) Reveal() string { return string(s) }

// String is what may be seen: of a URL all but the password, of anything else that it is there.
func (s Secret) String() string {
	switch {
	case s == "":
		return ""
	case strings.Contains(string(s), "://"):
		return maskURL(string(s))
	}
	return mask
}

// GoString is for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText is for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is for logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func maskURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return mask
	}
	q := u.Query()
	for name := range q {
		if strings.Contains(name, "password") {
			q.Del(name)
			u.RawQuery = q.Encode()
		}
	}
	return u.Redacted()
}

// visible is a setting that is no secret, without the password that somebody may have put into a URL.
func visible(s string) string {
	if strings.Contains(s, "://") {
		return maskURL(s)
	}
	return s
}

// Redacted is every setting by its variable, as far as it may be seen; those that are empty are left out.
func (c *Config) Redacted() []slog.Attr {
	var attrs []slog.Attr
	for s := range c.settings() {
		var text string
		switch v := s.value.(type) {
		case int64:
			text = humanize.IBytes(uint64(max(v, 0)))
		case []string:
			text = strings.Join(v, ",")
		case string:
			text = visible(v)
		default:
			text = fmt.Sprint(v)
		}
		if text != "" {
			attrs = append(attrs, slog.String(s.variable, text))
		}
	}
	return attrs
}

// LogValue implements [slog.LogValuer].
func (c *Config) LogValue() slog.Value { return slog.GroupValue(c.Redacted()...) }
