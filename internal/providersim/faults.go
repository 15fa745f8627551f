package providersim

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Action is what goes wrong with a request.
type Action string

const (
	Answer        Action = "answer"         // answered early: the body is not read, nothing is changed
	AnswerAfter   Action = "answer_after"   // done for real, then answered with this instead
	Amend         Action = "amend"          // the real answer, but for the status, headers and body given here
	ResetBefore   Action = "reset_before"   // the TCP connection is reset, nothing is changed
	ResetAfter    Action = "reset_after"    // done for real, then the TCP connection is reset
	DropAfter     Action = "drop_after"     // done for real, then the connection is closed without an answer
	Stall         Action = "stall"          // the body is taken, then silence until the client leaves or the rule does
	Delay         Action = "delay"          // only the rule's delay
	Truncate      Action = "truncate"       // half of the real answer's body
	Corrupt       Action = "corrupt"        // one bit in the middle of the request's body is turned before it is seen
	ThrottleBytes Action = "throttle_bytes" // the body is read at Rate
)

// Rule is one programmed fault. The first rule that applies to a request has it alone.
type Rule struct {
	Method string            `json:"method,omitempty"` // "" is any
	Path   string            `json:"path,omitempty"`   // regular expression on path and query as sent; "" is any
	Skip   int               `json:"skip,omitempty"`   // matching requests that pass unharmed before the first hit
	Times  int               `json:"times,omitempty"`  // hits before the rule is spent; 0 is never
	Action Action            `json:"action"`
	Status int               `json:"status,omitempty"` // of answer, answer_after (0 is 503) and amend
	Header map[string]string `json:"header,omitempty"` // of answer, answer_after and amend
	Body   string            `json:"body,omitempty"`   // of answer, answer_after and amend
	Delay  int               `json:"delay,omitempty"`  // milliseconds before anything else, with every action
	Rate   int64             `json:"rate,omitempty"`   // bytes per second, of throttle_bytes
}

// RuleState is a rule and what it has met.
type RuleState struct {
	Rule
	Seen int `json:"seen"` // requests that matched, skipped ones included
	Hits int `json:"hits"` // requests that it had
}

type rule struct {
	RuleState
	path *regexp.Regexp
	gone chan struct{} // closed when the rule is cleared
}

// Faults are the programmed faults of a simulator.
type Faults struct {
	mu    sync.Mutex
	rules []*rule
}

// NewFaults returns no faults.
func NewFaults() *Faults { return &Faults{} }

// Add appends rules: all of them, or none when one is malformed.
func (f *Faults) Add(rules ...Rule) error {
	added := make([]*rule, len(rules))
	for i, r := range rules {
		path, err := regexp.Compile(r.Path)
		if err != nil {
			return fmt.Errorf("rule %d: path: %w", i, err)
		}
		switch r.Action {
		case Answer, AnswerAfter:
			if r.Status == 0 {
				r.Status = http.StatusServiceUnavailable
			}
		case ThrottleBytes:
			if r.Rate <= 0 {
				return fmt.Errorf("rule %d: throttle_bytes needs a rate in bytes per second", i)
			}
		case Amend, ResetBefore, ResetAfter, DropAfter, Stall, Delay, Truncate, Corrupt:
		default:
			return fmt.Errorf("rule %d: unknown action %q", i, r.Action)
		}
		added[i] = &rule{RuleState: RuleState{Rule: r}, path: path, gone: make(chan struct{})}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, added...)
	return nil
}

// Clear removes all rules and lets go of the requests they hold.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		close(r.gone)
	}
	f.rules = nil
}

// List returns the rules, spent ones included, in the order they were added.
func (f *Faults) List() []RuleState {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]RuleState, len(f.rules))
	for i, r := range f.rules {
		list[i] = r.RuleState
	}
	return list
}

// ServeHTTP lists the rules on GET, adds one or an array of them on POST, clears on DELETE.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		rules, ok := readRules[Rule](w, r)
		if !ok {
			return
		}
		if err := f.Add(rules...); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
		f.Clear()
	default:
		methodNotAllowed(w, "GET, POST, DELETE")
		return
	}
	WriteControl(w, f.List())
}

// match returns the rule that has this request, or nil.
func (f *Faults) match(r *http.Request) *rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rule := range f.rules {
		if rule.Method != "" && rule.Method != r.Method || !rule.path.MatchString(r.URL.RequestURI()) {
			continue
		}
		if meet(rule.Skip, rule.Times, &rule.Seen, &rule.Hits) {
			return rule
		}
	}
	return nil
}

// meet counts what a rule matches and is whether the rule has it: neither among the first,
// which it skips, nor when it is spent.
func meet(skip, times int, seen, hits *int) bool {
	if times > 0 && *hits == times {
		return false
	}
	*seen++
	if *seen <= skip {
		return false
	}
	*hits++
	return true
}

// Wrap lets the faults happen around next.
func (f *Faults) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rule := f.match(r)
		if rule == nil {
			next.ServeHTTP(w, r)
			return
		}
		if wait(r.Context(), time.Duration(rule.Delay)*time.Millisecond) != nil {
			panic(http.ErrAbortHandler)
		}
		rule.happen(w, r, next)
	})
}

func (ru *rule) happen(w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch ru.Action {
	case Answer:
		ru.answer(w)
	case AnswerAfter:
		next.ServeHTTP(newHeld(), r)
		ru.answer(w)
	case Amend:
		real := newHeld()
		next.ServeHTTP(real, r)
		ru.amend(real)
		real.send(w)
	case ResetBefore:
		reset(w)
	case ResetAfter:
		next.ServeHTTP(newHeld(), r)
		reset(w)
	case DropAfter:
		next.ServeHTTP(newHeld(), r)
		panic(http.ErrAbortHandler)
	case Stall:
		_, _ = io.Copy(io.Discard, r.Body) // an error is a client that has left; the context tells it too
		select {
		case <-r.Context().Done():
		case <-ru.gone:
		}
		panic(http.ErrAbortHandler)
	case Truncate:
		half := &halfWriter{ResponseWriter: w, held: newHeld()}
		next.ServeHTTP(half, r)
		half.finish()
	case Corrupt:
		at := r.ContentLength / 2
		if r.ContentLength < 0 {
			at = unknownMiddle
		}
		next.ServeHTTP(w, withBody(r, &corruptBody{ReadCloser: r.Body, at: at}))
	case ThrottleBytes:
		next.ServeHTTP(w, withBody(r, &slowReader{ReadCloser: r.Body, pace: newPace(r.Context(), ru.Rate)}))
	case Delay:
		next.ServeHTTP(w, r)
	}
}

func (ru *rule) answer(w http.ResponseWriter) {
	for name, value := range ru.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(ru.Status)
	_, _ = io.WriteString(w, ru.Body) // an error is a client that has left
}

func (ru *rule) amend(real *held) {
	for name, value := range ru.Header {
		real.header.Set(name, value)
	}
	if ru.Status != 0 {
		real.status = ru.Status
	}
	if ru.Body != "" {
		real.body.Reset()
		real.body.WriteString(ru.Body)
	}
}
