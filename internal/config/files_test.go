package config

import (
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
)

// described is a setting as whoever reads about it is to find it.
type described struct{ value, fallback string }

// everySetting is what there is, by the variable.
func everySetting(t *testing.T) map[string]described {
	t.Helper()
	params, err := env.GetFieldParams(new(Config))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]described{}
	for s := range new(Config).settings() {
		all[s.variable] = described{value: kinds[reflect.TypeOf(s.value)]}
	}
	for _, p := range params {
		if !p.Ignored {
			all[p.Key] = described{all[p.Key].value, p.DefaultValue}
		}
	}
	return all
}

// kinds are what docs/configuration.md calls what a setting takes.
var kinds = map[reflect.Type]string{
	reflect.TypeFor[string]():        "text",
	reflect.TypeFor[slog.Level]():    "text",
	reflect.TypeFor[Secret]():        "secret",
	reflect.TypeFor[int]():           "number",
	reflect.TypeFor[int64]():         "size",
	reflect.TypeFor[time.Duration](): "time",
	reflect.TypeFor[bool]():          "switch",
	reflect.TypeFor[[]string]():      "list",
	reflect.TypeFor[TypeSizes]():     "sizes by type",
}

// text is what a file holds.
func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The files that users copy and read name every setting, and none that is not there, and say what is true.
func TestTheExampleNamesEverySettingAndDefault(t *testing.T) {
	settings := everySetting(t)
	named := map[string][]string{} // values, by the variable
	for _, line := range regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]*)=(.*)$`).FindAllStringSubmatch(text(t, "../../.env.example"), -1) {
		named[line[1]] = append(named[line[1]], line[0])
	}
	for variable, lines := range named {
		if _, ok := settings[variable]; !ok || len(lines) > 1 {
			t.Errorf(".env.example has %q, and %s is a setting: %t", lines, variable, ok)
		}
	}
	for variable, s := range settings {
		want := "#" + variable + "=" + s.fallback
		if lines := named[variable]; lines == nil || s.fallback != "" && !slices.Contains(lines, want) {
			t.Errorf(".env.example has %q, want %s", lines, want)
		}
	}
}

func TestThePageOfSettingsNamesEveryOneWithItsDefault(t *testing.T) {
	settings := everySetting(t)
	missing := maps.Clone(settings)
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (.*?) \\|(.*?)\\|").FindAllStringSubmatch(text(t, "../../docs/configuration.md"), -1) {
		want, ok := missing[row[1]]
		got := described{value: row[2]}
		if code := regexp.MustCompile("^ `([^`]*)` $").FindStringSubmatch(row[3]); code != nil && settings[code[1]].value == "" {
			got.fallback = code[1] // not another setting
		}
		if !ok || got != want {
			t.Errorf("docs/configuration.md says of %s %+v; it is a setting not said before: %t, %+v", row[1], got, ok, want)
		}
		delete(missing, row[1])
	}
	if len(missing) > 0 {
		t.Errorf("docs/configuration.md has nothing of %v", slices.Sorted(maps.Keys(missing)))
	}
}

func TestTheExampleIsUnderstood(t *testing.T) {
	wantFaults(t, Options{DotEnv: "../../.env.example", RequireDotEnv: true, Need: NeedAPI | NeedWorker},
		"UPLOADCARE_PUBLIC_KEY is still the guide's placeholder", "UPLOADCARE_SECRET_KEY is still", "CLOUDINARY_CLOUD_NAME is still",
		"CLOUDINARY_API_KEY is still", "CLOUDINARY_API_SECRET is still", "DATABASE_URL is still")
}

func TestTheSimulatorsFileIsComplete(t *testing.T) {
	c := mustLoad(t, Options{DotEnv: "../../simulators.env", RequireDotEnv: true, Need: NeedAPI | NeedWorker, Environ: []string{"INSECURE_DEV=on"}})
	if len(c.Delivery.Providers) != 2 || c.Delivery.DefaultProvider != "uploadcare" {
		t.Errorf("providers = %q, %q, want both and uploadcare", c.Delivery.Providers, c.Delivery.DefaultProvider)
	}
}
