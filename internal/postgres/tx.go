package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Claims say on whose behalf a transaction runs.
type Claims struct {
	Subject string `json:"sub"`
}

// AsUser runs f in a transaction that is bound by the request role's policies: it sees and writes
// the rows of claims.Subject alone, whoever the pool logged in as. Role and claims end with it.
func AsUser(ctx context.Context, pool *pgxpool.Pool, claims Claims, f func(pgx.Tx) error) error {
	c, err := json.Marshal(claims)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			SELECT set_config('role', 'slipway_api', true),
			       set_config('request.jwt.claims', @claims, true),
			       set_config('lock_timeout', '3s', true),
			       set_config('idle_in_transaction_session_timeout', '5s', true)`,
			args{"claims": string(c)})
		if err != nil {
			return fmt.Errorf("act for a user: %w", err)
		}
		return f(tx)
	})
}

// ErrOutcomeUnknown means that the connection was lost while a transaction was being committed, and
// that the database could not be asked afterwards. Nothing may be undone.
var ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")

// outageTolerance is how long a request waits for a database that restarts or wakes up.
const outageTolerance = 5 * time.Second

// Once runs a transaction that must happen exactly once although a commit's answer can be lost.
// run is one whole transaction; done asks, on a fresh connection, whether an earlier run took
// effect. Connections that break before the commit are normal weather and are tried again for a
// while; a commit without an answer is asked for, and repeated only when it did not happen.
func Once(ctx context.Context, run func(context.Context) error, done func(context.Context) (bool, error)) error {
	deadline := time.Now().Add(outageTolerance)
	unknown := false // a commit may have happened that nobody has confirmed
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var err error
		if unknown {
			var yes bool
			if yes, err = done(ctx); err == nil && yes {
				return nil
			}
			unknown = err != nil
		}
		if !unknown {
			if err = run(ctx); err == nil {
				return nil
			}
			if !Unreachable(err) {
				return err
			}
			unknown = !pgconn.SafeToRetry(err)
		}
		if ctx.Err() == nil && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
				continue
			}
		}
		if unknown {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return err
	}
}

// Unreachable tells whether err is the weather between us and the database, not an answer to what
// was asked: refused and broken connections, a server that is starting or stopping.
func Unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57P01", "57P02", "57P03", // admin shutdown, crash, starting up
			"25P03", "55P03": // idle in transaction too long, lock not available
			return true
		}
		return pg.Code[:2] == "08" || pg.Code[:2] == "53" // connection exceptions, insufficient resources
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) ||
		pgconn.Timeout(err) || err != nil && pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
