package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// choice is which uploads a command is about, as its flags say it.
type choice struct {
	provider, code, name string
	after, before        moment
}

// addTo gives c the flags.
func (f *choice) addTo(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.provider, "provider", "", "only those to this provider")
	fs.StringVar(&f.code, "code", "", "only those with this error, such as provider_account")
	fs.StringVar(&f.name, "name", "", "only those whose file's name begins with this")
	fs.Var(&f.after, "after", "only those created after this: 2026-11-30, 2026-11-30T12:00:00Z, or 24h or 7d ago")
	fs.Var(&f.before, "before", "only those created before this")
	complete(c, "provider", "uploadcare", "cloudinary")
	for _, flag := range []string{"code", "name", "after", "before"} {
		complete(c, flag)
	}
}

// any tells whether the flags choose less than everything.
func (f *choice) any() bool {
	return f.provider+f.code+f.name != "" || f.after.at != nil || f.before.at != nil
}

// moment is a time that a flag names; it implements pflag.Value.
type moment struct{ at *time.Time }

func (m *moment) Type() string { return "time" }

func (m *moment) String() string {
	if m.at == nil {
		return ""
	}
	return m.at.Format(time.RFC3339)
}

func (m *moment) Set(text string) error {
	if age, ok := parseAge(text); ok {
		at := time.Now().Add(-age)
		m.at = &at
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			m.at = &at
			return nil
		}
	}
	return fmt.Errorf("give a time like 2026-11-30, 2026-11-30T12:00:00Z, or 24h or 7d for so long ago")
}

// parseAge reads a duration, in days too.
func parseAge(text string) (time.Duration, bool) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	age, err := time.ParseDuration(text)
	return age, err == nil && age >= 0
}
