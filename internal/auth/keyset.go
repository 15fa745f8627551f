package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// pace is how often keys are fetched, and how long that may take.
type pace struct {
	every   time.Duration // also when nobody asks for a new key
	pause   time.Duration // at least, between two fetches that tokens with unknown keys bring about
	start   time.Duration // the same, as long as no key is known; also after a first failure
	retry   time.Duration // at most, after failures
	fetch   time.Duration // for one fetch
	request time.Duration // that a request waits for a fetch
}

var defaultPace = pace{
	every: 5 * time.Minute, pause: 10 * time.Second, start: time.Second, retry: time.Minute, fetch: 5 * time.Second, request: 2 * time.Second,
}

const (
	maxKeySet  = 1 << 20 // bytes of JSON
	minRSABits = 2048    // RFC 7518 §3.3
)

// errNoKeys means that the keys have never been there, so that no token can be judged.
var errNoKeys = errors.New("no keys have been fetched yet")

// KeySet holds the public keys at a URL (RFC 7517), to check tokens with that are signed in RS256, ES256 or
// EdDSA. Keys stay until newer ones have been fetched, however long their host is away. A token with an
// unknown key lets them be fetched at once, so that keys may be rotated at any time.
type KeySet struct {
	url    string
	log    *slog.Logger
	client *http.Client
	pace   pace

	store  *jwkset.MemoryJWKSet
	find   keyfunc.Keyfunc
	wanted chan struct{}

	mu      sync.Mutex
	running chan struct{} // closed at the end of the fetch that runs or is about to; nil when there is none
	begun   time.Time     // the last fetch
	fetched time.Time     // the last that brought keys
	failed  bool          // the last one
	known   int           // keys
}

// NewKeySet returns the keys at url, which are fetched once Run runs.
func NewKeySet(url string, log *slog.Logger) (*KeySet, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	s := &KeySet{
		url: url, log: log, wanted: make(chan struct{}, 1), store: jwkset.NewMemoryStorage(),
		client: &http.Client{Transport: transport, CheckRedirect: staySecure}, pace: defaultPace,
	}
	var err error
	s.find, err = keyfunc.New(keyfunc.Options{Storage: renewing{s.store, s}})
	return s, err
}

// CountKeys fetches the keys at a URL once, and tells how many of them tokens may be signed with.
func CountKeys(ctx context.Context, url string) (int, error) {
	s, err := NewKeySet(url, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	keys, err := s.fetch(ctx)
	return len(keys), err
}

// staySecure follows a few redirects, and none that leaves TLS.
func staySecure(to *http.Request, from []*http.Request) error {
	if len(from) > 3 || from[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
		return errors.New("it leads elsewhere, and is not followed there")
	}
	return nil
}

// Run fetches the keys, at once and then when it is time or they are asked for, until ctx ends.
func (s *KeySet) Run(ctx context.Context) {
	for failures := 0; ; {
		if s.renew(ctx) {
			failures = 0
		} else {
			failures++
		}
		wait := s.pace.every
		if failures > 0 {
			wait = min(s.pace.start<<min(failures-1, 10), s.pace.retry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wanted:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// renew fetches once and tells whoever waits.
func (s *KeySet) renew(ctx context.Context) bool {
	s.mu.Lock()
	if s.running == nil {
		s.running = make(chan struct{})
	}
	s.begun = time.Now()
	select {
	case <-s.wanted: // it is this that is wanted
	default:
	}
	s.mu.Unlock()

	keys, err := s.fetch(ctx)
	if err == nil {
		err = s.store.KeyReplaceAll(ctx, keys)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the keys that check users' tokens cannot be fetched; those that are known stay", "error", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err != nil; !s.failed {
		s.fetched, s.known = time.Now(), len(keys)
	}
	close(s.running)
	s.running = nil
	return err == nil
}

// fetch returns the keys at the URL that tokens may be signed with. A set with none of them is taken for
// a fault of its host.
func (s *KeySet) fetch(ctx context.Context) ([]jwkset.JWK, error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.fetch)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	var failed *url.Error // its text has the whole address
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", req.URL.Host, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read what %s answers: %w", req.URL.Host, err)
	}
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("%s answered more than %d bytes", req.URL.Host, maxKeySet)
	}
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("%s answered no key set: %w", req.URL.Host, err)
	}
	var keys []jwkset.JWK
	for _, k := range set.Keys {
		key, err := jwkset.NewJWKFromMarshal(k, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err == nil && signs(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s answered with none of the keys that are taken here: RS256 with %d bits or more, ES256, EdDSA", req.URL.Host, minRSABits)
	}
	return keys, nil
}

// signs tells whether tokens may be signed with a key: by what it is, and by what its owner says it is for.
func signs(key jwkset.JWK) bool {
	about := key.Marshal()
	if about.USE != "" && about.USE != jwkset.UseSig || len(about.KEYOPS) > 0 && !slices.Contains(about.KEYOPS, jwkset.KeyOpsVerify) {
		return false
	}
	var alg jwt.SigningMethod
	switch k := key.Key().(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return false
		}
		alg = jwt.SigningMethodRS256
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return false
		}
		alg = jwt.SigningMethodES256
	case ed25519.PublicKey:
		alg = jwt.SigningMethodEdDSA
	default:
		return false
	}
	return about.ALG == "" || about.ALG.String() == alg.Alg()
}

// keyOf returns the key that a token names, or all of them for one that names none.
func (s *KeySet) keyOf(ctx context.Context, t *jwt.Token) (any, error) {
	key, err := s.find.KeyfuncCtx(ctx)(t)
	if err != nil && s.Standing().Keys == 0 {
		return nil, errors.Join(errNoKeys, err)
	}
	return key, err
}

// renewing is a store that fetches the keys before it says that there is none.
type renewing struct {
	*jwkset.MemoryJWKSet
	set *KeySet
}

func (r renewing) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	key, err := r.MemoryJWKSet.KeyRead(ctx, kid)
	if errors.Is(err, jwkset.ErrKeyNotFound) {
		r.set.await(ctx)
		return r.MemoryJWKSet.KeyRead(ctx, kid)
	}
	return key, err
}

func (r renewing) KeyReadAll(ctx context.Context) ([]jwkset.JWK, error) {
	keys, err := r.MemoryJWKSet.KeyReadAll(ctx)
	if err == nil && len(keys) == 0 {
		r.set.await(ctx)
		keys, err = r.MemoryJWKSet.KeyReadAll(ctx)
	}
	if err == nil && len(keys) == 0 {
		err = jwkset.ErrKeyNotFound
	}
	return keys, err
}

// await waits for the fetch that runs, for a while, or lets one begin if the last is long enough ago: whoever
// makes up keys' names can bring about no more fetches than that.
func (s *KeySet) await(ctx context.Context) {
	s.mu.Lock()
	if s.running == nil {
		pause := s.pace.pause
		if s.known == 0 {
			pause = s.pace.start
		}
		if time.Since(s.begun) < pause {
			s.mu.Unlock()
			return
		}
		s.running = make(chan struct{})
		select {
		case s.wanted <- struct{}{}:
		default:
		}
	}
	ended := s.running
	s.mu.Unlock()
	timer := time.NewTimer(s.pace.request)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Standing is what an operator wants to know of the keys.
type Standing struct {
	Keys    int
	Fetched time.Time // zero: never
	Failed  bool      // the last fetch
}

// Standing tells how the keys stand.
func (s *KeySet) Standing() Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Standing{Keys: s.known, Fetched: s.fetched, Failed: s.failed}
}
