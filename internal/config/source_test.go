package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhereSettingsComeFrom(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from a file, 32 bytes at the least\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		dotEnv, environ string
		want            string // of AUTH_JWT_SECRET
	}{
		"the file":                             {dotEnv: "AUTH_JWT_SECRET=" + jwtSecret, want: jwtSecret},
		"the environment before the file":      {dotEnv: "AUTH_JWT_SECRET=other", environ: "AUTH_JWT_SECRET=" + jwtSecret, want: jwtSecret},
		"an empty variable before the file":    {dotEnv: "AUTH_JWT_SECRET=other", environ: "AUTH_JWT_SECRET=", want: ""},
		"a file of its own":                    {environ: "AUTH_JWT_SECRET_FILE=" + secret, want: "from a file, 32 bytes at the least"},
		"a file of its own, named by the file": {dotEnv: "AUTH_JWT_SECRET_FILE=" + secret, want: "from a file, 32 bytes at the least"},
		"the environment before such a file":   {dotEnv: "AUTH_JWT_SECRET_FILE=" + secret, environ: "AUTH_JWT_SECRET=" + jwtSecret, want: jwtSecret},
		"quoted":                               {dotEnv: `AUTH_JWT_SECRET="` + jwtSecret + `" # mine`, want: jwtSecret},
		"exported, with Windows' line ends":    {dotEnv: "A=b\r\nexport AUTH_JWT_SECRET='" + jwtSecret + "'\r\n", want: jwtSecret},
		"a dollar is a dollar":                 {dotEnv: "HOME=x\nAUTH_JWT_SECRET=" + jwtSecret + "$HOME${HOME}$(HOME)$", want: jwtSecret + "$HOME${HOME}$(HOME)$"},
		"also in quotes":                       {dotEnv: "AUTH_JWT_SECRET=\"" + jwtSecret + `$HOME"`, want: jwtSecret + "$HOME"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustLoad(t, Options{DotEnv: write(t, tt.dotEnv), Environ: strings.Split(tt.environ, "\n")})
			if got := c.Auth.JWTSecret.Reveal(); got != tt.want {
				t.Errorf("secret = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEverySecretMayBeInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for variable, value := range map[string]string{
		"AUTH_JWT_SECRET": jwtSecret, "DATABASE_URL": neon, "DATABASE_URL_UNPOOLED": neonDirect, "DATABASE_DIRECT_URL": neonDirect,
		"UPLOADCARE_SECRET_KEY": "s3cret", "CLOUDINARY_API_SECRET": "s3cret", "CLOUDINARY_URL": "cloudinary://k:s3cret@c",
	} {
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustLoad(t, Options{Environ: []string{variable + "_FILE=" + path}})
		found := false
		for s := range c.settings() {
			found = found || s.value == Secret(value)
		}
		if !found {
			t.Errorf("%s_FILE was not read", variable)
		}
	}
}

func TestFaultySources(t *testing.T) {
	dir := t.TempDir()
	empty := write(t, "\n")
	tests := map[string]struct {
		options Options
		want    []string
	}{
		"no file at the usual place":    {Options{DotEnv: filepath.Join(dir, ".env")}, nil},
		"no file where it is asked for": {Options{DotEnv: filepath.Join(dir, ".env"), RequireDotEnv: true}, []string{filepath.Join(dir, ".env") + " cannot be read: no such file or directory; name a file that can."}},
		"a directory":                   {Options{DotEnv: dir}, []string{dir + " cannot be read: is a directory"}},
		"a secret twice":                {Options{Environ: []string{"AUTH_JWT_SECRET=" + jwtSecret, "AUTH_JWT_SECRET_FILE=" + empty}}, []string{"AUTH_JWT_SECRET is set, and so is AUTH_JWT_SECRET_FILE; unset one of them."}},
		"a secret's file that is none":  {Options{Environ: []string{"AUTH_JWT_SECRET_FILE=/nowhere"}}, []string{"AUTH_JWT_SECRET_FILE names /nowhere, which cannot be read: no such file"}},
		"a secret's file without one":   {Options{Environ: []string{"AUTH_JWT_SECRET_FILE=" + empty}}, []string{"AUTH_JWT_SECRET_FILE names " + empty + ", which is empty"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { wantFaults(t, tt.options, tt.want...) })
	}
}

func TestAFileThatIsNotUnderstoodKeepsItsSecrets(t *testing.T) {
	for content, line := range map[string]string{
		"A=b\n\nPASS-WORD=s3cret\nC=d\n": "line 3;",
		"A=b\nC=\"s3cret\nD=e\n":         "line 2;",
		"A=\"two\nlines\"\ns3cret\nB=c":  "line 3;",
		"just s3cret, and no name":       "line 1;",
	} {
		_, err := Load(Options{DotEnv: write(t, content)})
		if err == nil || !strings.Contains(err.Error(), line) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want a fault in %s", content, err, line)
		}
	}
}
