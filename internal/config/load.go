package config

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/dustin/go-humanize"
)

// Options are what Load reads.
type Options struct {
	Environ       []string // NAME=value, as os.Environ gives them
	DotEnv        string   // a file with more of them, over which Environ wins; "" is none
	RequireDotEnv bool     // it is a fault when DotEnv is not there
	Need          Need
}

// Load returns the settings, and all that is wrong with them as Faults. The settings are there also
// beside Faults, as far as they can be understood, for whoever explains the faults.
func Load(o Options) (*Config, error) {
	c, faults := new(Config), new(Faults)
	values := readDotEnv(o, faults)
	maps.Copy(values, readSecrets(environ(o.Environ), faults))

	parse(c, values, faults)
	c.checkHTTP(faults)
	c.checkTypes(faults)
	c.checkAuth(o.Need, faults)
	c.checkDatabase(o.Need, values["DATABASE_DIRECT_URL"], faults)
	c.checkQuotas(faults)
	c.checkStaging(faults)
	c.checkImports(faults)
	c.checkDelivery(o.Need, faults)
	c.checkLinks(faults)
	c.checkProviders(o.Need, faults)
	if len(*faults) > 0 {
		return c, *faults
	}
	return c, nil
}

// parse fills c with values, and with the defaults for what is not in them.
func parse(c *Config, values map[string]string, faults *Faults) {
	err := env.ParseWithOptions(c, env.Options{
		Environment: values,
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[int]():           parseInt,
			reflect.TypeFor[int64]():         parseSize,
			reflect.TypeFor[time.Duration](): parseDuration,
			reflect.TypeFor[bool]():          parseSwitch,
			reflect.TypeFor[[]string]():      parseList,
			reflect.TypeFor[TypeSizes]():     parseTypeSizes,
		},
	})
	var all env.AggregateError
	if !errors.As(err, &all) {
		return
	}
	for _, err := range all.Errors {
		var wrong env.ParseError
		if !errors.As(err, &wrong) {
			faults.add("the environment", err.Error(), "this is a fault of the program")
			continue
		}
		for s := range c.settings() {
			unread := values[s.variable] != "" && reflect.ValueOf(s.value).IsZero() // of those that are called alike
			if s.field == wrong.Name && unread {
				faults.add(s.variable, fmt.Sprintf("is %q", values[s.variable]), remedies[wrong.Type])
			}
		}
	}
}

// remedies say what a type takes.
var remedies = map[reflect.Type]string{
	reflect.TypeFor[int]():           "give a whole number",
	reflect.TypeFor[int64]():         "give a size such as 10GiB, 500MB or 1048576",
	reflect.TypeFor[time.Duration](): "give a duration such as 7d, 24h, 90s or 1h30m",
	reflect.TypeFor[bool]():          "give on or off",
	reflect.TypeFor[TypeSizes]():     "give sizes by type, such as image/*=20MB,video/mp4=2GB",
	reflect.TypeFor[slog.Level]():    "give debug, info, warn or error",
}

func parseInt(s string) (any, error) { return strconv.Atoi(s) }

func parseSize(s string) (any, error) {
	n, err := humanize.ParseBytes(s)
	if err == nil && n > 1<<62 {
		err = strconv.ErrRange
	}
	return int64(n), err
}

// parseDuration takes days beside what time.ParseDuration does.
func parseDuration(s string) (any, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	d := time.Duration(n) * 24 * time.Hour
	if err != nil || rest == "" {
		return d, err
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

func parseSwitch(s string) (any, error) {
	switch strings.ToLower(s) {
	case "on", "1", "true", "yes":
		return true, nil
	case "off", "0", "false", "no":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

// parseList takes items with commas or spaces between them.
func parseList(s string) (any, error) {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }), nil
}

// setting is one field of a Config.
type setting struct {
	variable string
	field    string
	value    any
}

// settings are all fields of c that come from a variable.
func (c *Config) settings() iter.Seq[setting] {
	return func(yield func(setting) bool) { settingsOf(reflect.ValueOf(c).Elem(), yield) }
}

func settingsOf(v reflect.Value, yield func(setting) bool) bool {
	for field, value := range v.Fields() {
		variable := field.Tag.Get("env")
		switch {
		case variable == "" && !settingsOf(value, yield):
			return false
		case variable != "" && variable != "-" && !yield(setting{variable, field.Name, value.Interface()}):
			return false
		}
	}
	return true
}
