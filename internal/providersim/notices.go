package providersim

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// keptNotices is how many notices are remembered; older ones are forgotten.
const keptNotices = 1000

// defaultAge is how old a stale notice is, longer than any receiver takes one.
const defaultAge = 3 * time.Hour

// What a rule does to notices, besides Delay (only the rule's delay) and Truncate (half of
// the body arrives, under the signature of the whole).
const (
	Lose   Action = "lose"   // it is never sent
	Double Action = "double" // it is sent several times at once
	Hold   Action = "hold"   // it waits for Release
	Forge  Action = "forge"  // its signature is of another body
	Stale  Action = "stale"  // it is signed as of another time
)

// NoticeRule is one programmed misfortune of notices. The first rule that applies to a notice
// has it alone, with all its tries; a rule with an Action only applies to every notice.
type NoticeRule struct {
	Kind   string `json:"kind,omitempty"`  // regular expression; "" is any
	Asset  string `json:"asset,omitempty"` // regular expression; "" is any
	Skip   int    `json:"skip,omitempty"`  // matching notices that pass unharmed before the first hit
	Times  int    `json:"times,omitempty"` // hits before the rule is spent; 0 is never
	Action Action `json:"action"`
	Copies int    `json:"copies,omitempty"` // of double; 0 is 2
	Age    int    `json:"age,omitempty"`    // of stale, in seconds; 0 is three hours, less than 0 is the future
	Delay  int    `json:"delay,omitempty"`  // milliseconds of the simulator's clock before the first try, with every action
}

// NoticeRuleState is a rule and what it has met.
type NoticeRuleState struct {
	NoticeRule
	Seen int `json:"seen"` // notices that matched, skipped ones included
	Hits int `json:"hits"` // notices that it had
}

type noticeRule struct {
	NoticeRuleState
	kind, asset *regexp.Regexp
}

// Notices tell receivers what happened, behind the answers, as webhooks do. Without rules each
// notice is on its own way at once, so that they may overtake each other.
type Notices struct {
	clock  *Clock
	client *http.Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	sent   sync.WaitGroup

	mu    sync.Mutex
	rules []*noticeRule
	log   []*notice // oldest first
	last  int64     // ID
}

// NewNotices returns an empty log without rules. Waits run on clock.
func NewNotices(clock *Clock) *Notices {
	n := &Notices{clock: clock, client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// Close gives up what is not sent yet; nothing is sent from here on.
func (n *Notices) Close() {
	n.mu.Lock()
	n.cancel()
	n.mu.Unlock()
	n.sent.Wait()
}

// Add appends rules for the notices to come: all of them, or none when one is malformed.
func (n *Notices) Add(rules ...NoticeRule) error {
	added := make([]*noticeRule, len(rules))
	for i, r := range rules {
		switch r.Action {
		case Lose, Double, Hold, Forge, Stale, Delay, Truncate:
		default:
			return fmt.Errorf("rule %d: unknown action %q", i, r.Action)
		}
		kind, err := regexp.Compile(r.Kind)
		if err != nil {
			return fmt.Errorf("rule %d: kind: %w", i, err)
		}
		asset, err := regexp.Compile(r.Asset)
		if err != nil {
			return fmt.Errorf("rule %d: asset: %w", i, err)
		}
		r.Copies = cmp.Or(r.Copies, 2)
		r.Age = cmp.Or(r.Age, int(defaultAge/time.Second))
		added[i] = &noticeRule{NoticeRuleState: NoticeRuleState{NoticeRule: r}, kind: kind, asset: asset}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = append(n.rules, added...)
	return nil
}

// Clear removes all rules. Held notices stay held.
func (n *Notices) Clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = nil
}

// Rules returns the rules, spent ones included, in the order they were added.
func (n *Notices) Rules() []NoticeRuleState {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]NoticeRuleState, len(n.rules))
	for i, r := range n.rules {
		list[i] = r.NoticeRuleState
	}
	return list
}

// List returns the remembered notices with their tries, oldest first.
func (n *Notices) List() []NoticeState {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]NoticeState, len(n.log))
	for i, e := range n.log {
		list[i] = e.NoticeState
		list[i].Tries = slices.Clone(e.Tries)
	}
	return list
}

// Release sends notices faithfully, one after the other in this order, each when the one
// before it has been answered; those not accepted are tried again in their own time. Any
// remembered notice can be named, also twice: what was lost comes late, what was accepted
// comes again. Without ids it sends all that are held, oldest first.
func (n *Notices) Release(ctx context.Context, ids ...int64) error {
	chosen, err := n.choose(ids)
	if err != nil {
		return err
	}
	for _, e := range chosen {
		if at, accepted := n.try(ctx, e, NoticeRule{}); !accepted {
			n.start(func() { n.follow(e, NoticeRule{}, 1, at) })
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("release notice %d: %w", e.ID, err)
		}
	}
	return nil
}

func (n *Notices) choose(ids []int64) ([]*notice, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var chosen []*notice
	for _, id := range ids {
		i := slices.IndexFunc(n.log, func(e *notice) bool { return e.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("release: there is no notice %d", id)
		}
		chosen = append(chosen, n.log[i])
	}
	if len(ids) == 0 {
		for _, e := range n.log {
			if e.State == NoticeHeld {
				chosen = append(chosen, e)
			}
		}
	}
	for _, e := range chosen {
		if e.State != NoticeAccepted {
			e.State = NoticeWaiting
		}
	}
	return chosen, nil
}

// NoticeLog is the answer of /_sim/notices.
type NoticeLog struct {
	Rules   []NoticeRuleState `json:"rules"`
	Notices []NoticeState     `json:"notices"`
}

// ServeHTTP shows rules and notices on GET, adds one rule or an array of them on POST, and
// clears the rules on DELETE.
func (n *Notices) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		rules, ok := readRules[NoticeRule](w, r)
		if !ok {
			return
		}
		if err := n.Add(rules...); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
		n.Clear()
	default:
		methodNotAllowed(w, "GET, POST, DELETE")
		return
	}
	WriteControl(w, NoticeLog{n.Rules(), n.List()})
}

// serveRelease releases on POST {"ids":[3,1]}, or {} for all that are held, and answers when
// each has been tried.
func (n *Notices) serveRelease(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		IDs []int64 `json:"ids"`
	}
	if !ReadControl(w, r, &ask) {
		return
	}
	if err := n.Release(r.Context(), ask.IDs...); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	WriteControl(w, NoticeLog{n.Rules(), n.List()})
}
