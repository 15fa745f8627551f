package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/doctor"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/staging/dir"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

// canary is in every secret of these tests, and in no line of a report.
const canary = "c4nary"

// surroundings are settings with which everything is well.
func surroundings(t *testing.T) map[string]string {
	t.Helper()
	sims, err := devstack.StartSimulators(devstack.SimulatorOptions{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sims.Close() })
	env := map[string]string{
		"DATABASE_URL": postgrestest.Original(t), "STAGING_DIR": t.TempDir(), "STAGING_RESERVE": "0", "MAX_UPLOAD_BYTES": "1MiB",
		"AUTH_JWT_SECRET": canary + strings.Repeat("x", 32), "HOST": "127.0.0.1",
	}
	maps.Copy(env, sims.Env())
	return env
}

// report is what Examine has found, in lines of "level part: text → remedy".
type report struct {
	sound bool
	lines []string
}

func examine(t *testing.T, env map[string]string, write bool) report {
	t.Helper()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Options{Environ: environ, Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker})
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		t.Fatal(err)
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), // but for connections that both ends keep for the next request
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var r report
	r.sound = doctor.Examine(ctx, doctor.Options{Config: c, Faults: faults, From: "the test", Write: write, Report: func(f doctor.Finding) {
		line := fmt.Sprintf("%s %s: %s → %s", f.Level, f.Part, f.Text, f.Remedy)
		if strings.Contains(line, "\n") || f.Level != doctor.OK && f.Remedy == "" {
			t.Errorf("not one line, or no remedy: %q", line)
		}
		r.lines = append(r.lines, line)
	}})
	if text := strings.Join(r.lines, "\n"); strings.Contains(text, canary) {
		t.Errorf("a secret is in the report:\n%s", text)
	}
	if failed := strings.Contains("\n"+strings.Join(r.lines, "\n"), "\nfail "); failed == r.sound {
		t.Errorf("it calls this sound: %t\n%s", r.sound, strings.Join(r.lines, "\n"))
	}
	return r
}

// wants checks that each text is in a line of its own.
func (r report) wants(t *testing.T, texts ...string) {
	t.Helper()
	for _, want := range texts {
		found := false
		for _, line := range r.lines {
			found = found || strings.Contains(line, want)
		}
		if !found {
			t.Errorf("%q is not in\n%s", want, strings.Join(r.lines, "\n"))
		}
	}
}

func (r report) wantsNone(t *testing.T, text string) {
	t.Helper()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			t.Errorf("%q is in %s", text, line)
		}
	}
}

func TestAllIsWell(t *testing.T) {
	env := surroundings(t)
	r := examine(t, env, true)
	if !r.sound {
		t.Error("a fault was found")
	}
	r.wants(t,
		"ok settings: all are understood, from the test",
		"(direct) answers in", "a superuser",
		"ok database: LISTEN works by DATABASE_URL: news arrive after",
		"ok database: schema slipway has version", "which this program needs",
		"ok database: this is installation slipway-",
		"ok database: requests run as slipway_api",
		"ok database: public.uploadcare_files and public.cloudinary_files fit",
		"ok staging: "+env["STAGING_DIR"]+" is writable; a write is durable after",
		"ok staging: there is room for",
		"ok staging: it is nobody's yet",
		"ok uploadcare: the keys are good", "UPLOADCARE_MAX_FILE_SIZE",
		"ok cloudinary: the keys are good; image up to",
		"ok uploadcare: "+env["UPLOADCARE_CDN_BASE"],
		"ok uploadcare: a byte was stored, fetched and deleted in",
		"ok cloudinary: a byte was stored, fetched and deleted in",
		"ok access: tokens signed with AUTH_JWT_SECRET",
		"ok origins: no page of another origin may call",
		"ok address: links begin with the address that a request names",
	)
	left, err := os.ReadDir(env["STAGING_DIR"])
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v in staging, %v", left, err)
	}
}

func TestNothingIsSet(t *testing.T) {
	r := examine(t, map[string]string{"STAGING_DIR": filepath.Join(t.TempDir(), "a", "b")}, true)
	r.wants(t, "fail settings: DATABASE_URL is not set → ", "fail settings: AUTH_JWT_SECRET is not set", "fail settings: PROVIDERS are none", "b is not there yet; the first start makes it")
	r.wantsNone(t, " database: ")
}

func TestIncompleteAccountsAreToldOnce(t *testing.T) {
	env := surroundings(t)
	delete(env, "UPLOADCARE_SECRET_KEY")
	env["CLOUDINARY_API_SECRET"] = "your_cloudinary_api_secret"
	r := examine(t, env, true)
	r.wants(t, "fail settings: UPLOADCARE_SECRET_KEY is not set", "fail settings: CLOUDINARY_API_SECRET is still the guide's placeholder")
	r.wantsNone(t, " uploadcare: ")
	r.wantsNone(t, " cloudinary: ")
}

func TestDatabasesThatAreNotFit(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, env map[string]string)
		want  []string
	}{
		"nobody there": {func(t *testing.T, env map[string]string) {
			env["DATABASE_URL"] = "postgres://me:" + canary + "@" + closedPort(t) + "/app"
		}, []string{"fail database: database app at 127.0.0.1 (direct) cannot be used: connect: connection refused → see to it that the server runs"}},
		"a host that is none": {func(_ *testing.T, env map[string]string) {
			env["DATABASE_URL"] = "postgres://me:" + canary + "@nowhere.invalid/app"
		}, []string{"fail database: database app at nowhere.invalid (direct) cannot be used: "}},
		"a wrong password": {func(t *testing.T, env map[string]string) {
			env["DATABASE_URL"] = edited(t, postgrestest.Server(t).TCPURL("postgres"), func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), canary) })
		}, []string{"cannot be used: password authentication failed for user", "→ put the right user and password into DATABASE_URL"}},
		"a database that is none": {func(t *testing.T, env map[string]string) {
			env["DATABASE_URL"] = edited(t, env["DATABASE_URL"], func(u *url.URL) { u.Path = "/none" })
		}, []string{`database "none" does not exist → create the database`}},
		"nothing in it": {func(t *testing.T, env map[string]string) { env["DATABASE_URL"] = postgrestest.Empty(t) },
			[]string{"fail database: schema slipway is not there yet → run `slipway migrate`", "ok database: nothing is in the way of the guides' tables"}},
		"an older schema": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `DROP TABLE slipway.river_migration`)
		}, []string{"older than this program → run `slipway migrate`"}},
		"a copy": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `UPDATE slipway.installation SET host = 'ep-old.neon.tech'`)
		}, []string{"fail database: it is a copy of installation slipway-", "on ep-old.neon.tech → run `slipway migrate --copy`"}},
		"a guide table that does not fit": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `ALTER TABLE public.uploadcare_files DROP COLUMN file_url, ADD COLUMN more text NOT NULL`)
		}, []string{"column file_url is missing → ALTER TABLE public.uploadcare_files ADD COLUMN file_url text", "more is NOT NULL and has no default, so no row could be written → ALTER TABLE"}},
		"a guide table whose rows no request sees": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `DROP POLICY slipway_own ON public.cloudinary_files`)
		}, []string{"fail database: row-level security is on for public.cloudinary_files, and no policy lets requests see their users' rows → run `slipway migrate --rls-guide-tables`"}},
		"policies that are off": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `ALTER TABLE slipway.uploads DISABLE ROW LEVEL SECURITY`)
		}, []string{"fail database: users are not kept apart: role slipway_api ", " → ALTER TABLE slipway.uploads ENABLE ROW LEVEL SECURITY"}},
		"a paused provider": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `INSERT INTO slipway.providers (name, paused_until, pause_reason) VALUES ('cloudinary', now() + interval '1 h', 'Cloudinary refuses the account.')`)
		}, []string{"warn cloudinary: the workers ask it again at", "Cloudinary refuses the account."}},
	}
	env := surroundings(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			own := maps.Clone(env)
			own["DATABASE_URL"] = postgrestest.Original(t)
			tt.spoil(t, own)
			r := examine(t, own, false)
			r.wants(t, tt.want...)
			r.wants(t, " staging: ", " uploadcare: ", " access: ")
		})
	}
}

func TestARoleThatMayNotMigrate(t *testing.T) {
	env := surroundings(t)
	owner := postgrestest.Empty(t)
	execute(t, owner, `DROP ROLE IF EXISTS poor`, `CREATE ROLE poor LOGIN PASSWORD '`+canary+`'`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	t.Cleanup(func() { execute(t, owner, `DROP ROLE poor`) })
	env["DATABASE_URL"] = byTCP(t, owner, func(u *url.URL) { u.User = url.UserPassword("poor", canary) })
	examine(t, env, false).wants(t, "as poor",
		"role poor may not create schema slipway and its tables → as the database's owner: GRANT CREATE ON DATABASE",
		`role poor may not create the roles slipway_api and slipway_service → as a superuser: ALTER ROLE "poor" CREATEROLE`,
		"role poor may not create the guides' tables in schema public → as that schema's owner: GRANT CREATE ON SCHEMA public")
	env["GUIDE_SCHEMA"] = "guide"
	examine(t, env, false).wants(t, "schema guide is not there → create it")
}

func TestPooledAndDirect(t *testing.T) {
	env := surroundings(t)
	u, err := url.Parse(env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	// A pooler's name and the one beside it, both leading to the server's socket.
	folder, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	pooled, direct := filepath.Join(folder, "ep-1-pooler.test"), filepath.Join(folder, "ep-1.test")
	for _, name := range []string{pooled, direct} {
		if err := os.Symlink(u.Query().Get("host"), name); err != nil {
			t.Fatal(err)
		}
	}
	env["DATABASE_URL"] = fmt.Sprintf("host=%s port=%s dbname=%s user=%s", pooled, u.Query().Get("port"), strings.TrimPrefix(u.Path, "/"), u.User.Username())
	r := examine(t, env, false)
	r.wants(t, "at "+pooled+" (pooled) answers in", "at "+direct+" (direct) answers in", "LISTEN works by DATABASE_URL without -pooler: news arrive after")
}

func TestListenThatHearsNothing(t *testing.T) {
	env := surroundings(t)
	env["DATABASE_URL_UNPOOLED"] = byTCP(t, env["DATABASE_URL"], func(u *url.URL) { u.Host = deafPooler(t, u.Host) })
	r := examine(t, env, false)
	r.wants(t, "warn database: LISTEN by DATABASE_URL_UNPOOLED does not work", "what the database announces does not arrive → set DATABASE_URL_UNPOOLED")
	if !r.sound {
		t.Error("that Slipway has to ask each second is no fault")
	}
}

func TestStaging(t *testing.T) {
	base := surroundings(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		prepare func(t *testing.T, env map[string]string)
		want    string
	}{
		"where nobody may write": {func(_ *testing.T, env map[string]string) { env["STAGING_DIR"] = "/proc" }, "fail staging: /proc cannot be written: "},
		"a file":                 {func(_ *testing.T, env map[string]string) { env["STAGING_DIR"] = file }, "is no folder → name a folder"},
		"below a file":           {func(_ *testing.T, env map[string]string) { env["STAGING_DIR"] = filepath.Join(file, "below") }, "cannot be looked at: not a directory →"},
		"where none can be made": {func(_ *testing.T, env map[string]string) { env["STAGING_DIR"] = "/proc/none" }, "is not there and cannot be made: "},
		"a full disk":            {func(_ *testing.T, env map[string]string) { env["STAGING_RESERVE"] = "1TiB" }, "fail staging: there is no room beside the reserve of 1.0 TiB"},
		"less room than one file": {func(_ *testing.T, env map[string]string) { env["MAX_UPLOAD_BYTES"] = "1PiB" },
			"warn staging: there is room for"},
		"a budget":                 {func(_ *testing.T, env map[string]string) { env["STAGING_BUDGET"] = "1GiB" }, "ok staging: 0 B of the STAGING_BUDGET of 1.0 GiB are used: 0 B staged, 0 B for what is coming in"},
		"a budget beyond the disk": {func(_ *testing.T, env map[string]string) { env["STAGING_BUDGET"] = "900TiB" }, "warn staging: the disk has less than the STAGING_BUDGET of 900 TiB"},
		"a budget for no file":     {func(_ *testing.T, env map[string]string) { env["STAGING_BUDGET"] = "64KiB" }, "warn staging: files beyond the STAGING_BUDGET of 64 KiB are refused, although MAX_UPLOAD_BYTES is 1.0 MiB"},
		"a budget that is used up": {func(t *testing.T, env map[string]string) {
			env["STAGING_BUDGET"] = "2MiB"
			execute(t, env["DATABASE_URL"], `INSERT INTO slipway.staging_reservations (upload_id, user_id, bytes, room, expires_at) VALUES (gen_random_uuid(), '', 0, 2000000, now() + interval '1 hour')`)
		}, "warn staging: 1.9 MiB of the STAGING_BUDGET of 2.0 MiB are used: 0 B staged, 1.9 MiB for what is coming in; 0 files are refused for the moment → see what does not leave"},
		"another installation's": {func(t *testing.T, env map[string]string) { claim(t, env["STAGING_DIR"], "slipway-other") }, "fail staging: "},
		"another one than the database knows": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `UPDATE slipway.installation SET staging_id = 'known'`)
		}, "is not the folder that the uploads in the database were received into (here: no id, known: known)"},
		"gone": {func(t *testing.T, env map[string]string) {
			execute(t, env["DATABASE_URL"], `UPDATE slipway.installation SET staging_id = 'known'`)
			env["STAGING_DIR"] = filepath.Join(t.TempDir(), "gone")
		}, "gone is not there, and uploads in the database rest in it → set STAGING_DIR"},
		"its own": {func(t *testing.T, env map[string]string) {
			id := claim(t, env["STAGING_DIR"], installation(t, env["DATABASE_URL"]))
			execute(t, env["DATABASE_URL"], `UPDATE slipway.installation SET staging_id = '`+id+`'`)
		}, "ok staging: it is the folder that the database knows ("},
		"its own, and new": {func(t *testing.T, env map[string]string) {
			claim(t, env["STAGING_DIR"], installation(t, env["DATABASE_URL"]))
		}, "ok staging: it is this installation's; the next start tells the database"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(base)
			env["DATABASE_URL"], env["STAGING_DIR"] = postgrestest.Original(t), t.TempDir()
			tt.prepare(t, env)
			examine(t, env, false).wants(t, tt.want)
		})
	}
}

func TestProvidersThatCannotBeUsed(t *testing.T) {
	base := surroundings(t)
	nobody := "http://" + closedPort(t)
	tests := map[string]struct {
		env  map[string]string
		want []string
	}{
		"wrong keys": {map[string]string{"UPLOADCARE_SECRET_KEY": canary + "1", "CLOUDINARY_API_SECRET": canary + "2"},
			[]string{"fail uploadcare: it refuses the account: ", "→ copy both keys again", "fail cloudinary: it refuses the account: ", "→ copy cloud name, API key and API secret again"}},
		"nobody there": {map[string]string{"UPLOADCARE_REST_BASE": nobody, "CLOUDINARY_UPLOAD_PREFIX": nobody},
			[]string{"fail uploadcare: it cannot be asked: ", "fail cloudinary: it cannot be asked: "}},
		"nobody who delivers": {map[string]string{"UPLOADCARE_CDN_BASE": nobody, "CLOUDINARY_DELIVERY_BASE": nobody},
			[]string{"fail uploadcare: " + nobody + ", where its files are fetched, does not answer: connect: connection refused", "fail cloudinary: " + nobody}},
		"a limit that is known": {map[string]string{"UPLOADCARE_MAX_FILE_SIZE": "100MiB"},
			[]string{"ok uploadcare: the keys are good; image up to 100 MiB, video up to 100 MiB, raw up to 100 MiB"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(base)
			maps.Copy(env, tt.env)
			examine(t, env, true).wants(t, tt.want...)
		})
	}
}

func TestWhatIsStoredForATrialDoesNotStay(t *testing.T) {
	env := surroundings(t)
	fault(t, env["CLOUDINARY_UPLOAD_PREFIX"]+"/_sim/cloudinary/faults", `{"method":"GET","path":"^/slipway-sim/raw/upload/","action":"answer","status":404}`)
	r := examine(t, env, true)
	r.wants(t, "fail cloudinary: what was stored cannot be fetched: ")
	r.wantsNone(t, "could not be deleted")
}

func TestWhoMayAsk(t *testing.T) {
	base := surroundings(t)
	public := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(public.Close)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"oct","k":"AAAA"}]}`)
	}))
	t.Cleanup(keys.Close)
	tests := map[string]struct {
		env  map[string]string
		want []string
	}{
		"a user of this machine": {map[string]string{"AUTH_JWT_SECRET": "", "DEV_USER": "user_123"}, []string{`ok access: whoever on this machine brings no token is "user_123"`}},
		"everybody":              {map[string]string{"DEV_USER": "user_123", "HOST": "0.0.0.0", "INSECURE_DEV": "1"}, []string{`warn access: whoever brings no token is "user_123", and not only`}},
		"published keys": {map[string]string{"AUTH_JWKS_URL": keys.URL}, []string{
			"ok access: tokens signed with one of the 1 keys at AUTH_JWKS_URL are taken", "warn access: such a token is taken whomever it was made for → set AUTH_ISSUER"}},
		"keys that are away": {map[string]string{"AUTH_JWKS_URL": public.URL, "AUTH_ISSUER": "https://auth.test"}, []string{
			"fail access: tokens of the sign-in service cannot be checked: ", "answered 404 Not Found → see to AUTH_JWKS_URL"}},
		"a proxy and a cookie": {map[string]string{"AUTH_USER_HEADER": "X-User", "TRUSTED_PROXIES": "10.0.0.7", "AUTH_COOKIE": "session"}, []string{
			"ok access: 10.0.0.7 says in the header X-User who is asking", "ok access: those tokens may stand in the cookie session"}},
		"no servers":    {map[string]string{"AUTH_API_KEYS": "off"}, []string{"ok access: API keys and upload tokens are not taken"}},
		"not everybody": {map[string]string{"DEV_USER": "user_123", "HOST": ""}, []string{"fail settings: DEV_USER is set"}},
		"pages by name": {map[string]string{"ALLOWED_ORIGINS": "https://a.example,https://b.example"}, []string{"ok origins: pages of https://a.example, https://b.example may call"}},
		"all pages":     {map[string]string{"ALLOWED_ORIGINS": "*"}, []string{"warn origins: pages from everywhere may call"}},
		"an address":    {map[string]string{"PUBLIC_URL": public.URL}, []string{"ok address: links begin with " + public.URL + ", which answers"}},
		"an address in the clear": {map[string]string{"PUBLIC_URL": public.URL, "HOST": "0.0.0.0"},
			[]string{"warn address: links begin with " + public.URL + ", where tokens and files travel in the clear → put a proxy with TLS"}},
		"an address of nobody": {map[string]string{"PUBLIC_URL": "http://" + closedPort(t)}, []string{"does not answer: connect: connection refused → start the API"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(base)
			maps.Copy(env, tt.env)
			examine(t, env, false).wants(t, tt.want...)
		})
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	return ln.Addr().String()
}

// byTCP is the URL of the same database by the server's port.
func byTCP(t *testing.T, bySocket string, edit func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(bySocket)
	if err != nil {
		t.Fatal(err)
	}
	return edited(t, postgrestest.Server(t).TCPURL(strings.TrimPrefix(u.Path, "/")), edit)
}

func edited(t *testing.T, raw string, edit func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	edit(u)
	return u.String()
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func installation(t *testing.T, url string) (id string) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), `SELECT id FROM slipway.installation`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func claim(t *testing.T, path, installation string) (id string) {
	t.Helper()
	s, err := dir.New(path, dir.Options{})
	if err == nil {
		err = s.Claim(t.Context(), installation)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.ID()
}

func fault(t *testing.T, url, rule string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(rule))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("the fault was refused: %s", resp.Status)
	}
}
