package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"slipway/internal/doctor"
)

// clearSettings takes away what the environment of the tests could say.
func clearSettings(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		switch prefix, _, _ := strings.Cut(name, "_"); prefix {
		case "DATABASE", "UPLOADCARE", "CLOUDINARY", "AUTH", "DEV", "STAGING", "PUBLIC", "ALLOWED", "PROVIDERS", "HOST", "PORT":
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDoctorReadsAnEnvFile(t *testing.T) {
	s := start(t)
	clearSettings(t)
	folder(t)
	var file strings.Builder
	for name, value := range s.env {
		fmt.Fprintf(&file, "%s='%s'\n", name, value)
	}
	write(t, "mine.env", file.String())
	r := slipway(t.Context(), "doctor", "--write", "--env-file", "mine.env")
	if r.err != nil || !strings.Contains(r.stdout, "ok    settings    all are understood, from the environment and mine.env\n") ||
		!strings.Contains(r.stdout, "ok    staging     it is the folder that the database knows") {
		t.Errorf("got %v\n%s", r.err, r.stdout)
	}
}

func TestDoctorFindsFaults(t *testing.T) {
	clearSettings(t)
	folder(t)
	r := slipway(t.Context(), "doctor")
	if r.err == nil || r.err.Error() != "there are 3 faults" || !strings.Contains(r.stdout, "fail  settings    DATABASE_URL is not set → copy the connection string") {
		t.Errorf("got %v\n%s", r.err, r.stdout)
	}
	r = slipway(t.Context(), "doctor", "--json", "--env-file", "none.env")
	first, _, _ := strings.Cut(r.stdout, "\n")
	var f doctor.Finding
	if err := json.Unmarshal([]byte(first), &f); err != nil || f.Level != doctor.Fail || f.Part != "settings" || f.Text != "none.env cannot be read: no such file or directory" || f.Remedy == "" {
		t.Errorf("got %s, %v", r.stdout, err)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	if r := slipway(t.Context(), "version"); r.err != nil || !strings.Contains(r.stdout, "go1.") {
		t.Errorf("version: %+v", r)
	}
	if r := slipway(t.Context(), "__complete", "put", "--provider", ""); r.err != nil || !strings.HasPrefix(r.stdout, "uploadcare\ncloudinary\n") {
		t.Errorf("completion: %+v", r)
	}
}
