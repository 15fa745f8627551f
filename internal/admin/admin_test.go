package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Migrated(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the listener, on a database of its own.
type site struct {
	pool  *pgxpool.Pool
	queue *postgres.Queue
	url   string
}

func open(t *testing.T, asks bool) *site {
	t.Helper()
	s := &site{}
	log := slog.New(slog.DiscardHandler)
	var err error
	s.pool, err = postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
	must(t, err)
	t.Cleanup(s.pool.Close)
	s.queue, err = postgres.NewQueue(s.pool, postgres.DefaultNames)
	must(t, err)
	var keys *auth.Authenticator
	if asks {
		keys = auth.New(auth.Options{Secret: "thirty-two bytes are what HS256 asks for", DevUser: "anybody", Keys: auth.NewKeys(s.pool, log)})
	}
	server, err := New(s.queue, keys, log)
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.url = "http://" + ln.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func (s *site) key(t *testing.T, scopes ...string) string {
	t.Helper()
	secret, key := auth.NewKey("test", scopes)
	_, err := postgres.InsertKey(t.Context(), s.pool, key, 0)
	must(t, err)
	return secret
}

// ask sends a request with a key as the password, if there is one, and headers, "Name: value".
func (s *site) ask(t *testing.T, method, path, key, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	must(t, err)
	if key != "" {
		req.SetBasicAuth("me", key)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(text)
}

const jobsAPI = Jobs + "api/jobs"

func TestOnlyKeysOfScopeAdminComeIn(t *testing.T) {
	s := open(t, true)
	admin, server := s.key(t, auth.AdminScope), s.key(t, auth.ActScope)
	for name, tt := range map[string]struct {
		key    string
		status int
	}{
		"nobody":                   {"", 401},
		"a key that was made up":   {"slk_abcdefgh_secret", 401},
		"a key of another scope":   {server, 403},
		"a key of scope admin":     {admin, 200},
		"a key with another end":   {admin + "x", 401},
		"what is no key at all":    {"password", 401},
		"the beginning of the key": {admin[:len("slk_abcdefgh")], 401},
	} {
		for _, path := range []string{Jobs, jobsAPI, Jobs + "assets/none.js", "/", "/nothing"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				resp, text := s.ask(t, "GET", path, tt.key, "")
				if want := tt.status; resp.StatusCode != want && !(path == "/nothing" && want == 200 && resp.StatusCode == 404) {
					t.Errorf("got %d %s, want %d", resp.StatusCode, text, want)
				}
				if got := resp.Header.Get("WWW-Authenticate"); (resp.StatusCode == 401) != (got == challenge) {
					t.Errorf("%d with the challenge %q", resp.StatusCode, got)
				}
			})
		}
	}
	resp, _ := s.ask(t, "GET", jobsAPI, "", "", "Authorization: Bearer "+admin)
	if resp.StatusCode != 200 {
		t.Errorf("the key as a bearer's is answered %d", resp.StatusCode)
	}
}

func TestPagesOfOtherSitesChangeNothing(t *testing.T) {
	s := open(t, true)
	admin := s.key(t, auth.AdminScope)
	job, err := s.queue.Insert(t.Context(), upload.PushArgs{UploadID: upload.NewID()}, nil)
	must(t, err)
	body := fmt.Sprintf(`{"ids":["%d"]}`, job.Job.ID)
	cancel := func(headers ...string) int {
		resp, _ := s.ask(t, "POST", jobsAPI+"/cancel", admin, body, append(headers, "Content-Type: application/json")...)
		return resp.StatusCode
	}
	for name, headers := range map[string][]string{
		"another origin":           {"Origin: https://evil.example"},
		"an origin that is hidden": {"Origin: null"},
		"as browsers call it":      {"Sec-Fetch-Site: cross-site"},
		"a neighbour":              {"Sec-Fetch-Site: same-site"},
	} {
		if got := cancel(headers...); got != 403 {
			t.Errorf("%s: got %d, want 403", name, got)
		}
	}
	if state := s.state(t, job.Job.ID); state != "available" {
		t.Fatalf("the job is %s", state)
	}
	if got := cancel("Sec-Fetch-Site: same-origin", "Origin: "+s.url); got != 200 {
		t.Errorf("a page of ours: got %d, want 200", got)
	}
	if state := s.state(t, job.Job.ID); state != "cancelled" {
		t.Errorf("the job is %s, want cancelled", state)
	}
}

func (s *site) state(t *testing.T, id int64) (state string) {
	t.Helper()
	must(t, s.pool.QueryRow(t.Context(), `SELECT state FROM slipway.river_job WHERE id = $1`, id).Scan(&state))
	return state
}

func TestWithoutKeysOnlyThisMachineIsServed(t *testing.T) {
	s := open(t, false)
	for host, want := range map[string]int{
		"": 200, "localhost:3002": 200, "localhost": 200, "[::1]:3002": 200, "127.0.0.1": 200,
		"evil.example": 403, "evil.example:3002": 403, "localhost.evil.example": 403, "192.0.2.1": 403,
	} {
		resp, text := s.ask(t, "GET", jobsAPI, "", "", "Host: "+host)
		if resp.StatusCode != want {
			t.Errorf("host %q: got %d %s, want %d", host, resp.StatusCode, text, want)
		}
	}
}

func TestThePagesAreThereAndLoadNothingFromElsewhere(t *testing.T) {
	s := open(t, false)
	job, err := s.queue.Insert(t.Context(), upload.PushArgs{UploadID: upload.NewID()}, nil)
	must(t, err)
	resp, page := s.ask(t, "GET", Jobs, "", "")
	for name, want := range map[string]string{
		"Content-Security-Policy": pagePolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Server": "", "Cache-Control": "no-store",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	found := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(found) < 3 {
		t.Fatalf("the page loads %v: %s", found, page)
	}
	for _, m := range found {
		if resp, _ := s.ask(t, "GET", m[1], "", ""); resp.StatusCode != 200 || !strings.HasPrefix(m[1], Jobs) {
			t.Errorf("%s is answered %d", m[1], resp.StatusCode)
		}
	}
	if inline := regexp.MustCompile(`<script[^>]*>`).FindAllString(page, -1); len(inline) != 2 || !strings.Contains(inline[0], "application/json") {
		t.Errorf("the page's scripts are %v, want its settings and one of its own", inline)
	}
	_, text := s.ask(t, "GET", jobsAPI+"?state=available", "", "")
	var list struct {
		Data []struct{ ID any }
	}
	must(t, json.Unmarshal([]byte(text), &list))
	if len(list.Data) != 1 || fmt.Sprint(list.Data[0].ID) != fmt.Sprint(job.Job.ID) {
		t.Errorf("the jobs are %s, want %d alone", text, job.Job.ID)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	s := open(t, false)
	if resp, _ := s.ask(t, "GET", Jobs, "", "", "X-Large: "+strings.Repeat("x", 2*maxHead)); resp.StatusCode != 431 {
		t.Errorf("large headers are answered %d", resp.StatusCode)
	}
	if resp, _ := s.ask(t, "POST", jobsAPI+"/cancel", "", `{"ids":[`+strings.Repeat(" ", maxBody)+`]}`); resp.StatusCode < 400 || resp.StatusCode == 404 {
		t.Errorf("a large body is answered %d", resp.StatusCode)
	}
}
