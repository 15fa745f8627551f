package postgres_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func aKey(prefix string, scopes ...string) postgres.APIKey {
	return postgres.APIKey{Name: "backend", Prefix: prefix, Hash: bytes.Repeat([]byte{7}, 32), Scopes: scopes}
}

func TestKeysLiveUntilTheyEnd(t *testing.T) {
	b := newBench(t)
	forever, err := postgres.InsertKey(t.Context(), b, aKey("slk_forever1", "act"), 0)
	if err != nil || forever.ExpiresAt != nil || forever.ID == "" || forever.CreatedAt.IsZero() {
		t.Fatalf("got %+v, %v", forever, err)
	}
	awhile, err := postgres.InsertKey(t.Context(), b, aKey("slk_awhile11", "admin"), 30*24*time.Hour)
	if err != nil || awhile.ExpiresAt.Sub(awhile.CreatedAt) != 30*24*time.Hour {
		t.Fatalf("got %+v, %v", awhile, err)
	}
	live := func() (prefixes string) {
		keys, err := postgres.LiveKeys(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			prefixes += k.Prefix + " "
		}
		return prefixes
	}
	if got := live(); strings.Count(got, "slk_") != 2 {
		t.Errorf("live are %s", got)
	}
	b.exec(t, `UPDATE slipway.api_keys SET expires_at = now() WHERE id = $1`, awhile.ID)
	if got := live(); got != "slk_forever1 " {
		t.Errorf("after one has expired, live are %s", got)
	}
	first, err := postgres.RevokeKey(t.Context(), b, "slk_forever1")
	again, err2 := postgres.RevokeKey(t.Context(), b, forever.ID)
	if err != nil || err2 != nil || first.RevokedAt == nil || !first.RevokedAt.Equal(*again.RevokedAt) {
		t.Errorf("revoked %+v, %v, and again %+v, %v", first, err, again, err2)
	}
	if got := live(); got != "" {
		t.Errorf("after all have ended, live are %s", got)
	}
	if all, err := postgres.Keys(t.Context(), b); err != nil || len(all) != 2 || all[0].Prefix != "slk_awhile11" {
		t.Errorf("there were %+v, %v", all, err)
	}
	for _, none := range []string{"slk_nothere1", "", forever.ID + "x", "%"} {
		if _, err := postgres.RevokeKey(t.Context(), b, none); !errors.Is(err, postgres.ErrNoKey) {
			t.Errorf("revoke %q: %v", none, err)
		}
	}
}

func TestTheUseOfAKeyIsNotedNowAndThen(t *testing.T) {
	b := newBench(t)
	k, err := postgres.InsertKey(t.Context(), b, aKey("slk_used1234", "act"), 0)
	if err != nil {
		t.Fatal(err)
	}
	used := func() time.Time {
		if err := postgres.NoteKeyUse(t.Context(), b, k.ID, time.Minute); err != nil {
			t.Fatal(err)
		}
		keys, err := postgres.Keys(t.Context(), b)
		if err != nil || keys[0].LastUsedAt == nil {
			t.Fatalf("got %+v, %v", keys, err)
		}
		return *keys[0].LastUsedAt
	}
	first := used()
	if again := used(); !again.Equal(first) {
		t.Errorf("it was noted at %s and again at %s", first, again)
	}
	b.exec(t, `UPDATE slipway.api_keys SET last_used_at = now() - interval '2 minutes'`)
	if later := used(); later.Before(first) {
		t.Errorf("two minutes later it is still %s", later)
	}
}

func TestKeysThatTheDatabaseRefuses(t *testing.T) {
	b := newBench(t)
	for name, k := range map[string]postgres.APIKey{
		"one without a scope":      aKey("slk_a"),
		"one with another scope":   aKey("slk_a", "act", "root"),
		"one without a name":       {Prefix: "slk_a", Hash: bytes.Repeat([]byte{7}, 32), Scopes: []string{"act"}},
		"one that is not a digest": {Name: "a", Prefix: "slk_a", Hash: []byte("slk_a_secret"), Scopes: []string{"act"}},
	} {
		if got, err := postgres.InsertKey(t.Context(), b, k, 0); err == nil {
			t.Errorf("%s is kept: %+v", name, got)
		}
	}
}

// What a request runs as sees neither keys nor what upload tokens are signed with.
func TestRequestsSeeNoSecrets(t *testing.T) {
	b := newBench(t)
	for _, sql := range []string{`SELECT hash FROM slipway.api_keys`, `SELECT token_secret FROM slipway.installation`} {
		err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "alice"}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("%s: %v, want insufficient privilege", sql, err)
		}
	}
}

// Tokens of an installation are not good for its copy, and stay good when it moves.
func TestACopySignsItsTokensItself(t *testing.T) {
	url := postgrestest.New(t)
	b := benchAt(t, postgres.Options{URL: url})
	secret := func() []byte {
		s, err := postgres.TokenSecret(t.Context(), b)
		if err != nil || len(s) != 32 {
			t.Fatalf("the secret is %x, %v", s, err)
		}
		return s
	}
	original := secret()
	for _, copied := range []bool{false, true} {
		if err := postgres.Rehome(t.Context(), b, url, copied); err != nil {
			t.Fatal(err)
		}
		if same := bytes.Equal(original, secret()); same == copied {
			t.Errorf("copied %t: the same secret is %t", copied, same)
		}
	}
}
