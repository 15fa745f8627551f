package push_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// ends is what each status answers to whoever would cancel, delete or retry an upload, and what it comes to.
var ends = map[upload.Status]struct{ cancel, delete, retry end }{
	upload.Receiving: {canceled, deleted, notFailed},
	upload.Fetching:  {canceled, deleted, notFailed},
	upload.Reserved:  {notCancelable, deleted, notFailed},
	upload.Verifying: {canceled, deleted, notFailed},
	upload.Queued:    {canceled, deleted, notFailed},
	upload.Pushing:   {canceled, deleted, notFailed},
	upload.Retrying:  {canceled, deleted, notFailed},
	upload.Completed: {notCancelable, deleted, notFailed},
	upload.Failed:    {notCancelable, deleted, delivered},
	upload.Canceled:  {canceledBefore, deleted, notFailed},
	upload.Expired:   {notCancelable, deleted, notFailed},
	upload.Joined:    {unknown, unknown, unknown},
	upload.Deleting:  {notCancelable, deletedBefore, notFailed},
	upload.Deleted:   {notCancelable, end{status: 202, now: upload.Deleted, then: upload.Deleted}, notFailed},
}

// end is an answer, and what becomes of the upload afterwards.
type end struct {
	status int
	code   upload.Code   // of a refusal, which changes nothing
	now    upload.Status // in the answer
	then   upload.Status
	events []upload.Status // that follow
}

var (
	canceled       = end{status: 202, now: upload.Canceled, then: upload.Canceled, events: []upload.Status{upload.Canceled}}
	canceledBefore = end{status: 202, now: upload.Canceled, then: upload.Canceled}
	deleted        = end{status: 202, now: upload.Deleting, then: upload.Deleted, events: []upload.Status{upload.Deleting, upload.Deleted}}
	deletedBefore  = end{status: 202, now: upload.Deleting, then: upload.Deleted, events: []upload.Status{upload.Deleted}}
	delivered      = end{status: 202, now: upload.Queued, then: upload.Completed, events: []upload.Status{upload.Queued, upload.Pushing, upload.Completed}}
	notCancelable  = end{status: 409, code: upload.NotCancelable}
	notFailed      = end{status: 409, code: upload.NotFailed}
	unknown        = end{status: 404, code: upload.NotFound}
	bytesGone      = end{status: 410, code: upload.BytesGone}
)

// situation is an upload in a status, with what is on its way at the provider and what is there.
type situation struct {
	status upload.Status
	only   string // one provider; "" is both
	idle   bool   // no worker runs
	make   making
	retry  *end // where it is not the status's
}

type making = func(t *testing.T, y *yard, d *desk, providerName string) upload.ID

// fault is what becomes of one of the calls.
type fault struct {
	call   string
	action providersim.Action
	times  int
	status int
	header map[string]string
	body   string
}

func (y *yard) faults(t *testing.T, name string, faults []fault) {
	t.Helper()
	for _, f := range faults {
		r := calls[name][f.call]
		r.Action, r.Times, r.Status, r.Header, r.Body = f.action, f.times, f.status, f.header, f.body
		y.fault(t, name, r)
	}
}

// held is an upload whose delivery has come to a call, which does not end.
func held(at string, faults ...fault) making {
	return func(t *testing.T, y *yard, _ *desk, name string) upload.ID {
		t.Helper()
		y.controls[name].Requests.Clear()
		y.faults(t, name, append(faults, fault{call: at, action: providersim.Stall}))
		u := y.accept(t, name, large(name))
		y.awaitRequest(t, name, calls[name][at], false)
		return u.ID
	}
}

// become is an upload that has come to a status, and stays there.
func become(status upload.Status, faults ...fault) making {
	return func(t *testing.T, y *yard, _ *desk, name string) upload.ID {
		t.Helper()
		y.faults(t, name, faults)
		content := large
		if len(faults) == 0 {
			content = small
		}
		return y.await(t, y.accept(t, name, content(name)).ID, string(status), func(u upload.Upload) bool {
			return u.Status == status && (u.NextAttemptAt == nil || time.Until(*u.NextAttemptAt) > time.Minute)
		}).ID
	}
}

// set is an upload that is written to be in a status: how it comes there is not part of this.
func set(sql string) making {
	return func(t *testing.T, y *yard, _ *desk, name string) upload.ID {
		t.Helper()
		u := y.accept(t, name, random(1000))
		if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET `+sql+` WHERE id = $1`, u.ID); err != nil {
			t.Fatal(err)
		}
		return u.ID
	}
}

// once is an upload that is tried once.
func once(make making) making {
	return func(t *testing.T, y *yard, d *desk, name string) upload.ID {
		t.Helper()
		y.ingest.MaxAttempts = 1
		return make(t, y, d, name)
	}
}

// later has whoever calls wait for longer than a test.
func later(of string) fault {
	return fault{call: of, action: providersim.Answer, status: 429, header: map[string]string{"Retry-After": "1800"}}
}

var (
	refused = fault{call: "a part", action: providersim.Answer, status: 503}
	// unheard has a file stored, and nobody hear of it.
	unheard = fault{call: "the last call", action: providersim.ResetAfter, times: 1}
	again   = fault{call: "the last call", action: providersim.Answer, status: 503} // to whoever sends it once more
	mute    = fault{call: "the lookup", action: providersim.Answer, status: 503}
)

// storedUnheard is an upload whose file is stored, and which waits before it asks.
func storedUnheard(t *testing.T, y *yard, d *desk, name string) upload.ID {
	t.Helper()
	wait := []fault{later("the last call")}
	if name == "cloudinary" {
		wait = []fault{again, later("the lookup")}
	}
	return become(upload.Retrying, slices.Insert(wait, 0, unheard)...)(t, y, d, name)
}

var situations = map[string]situation{
	"receiving":                  {status: upload.Receiving, idle: true, make: set(`status = 'receiving', job_id = NULL`)},
	"fetching":                   {status: upload.Fetching, idle: true, make: set(`status = 'fetching', job_id = NULL`)},
	"joined":                     {status: upload.Joined, idle: true, make: set(`status = 'joined', job_id = NULL`)},
	"queued":                     {status: upload.Queued, idle: true, make: set(`version = version`)},
	"pushing a part":             {status: upload.Pushing, make: held("a part")},
	"pushing, completing":        {status: upload.Pushing, make: held("the completing call")},
	"pushing, completed unheard": {status: upload.Pushing, make: held("the lookup", fault{call: "the completing call", action: providersim.ResetAfter, times: 1})},
	"retrying":                   {status: upload.Retrying, make: become(upload.Retrying, later("a part"))},
	"retrying, stored unheard":   {status: upload.Retrying, make: storedUnheard},
	"completed":                  {status: upload.Completed, make: become(upload.Completed)},
	"failed in the middle":       {status: upload.Failed, make: once(become(upload.Failed, refused))},
	"failed, stored unheard":     {status: upload.Failed, make: once(become(upload.Failed, unheard, again, mute))},
	"failed, its bytes gone":     {status: upload.Failed, idle: true, make: set(`status = 'failed', unstaged_at = now()`), retry: &bytesGone},
	"expired":                    {status: upload.Expired, only: "cloudinary", idle: true, make: reserved(`status = 'expired'`)},
	"reserved, and sent":         {status: upload.Reserved, only: "cloudinary", idle: true, make: reserved(`version = version`)},
	"reserved, and named by its sender alone": {status: upload.Reserved, only: "uploadcare", idle: true, make: reserved(`version = version`)},
	"verifying": {status: upload.Verifying, only: "cloudinary", make: verifying},
	"canceled": {status: upload.Canceled, make: func(t *testing.T, y *yard, d *desk, name string) upload.ID {
		id := storedUnheard(t, y, d, name)
		d.cancels(t, id)
		return id
	}},
	"deleting": {status: upload.Deleting, make: func(t *testing.T, y *yard, d *desk, name string) upload.ID {
		id := become(upload.Completed)(t, y, d, name)
		y.fault(t, name, providersim.Rule{Path: "^/files/|/destroy$", Action: providersim.Answer, Status: 503})
		d.deletes(t, id)
		return id
	}},
	"deleted": {status: upload.Deleted, make: func(t *testing.T, y *yard, d *desk, name string) upload.ID {
		id := become(upload.Completed)(t, y, d, name)
		d.deletes(t, id)
		return y.awaitStatus(t, id, upload.Deleted).ID
	}},
}

// reserved is an upload for which its owner was given a signature.
func reserved(sql string) making {
	return func(t *testing.T, y *yard, _ *desk, name string) upload.ID {
		t.Helper()
		u, assetID, err := y.direct().Reserve(t.Context(), ingest.Reservation{User: "ann", Provider: name, FileName: "a.bin", ResourceType: "raw"})
		if err != nil {
			t.Fatal(err)
		}
		if assetID != "" {
			y.sends(t, assetID, random(1000))
		}
		if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET `+sql+` WHERE id = $1`, u.ID); err != nil {
			t.Fatal(err)
		}
		return u.ID
	}
}

// verifying is a reserved upload whose owner has said that it was sent, and about which the provider does not answer.
func verifying(t *testing.T, y *yard, d *desk, name string) upload.ID {
	t.Helper()
	y.controls[name].Requests.Clear()
	y.faults(t, name, []fault{{call: "the lookup", action: providersim.Stall}})
	id := reserved(`version = version`)(t, y, d, name)
	if _, err := y.direct().Claim(t.Context(), ingest.AssetClaim{User: "ann", Provider: name, AssetID: "slipway-test/" + string(id) + ".bin", ResourceType: upload.Raw}); err != nil {
		t.Fatal(err)
	}
	y.awaitRequest(t, name, calls[name]["the lookup"], false)
	return id
}

func (y *yard) direct() *ingest.Direct {
	return &ingest.Direct{Pool: y.pool, Queue: y.ingest.Queue, Installation: "slipway-test", MaxAttempts: 3, VerifyWithin: time.Hour}
}

func TestEveryStatusHasItsEnds(t *testing.T) {
	seen := map[upload.Status]bool{}
	for _, s := range situations {
		seen[s.status] = true
	}
	for _, s := range upload.Statuses() {
		if e, ok := ends[s]; !ok || !seen[s] {
			t.Errorf("%s is missing here", s)
		} else if got := e.cancel.status == 202; got != (s == upload.Canceled || s.CanBecome(upload.Canceled)) {
			t.Errorf("canceled when %s: %t", s, got)
		}
	}
}

// What is done to an upload in any status comes to what it has to, and in the end nothing of it is left that
// should not be.
func TestTheEndsOfEveryStatus(t *testing.T) {
	for name, s := range situations {
		for _, providerName := range []string{"uploadcare", "cloudinary"} {
			if s.only != "" && s.only != providerName {
				continue
			}
			t.Run(name+" at "+providerName, func(t *testing.T) {
				t.Parallel()
				s.isEnded(t, providerName)
			})
		}
	}
}

func (s situation) isEnded(t *testing.T, providerName string) {
	all := ends[s.status]
	if s.retry != nil {
		all.retry = *s.retry
	}
	y := newYard(t)
	d := y.desk(t)
	stop := func() {}
	if !s.idle {
		stop = y.worker(t)
	}
	id := s.make(t, y, d, providerName)
	before := len(y.changes(t, id))
	var may []func() // what may be done to it, each to another one
	for what, it := range map[string]struct {
		end
		ask func(t *testing.T, id upload.ID) reply
	}{
		"canceled": {all.cancel, d.cancels},
		"deleted":  {all.delete, d.deletes},
		"retried":  {all.retry, func(t *testing.T, id upload.ID) reply { t.Helper(); return d.retries(t, id, "") }},
	} {
		if it.code != "" {
			if r := it.ask(t, id); r.status != it.status || r.Code != it.code {
				t.Errorf("%s, it answers %+v, want %d %s", what, r, it.status, it.code)
			}
			continue
		}
		may = append(may, func() {
			if it.then == upload.Completed { // or it may fail again before it is asked for the second time
				y.controls[providerName].Faults.Clear()
			}
			for _, twice := range []bool{false, true} {
				r := it.ask(t, id)
				if it.then == upload.Completed {
					if r.status != 202 && r.Code != upload.NotFailed {
						t.Errorf("%s, it answers %+v", what, r)
					}
				} else if r.status != it.status || r.Status != it.now && (!twice || r.Status != it.then) {
					t.Errorf("%s, it answers %+v, want %d and %s", what, r, it.status, it.now)
				}
			}
			y.controls[providerName].Faults.Clear()
			if s.idle {
				stop = y.worker(t)
			}
			y.pass(t, id, it.then)
			if it.then == upload.Completed {
				if n := len(y.lasting(t, providerName)); n != 1 {
					t.Errorf("%s, %s keeps %d assets", what, providerName, n)
				}
				d.deletes(t, id)
				y.pass(t, id, upload.Deleted)
			} else if got := y.changes(t, id)[before:]; !slices.Equal(got, it.events) {
				t.Errorf("%s, its events go on with %v, want %v", what, got, it.events)
			}
			y.cleared(t, providerName, id)
			if r := d.asks(t, "GET", "/v1/uploads/"+string(id), ""); r.status != 200 {
				t.Errorf("%s, it cannot be read: %+v", what, r)
			}
		})
	}
	if u, err := postgres.UploadOf(t.Context(), y.pool, id); err != nil || u.Status != s.status || len(y.changes(t, id)) != before {
		t.Fatalf("before anything is done it is %s, %v; %v", u.Status, err, y.changes(t, id))
	}
	for i, do := range may {
		if i > 0 {
			if s.idle {
				stop()
			}
			y.ingest.MaxAttempts = 3
			id = s.make(t, y, d, providerName)
			before = len(y.changes(t, id))
		}
		do()
	}
}

// changes are the statuses that an upload's history tells of.
func (y *yard) changes(t *testing.T, id upload.ID) (all []upload.Status) {
	t.Helper()
	rows, err := y.pool.Query(t.Context(), `SELECT status FROM slipway.upload_events WHERE upload_id = $1 AND type = 'status' ORDER BY seq`, id)
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowTo[upload.Status])
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// pass lets time pass, for what waits for signatures and pauses to run out, until an upload is in a status and nothing
// of it is to be removed any more.
func (y *yard) pass(t *testing.T, id upload.ID, status upload.Status) {
	t.Helper()
	y.await(t, id, string(status), func(u upload.Upload) bool {
		for _, sql := range []string{
			`UPDATE slipway.providers SET paused_until = NULL`,
			`UPDATE slipway.file_deletions SET since = since - interval '3 hours' WHERE since > now()`,
			`UPDATE slipway.river_job SET state = 'available', scheduled_at = now() WHERE kind = 'delete_asset' AND state = 'scheduled'`,
		} {
			if _, err := y.pool.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		var left int
		if err := y.pool.QueryRow(t.Context(), `SELECT count(*) FROM slipway.file_deletions`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return u.Status == status && left == 0
	})
}

// sleeper is the line of a worker that is stopped before a request goes out, and wakes later. One that is to
// die does so with the answer.
type sleeper struct {
	at     *regexp.Regexp
	skip   int
	next   *http.Transport
	asleep chan struct{}
	wake   chan struct{}
	dead   chan struct{} // closed when it may be buried; nil: it lives

	mu   sync.Mutex
	seen int
}

func newSleeper(t *testing.T, r providersim.Rule) *sleeper {
	s := &sleeper{at: regexp.MustCompile(r.Path), skip: r.Skip, next: &http.Transport{}, asleep: make(chan struct{}), wake: make(chan struct{})}
	t.Cleanup(s.next.CloseIdleConnections)
	return s
}

func (s *sleeper) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	here := s.at.MatchString(req.URL.RequestURI())
	if here {
		s.seen++
	}
	here = here && s.seen == s.skip+1
	s.mu.Unlock()
	if here {
		close(s.asleep)
		<-s.wake
		req = req.Clone(noEnd{req.Context()})
	}
	resp, err := s.next.RoundTrip(req)
	if here && s.dead != nil {
		<-s.dead
	}
	return resp, err
}

// noEnd is a context whose end a process that was stopped has not come to hear of.
type noEnd struct{ context.Context }

func (noEnd) Deadline() (at time.Time, ok bool) { return at, false }
func (noEnd) Done() <-chan struct{}             { return nil }
func (noEnd) Err() error                        { return nil }

func TestASleeperThatWakesLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		provider, at string
		status       int // of the call that it then makes
	}{
		{"uploadcare", "a part", 200},
		{"uploadcare", "the completing call", 200},
		{"uploadcare", "the last call", 200}, // about a file that is gone
		{"cloudinary", "a part", 200},
		{"cloudinary", "the completing call", 200}, // and by that the file is stored
	} {
		for what, ask := range map[string]func(*testing.T, *desk, upload.ID){
			"canceled": func(t *testing.T, d *desk, id upload.ID) { t.Helper(); d.cancels(t, id) },
			"deleted":  func(t *testing.T, d *desk, id upload.ID) { t.Helper(); d.deletes(t, id) },
		} {
			t.Run(fmt.Sprintf("before %s to %s, of an upload that is %s", tt.at, tt.provider, what), func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				d := y.desk(t)
				where := calls[tt.provider][tt.at]
				line := newSleeper(t, where)
				y.line = line
				fallAsleep := y.worker(t)
				u := y.accept(t, tt.provider, large(tt.provider))
				<-line.asleep
				ask(t, d, u.ID)
				y.line = nil
				stop := y.worker(t)
				y.cleared(t, tt.provider, u.ID)
				stop()
				ended, err := postgres.UploadOf(t.Context(), y.pool, u.ID)
				if err != nil {
					t.Fatal(err)
				}
				events := y.changes(t, u.ID)

				close(line.wake)
				if r := y.awaitRequest(t, tt.provider, where, true); r.Status != tt.status {
					t.Errorf("its call is answered with %d, want %d", r.Status, tt.status)
				}
				fallAsleep()
				y.worker(t)
				y.cleared(t, tt.provider, u.ID)
				now, err := postgres.UploadOf(t.Context(), y.pool, u.ID)
				if err != nil || now.Status != ended.Status || now.Version != ended.Version || now.Epoch != ended.Epoch || !slices.Equal(y.changes(t, u.ID), events) {
					t.Errorf("it has become %+v, %v, with %v", now, err, y.changes(t, u.ID))
				}
			})
		}
	}
}

func TestWhatADeadWorkersLastCallMakesIsFound(t *testing.T) {
	y := newYard(t)
	y.settings.Settle = time.Hour
	d := y.desk(t)
	last := calls["cloudinary"]["the completing call"]
	line := newSleeper(t, last)
	line.dead = make(chan struct{})
	y.line = line
	stop := y.worker(t)
	u := y.accept(t, "cloudinary", large("cloudinary"))
	<-line.asleep
	d.cancels(t, u.ID)
	y.awaitRequest(t, "cloudinary", providersim.Rule{Path: "/destroy$"}, true)
	close(line.wake)
	y.awaitRequest(t, "cloudinary", last, true)
	if n := len(y.lasting(t, "cloudinary")); n != 1 {
		t.Errorf("the last call made %d assets", n)
	}
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.file_deletions SET since = since - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	y.pass(t, u.ID, upload.Canceled)
	y.cleared(t, "cloudinary", u.ID)
	close(line.dead)
	stop()
}
