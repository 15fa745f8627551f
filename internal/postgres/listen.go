package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// hearLimit is for an announcement to arrive, the connecting of whoever makes it included.
const hearLimit = 5 * time.Second

// listenPing is how long a silent connection is believed to be alive.
const listenPing = 30 * time.Second

// Listen passes on what WriteEvents announces until ctx ends or the connection is lost, which is its
// error. ready is called once nothing is missed any more. It needs a connection of its own to the
// database itself: through a transaction pooler LISTEN succeeds and nothing ever comes, so it first
// announces something itself, by another connection. Where that does not arrive, the error is ErrUnheard.
func Listen(ctx context.Context, url string, n Names, ready func(), news func(payload string)) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", hideURL(err))
	}
	cfg.ConnectTimeout = connectTimeout
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	err = within(ctx, hearLimit, func(ctx context.Context) error { return proveHearing(ctx, conn, cfg, n) })
	if err == nil {
		err = within(ctx, askLimit, func(ctx context.Context) error {
			_, err := conn.Exec(ctx, "LISTEN "+n.channel())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		wait, cancel := context.WithTimeout(ctx, listenPing)
		note, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			news(note.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded):
			if err := within(ctx, askLimit, conn.Ping); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		default:
			return fmt.Errorf("listen: %w", err)
		}
	}
}

// proveHearing announces a word of its own on a channel of its own, and waits for it.
func proveHearing(ctx context.Context, conn *pgx.Conn, cfg *pgx.ConnConfig, n Names) error {
	channel := n.Schema + "_heard"
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	other, err := pgx.ConnectConfig(ctx, cfg) // conn.Config() would give its notifications to conn
	if err != nil {
		return err
	}
	word := uuid.NewString()
	_, err = other.Exec(ctx, `SELECT pg_notify($1, $2)`, pgx.QueryExecModeExec, channel, word)
	if err := errors.Join(err, other.Close(ctx)); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	for {
		note, err := conn.WaitForNotification(ctx)
		switch {
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return ErrUnheard
		case err != nil:
			return err
		case note.Payload == word:
			_, err := conn.Exec(ctx, "UNLISTEN "+channel)
			return err
		}
	}
}
