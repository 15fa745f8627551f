package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
)

// wary makes a run in which every secret has a value that is nowhere else, and remembers what was said.
type wary struct {
	t       *testing.T
	stack   *stack
	secrets map[string]string // by what they are
	heard   []told
	client  http.Client
}

// partAddress is where Uploadcare takes a part, for a day and from whoever knows it. It is kept with the push,
// so that another worker can go on with that.
const partAddress = "signed address of a part"

// importToken is in an address that a file is imported from. It is kept until the file is here.
const importToken = "token in an address"

// told is what somebody was told, and the secrets that are theirs to know.
type told struct {
	what, text string
	theirs     []string
}

func (w *wary) hear(what, text string, theirs ...string) {
	w.heard = append(w.heard, told{what, text, theirs})
}

// ask sends a request. The secrets in theirs are what its answer hands out.
func (w *wary) ask(method, path string, body io.Reader, headers map[string]string, theirs ...string) (status int, text, location string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.stack.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.hear("the answer to "+method+" "+path, fmt.Sprint(resp.Header)+string(answer), theirs...)
	return resp.StatusCode, string(answer), resp.Header.Get("Location")
}

// learn remembers what stands in text, where pattern has a group, as a secret.
func (w *wary) learn(what, text, pattern string) string {
	w.t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		w.t.Fatalf("there is no %s in %s", what, text)
	}
	w.secrets[what] = m[1]
	return m[1]
}

// run runs a command to its end.
func (w *wary) run(env map[string]string, name string, args ...string) string {
	w.t.Helper()
	p := start(w.t, env, name, args...)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		w.t.Fatalf("%s %v does not end", name, args)
	}
	return p.said.String()
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

func with(headers map[string]string, name, value string) map[string]string {
	more := maps.Clone(headers)
	more[name] = value
	return more
}

// tokenForm is a form with a file, and fields before it.
func tokenForm(fields map[string]string) (body io.Reader, kind string) {
	var text strings.Builder
	w := multipart.NewWriter(&text)
	for name, value := range fields {
		_ = w.WriteField(name, value)
	}
	part, _ := w.CreateFormFile("file", "a.txt")
	_, _ = io.WriteString(part, "hello")
	_ = w.Close()
	return strings.NewReader(text.String()), w.FormDataContentType()
}

func TestSecretsAreToldToNobody(t *testing.T) {
	t.Parallel()
	s := dev(t, "--without", "api,worker", "--signed")
	s.url = "http://127.0.0.1:" + freePort(t)
	w := &wary{t: t, stack: s, client: http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	database, err := url.Parse(s.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	password, _ := database.User.Password()
	w.secrets = map[string]string{
		"database password": password, "wrong database password": "canary-of-a-database",
		"JWT secret": "canary-of-users-tokens-of-thirty-two-bytes", "token secret": "canary-of-upload-tokens-of-thirty-two-bytes",
		"Uploadcare webhook secret": "canary-of-uploadcare-webhooks", "Cloudinary webhook secret": "canary-of-cloudinary-webhooks",
		"Uploadcare secret key": s.env["UPLOADCARE_SECRET_KEY"], "Cloudinary API secret": s.env["CLOUDINARY_API_SECRET"],
		"CDN secret": s.env["UPLOADCARE_CDN_SECRET"], "wrong secret key": "canary-of-a-secret-key", "wrong API secret": "canary-of-an-api-secret",
		partAddress: "X-Amz-Signature=", importToken: "canary-of-an-address", "forged signature": "abcdef0123456789abcdef0123456789abcdef01",
	}
	env := maps.Clone(s.env)
	delete(env, "DEV_USER")
	maps.Copy(env, map[string]string{
		"PORT": s.url[strings.LastIndex(s.url, ":")+1:], "WORKER_PORT": freePort(t), "ADMIN_PORT": freePort(t), "LOG_LEVEL": "debug",
		"AUTH_JWT_SECRET": w.secrets["JWT secret"], "AUTH_TOKEN_SECRET": w.secrets["token secret"],
		"IMPORT_PRIVATE_NETWORKS":   "127.0.0.0/8",
		"UPLOADCARE_WEBHOOK_SECRET": w.secrets["Uploadcare webhook secret"], "CLOUDINARY_WEBHOOK_SECRET": w.secrets["Cloudinary webhook secret"],
	})
	statements := w.recordStatements()

	w.startBadly(env, database)
	key := strings.TrimSpace(regexp.MustCompile(`slk_\S+`).FindString(w.run(env, "slipway", "key", "create", "canary", "--scope", "act,admin")))
	w.learn("API key", key, `(slk_\w{20,})`)
	w.hear("slipway key list", w.run(env, "slipway", "key", "list"))

	api, worker := start(t, env, "api"), start(t, env, "worker")
	await(t, time.Minute, "the API to be ready", func() bool {
		resp, err := http.Get(s.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	w.asUser()
	w.asServer(key, env["ADMIN_PORT"])
	w.asProvider()
	worker.stop(t, 30*time.Second)
	bad := w.withWrongKeys(env)
	api.stop(t, 30*time.Second)
	for _, p := range []*process{api, worker, bad} {
		w.hear("the log of "+p.name, p.said.String())
	}
	w.hear("slipway doctor", w.run(env, "slipway", "doctor"))
	w.readTables()
	log, err := os.ReadFile(filepath.Join(s.dir, "postgres", "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "INSERT INTO slipway.uploads") {
		t.Error("the database has not logged its statements")
	}
	w.hear("the statements that the database was sent, with their parameters", string(log), partAddress, importToken)
	w.hear("pg_stat_activity", statements())
	w.judge()
}

// judge looks for every secret in all that was told.
func (w *wary) judge() {
	if len(w.secrets) < 18 || len(w.heard) < 40 {
		w.t.Errorf("%d secrets were looked for in %d places", len(w.secrets), len(w.heard))
	}
	for what, secret := range w.secrets {
		if len(secret) < 8 {
			w.t.Errorf("the %s is %q, which could stand anywhere", what, secret)
		}
		for _, h := range w.heard {
			if at := strings.Index(h.text, secret); at >= 0 && !slices.Contains(h.theirs, what) {
				w.t.Errorf("the %s is in %s: …%s…", what, h.what, h.text[max(0, at-200):min(len(h.text), at+len(secret)+50)])
			}
		}
	}
}

// recordStatements has the database log every statement with its parameters, which is more than
// pg_stat_statements keeps, and collects what pg_stat_activity shows until it is asked for.
func (w *wary) recordStatements() (seen func() string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.stack.env["DATABASE_URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, sql := range []string{"ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(w.t.Context(), sql); err != nil {
			w.t.Fatal(err)
		}
	}
	texts := map[string]bool{}
	ctx, stop := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer conn.Close(context.WithoutCancel(ctx))
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			rows, err := conn.Query(ctx, `SELECT concat_ws(' ', usename, application_name, query) FROM pg_stat_activity`)
			found, err2 := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil || err2 != nil {
				return
			}
			for _, text := range found {
				texts[text] = true
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() string {
		stop()
		<-ended
		return strings.Join(slices.Collect(maps.Keys(texts)), "\n")
	}
}

// startBadly starts programs with addresses of databases that do not work.
func (w *wary) startBadly(env map[string]string, good *url.URL) {
	password := w.secrets["wrong database password"]
	wrong := *good
	wrong.User = url.UserPassword(good.User.Username(), password)
	for what, address := range map[string]string{
		"a wrong password":        wrong.String(),
		"a port that is none":     "postgres://user:" + password + "@127.0.0.1:port/db",
		"an escape that is none":  "postgres://user:" + password + "%zz@127.0.0.1/db",
		"a space in it":           "postgres://user:" + password + " @127.0.0.1/db",
		"no address":              "user=me password=" + password + " host=127.0.0.1 port=none",
		"a setting nobody knows":  "postgres://user:" + password + "@127.0.0.1/db?sslmode=perhaps",
		"a password in the query": "postgres://user@127.0.0.1:1/db?password=" + password + "&sslmode=perhaps",
	} {
		bad := with(env, "DATABASE_URL", address)
		delete(bad, "DATABASE_URL_UNPOOLED")
		for _, command := range [][]string{{"api"}, {"worker"}, {"slipway", "migrate"}, {"slipway", "doctor"}, {"slipway", "key", "list"}} {
			said := w.run(bad, command[0], command[1:]...)
			if said == "" {
				w.t.Errorf("%v says nothing about %s", command, what)
			}
			w.hear(fmt.Sprintf("%v with %s", command, what), said)
		}
	}
	away := with(env, "DATABASE_URL", "postgres://user:"+password+"@127.0.0.1:1/db")
	delete(away, "DATABASE_URL_UNPOOLED")
	p := start(w.t, away, "api")
	await(w.t, time.Minute, "the API to miss its database", func() bool { return strings.Contains(p.said.String(), "does not answer") })
	p.stop(w.t, 30*time.Second)
	w.hear("the log of an API without a database", p.said.String())
}

// asUser does what a user's program and browser do, with files that arrive and with files that do not.
func (w *wary) asUser() {
	claims := jwt.MapClaims{"sub": "user_123", "exp": time.Now().Add(time.Hour).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(w.secrets["JWT secret"]))
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets["user's token"] = token
	w.secrets["forged token"] = token[:len(token)-8] + "forgery1"
	me := bearer(token)
	w.ask("GET", "/v1/uploads", nil, bearer(w.secrets["forged token"]))
	w.ask("GET", "/v1/uploads?token="+token, nil, nil)

	// Parts that are lost on the way, and an answer that is.
	post(w.t, w.stack.sim+"/_sim/uploadcare/faults", []map[string]any{
		{"method": "PUT", "action": "reset_before", "times": 2}, {"method": "PUT", "action": "answer", "status": 503, "times": 2}, {"path": "/multipart/complete", "action": "drop_after", "times": 1},
	})
	post(w.t, w.stack.sim+"/_sim/cloudinary/faults", []map[string]any{
		{"path": "/upload", "action": "drop_after", "times": 1}, {"path": "/upload", "action": "answer", "status": 500, "times": 1}, {"path": "/resources", "action": "reset_before", "times": 1},
	})
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		_, text, _ := w.ask("POST", "/v1/uploads?file_name=film.mp4&provider="+provider, io.LimitReader(zeros{}, 12<<20), with(me, "Content-Type", "application/octet-stream"))
		id := w.arrive(me, text)
		link := "link to " + provider
		w.secrets[link] = "not known yet"
		_, _, location := w.ask("GET", "/v1/files/"+id+"/content", nil, me, link)
		w.learn(link, location, map[string]string{"uploadcare": `hmac=([0-9a-f~=]+)`, "cloudinary": `/(s--[\w-]{8}--)/`}[provider])
		w.ask("GET", "/v1/files/"+id, nil, me, link)
		w.ask("GET", "/uploads/"+id, nil, with(me, "Accept", "text/html"), link)
		w.ask("GET", "/v1/files", nil, me, "link to uploadcare", "link to cloudinary")
		w.ask("GET", "/v1/uploads?limit=1", nil, me)
	}

	w.importFiles(me)

	// Straight to the provider.
	_, text, _ := w.ask("GET", "/generate-signature?reserve=1&resource_type=image", nil, me, "signature for Cloudinary")
	w.learn("signature for Cloudinary", text, `"signature":"(\w+)"`)
	_, text, _ = w.ask("GET", "/v1/direct/uploadcare", nil, me, "signature for Uploadcare")
	w.learn("signature for Uploadcare", text, `"signature":"(\w+)"`)
	_, text, _ = w.ask("POST", "/generate-signature", strings.NewReader(fmt.Sprintf(`{"paramsToSign":{"timestamp":%d,"type":"authenticated","source":"uw"}}`, time.Now().Unix())), me, "signature for the widget")
	w.learn("signature for the widget", text, `"signature":"(\w+)"`)
	w.ask("POST", "/save-metadata", strings.NewReader(`{"public_id":"p","secure_url":"https://example.com/p","resource_type":"image","version":1,"signature":"`+w.secrets["forged signature"]+`"}`), me)
	w.ask("POST", "/save-metadata", strings.NewReader(`{"signature":"`+w.secrets["forged signature"]+`"`), me)
}

// importFiles imports a file whose source fails at first and leads on to another address, and some that do not arrive.
func (w *wary) importFiles(me map[string]string) {
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch {
		case asked.Add(1) == 1:
			out.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/film.mp4":
			http.Redirect(out, r, "/moved?"+r.URL.RawQuery, http.StatusFound)
		case r.URL.Path == "/inside":
			http.Redirect(out, r, "http://169.254.169.254/?"+r.URL.RawQuery, http.StatusFound)
		case r.URL.Path == "/nowhere":
			http.Redirect(out, r, "http://[/?"+r.URL.RawQuery, http.StatusFound)
		case r.URL.Path == "/moved":
			_, _ = out.Write([]byte("hello"))
		default:
			out.WriteHeader(http.StatusNotFound)
		}
	}))
	defer web.Close()
	var failed []string
	refused := 0
	for _, address := range []string{web.URL + "/film.mp4?", web.URL + "/inside?", web.URL + "/nowhere?", web.URL + "/none?", "http://127.0.0.1:1/?", "ftp://example.com/?", "http://me:"} {
		address += w.secrets[importToken]
		if strings.HasPrefix(address, "http://me:") {
			address += "@example.com/"
		}
		status, text, _ := w.ask("POST", "/v1/uploads", strings.NewReader(`{"url":"`+address+`"}`), with(me, "Content-Type", "application/json"))
		if status == http.StatusUnprocessableEntity {
			refused++
			continue
		}
		if strings.Contains(address, "film.mp4") {
			w.arrive(me, text)
			continue
		}
		var u uploadView
		if err := json.Unmarshal([]byte(text), &u); err != nil {
			w.t.Errorf("an import is answered %d %s", status, text)
		}
		failed = append(failed, u.ID)
	}
	for _, id := range failed {
		await(w.t, time.Minute, "import "+id+" to go wrong", func() bool {
			_, text, _ := w.ask("GET", "/v1/uploads/"+id, nil, me)
			return strings.Contains(text, `"error":{"code":"source_`)
		})
		w.ask("POST", "/v1/uploads/"+id+"/cancel", nil, me)
	}
	if len(failed) != 4 || refused != 2 {
		w.t.Errorf("%d imports went wrong on their way and %d were refused, want 4 and 2", len(failed), refused)
	}
}

// arrive waits until an upload is at its end, and returns its id.
func (w *wary) arrive(headers map[string]string, created string) string {
	w.t.Helper()
	var u uploadView
	if err := json.Unmarshal([]byte(created), &u); err != nil || u.ID == "" {
		w.t.Fatalf("no upload was made: %s", created)
	}
	await(w.t, time.Minute, "upload "+u.ID+" to arrive", func() bool {
		_, text, _ := w.ask("GET", "/v1/uploads/"+u.ID, nil, headers, "link to uploadcare", "link to cloudinary")
		return strings.Contains(text, `"status":"completed"`)
	})
	return u.ID
}

// asServer does what a backend does, and the browsers that it gives tokens to.
func (w *wary) asServer(key, adminPort string) {
	server := bearer(key)
	w.ask("GET", "/v1/uploads", nil, with(server, "Slipway-User", "user_123"))
	w.ask("GET", "/v1/uploads", nil, bearer(key+"x"))
	_, text, _ := w.ask("POST", "/v1/tokens", strings.NewReader(`{"user_id":"user_123"}`), server, "upload token")
	token := w.learn("upload token", text, `"token":"(slt_[^"]+)"`)
	w.ask("GET", "/v1/uploads?token="+token, nil, nil)
	w.ask("GET", "/v1/uploads?limit=none&token="+token, nil, nil)
	w.ask("GET", "/v1/uploads?token="+token+"x", nil, nil)
	w.ask("DELETE", "/v1/files/uploadcare-1?token="+token, nil, nil)
	body, kind := tokenForm(map[string]string{"token": token})
	_, _, page := w.ask("POST", "/upload", body, map[string]string{"Content-Type": kind, "Accept": "text/html"}, "upload token") // leads to the page with it
	w.ask("GET", page, nil, map[string]string{"Accept": "text/html"}, "upload token", "link to uploadcare")
	body, kind = tokenForm(map[string]string{"token": token + "x"})
	w.ask("POST", "/upload", body, map[string]string{"Content-Type": kind})

	for _, password := range []string{key, key + "x", ""} {
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://127.0.0.1:"+adminPort+"/admin/jobs/api/jobs?state=completed", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		req.SetBasicAuth("me", password)
		resp, err := w.client.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := map[bool]int{true: 200, false: 401}[password == key]; resp.StatusCode != want {
			w.t.Errorf("the jobs are answered %s, want %d", resp.Status, want)
		}
		w.hear("the list of jobs", string(answer))
	}
}

// asProvider sends notifications, signed well and badly.
func (w *wary) asProvider() {
	const body = `{"hook":{"event":"file.uploaded"},"data":{"uuid":"7b1f1dbc-4d4c-4d4f-8f5e-3f0a1c1b9a77"}}`
	mac := hmac.New(sha256.New, []byte(w.secrets["Uploadcare webhook secret"]))
	mac.Write([]byte(body))
	w.secrets["webhook's signature"] = hex.EncodeToString(mac.Sum(nil))
	signed := map[string]string{"X-Uc-Signature": "v1=" + w.secrets["webhook's signature"]}
	if status, text, _ := w.ask("POST", "/webhooks/uploadcare", strings.NewReader(body), signed); status != http.StatusOK {
		w.t.Errorf("a notification is answered %d %s", status, text)
	}
	w.ask("POST", "/webhooks/uploadcare", strings.NewReader(body), map[string]string{"X-Uc-Signature": "v1=" + w.secrets["forged signature"]})
	w.ask("POST", "/webhooks/cloudinary", strings.NewReader(body), map[string]string{"X-Cld-Timestamp": "1", "X-Cld-Signature": w.secrets["forged signature"]})
}

// withWrongKeys runs a worker that its providers turn away, until each has.
func (w *wary) withWrongKeys(env map[string]string) *process {
	wrong := with(with(env, "UPLOADCARE_SECRET_KEY", w.secrets["wrong secret key"]), "CLOUDINARY_API_SECRET", w.secrets["wrong API secret"])
	worker := start(w.t, wrong, "worker")
	me := bearer(w.secrets["user's token"])
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		_, text, _ := w.ask("POST", "/v1/uploads?file_name=a.txt&provider="+provider, strings.NewReader("hello"), me)
		var u uploadView
		if err := json.Unmarshal([]byte(text), &u); err != nil {
			w.t.Fatal(err)
		}
		await(w.t, time.Minute, provider+" to turn the worker away", func() bool {
			_, text, _ := w.ask("GET", "/v1/uploads/"+u.ID, nil, me)
			return strings.Contains(text, `"error":{"code":"provider_account"`)
		})
	}
	w.ask("GET", "/readyz?verbose", nil, nil)
	worker.stop(w.t, 30*time.Second)
	return worker
}

// readTables reads every row of ours, of River's and of the guides'.
func (w *wary) readTables() {
	w.t.Helper()
	ctx := w.t.Context()
	conn, err := pgx.Connect(ctx, w.stack.env["DATABASE_URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	collect := func(sql string) []string {
		w.t.Helper()
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			w.t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		return found
	}
	tables := collect(`SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname IN ('slipway', 'public')`)
	for _, needed := range []string{"slipway.river_job", "slipway.uploads", "slipway.upload_events", "slipway.providers", "public.cloudinary_files"} {
		if !slices.Contains(tables, needed) {
			w.t.Errorf("there is no table %s among %v", needed, tables)
		}
	}
	for _, table := range tables {
		var theirs []string
		if table == "slipway.push_sessions" {
			theirs = append(theirs, partAddress)
		}
		w.hear("table "+table, strings.Join(collect(`SELECT to_jsonb(t)::text FROM `+table+` t`), "\n"), theirs...)
	}
}

// zeros is a file without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
