package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// What an API key may be for.
const (
	ActScope   = "act"   // act for any user, and make upload tokens
	AdminScope = "admin" // read whatever is anybody's
)

// Scopes are all there are.
var Scopes = []string{ActScope, AdminScope}

// keyMark begins every API key: slk_<prefix>_<secret>.
const keyMark = "slk_"

const prefixLength = 8 // of base 32; a list shows it

// NewKey makes up an API key, which is shown once, and what is kept of it.
func NewKey(name string, scopes []string) (secret string, k postgres.APIKey) {
	prefix := keyMark + strings.ToLower(rand.Text()[:prefixLength])
	secret = prefix + "_" + strings.ToLower(rand.Text())
	return secret, postgres.APIKey{Name: name, Prefix: prefix, Hash: keyHash(secret), Scopes: scopes}
}

// keyHash is what is kept of a key. It has 130 random bits, so that nothing slower is needed to hide it.
func keyHash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

const (
	keysFresh = 2 * time.Second // how long a key is believed after it may have been revoked
	keysTime  = 3 * time.Second // for reading them
	useEvery  = time.Minute     // is written down that a key was used

	// How often keys are read because one is not known: it may be new, and those that are made up shall not
	// keep the database busy.
	newKeysRate, newKeysBurst = 5, 20
)

// Keys knows the API keys in the database. They are read all together, and seldom.
type Keys struct {
	db  postgres.DB
	log *slog.Logger

	ring  atomic.Pointer[keyRing]
	reads singleflight.Group
	news  *rate.Limiter

	mu       sync.Mutex
	used     map[string]time.Time          // by id: when it was last written down, or tried to
	watchers map[string]map[*keyWatch]bool // by id
}

// keyWatch is what is to end with a key.
type keyWatch struct{ end func() }

// keyRing is every key that was good at a moment.
type keyRing struct {
	read     time.Time
	byPrefix map[string]postgres.APIKey
	ids      map[string]bool
}

// NewKeys returns the keys in a database.
func NewKeys(db postgres.DB, log *slog.Logger) *Keys {
	return &Keys{db: db, log: log, news: rate.NewLimiter(newKeysRate, newKeysBurst), used: map[string]time.Time{}, watchers: map[string]map[*keyWatch]bool{}}
}

// since returns the keys as they were at a time, or later.
func (k *Keys) since(ctx context.Context, earliest time.Time) (*keyRing, error) {
	for {
		if ring := k.ring.Load(); ring != nil && !ring.read.Before(earliest) {
			return ring, nil
		}
		select {
		case read := <-k.reads.DoChan("", func() (any, error) { return nil, k.read(context.WithoutCancel(ctx)) }):
			if read.Err != nil {
				return nil, &upload.Error{Code: upload.Unavailable, Retryable: true, Cause: read.Err,
					Message: "The service cannot reach its database at the moment; try again."}
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (k *Keys) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	ring := &keyRing{read: time.Now(), byPrefix: map[string]postgres.APIKey{}, ids: map[string]bool{}}
	keys, err := postgres.LiveKeys(ctx, k.db)
	if err != nil {
		return err
	}
	for _, key := range keys {
		ring.byPrefix[key.Prefix], ring.ids[key.ID] = key, true
	}
	k.ring.Store(ring)
	return nil
}

// current returns the keys that are good now, or were a moment ago. Where one is not among them that is
// looked for, it may have been made since.
func (k *Keys) current(ctx context.Context, has func(*keyRing) bool) (*keyRing, error) {
	ring, err := k.since(ctx, time.Now().Add(-keysFresh))
	if err != nil || has(ring) || !k.news.Allow() {
		return ring, err
	}
	return k.since(ctx, time.Now())
}

// find returns the key that secret is.
func (k *Keys) find(ctx context.Context, secret string) (postgres.APIKey, error) {
	prefix := secret[:min(len(keyMark)+prefixLength, len(secret))]
	ring, err := k.current(ctx, func(r *keyRing) bool { return r.byPrefix[prefix].ID != "" })
	if err != nil {
		return postgres.APIKey{}, err
	}
	key := ring.byPrefix[prefix]
	if subtle.ConstantTimeCompare(keyHash(secret), key.Hash) != 1 {
		return postgres.APIKey{}, refused("no API key is like this", nil)
	}
	k.noteUse(ctx, key)
	return key, nil
}

// alive tells whether the key with this id is still good.
func (k *Keys) alive(ctx context.Context, id string) (bool, error) {
	ring, err := k.current(ctx, func(r *keyRing) bool { return r.ids[id] })
	if err != nil {
		return false, err
	}
	return ring.ids[id], nil
}

// whenGone has end called once the key is not good any more, while Run runs, unless stop is called before. end returns at once.
func (k *Keys) whenGone(id string, end func()) (stop func()) {
	w := &keyWatch{end}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watchers[id] == nil {
		k.watchers[id] = map[*keyWatch]bool{}
	}
	k.watchers[id][w] = true
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers[id], w)
		if len(k.watchers[id]) == 0 {
			delete(k.watchers, id)
		}
	}
}

// Run ends what lasts longer than the keys that it was asked for with, until ctx ends. However much that is, it reads the keys
// once a second, and only while there is something.
func (k *Keys) Run(ctx context.Context) {
	tick := time.NewTicker(keysFresh / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !k.watched() {
			continue
		}
		if _, err := k.since(ctx, time.Now().Add(-keysFresh/2)); err != nil {
			continue // nobody can tell; whoever asks anew is told so
		}
		k.endGone()
	}
}

func (k *Keys) watched() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.watchers) > 0
}

// endGone ends what depends on keys that are not good any more.
func (k *Keys) endGone() {
	k.mu.Lock()
	defer k.mu.Unlock()
	ring := k.ring.Load() // under the lock: whoever is among the watchers has found its key on this ring, or on an older one
	for id, watchers := range k.watchers {
		if ring.ids[id] {
			continue
		}
		for w := range watchers {
			w.end()
		}
		delete(k.watchers, id)
	}
}

// noteUse writes down now and then that a key is used. That it cannot is nothing to the caller.
func (k *Keys) noteUse(ctx context.Context, key postgres.APIKey) {
	k.mu.Lock()
	due := time.Since(k.used[key.ID]) >= useEvery
	if due {
		k.used[key.ID] = time.Now()
	}
	k.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := postgres.NoteKeyUse(ctx, k.db, key.ID, useEvery); err != nil {
		k.log.Warn("the last use of an API key was not written down", "key", key.Prefix, "error", err)
	}
}

// server returns a server that shows an API key, as the user for whom it asks.
func (a *Authenticator) server(ctx context.Context, secret, actFor string) (Caller, error) {
	if a.Keys == nil {
		return Caller{}, refused("API keys are off", nil)
	}
	key, err := a.Keys.find(ctx, secret)
	if err != nil {
		return Caller{}, err
	}
	who := Caller{By: ByKey, KeyPrefix: key.Prefix, keyID: key.ID}
	if who.User = actFor; actFor != "" && !NamesUser(actFor) {
		return Caller{}, &upload.Error{Code: upload.InvalidParameter, FixableBy: upload.ByYou,
			Message: fmt.Sprintf("The header %s must have 1 to %d bytes of text.", UserHeader, maxUserBytes)}
	}
	if slices.Contains(key.Scopes, ActScope) {
		who.Rights |= everything | Vouch
	}
	if slices.Contains(key.Scopes, AdminScope) {
		who.Rights |= Read
		who.Anyone = true
	}
	return who, nil
}

// UserHeader is the header in which a server says for whom it asks.
const UserHeader = "Slipway-User"
