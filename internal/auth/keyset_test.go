package auth_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

func TestTokensSignedWithPublishedKeys(t *testing.T) {
	keys := []pair{rs256("rsa"), es256(t, "ec"), edDSA(t, "ed")}
	a := auth.New(auth.Options{KeySet: watch(t, newIssuer(t, keys...), nil), Secret: secret})
	for _, k := range keys {
		t.Run(k.method.Alg(), func(t *testing.T) { wantUser(t, a, bearer(k.token(t)), "alice") })
	}
	t.Run("one that does not name its key", func(t *testing.T) {
		unnamed := sign(t, keys[1].method, keys[1].private, jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)})
		wantUser(t, a, bearer(unnamed), "alice")
	})
	t.Run("one signed with the secret", func(t *testing.T) {
		wantUser(t, a, bearer(sign(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)})), "alice")
	})
}

func TestKeysAreRotatedWithoutARestart(t *testing.T) {
	old, next := es256(t, "old"), edDSA(t, "next")
	i := newIssuer(t, old)
	a := auth.New(auth.Options{KeySet: watch(t, i, nil)})
	wantUser(t, a, bearer(old.token(t)), "alice")

	i.publish(t, old, next)
	eventually(t, "the pause after the last fetch", func() bool { _, err := shows(t, a, bearer(next.token(t))); return err == nil })
	wantUser(t, a, bearer(old.token(t)), "alice")

	i.publish(t, next)
	eventually(t, "the end of the old key", func() bool {
		_, unknown := shows(t, a, bearer(es256(t, "unknown").token(t)))
		_, err := shows(t, a, bearer(old.token(t)))
		return unknown != nil && err != nil
	})
	wantUser(t, a, bearer(next.token(t)), "alice")
}

func TestAllWhoBringANewKeyAtOnceAreTakenAfterOneFetch(t *testing.T) {
	old, next := es256(t, "old"), es256(t, "next")
	i := newIssuer(t, old)
	a := auth.New(auth.Options{KeySet: watch(t, i, func(s *auth.KeySet) { s.Hurry(0, time.Second) })})
	wantUser(t, a, bearer(old.token(t)), "alice")
	before := i.asked.Load()
	whole, release := published(t, old, next), make(chan struct{})
	i.does(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = w.Write([]byte(whole))
	})
	token := bearer(next.token(t))
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() { wantUser(t, a, token, "alice") })
	}
	eventually(t, "the fetch", func() bool { return i.asked.Load() > before })
	close(release)
	all.Wait()
	if n := i.asked.Load() - before; n > 2 {
		t.Errorf("%d fetches, want one for all who came before its end", n)
	}
}

func TestMadeUpKeysBringAboutFewFetches(t *testing.T) {
	i := newIssuer(t, es256(t, "real"))
	a := auth.New(auth.Options{KeySet: watch(t, i, func(s *auth.KeySet) { s.Hurry(time.Hour, time.Second) })})
	forged := es256(t, "forged")
	for range 500 {
		forged.kid += "x"
		wantRefused(t, a, bearer(forged.token(t)))
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("500 tokens with made-up keys brought about %d fetches, want the first alone", n)
	}
}

// An issuer's bad days take nothing away from those whose keys are known, and hold nobody up.
func TestKeysOutliveTheirHost(t *testing.T) {
	good := es256(t, "good")
	for name, bad := range map[string]func(*issuer){
		"it answers 500":         func(i *issuer) { i.says(http.StatusInternalServerError, published(t, es256(t, "other"))) },
		"it answers with a page": func(i *issuer) { i.says(http.StatusOK, "<html>Welcome!</html>") },
		"it answers with half":   func(i *issuer) { i.says(http.StatusOK, published(t, good)[:40]) },
		"it has no keys":         func(i *issuer) { i.says(http.StatusOK, `{"keys":[]}`) },
		"it has none that we take": func(i *issuer) {
			i.says(http.StatusOK, `{"keys":[{"kty":"oct","kid":"good","k":"AAAA"},{"kty":"RSA"},{}]}`)
		},
		"it never stops answering": func(i *issuer) { i.says(http.StatusOK, published(t, good)+strings.Repeat(" ", 2<<20)) },
		"it hangs":                 (*issuer).hang,
		"it is gone":               (*issuer).CloseClientConnections,
		"it leads round in circles": func(i *issuer) {
			i.does(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks.json", http.StatusFound) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, good)
			set := watch(t, i, nil)
			a := auth.New(auth.Options{KeySet: set})
			wantUser(t, a, bearer(good.token(t)), "alice")
			if bad(i); name == "it is gone" {
				i.Close()
			}
			unknown := bearer(es256(t, "unknown").token(t))
			eventually(t, "a failed fetch", func() bool { wantRefused(t, a, unknown); return set.Standing().Failed })
			begun := time.Now()
			wantUser(t, a, bearer(good.token(t)), "alice")
			if took := time.Since(begun); took > 900*time.Millisecond { // who waits for a fetch waits for a second
				t.Errorf("a token with a known key took %s", took)
			}
			if s := set.Standing(); s.Keys != 1 || s.Fetched.IsZero() {
				t.Errorf("the keys stand at %+v", s)
			}
			next := es256(t, "next")
			if name == "it is gone" {
				return
			}
			i.publish(t, next)
			eventually(t, "a better day", func() bool { _, err := shows(t, a, bearer(next.token(t))); return err == nil })
		})
	}
}

func TestAnIssuerThatIsAwayAtTheStartIsWaitedFor(t *testing.T) {
	k := es256(t, "k")
	i := newIssuer(t, k)
	i.hang()
	set := watch(t, i, nil)
	a := auth.New(auth.Options{KeySet: set, Secret: secret})
	who, err := shows(t, a, bearer(k.token(t)))
	var e *upload.Error
	if !errors.As(err, &e) || e.Code != upload.Unavailable || !e.Retryable {
		t.Errorf("Identify = %+v, %v; want %s", who, err, upload.Unavailable)
	}
	wantUser(t, a, bearer(sign(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)})), "alice")
	i.publish(t, k)
	eventually(t, "the keys", func() bool { return set.Standing().Keys == 1 })
	wantUser(t, a, bearer(k.token(t)), "alice")
}

func TestARequestThatGivesUpWaitsForNoKeys(t *testing.T) {
	i := newIssuer(t)
	i.hang()
	a := auth.New(auth.Options{KeySet: watch(t, i, nil)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if who, err := a.Identify(ctx, auth.Shown{Authorization: bearer(es256(t, "k").token(t))}); err == nil {
		t.Errorf("Identify = %+v", who)
	}
}

func TestRedirectsToKeysKeepToTLS(t *testing.T) {
	request := func(url string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		must(t, err)
		return r
	}
	for name, tt := range map[string]struct {
		to       string
		from     []string
		followed bool
	}{
		"to another place":    {"https://keys.test/jwks", []string{"https://auth.test/jwks"}, true},
		"out of TLS":          {"http://auth.test/jwks", []string{"https://auth.test/jwks"}, false},
		"out of TLS, by turn": {"http://auth.test/jwks", []string{"https://auth.test/jwks", "https://b.test/jwks"}, false},
		"on this machine":     {"http://127.0.0.1:2/jwks", []string{"http://127.0.0.1:1/jwks"}, true},
		"for ever":            {"https://e.test", []string{"https://a.test", "https://b.test", "https://c.test", "https://d.test"}, false},
	} {
		var from []*http.Request
		for _, url := range tt.from {
			from = append(from, request(url))
		}
		if err := auth.StaySecure(request(tt.to), from); (err == nil) != tt.followed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
