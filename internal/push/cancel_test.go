package push_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/events"
	"slipway/internal/httpapi"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	cloudinary "slipway/internal/provider/cloudinary/sign"
	uploadcare "slipway/internal/provider/uploadcare/sign"
	"slipway/internal/providersim"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

const jwtSecret = "thirty-two bytes are what HS256 asks for"

// desk is the API before a yard, as ann asks it.
type desk struct {
	url   string
	token string
	http  *http.Client
}

func (y *yard) desk(t *testing.T) *desk {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := events.NewHub(y.pool.Config().ConnString(), postgres.DefaultNames, log)
	cursors, err := httpapi.NewCursors([]byte(jwtSecret), "slipway-test")
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.New(httpapi.Options{Log: log, DrainTimeout: 3 * time.Second})
	server.Mount(&httpapi.API{
		Auth: auth.New(auth.Options{Secret: jwtSecret}), Cursors: cursors, Ingest: y.ingest, Pool: y.pool, Hub: hub,
		Links: map[string]provider.Linker{"uploadcare": uploadcare.Links{}, "cloudinary": cloudinary.Links{}},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { hub.Run(ctx) })
	parts.Go(func() {
		if err := server.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { stop(); parts.Wait() })
	d := &desk{url: "http://" + ln.Addr().String(), http: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}}
	t.Cleanup(d.http.CloseIdleConnections)
	claims := jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}
	if d.token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret)); err != nil {
		t.Fatal(err)
	}
	return d
}

// reply is what the API says of an upload, or of what is wrong.
type reply struct {
	status int
	Status upload.Status `json:"-"`
	Code   upload.Code   `json:"code"`
}

func (d *desk) asks(t *testing.T, method, path, body string) (r reply) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.status = resp.StatusCode
	if r.status >= 400 {
		err = json.Unmarshal(text, &r)
	} else {
		var u struct{ Status upload.Status }
		err = json.Unmarshal(text, &u)
		r.Status = u.Status
	}
	if err != nil {
		t.Fatalf("%s %s: %q: %v", method, path, text, err)
	}
	return r
}

func (d *desk) cancels(t *testing.T, id upload.ID) reply {
	t.Helper()
	return d.asks(t, "POST", "/v1/uploads/"+string(id)+"/cancel", "")
}

func (d *desk) deletes(t *testing.T, id upload.ID) reply {
	t.Helper()
	return d.asks(t, "DELETE", "/v1/uploads/"+string(id), "")
}

func (d *desk) retries(t *testing.T, id upload.ID, body string) reply {
	t.Helper()
	return d.asks(t, "POST", "/v1/uploads/"+string(id)+"/retry", body)
}

// awaitRequest waits until a provider has seen so many requests, and until the last of them has ended if that
// is asked for. It returns the last.
func (y *yard) awaitRequest(t *testing.T, providerName string, r providersim.Rule, ended bool) providersim.Request {
	t.Helper()
	path := regexp.MustCompile(r.Path)
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		found := y.controls[providerName].Requests.Find(r.Method, path)
		if len(found) > r.Skip && (!ended || found[len(found)-1].Ended) {
			return found[len(found)-1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has seen %d of %s %s", providerName, len(found), r.Method, r.Path)
		}
		<-tick.C
	}
}

// cleared checks that nothing is left of an upload: at its provider, in staging, and of jobs.
func (y *yard) cleared(t *testing.T, providerName string, id upload.ID) {
	t.Helper()
	y.awaitNone(t, `SELECT count(*) FROM slipway.file_deletions`)
	if left := y.lasting(t, providerName); len(left) > 0 {
		t.Errorf("%s keeps %v", providerName, left)
	}
	if r, err := y.staging.Open(t.Context(), id); !errors.Is(err, staging.ErrMissing) {
		t.Errorf("staging has it still: %v", err)
		if err == nil {
			_ = r.Close()
		}
	}
	y.awaitNone(t, `SELECT count(*) FROM slipway.river_job WHERE args ->> 'upload_id' = '`+string(id)+`' AND finalized_at IS NULL`)
	y.awaitNone(t, `SELECT count(*) FROM `+providerName+`_files WHERE upload_id = '`+string(id)+`'`)
	if u, err := postgres.UploadOf(t.Context(), y.pool, id); err != nil || u.Unstaged == nil || u.Asset != nil || u.Error != nil {
		t.Errorf("the row says %+v, %v", u, err)
	}
}

// What may be on its way when a push is ended, by provider, and what is sent then.
var calls = map[string]map[string]providersim.Rule{
	"uploadcare": {
		"the whole file":      {Path: "^/base/"},
		"a part":              {Method: "PUT", Path: "partNumber=2"},
		"the completing call": {Path: "^/multipart/complete/"},
		"the lookup":          {Path: "^/info/"},
		"the last call":       {Path: "/storage/$"},
	},
	"cloudinary": {
		"the whole file":      {Path: "/upload$"},
		"a part":              {Path: "/upload$"},
		"the completing call": {Path: "/upload$", Skip: 1},
		"the lookup":          {Path: "/resources/"},
		"the last call":       {Path: "/upload$", Skip: 1},
	},
}

// large is a file of two parts.
func large(providerName string) []byte {
	return random(map[string]int{"uploadcare": 10 * mib, "cloudinary": 6*mib + 1}[providerName])
}

func TestACanceledPushStopsWithinTwoSeconds(t *testing.T) {
	for name := range calls {
		for what, tell := range map[string]func(*testing.T, *yard, *desk, upload.ID){
			"when it is told": func(t *testing.T, _ *yard, d *desk, id upload.ID) {
				if r := d.cancels(t, id); r.status != 202 || r.Status != upload.Canceled {
					t.Errorf("the answer is %+v", r)
				}
			},
			"when nothing is announced": func(t *testing.T, y *yard, _ *desk, id upload.ID) {
				if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET status = 'canceled', lease_epoch = lease_epoch + 1 WHERE id = $1`, id); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				d := y.desk(t)
				part := calls[name]["a part"]
				part.Action = providersim.Stall
				y.fault(t, name, part)
				y.worker(t)
				u := y.accept(t, name, large(name))
				y.awaitRequest(t, name, part, false)
				began := time.Now()
				tell(t, y, d, u.ID)
				y.awaitRequest(t, name, part, true)
				took := time.Since(began)
				t.Logf("it stopped after %s", took.Round(time.Millisecond))
				if took > 2*time.Second {
					t.Errorf("it stopped after %s", took)
				}
			})
		}
	}
}
