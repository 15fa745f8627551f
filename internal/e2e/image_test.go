package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestImage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := strings.ReplaceAll(string(b), "\\\n", "")
	build := regexp.MustCompile(`(?m)^RUN .*\bgo build .*`).FindString(dockerfile)

	t.Run("it has the commands that services run", func(t *testing.T) {
		pattern := build[strings.LastIndex(build, " ")+1:]
		list := exec.Command("go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, pattern)
		list.Dir = root
		out, err := list.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pattern, err)
		}
		var built []string
		for _, command := range strings.Fields(string(out)) {
			built = append(built, path.Base(command))
		}
		run := map[string]bool{}
		for name, s := range composeProject(t, composeDir(t)).Services {
			if name != "postgres" {
				run[s.Command[0]] = true
			}
		}
		if want := slices.Sorted(maps.Keys(run)); !slices.Equal(built, want) {
			t.Errorf("%s builds %v, services run %v", pattern, built, want)
		}
	})
	t.Run("its programs need nothing beside them", func(t *testing.T) {
		if !strings.Contains(build, "CGO_ENABLED=0") {
			t.Errorf("they are built by %s", build)
		}
	})
	t.Run("nobody in it is root", func(t *testing.T) {
		final := dockerfile[strings.LastIndex(dockerfile, "\nFROM "):]
		user := regexp.MustCompile(`(?m)^USER (\d+)`).FindStringSubmatch(final)
		if user == nil || user[1] == "0" {
			t.Errorf("the last stage has the user %v", user)
		}
	})
}
