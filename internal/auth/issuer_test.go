package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
)

// pair is a key that an issuer signs with.
type pair struct {
	kid     string
	method  jwt.SigningMethod
	private crypto.Signer
	about   jwkset.JWKMetadataOptions // how it is published, beside its name
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func rs256(kid string) pair {
	return pair{kid: kid, method: jwt.SigningMethodRS256, private: rsaKey(), about: jwkset.JWKMetadataOptions{ALG: jwkset.AlgRS256, USE: jwkset.UseSig}}
}

func es256(t testing.TB, kid string) pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{kid: kid, method: jwt.SigningMethodES256, private: key}
}

func edDSA(t testing.TB, kid string) pair {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{kid: kid, method: jwt.SigningMethodEdDSA, private: key}
}

// token is alice's, signed by p.
func (p pair) token(t testing.TB) string {
	t.Helper()
	return sign(t, p.method, p.private, jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}, "kid", p.kid)
}

// issuer publishes keys as a sign-in service does, on good and bad days.
type issuer struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	answer http.HandlerFunc
}

func newIssuer(t testing.TB, keys ...pair) *issuer {
	t.Helper()
	i := &issuer{}
	i.publish(t, keys...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		answer := i.answer
		i.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) does(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *issuer) says(status int, body string) {
	i.does(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func (i *issuer) publish(t testing.TB, keys ...pair) {
	t.Helper()
	i.says(http.StatusOK, published(t, keys...))
}

// hang takes requests and never answers.
func (i *issuer) hang() {
	i.does(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func published(t testing.TB, keys ...pair) string {
	t.Helper()
	set := jwkset.NewMemoryStorage()
	for _, k := range keys {
		k.about.KID = k.kid
		key, err := jwkset.NewJWKFromKey(k.private.Public(), jwkset.JWKOptions{Metadata: k.about})
		if err == nil {
			err = set.KeyWrite(t.Context(), key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := set.JSONPublic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// watch runs a key set for an issuer, which may have been changed before.
func watch(t testing.TB, i *issuer, change func(*auth.KeySet)) *auth.KeySet {
	t.Helper()
	set, err := auth.NewKeySet(i.URL+"/jwks.json", slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	set.Hurry(30*time.Millisecond, 200*time.Millisecond)
	if change != nil {
		change(set)
	}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { set.Run(ctx) })
	t.Cleanup(func() { stop(); parts.Wait() })
	return set
}

// eventually waits until what is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

func bearer(token string) string { return "Bearer " + strings.TrimSpace(token) }
