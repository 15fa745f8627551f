// Package providertest is the suite that every provider passes.
//
// A provider's test hands it a Fixture, made anew for each test of the suite:
//
//	func TestConformance(t *testing.T) {
//		providertest.Run(t, func(t *testing.T) providertest.Fixture { … })
//	}
//
// The suite sits between the adapter and its simulator as the adapter's http.RoundTripper: there it
// counts the requests, and there it makes bad weather, which is therefore the same for every provider
// (lost requests, lost answers, refusals, pages of HTML, half answers, flipped bytes, silence).
// Files go the whole way with a small worker (worker.go) that holds a ledger and begins anew, as a
// process of its own, after each error.
package providertest

import (
	"net/http"
	"testing"

	"slipway/internal/provider"
)

// Call is the step of the contract that a request on the wire serves.
type Call string

const (
	Begin    Call = "begin"
	Part     Call = "part" // bytes of the file, a small one's too
	Complete Call = "complete"
	Lookup   Call = "lookup"   // any question about a file, whoever asks it
	Readback Call = "readback" // the stored bytes are fetched to be compared
	Commit   Call = "commit"
	Delete   Call = "delete"
	Check    Call = "check"
)

// Fixture is one account of a provider, empty, at a simulator of its own.
type Fixture struct {
	// New returns a provider as a process that has just started has it; all its requests go
	// through net. Parts are as small as the provider takes them.
	New func(net http.RoundTripper) provider.Provider
	// WrongKeys is New with credentials that the account does not know.
	WrongKeys func(net http.RoundTripper) provider.Provider
	// CallOf tells which step a request serves.
	CallOf func(*http.Request) Call

	// Small goes in one piece, Large in three parts or more.
	Small, Large File
	// Sizes are those at which something changes, in bytes, one byte first.
	Sizes []int64

	// Lasting lists the assets that the account keeps; those that die by themselves unless they
	// are committed are not among them.
	Lasting func() ([]Stored, error)
	// Links make the addresses of the account's assets; with Signed those open nothing by themselves.
	Links  provider.Linker
	Signed bool
	// Refusals are answers in the provider's own words. Throttled (with Retry-After: 7), Reject,
	// Account and Denied are there at least once each.
	Refusals []Refusal
	// Secrets must be in no error's text: secret keys that occur nowhere else, names of
	// signature parameters.
	Secrets []string
}

// File is one that the suite pushes.
type File struct {
	Size  int64  // bytes
	Calls []Call // every kind of request that its undisturbed push makes, once each, in order
}

// Stored is an asset as the simulator keeps it.
type Stored struct {
	ID   string // as in upload.Asset
	Size int64
	MD5  string // hex
}

// Refusal is an answer that the provider gives instead of doing what it was asked.
type Refusal struct {
	Name   string // a sentence: "an infected file is refused"
	Large  bool   // it meets the push of Large, not of Small
	Call   Call
	Answer Answer
	Want   provider.Verdict
}

// Answer is what comes over the wire.
type Answer struct {
	Status int
	Header map[string]string
	Body   string
}

// Run holds a provider to its promises.
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	for _, promise := range []struct {
		name string
		hold func(t *testing.T, fx Fixture)
	}{
		{"a file of any size arrives", arrives},
		{"a name of any kind arrives", anyName},
		{"parts go at once where the provider takes them so", parallel},
		{"a new process sends only what is missing", resumes},
		{"doing a step again changes nothing", repeats},
		{"an asset is found once it is there", looksUp},
		{"delete is done once and may be asked twice", deletes},
		{"check tells good keys from wrong ones", checks},
		{"a lost request or answer ends in exactly one asset", lostCalls},
		{"nonsense is tried again or asked about", nonsense},
		{"a refusal means what the provider meant", refusals},
		{"a flipped byte is never a success", flippedByte},
		{"a staged file that is too short is not the provider's fault", shortStaging},
		{"a canceled call returns at once", canceled},
	} {
		t.Run(promise.name, func(t *testing.T) {
			promise.hold(t, fixture(t))
		})
	}
}
