package pgembed

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stubNpm stands for npm: it counts its calls and packs what PACKED names.
const stubNpm = `#!/bin/sh
echo "$@" >> "$CALLS"
cp "$PACKED" "$4/postgres.tgz" || { echo "npm error 404" >&2; exit 1; }
`

const stubPostgres = "#!/bin/sh\necho 'postgres (PostgreSQL) 17.10'\n"

var goodPackage = []tar.Header{
	{Name: "package/package.json", Mode: 0o644},
	{Name: "package/native/bin/initdb", Mode: 0o755},
	{Name: "package/native/bin/postgres", Mode: 0o755},
	{Name: "package/native/lib/libpq.so.5.17", Mode: 0o600},
	{Name: "package/native/pg-symlinks.json", Mode: 0o644},
}

const links = `[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"},
	{"source":"native/lib/libpq.so.5.17","target":"native/lib/private/libpq.so"}]`

func pack(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		content := stubPostgres
		if strings.HasSuffix(e.Name, ".json") {
			content = links
		}
		e.Typeflag, e.Size = tar.TypeReg, int64(len(content))
		if err := archive.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// offer puts a stub of npm before PATH that serves packed, and returns a release of that and the log of npm's calls.
func offer(t *testing.T, packed []byte) (r release, cache func() (string, error), calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	for name, content := range map[string]string{"npm": stubNpm, "packed": string(packed)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	made := filepath.Join(dir, "cache")
	if err := os.Mkdir(made, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CALLS", calls)
	t.Setenv("PACKED", filepath.Join(dir, "packed"))
	sum := sha512.Sum512(packed)
	return release{
		scope:   "@embedded-postgres",
		version: "17.10.0-beta.17",
		sha512:  map[string]string{system(): base64.StdEncoding.EncodeToString(sum[:])},
	}, func() (string, error) { return made, nil }, calls
}

func TestManyDownloadOnce(t *testing.T) {
	r, cache, calls := offer(t, pack(t, goodPackage))
	results := make(chan error)
	for range 3 {
		go func() {
			b, err := r.binaries(t.Context(), nil, cache)
			if err == nil && (b.version != "17.10" || b.major != 17) {
				err = fmt.Errorf("binaries = %+v", b)
			}
			results <- err
		}()
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	log, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if want := " @embedded-postgres/" + system() + "@17.10.0-beta.17\n"; !strings.HasSuffix(string(log), want) || strings.Count(string(log), "\n") != 1 {
		t.Errorf("npm was called with\n%swant once, for%s", log, want)
	}

	parent, err := cache()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "postgres-17.10.0-beta.17")
	for name, want := range map[string]os.FileMode{
		"bin/initdb": 0o755, "lib/libpq.so.5.17": 0o644, "lib/libpq.so.5": 0o644, "lib/private/libpq.so": 0o644, "lib": 0o755, ".": 0o755,
	} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", name, info, err, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(parent, "*.part")); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDownloadsThatAreRefused(t *testing.T) {
	tests := map[string]struct {
		entries []tar.Header
		spoil   func(t *testing.T, r *release)
		want    string
	}{
		"npm fails":                    {goodPackage, func(t *testing.T, _ *release) { t.Setenv("PACKED", "/nowhere") }, "npm error 404"},
		"npm is missing":               {goodPackage, func(t *testing.T, _ *release) { t.Setenv("PATH", t.TempDir()) }, `"npm": executable file not found`},
		"the bytes are others":         {goodPackage, func(_ *testing.T, r *release) { r.sha512[system()] = "another" }, "not what was published"},
		"nothing fits this system":     {goodPackage, func(_ *testing.T, r *release) { r.sha512 = nil }, system()},
		"a name leads out of the root": {append([]tar.Header{{Name: "package/native/../../evil", Mode: 0o644}}, goodPackage...), nil, "escapes"},
		"the server is not in it":      {goodPackage[4:], nil, "initdb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, cache, _ := offer(t, pack(t, tt.entries))
			if tt.spoil != nil {
				tt.spoil(t, &r)
			}
			_, err := r.binaries(t.Context(), nil, cache)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range []string{tt.want, "apt-get install postgresql", "PG_BIN_DIR", "npm"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			parent, err := cache()
			if err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(filepath.Join(parent, "*.part")); err != nil || left != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestBinaries(t *testing.T) {
	folder := func(t *testing.T, version string) string {
		dir := t.TempDir()
		for _, name := range []string{"initdb", "postgres"} {
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
			if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	tests := map[string]struct {
		version string
		want    string // version, or part of the error
	}{
		"a release with the distribution's name": {"15.18 (Debian 15.18-0+deb12u1)", "15.18"},
		"a beta":                                 {"18beta1", "18beta1"},
		"too old":                                {"14.2", "15 is the oldest"},
		"something else":                         {"and how", "unknown answer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PG_BIN_DIR", folder(t, tt.version))
			b, err := home{dir: t.TempDir()}.binaries(t.Context(), "")
			got := b.version
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("binaries = %q, want %q", got, tt.want)
			}
		})
	}
}
