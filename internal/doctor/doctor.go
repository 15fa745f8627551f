// Package doctor looks at everything that Slipway stands on and says what is wrong, and what to do about it.
package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"slipway/internal/config"
	"slipway/internal/postgres"
)

// Level is how a finding counts.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, and may not be what was meant
	Fail Level = "fail"
)

// Finding is one line of a report. It holds no secret.
type Finding struct {
	Level  Level  `json:"level"`
	Part   string `json:"part"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Options say what is looked at.
type Options struct {
	Config *config.Config
	Faults config.Faults // what Load has found wrong with Config
	From   string        // where the settings were read, for the report

	Write    bool          // send a byte to every provider, read it back and delete it
	Webhooks bool          // have every provider tell the API what happens to its assets
	URL      string        // where the providers reach the API; "": Config's PUBLIC_URL
	Report   func(Finding) // is told each finding at once
}

// What a check may take. All of them together end in some minutes at the worst.
const (
	reachTime = 10 * time.Second // one question to one server
	checkTime = 20 * time.Second // a provider's account
	hearTime  = 3 * time.Second
	writeTime = 90 * time.Second // a round trip, with the wait for a delivery network
)

// Examine looks at everything, and tells whether it found no fault. What cannot be looked at because
// of another fault is left out.
func Examine(ctx context.Context, o Options) (sound bool) {
	e := &exam{Options: o, http: &http.Client{Timeout: reachTime}}
	defer e.http.CloseIdleConnections()
	e.settings()
	e.database(ctx)
	e.staging(ctx)
	e.providers(ctx)
	e.access(ctx)
	e.origins()
	e.address(ctx)
	if e.Webhooks {
		e.webhooks(ctx)
	}
	return e.faults == 0
}

// exam is one run. Later checks use what earlier ones have learned.
type exam struct {
	Options
	http   *http.Client
	faults int

	installation string         // "" when the database could not tell
	stagingID    string         // of the store that the database knows
	used         *postgres.Room // nil when the database could not tell
	paused       map[string]string
}

func (e *exam) ok(part, format string, a ...any) {
	e.Report(Finding{Level: OK, Part: part, Text: fmt.Sprintf(format, a...)})
}

func (e *exam) warn(part, remedy, format string, a ...any) {
	e.Report(Finding{Level: Warn, Part: part, Text: fmt.Sprintf(format, a...), Remedy: remedy})
}

func (e *exam) fail(part, remedy, format string, a ...any) {
	e.faults++
	e.Report(Finding{Level: Fail, Part: part, Text: fmt.Sprintf(format, a...), Remedy: remedy})
}

// faulty tells whether one of these settings has a fault, which has been told.
func (e *exam) faulty(variables ...string) bool {
	return slices.ContainsFunc(e.Faults, func(f config.Fault) bool { return slices.Contains(variables, f.Variable) })
}

func (e *exam) settings() {
	for _, f := range e.Faults {
		e.fail("settings", f.Remedy, "%s %s", f.Variable, f.Problem)
	}
	if len(e.Faults) == 0 {
		e.ok("settings", "all are understood, from %s", e.From)
	}
}

// answers asks whether there is a server at url. Any answer will do, but one that says that it cannot.
func (e *exam) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return reason(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
