package push_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"slipway/internal/postgres"
	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/uploadcare"
	"slipway/internal/providersim"
	simuploadcare "slipway/internal/providersim/uploadcare"
	"slipway/internal/push"
	"slipway/internal/upload"
)

const (
	kib      = 1 << 10
	luckPart = 64 * kib // of files whose size is some parts
	luckWide = 3        // parts in flight
	formRoom = 2 * kib  // of what is sent beside a part's bytes in a form
)

// step is a kind of request that a push makes.
type step struct {
	name, method, path string
	bytes              bool // carries the file's
}

var steps = map[string][]step{
	"uploadcare": {
		{"start", "", "^/multipart/start/", false}, {"a part", "PUT", "partNumber=", true}, {"part 2", "PUT", "partNumber=2&", true},
		{"complete", "", "^/multipart/complete/", false}, {"info", "", "^/info/", false}, {"post", "", "^/base/", true},
		{"store", "PUT", "/storage/$", false}, {"read back", "GET", "^/[0-9a-f-]{36}/", false}, {"check", "", "^/project/", false},
	},
	"cloudinary": {
		{"upload", "POST", "/upload$", true}, {"look-up", "", "/resources/", false}, {"check", "", "/ping$", false},
	},
}

// mishaps are what may go wrong with a request. Those with bytes are for a step that carries some.
var mishaps = map[string]struct {
	rule  providersim.Rule
	bytes bool
}{
	"503 in HTML":          {rule: providersim.Rule{Action: providersim.Answer, Status: 503, Body: "<html><h1>No</h1></html>"}},
	"empty 502":            {rule: providersim.Rule{Action: providersim.Answer, Status: 502}},
	"500 in JSON":          {rule: providersim.Rule{Action: providersim.Answer, Status: 500, Body: `{"error":{"message":"General Error"}}`}},
	"empty object":         {rule: providersim.Rule{Action: providersim.Answer, Status: 200, Body: `{}`}},
	"429":                  {rule: providersim.Rule{Action: providersim.Answer, Status: 429, Body: `{"error":{"message":"Slow down"}}`}},
	"420":                  {rule: providersim.Rule{Action: providersim.Answer, Status: 420, Body: `{"error":{"message":"Rate Limit Exceeded"}}`}},
	"S3 is busy":           {rule: providersim.Rule{Action: providersim.Answer, Status: 503, Body: "<Error><Code>SlowDown</Code></Error>"}},
	"denied":               {rule: providersim.Rule{Action: providersim.Answer, Status: 403, Body: `{"error":{"message":"No"}}`}},
	"refused":              {rule: providersim.Rule{Action: providersim.Answer, Status: 400, Body: `{"error":{"message":"Invalid file"}}`}},
	"reset before":         {rule: providersim.Rule{Action: providersim.ResetBefore}},
	"reset after":          {rule: providersim.Rule{Action: providersim.ResetAfter}},
	"dropped after":        {rule: providersim.Rule{Action: providersim.DropAfter}},
	"done, and then a 503": {rule: providersim.Rule{Action: providersim.AnswerAfter, Status: 503, Body: "<html>"}},
	"half an answer":       {rule: providersim.Rule{Action: providersim.Truncate}},
	"silence":              {rule: providersim.Rule{Action: providersim.Stall, Times: 1}},
	"another ETag":         {rule: providersim.Rule{Action: providersim.Amend, Header: map[string]string{"ETag": `"` + strings.Repeat("0", 32) + `"`}}, bytes: true},
	"a flipped bit":        {rule: providersim.Rule{Action: providersim.Corrupt}, bytes: true},
}

// turn is something that happens at the nth request of a push.
type turn struct {
	At   int
	What string
}

const (
	diesBefore   = "dies before"          // the process, before the request goes out
	diesAfter    = "dies after"           // before it hears of the answer
	sleepsBefore = "sleeps before"        // and goes on when another has taken over
	sleepsAfter  = "sleeps after"         //
	aDayPasses   = "a day passes"         // addresses expire, what was not stored is gone
	forgets      = "the provider forgets" // chunks that it had
	isCanceled   = "is canceled"          // by the owner
	isDeleted    = "is deleted"           //
)

// luck is what befalls one push.
type luck struct {
	Size   int
	Faults []providersim.Rule
	Turns  []turn
	Ready  int64 // milliseconds until the file is ready
	Etags  int   // assets that get an etag of another
}

func draw(t *rapid.T, provider string) luck {
	l := luck{Size: 1}
	switch parts := rapid.IntRange(0, 6).Draw(t, "parts"); parts {
	case 0:
		l.Size = rapid.IntRange(1, luckPart).Draw(t, "bytes")
	default:
		l.Size = max(1, parts*luckPart+rapid.SampledFrom([]int{-1, 0, 1, 777}).Draw(t, "and bytes"))
	}
	for range rapid.IntRange(0, 5).Draw(t, "faults") {
		carriers := slices.DeleteFunc(slices.Clone(steps[provider]), func(s step) bool { return !s.bytes })
		at := rapid.SampledFrom(slices.Concat(steps[provider], carriers)).Draw(t, "at") // bytes more often
		name := rapid.SampledFrom(names(at.bytes)).Draw(t, "fault")
		r := mishaps[name].rule
		r.Method, r.Path = at.method, at.path
		r.Skip = rapid.IntRange(0, 2).Draw(t, "after")
		r.Times = cmp.Or(r.Times, rapid.IntRange(1, 6).Draw(t, "times"))
		l.Faults = append(l.Faults, r)
	}
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		what := rapid.SampledFrom([]string{diesBefore, diesAfter, diesBefore, diesAfter, sleepsBefore, sleepsAfter, aDayPasses, forgets, isCanceled, isDeleted}).Draw(t, "turn")
		l.Turns = append(l.Turns, turn{At: rapid.IntRange(1, 12).Draw(t, "at request"), What: what})
	}
	if rapid.Bool().Draw(t, "late") {
		l.Ready = rapid.Int64Range(1, 60).Draw(t, "ready after")
	}
	if provider == "cloudinary" {
		l.Etags = rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "other etags")
	}
	return l
}

func names(bytes bool) []string {
	var list []string
	for name, m := range mishaps {
		if bytes || !m.bytes {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// fate lets the turns of a push happen, on its way to the provider.
type fate struct {
	y *yard

	mu       sync.Mutex
	id       upload.ID
	turns    []turn
	requests int
	deaths   int
	losses   int          // of what a provider had
	gone     map[any]bool // attempts of dead processes
	err      error
	running  atomic.Int64
}

func (f *fate) begin(turns []turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id, f.turns, f.requests, f.deaths, f.losses, f.gone, f.err = "", turns, 0, 0, 0, map[any]bool{}, nil
}

func (f *fate) RoundTrip(r *http.Request) (*http.Response, error) {
	attempt := push.AttemptOf(r.Context())
	if attempt == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	f.running.Add(1)
	defer f.running.Add(-1)
	now := f.next(attempt)
	for _, what := range now {
		switch what {
		case diesBefore:
			f.takeOver(attempt, true)
		case sleepsBefore:
			f.takeOver(attempt, false)
		case aDayPasses:
			f.lost()
			f.y.controls["uploadcare"].Clock.Advance(25 * time.Hour)
		case forgets:
			f.lost()
			f.note(f.y.cloudinary.ForgetPartials())
		case isCanceled:
			f.note(f.y.ends(f.id, postgres.CancelUpload))
		case isDeleted:
			f.note(f.y.ends(f.id, postgres.DeleteUpload))
		}
	}
	if f.dead(attempt) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if errors.Is(err, context.DeadlineExceeded) { // by a slow machine, it may be
		f.lost()
	}
	for _, what := range now {
		switch what {
		case diesAfter:
			f.takeOver(attempt, true)
		case sleepsAfter:
			f.takeOver(attempt, false)
		}
	}
	if f.dead(attempt) {
		if err == nil {
			_ = resp.Body.Close()
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return resp, err
}

// next is what happens at this request.
func (f *fate) next(attempt any) (now []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone[attempt] {
		return nil
	}
	f.requests++
	for _, t := range f.turns {
		if t.At == f.requests {
			now = append(now, t.What)
		}
	}
	return now
}

func (f *fate) dead(attempt any) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone[attempt]
}

func (f *fate) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.losses++
}

func (f *fate) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = cmp.Or(f.err, err)
}

// takeOver gives the upload to another attempt, as happens when a lease runs out. The one before is dead, or only
// slept and goes on.
func (f *fate) takeOver(attempt any, dead bool) {
	f.mu.Lock()
	id := f.id
	f.deaths++
	f.gone[attempt] = f.gone[attempt] || dead
	f.mu.Unlock()
	f.note(f.y.takeOver(id))
	if dead {
		push.Kill(attempt)
	}
}

// takeOver ends a lease as time does, and lets the reaper see it. Whoever has the row locked is passed over.
func (y *yard) takeOver(id upload.ID) error {
	ctx := context.Background()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		tag, err := y.pool.Exec(ctx, `UPDATE slipway.uploads SET lease_until = now() - interval '1 second' WHERE id = $1 AND status = 'pushing'`, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err // it has ended meanwhile
		}
		reaped, err := postgres.Reap(ctx, y.pool, y.ingest.Queue, 0, time.Hour)
		if err != nil || len(reaped) > 0 {
			return err
		}
	}
}

// ends cancels or deletes an upload for its owner.
func (y *yard) ends(id upload.ID, end func(context.Context, pgx.Tx, *postgres.Queue, string, upload.ID) (upload.Upload, error)) error {
	err := pgx.BeginFunc(context.Background(), y.pool, func(tx pgx.Tx) error {
		_, err := end(context.Background(), tx, y.ingest.Queue, "ann", id)
		return err
	})
	if isCode(err, upload.NotCancelable) {
		return nil
	}
	return err
}

// tally is what a run of seeds has met, so that one which meets nothing shows.
type tally struct {
	seeds, completed, failed, ended, faults, deaths, sessions int
	grew, told                                                int // how often progress was seen to grow, and was an event
	sent, size                                                int64
}

// sideBySide is how many runs go to each provider at once, for most of their time is waiting.
const sideBySide = 3

// TestWhateverHappensAFileIsStoredOnceOrNotAtAll takes files to the providers, each with a luck of its own:
// RAPID_CHECKS of them in each run, or 50. A seed that fails is made smaller and printed; RAPID_SEED takes it again.
func TestWhateverHappensAFileIsStoredOnceOrNotAtAll(t *testing.T) {
	seeds(t)
	var runs sync.WaitGroup
	for i := range 2 * sideBySide {
		provider := []string{"uploadcare", "cloudinary"}[i%2]
		runs.Go(func() { // not parallel, which would be as many as there are processors
			t.Run(fmt.Sprintf("%s, %d", provider, i/2+1), func(t *testing.T) { tryLuck(t, provider) })
		})
	}
	runs.Wait()
}

func tryLuck(t *testing.T, provider string) {
	y := newYard(t)
	f := &fate{y: y}
	y.line, y.only = f, provider
	y.ingest.MaxAttempts = 20
	y.settings.FilesInFlight, y.settings.PartsInFlight = 8, luckWide
	y.settings.Backoff = func(int) time.Duration { return 2 * time.Millisecond }
	y.settings.Rest, y.settings.Settle, y.settings.Poll = 10*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
	y.small(t, luckPart, 400*time.Millisecond)
	y.worker(t)
	var sum tally
	rapid.Check(t, func(rt *rapid.T) { f.try(t, rt, provider, draw(rt, provider), &sum) })
	t.Logf("%+v", sum)
	if sum.completed < sum.seeds/2 || sum.faults < sum.seeds/2 || sum.deaths < sum.seeds/8 || sum.grew < sum.seeds || sum.told < sum.seeds/4 {
		t.Errorf("the seeds have met too little: %+v", sum)
	}
}

// small makes parts of part bytes of all files of at least two, and gives calls so much time.
func (y *yard) small(t *testing.T, part int64, call time.Duration) {
	t.Helper()
	y.tune = func(u *uploadcare.Options, c *cloudinary.Options) {
		u.PartsFrom, u.PartSize, u.CallTimeout, u.MinRate = 2*part, part, call, mib
		c.ChunkSize, c.CallTimeout = part, call
	}
	if err := y.uploadcare.Configure(func(c *simuploadcare.Config) { c.MinMultipart, c.MinPart = 2*part, part }); err != nil {
		t.Fatal(err)
	}
	settings := y.cloudinary.Settings()
	settings.MinChunk, settings.AdminQuota = part-1, 1<<30
	y.cloudinary.Set(settings)
}

// seeds sets how many are tried in each run, where nobody has said it.
func seeds(t *testing.T) {
	said := os.Getenv("RAPID_CHECKS") != ""
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "rapid.checks" })
	for name, value := range map[string]string{"rapid.checks": "50", "rapid.nofailfile": "true"} {
		if said && name == "rapid.checks" {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
}

// try makes one push and holds it to the promise.
func (f *fate) try(t *testing.T, rt *rapid.T, provider string, l luck, sum *tally) {
	y, controls := f.y, f.y.controls[provider]
	controls.Faults.Clear()
	controls.Requests.Clear()
	if err := y.uploadcare.Configure(func(c *simuploadcare.Config) { c.ReadyDelayMS = l.Ready }); err != nil {
		rt.Fatal(err)
	}
	settings := y.cloudinary.Settings()
	settings.WrongETags = l.Etags
	y.cloudinary.Set(settings)
	y.exec(t, `UPDATE slipway.providers SET paused_until = NULL, pause_code = NULL, troubled = '{}', max_parallel = NULL, quiet_since = NULL`)
	before := y.assets(t, provider)
	if err := controls.Faults.Add(l.Faults...); err != nil {
		rt.Fatal(err)
	}
	content := random(l.Size)
	f.begin(l.Turns)
	f.mu.Lock() // until it is known which upload the requests are for
	u := y.accept(t, provider, content)
	f.id = u.ID
	f.mu.Unlock()

	var g gauge
	u = f.settled(rt, u.ID, &g)
	sum.told += g.told(rt, y, u)
	sum.grew += g.grew
	rules, hits := controls.Faults.List(), 0
	for _, r := range rules {
		hits += r.Hits
	}
	controls.Faults.Clear()
	if f.err != nil {
		rt.Fatal(f.err)
	}
	sum.seeds++
	if u.Status == upload.Completed {
		sum.completed++
	} else {
		if u.Status == upload.Failed {
			sum.failed++
			if err := y.ends(u.ID, postgres.DeleteUpload); err != nil {
				rt.Fatal(err)
			}
		} else {
			sum.ended++
		}
		f.cleaned(rt)
	}
	var sessions int
	if err := y.pool.QueryRow(t.Context(), `SELECT count(*) FROM slipway.push_sessions WHERE upload_id = $1`, u.ID).Scan(&sessions); err != nil {
		rt.Fatal(err)
	}

	var stored []string
	for id, md5 := range y.assets(t, provider) {
		if _, old := before[id]; !old {
			stored = append(stored, md5)
		}
	}
	switch {
	case u.Status == upload.Completed && (len(stored) != 1 || stored[0] != sumOf(content)):
		rt.Errorf("completed, and %s keeps %v, want %s", provider, stored, sumOf(content))
	case u.Status != upload.Completed && len(stored) > 0:
		rt.Errorf("%s, and %s keeps %v", u.Status, provider, stored)
	}
	sent, most := f.bytes(provider, int64(l.Size), sessions, rules)
	if sent > most {
		rt.Errorf("%d bytes were sent of %d, with %d sessions, %d deaths, %d losses, faults %+v: at most %d", sent, l.Size, sessions, f.deaths, f.losses, rules, most)
	}
	sum.faults, sum.deaths, sum.sessions = sum.faults+hits, sum.deaths+f.deaths, sum.sessions+sessions
	sum.sent, sum.size = sum.sent+sent, sum.size+int64(l.Size)
}

// bytes are those that were sent for a file, and how many they may be: those of the file in each session, and a part for
// each that a death had on its way or a fault befell.
func (f *fate) bytes(provider string, size int64, sessions int, rules []providersim.RuleState) (sent, most int64) {
	requests := f.y.controls[provider].Requests
	for _, r := range requests.Find("", regexp.MustCompile(`^/base/|partNumber=|/upload$`)) {
		sent += r.Received
	}
	forms := len(requests.Find(http.MethodPost, regexp.MustCompile(`^/base/|/upload$`)))
	part, wide := int64(luckPart), 1
	whole := size <= part
	if provider == "uploadcare" {
		if whole = size < 2*part; !whole {
			wide = luckWide
		}
	}
	if whole {
		part = size
	}
	again := f.deaths*wide + f.losses
	for _, r := range rules {
		carries := slices.ContainsFunc(steps[provider], func(s step) bool { return s.bytes && s.path == r.Path })
		if carries || whole { // what is sent in one piece has no name to ask for by
			again += r.Hits
		}
	}
	return sent, size*int64(max(sessions, 1)) + part*int64(again) + formRoom*int64(forms)
}

// settled is the upload once it has ended, and nobody makes a call for it any more.
func (f *fate) settled(rt *rapid.T, id upload.ID, g *gauge) (u upload.Upload) {
	f.until(rt, func() (string, bool) {
		var err error
		if u, err = postgres.UploadOf(context.Background(), f.y.pool, id); err != nil {
			rt.Fatal(err)
		}
		g.looked(rt, u)
		ended := u.Status.Final() || u.Status == upload.Deleting
		return fmt.Sprintf("the upload is %s at attempt %d, %d of %d bytes pushed, error %v, %d calls run", u.Status, u.Attempt, u.Pushed, u.Size, u.Error, f.running.Load()),
			ended && f.running.Load() == 0
	})
	return u
}

// cleaned returns when nothing is left to be removed.
func (f *fate) cleaned(rt *rapid.T) {
	f.until(rt, func() (string, bool) {
		var jobs, deletions int
		err := f.y.pool.QueryRow(context.Background(), `
			SELECT (SELECT count(*) FROM slipway.river_job WHERE state NOT IN ('completed', 'cancelled', 'discarded')),
			       (SELECT count(*) FROM slipway.file_deletions)`).Scan(&jobs, &deletions)
		if err != nil {
			rt.Fatal(err)
		}
		return fmt.Sprintf("%d jobs and %d deletions are left", jobs, deletions), jobs == 0 && deletions == 0 && f.running.Load() == 0
	})
}

func (f *fate) until(rt *rapid.T, ok func() (string, bool)) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		state, done := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			rt.Fatalf("it does not end: %s", state)
		}
	}
}

// assets are what a provider keeps: the MD5 of each, by its id.
func (y *yard) assets(t *testing.T, provider string) map[string]string {
	t.Helper()
	m := map[string]string{}
	if provider == "cloudinary" {
		for _, f := range y.cloudinary.Inventory().Files {
			m[f.PublicID] = f.ETag
		}
		return m
	}
	files, err := y.uploadcare.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Stored && !f.Removed {
			m[f.UUID] = f.MD5
		}
	}
	return m
}
