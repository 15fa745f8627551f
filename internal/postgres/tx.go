package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Claims say on whose behalf a transaction runs.
type Claims struct {
	Subject string `json:"sub"`
}

// encode is the claims as the policies read them.
func (c Claims) encode() (string, error) {
	if !utf8.ValidString(c.Subject) || strings.ContainsRune(c.Subject, 0) {
		return "", fmt.Errorf("act for a user: the id %q is not text", c.Subject)
	}
	b, err := json.Marshal(c)
	return string(b), err
}

// AsUser runs f in a transaction that is bound by the request role's policies: it sees and writes
// the rows of claims.Subject alone, whoever the pool logged in as. Role and claims are set in the
// round trip that begins the transaction, and end with it.
func AsUser(ctx context.Context, pool *pgxpool.Pool, claims Claims, f func(pgx.Tx) error) error {
	return AsUserWith(ctx, pool, claims, func(*pgx.Batch) {}, f)
}

// AsUserWith is AsUser, which sends what queue queues together with the beginning, before f is run.
func AsUserWith(ctx context.Context, pool *pgxpool.Pool, claims Claims, queue func(*pgx.Batch), f func(pgx.Tx) error) error {
	encoded, err := claims.encode()
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{})
	b.Queue(`
		SELECT set_config('role', 'slipway_api', true),
		       set_config('request.jwt.claims', @claims, true),
		       set_config('lock_timeout', '3s', true),
		       set_config('idle_in_transaction_session_timeout', '5s', true)`,
		args{"claims": encoded})
	queue(b)
	begun := pool.SendBatch(ctx, b)
	tx := begun.Tx()
	if tx != nil {
		defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing
	}
	if err := begun.Close(); err != nil {
		return uncommitted{fmt.Errorf("act for a user: %w", err)}
	}
	if err := f(tx); err != nil {
		return uncommitted{err}
	}
	return tx.Commit(ctx)
}

// uncommitted is an error from before the commit: nothing has happened.
type uncommitted struct{ error }

func (e uncommitted) Unwrap() error { return e.error }

// ErrOutcomeUnknown means that the connection was lost while a transaction was being committed, and
// that the database could not be asked afterwards. Nothing may be undone.
var ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")

const (
	outageTolerance = 5 * time.Second  // how long a request waits for a database that restarts or wakes up
	runLimit        = 10 * time.Second // for one transaction, the connecting included
	askLimit        = 3 * time.Second  // for the question whether it took effect
)

// Once runs a transaction that must happen exactly once although a commit's answer can be lost.
// run is one whole transaction; done asks, on a fresh connection, whether an earlier run took
// effect. Connections that break before the commit are normal weather and are tried again for a
// while; a commit without an answer is asked for, also when ctx has ended, and repeated only when it
// did not happen. From then on an error of run may be the lost commit's own effect, arriving late:
// only done tells, and without a yes the outcome stays unknown.
func Once(ctx context.Context, run func(context.Context) error, done func(context.Context) (bool, error)) error {
	deadline := time.Now().Add(outageTolerance)
	lost := false // a commit was sent that nobody has confirmed
	ask := false  // whether done has to be heard before the next run
	var err error
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		answered := false // by a database that has refused what was asked
		if !ask {
			if err = within(ctx, runLimit, run); err == nil {
				return nil
			}
			lost = lost || inDoubt(err)
			answered = !Unreachable(err)
			ask = lost
		}
		if ask {
			var happened bool
			asked := within(context.WithoutCancel(ctx), askLimit, func(ctx context.Context) (err error) {
				happened, err = done(ctx)
				return err
			})
			switch {
			case asked == nil && happened:
				return nil
			case asked == nil:
				ask = false
			case !answered:
				err = asked
			}
		}
		over := answered && !ask
		if !over && ctx.Err() == nil && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
				continue
			}
		}
		if lost {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return err
	}
}

func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// inDoubt tells whether a transaction that ended with err may have been committed all the same: the
// connection broke, or the wait was given up, when the commit may have been on its way.
// SafeToRetry does not tell: pgx 5.12 has it for a connection that breaks after COMMIT was sent, too.
func inDoubt(err error) bool {
	var before uncommitted
	var connect *pgconn.ConnectError
	if errors.As(err, &before) || errors.As(err, &connect) || pgconn.Timeout(err) && pgconn.SafeToRetry(err) {
		return false // the last: the context had ended before anything was sent
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P0") || strings.HasPrefix(pg.Code, "08") // anything else has rolled it back
	}
	return Unreachable(err) || errors.Is(err, context.Canceled)
}

// cut tells whether a connection that was established has ended.
func cut(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P01" // admin shutdown
	}
	var connect *pgconn.ConnectError
	return !errors.As(err, &connect) && !pgconn.Timeout(err) && Unreachable(err)
}

// Unreachable tells whether err is the weather between us and the database, not an answer to what
// was asked: refused and broken connections, a server that is starting or stopping, a wait that was
// too long or could not have ended.
func Unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57P01", "57P02", "57P03", // admin shutdown, crash, starting up
			"25P03", "55P03", "40P01": // idle in transaction too long, lock not available, deadlock detected
			return true
		}
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") // connection exceptions, insufficient resources
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) ||
		pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) || err != nil && pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
