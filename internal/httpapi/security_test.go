package httpapi

import (
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"slipway/internal/upload"
)

func TestTheThreatModelNamesTestsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	must(t, err)
	tests := map[string]bool{}
	must(t, fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		code, err := os.ReadFile("../" + path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(code, -1) {
			tests[string(m[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !tests[string(m[1])] {
			t.Errorf("there is no test %s", m[1])
		}
	}
}

// The bounds that are written down are those that hold.
func TestTheBoundsInTheThreatModelHold(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	must(t, err)
	for what, want := range map[string]string{
		"request line and headers":   byteSize(readBufferSize),
		"query":                      byteSize(maxQuery),
		"JSON of a request":          byteSize(maxJSON),
		"notification of a provider": byteSize(maxWebhook),
	} {
		size, _, _ := strings.Cut(want, " (")
		if row := regexp.MustCompile(`(?m)^\| ` + what + ` \|.*$`).Find(text); !strings.Contains(string(row), size) {
			t.Errorf("of the %s it says %q, and %s hold", what, row, size)
		}
	}
	for _, m := range regexp.MustCompile("([45]\\d\\d) `(\\w+)`").FindAllSubmatch(text, -1) {
		if o := outcomes[upload.Code(m[2])]; strconv.Itoa(o.status) != string(m[1]) {
			t.Errorf("%s is said to be %s and is %d", m[2], m[1], o.status)
		}
	}
}
