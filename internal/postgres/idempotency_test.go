package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

const (
	keyLease = 30 * time.Second
	keyTTL   = time.Hour
)

func keyOf(user string) postgres.IdempotencyKey {
	return postgres.IdempotencyKey{User: user, Key: "k", Fingerprint: []byte("film.mp4"), Length: 100, Upload: upload.NewID()}
}

func (b bench) claim(t *testing.T, k postgres.IdempotencyKey) postgres.KeyClaim {
	t.Helper()
	c, err := postgres.ClaimKey(t.Context(), b.Pool, k, keyLease, keyTTL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// acceptWith does what ingest does with a staged file whose request has a key.
func (b bench) acceptWith(ctx context.Context, k postgres.IdempotencyKey, before func()) error {
	u := staged(k.User)
	u.ID = k.Upload
	finish := func(b *pgx.Batch) { postgres.QueueFinishKey(b, k, keyTTL) }
	return postgres.AsUserWith(ctx, b.Pool, postgres.Claims{Subject: k.User}, finish, func(tx pgx.Tx) (err error) {
		if before != nil {
			before()
		}
		if u.JobID, err = postgres.InsertPush(ctx, tx, b.queue, u); err != nil {
			return err
		}
		return postgres.InsertStaged(ctx, tx, u, time.Hour)
	})
}

func TestOneOfManyHoldsAKey(t *testing.T) {
	b := newBench(t)
	const many = 24
	held := make(chan upload.ID, many)
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			k := keyOf("user_123")
			c, err := postgres.ClaimKey(t.Context(), b.Pool, k, keyLease, keyTTL)
			switch {
			case err != nil:
				t.Error(err)
			case c.Holder == "":
				held <- k.Upload
			case c.Other || c.Final || c.Dead != "":
				t.Errorf("the claim is %+v", c)
			}
		})
	}
	all.Wait()
	if len(held) != 1 {
		t.Errorf("%d hold the key", len(held))
	}
}

// Whoever claims a key whose upload is being recorded at that moment waits, and learns what came of it.
func TestAClaimWaitsForACommit(t *testing.T) {
	for name, commits := range map[string]bool{"that comes": true, "that does not": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := keyOf("user_123"), keyOf("user_123")
			b.claim(t, first)
			b.exec(t, `UPDATE slipway.idempotency_keys SET held_until = now() - interval '1 s'`)
			claimed := make(chan postgres.KeyClaim, 1)
			ctx, cancel := context.WithCancel(t.Context())
			err := b.acceptWith(ctx, first, func() {
				go func() {
					c, err := postgres.ClaimKey(t.Context(), b.Pool, second, keyLease, keyTTL)
					if err != nil {
						t.Error(err)
					}
					claimed <- c
				}()
				for waits := false; !waits; {
					waits = one[bool](t, b.Pool, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
				}
				if !commits {
					cancel()
				}
			})
			cancel()
			c := <-claimed
			switch {
			case commits && (err != nil || c.Holder != first.Upload || !c.Final || c.Made == nil || c.Made.ID != first.Upload || c.Dead != ""):
				t.Errorf("after a commit (%v) the claim is %+v", err, c)
			case !commits && (err == nil || c.Holder != "" || c.Dead != first.Upload):
				t.Errorf("after a rollback (%v) the claim is %+v", err, c)
			}
		})
	}
}

func TestWhoHasLostAKeyMakesNothing(t *testing.T) {
	for name, way := range map[string]func(t *testing.T) bench{
		"at a database": newBench,
		"through a pooler": func(t *testing.T) bench {
			return benchAt(t, postgres.Options{URL: postgrestest.NewPooler(t, 4).URL(t, postgrestest.New(t)), Pooled: true})
		},
		"through a pooler that forgets statements": func(t *testing.T) bench {
			p := postgrestest.NewPooler(t, 4, "max_prepared_statements = 0")
			return benchAt(t, postgres.Options{URL: p.URL(t, postgrestest.New(t)), Pooled: true, Describe: true})
		},
	} {
		t.Run(name, func(t *testing.T) { lostKey(t, way(t)) })
	}
}

func lostKey(t *testing.T, b bench) {
	lost, taker := keyOf("user_123"), keyOf("user_123")
	b.claim(t, lost)
	b.exec(t, `UPDATE slipway.idempotency_keys SET held_until = now() - interval '1 s'`)
	if c := b.claim(t, taker); c.Holder != "" || c.Dead != lost.Upload {
		t.Fatalf("the takeover is %+v", c)
	}
	if err := postgres.KeepKey(t.Context(), b.Pool, lost, keyLease, keyTTL); !errors.Is(err, postgres.ErrKeyTaken) {
		t.Errorf("keeping it: %v", err)
	}
	if err := b.acceptWith(t.Context(), lost, nil); !errors.Is(err, postgres.ErrKeyTaken) {
		t.Errorf("finishing it: %v", err)
	}
	if err := postgres.FreeKey(t.Context(), b.Pool, lost); err != nil {
		t.Error(err)
	}
	if err := postgres.KeepKey(t.Context(), b.Pool, taker, keyLease, keyTTL); err != nil {
		t.Errorf("the taker keeps it: %v", err)
	}
	if err := b.acceptWith(t.Context(), taker, nil); err != nil {
		t.Errorf("the taker finishes it: %v", err)
	}
	for _, late := range []postgres.IdempotencyKey{lost, taker} { // what is final is not let go of
		if err := postgres.FreeKey(t.Context(), b.Pool, late); err != nil {
			t.Error(err)
		}
	}
	if err := postgres.KeepKey(t.Context(), b.Pool, taker, keyLease, keyTTL); !errors.Is(err, postgres.ErrKeyTaken) {
		t.Errorf("keeping what is final: %v", err)
	}
	if c := b.claim(t, keyOf("user_123")); c.Made == nil || c.Made.ID != taker.Upload {
		t.Errorf("what was made is %+v", c)
	}
}

// A claim that a crash of the database has forgotten is made up for by the upload itself.
func TestAForgottenClaimIsMadeUpFor(t *testing.T) {
	b := newBench(t)
	k := keyOf("user_123")
	b.claim(t, k)
	b.exec(t, `DELETE FROM slipway.idempotency_keys`)
	if err := postgres.KeepKey(t.Context(), b.Pool, k, keyLease, keyTTL); err != nil {
		t.Error(err)
	}
	b.exec(t, `DELETE FROM slipway.idempotency_keys`)
	if err := b.acceptWith(t.Context(), k, nil); err != nil {
		t.Fatal(err)
	}
	if c := b.claim(t, keyOf("user_123")); c.Made == nil || c.Made.ID != k.Upload {
		t.Errorf("what was made is %+v", c)
	}
	if c := b.claim(t, keyOf("other")); c.Holder != "" || c.Dead != "" {
		t.Errorf("another user's key is %+v", c)
	}
}

func TestKeysAreForgottenInTime(t *testing.T) {
	b := newBench(t)
	b.exec(t, `
		INSERT INTO slipway.idempotency_keys (user_id, key, fingerprint, upload_id, held_until, final_at, expires_at)
		SELECT 'u', 'old ' || n, ''::bytea, gen_random_uuid(), now() - interval '1 day', now() - interval '1 day', now() - interval '1 s' FROM generate_series(1, 2500) n
		UNION ALL
		SELECT 'u', 'given up', ''::bytea, gen_random_uuid(), now() - interval '1 day', NULL, now() - interval '1 s'
		UNION ALL
		SELECT 'u', 'held', ''::bytea, gen_random_uuid(), now() + interval '1 minute', NULL, now() - interval '1 s'
		UNION ALL
		SELECT 'u', 'new', ''::bytea, gen_random_uuid(), now() - interval '1 minute', now(), now() + interval '1 minute'`)
	b.tx(t, func(tx pgx.Tx) error { // somebody uses one that is over
		if _, err := tx.Exec(t.Context(), `SELECT FROM slipway.idempotency_keys WHERE key = 'old 7' FOR UPDATE`); err != nil {
			return err
		}
		return postgres.PruneKeys(t.Context(), b.Pool)
	})
	left := one[string](t, b.Pool, `SELECT string_agg(key, ', ' ORDER BY key) FROM slipway.idempotency_keys`)
	if left != "held, new, old 7" {
		t.Errorf("left are %s", left)
	}
}
