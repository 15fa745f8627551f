package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/upload"
)

// IdempotencyKey is a client's name for one request, and what tells that request from others.
type IdempotencyKey struct {
	User        string
	Key         string
	Fingerprint []byte
	Length      int64     // bytes of the body as declared, -1 when they were not
	Boundary    int       // bytes of what parts a form, 0 where there is none
	Upload      upload.ID // that the request makes
}

// KeyClaim is what became of claiming a key. It is held by who has claimed it, unless it is Other or there is a
// Holder.
type KeyClaim struct {
	Other  bool           // another request has this key
	Holder upload.ID      // what is being made, or was made, by who has the key; "" when it is now ours
	Final  bool           // it was made
	Made   *upload.Upload // as it is now; nil when it is not there any more
	Dead   upload.ID      // what was being made by who had the key before and let it lapse; "" when nobody had
}

// ErrKeyTaken means that a key is not held any more by who had claimed it: its lease ran out, and another took it.
var ErrKeyTaken = errors.New("the idempotency key was taken over")

// sameRequest tells whether the request that has key k is the one that is asking. A form that is sent again may be
// parted by another boundary, which stands in it at least twice; its length then differs by so often the difference.
const sameRequest = `
	k.fingerprint = @fingerprint AND (k.length = @length
	    OR (k.length - @length) % nullif(k.boundary - @boundary, 0) = 0
	       AND (k.length - @length) / nullif(k.boundary - @boundary, 0) BETWEEN 2 AND 128)`

// lapsed tells whether nobody holds key k any more, and nothing was made with it.
const lapsed = `k.final_at IS NULL AND k.held_until < now()`

// ClaimKey holds k for as long as lease, if nobody holds it and nothing was made with it, or its lease or its time
// has run out. It is one transaction and one round trip. A commit of it may be lost: QueueFinishKey makes up for it.
func ClaimKey(ctx context.Context, pool *pgxpool.Pool, k IdempotencyKey, lease, ttl time.Duration) (KeyClaim, error) {
	var c KeyClaim
	a := k.args(lease, ttl)
	err := writeAs(ctx, pool, k.User, func(b *pgx.Batch) {
		b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
		b.Queue(`
			SELECT k.upload_id
			FROM slipway.idempotency_keys k
			WHERE k.user_id = @user AND k.key = @key AND k.upload_id <> @upload AND `+lapsed+` AND `+sameRequest+`
			FOR UPDATE`, a).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&c.Dead}, func() error { return nil })
			return err
		})
		b.Queue(`
			INSERT INTO slipway.idempotency_keys AS k (user_id, key, fingerprint, length, boundary, upload_id, held_until, expires_at)
			VALUES (@user, @key, @fingerprint, @length, @boundary, @upload, now() + @lease, now() + @ttl)
			ON CONFLICT (user_id, key) DO UPDATE
			SET fingerprint = excluded.fingerprint, length = excluded.length, boundary = excluded.boundary,
			    upload_id = excluded.upload_id, held_until = excluded.held_until, expires_at = excluded.expires_at, final_at = NULL, made = NULL
			WHERE k.upload_id = excluded.upload_id AND k.final_at IS NULL
			   OR `+lapsed+` AND `+sameRequest+`
			   OR k.expires_at < now() AND (k.final_at IS NOT NULL OR k.held_until < now())`, a)
		b.Queue(`
			SELECT k.upload_id, k.final_at IS NOT NULL, NOT coalesce(`+sameRequest+`, false)
			FROM slipway.idempotency_keys k
			WHERE k.user_id = @user AND k.key = @key`, a).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&c.Holder, &c.Final, &c.Other)
			if c.Holder == k.Upload && !c.Final {
				c.Holder = ""
			}
			return err
		})
		b.Queue(`
			SELECT `+uploadColumns+`
			FROM slipway.idempotency_keys k
			JOIN slipway.uploads u ON u.id = k.upload_id AND u.user_id = k.user_id
			WHERE k.user_id = @user AND k.key = @key AND k.final_at IS NOT NULL AND u.status <> 'joined'`, a).Query(func(rows pgx.Rows) error {
			made, err := pgx.CollectRows(rows, scanUpload)
			if len(made) > 0 {
				c.Made = &made[0]
			}
			return err
		})
	})
	if err != nil {
		return KeyClaim{}, fmt.Errorf("claim an idempotency key: %w", err)
	}
	return c, nil
}

// KeepKey prolongs the lease of who has claimed k. Errors: ErrKeyTaken.
func KeepKey(ctx context.Context, pool *pgxpool.Pool, k IdempotencyKey, lease, ttl time.Duration) error {
	held := true
	err := writeAs(ctx, pool, k.User, func(b *pgx.Batch) {
		b.Queue(`
			INSERT INTO slipway.idempotency_keys AS k (user_id, key, fingerprint, length, boundary, upload_id, held_until, expires_at)
			VALUES (@user, @key, @fingerprint, @length, @boundary, @upload, now() + @lease, now() + @ttl)
			ON CONFLICT (user_id, key) DO UPDATE
			SET held_until = excluded.held_until
			WHERE k.upload_id = excluded.upload_id AND k.final_at IS NULL`, k.args(lease, ttl),
		).Exec(func(tag pgconn.CommandTag) error {
			held = tag.RowsAffected() > 0
			return nil
		})
	})
	if err == nil && !held {
		err = ErrKeyTaken
	}
	return err
}

// QueueFinishKey says in the transaction that makes k's upload that it was made with k, for so long as ttl, be the
// claim itself forgotten or not. Errors of b: ErrKeyTaken, and then the upload must not be made.
func QueueFinishKey(b *pgx.Batch, k IdempotencyKey, ttl time.Duration) {
	b.Queue(`
		INSERT INTO slipway.idempotency_keys AS k (user_id, key, fingerprint, length, boundary, upload_id, final_at, expires_at, made)
		VALUES (@user, @key, @fingerprint, @length, @boundary, @upload, now(), now() + @ttl, @upload)
		ON CONFLICT (user_id, key) DO UPDATE
		SET final_at = excluded.final_at, expires_at = excluded.expires_at, made = excluded.made
		WHERE k.upload_id = excluded.upload_id`, k.args(0, ttl),
	).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return ErrKeyTaken
		}
		return nil
	})
}

// FreeKey lets go of k, with which nothing is going to be made, if it is still held by who has claimed it.
func FreeKey(ctx context.Context, pool *pgxpool.Pool, k IdempotencyKey) error {
	return writeAs(ctx, pool, k.User, func(b *pgx.Batch) {
		b.Queue(`
			DELETE FROM slipway.idempotency_keys
			WHERE user_id = @user AND key = @key AND upload_id = @upload AND final_at IS NULL`, k.args(0, 0))
	})
}

// writeAs runs what queue queues on behalf of a user, bound as [AsUser] binds it, in one transaction and one round
// trip. A commit of it whose answer is lost may have happened: what is written is harmless when it is done twice.
func writeAs(ctx context.Context, pool *pgxpool.Pool, user string, queue func(*pgx.Batch)) error {
	claims, err := Claims{Subject: user}.encode()
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(`
		SELECT set_config('role', 'slipway_api', true),
		       set_config('request.jwt.claims', @claims, true),
		       set_config('lock_timeout', '3s', true)`, args{"claims": claims})
	queue(b)
	return pool.SendBatch(ctx, b).Close()
}

// pruneBatch bounds one statement, and for how long it keeps its rows from others.
const pruneBatch = 1000

// PruneKeys forgets keys whose time has run out.
func PruneKeys(ctx context.Context, db DB) error {
	for {
		tag, err := db.Exec(ctx, `
			DELETE FROM slipway.idempotency_keys
			WHERE ctid IN (
			    SELECT ctid
			    FROM slipway.idempotency_keys
			    WHERE expires_at < now() AND (final_at IS NOT NULL OR held_until < now())
			    ORDER BY expires_at
			    LIMIT @batch
			    FOR UPDATE SKIP LOCKED)`, args{"batch": pruneBatch})
		if err != nil {
			return fmt.Errorf("forget old idempotency keys: %w", err)
		}
		if tag.RowsAffected() < pruneBatch {
			return nil
		}
	}
}

func (k IdempotencyKey) args(lease, ttl time.Duration) args {
	return args{
		"user": k.User, "key": k.Key, "fingerprint": k.Fingerprint, "length": k.Length, "boundary": k.Boundary, "upload": k.Upload,
		"lease": lease, "ttl": ttl,
	}
}
