package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is a pool, a connection or a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// collect returns every row of a query that was asked for what.
func collect[T any](what string, rows pgx.Rows, err error, row pgx.RowToFunc[T]) ([]T, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	found, err := pgx.CollectRows(rows, row)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return found, nil
}

// Options say how to open a pool.
type Options struct {
	URL      string
	Pooled   bool  // URL leads through a transaction pooler; known of Neon's by its name
	Describe bool  // prepare no statements, for a pooler that loses them; slower
	MaxConns int32 // 0: 10
	Names    Names // zero: DefaultNames
	AppName  string
}

// Open makes a pool. It connects lazily, so a database that is asleep or down is no error here. No
// statement waits longer than 3 s for a lock, and no transaction that its process has forgotten
// keeps its locks longer than 5 s; through a pooler that holds for AsUser's transactions alone.
func Open(ctx context.Context, o Options) (*pgxpool.Pool, error) {
	return newPool(ctx, o, timeouts)
}

const (
	timeouts   = `SELECT set_config('lock_timeout', '3s', false), set_config('idle_in_transaction_session_timeout', '5s', false)`
	noTimeouts = ""
)

func newPool(ctx context.Context, o Options, onConnect string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", hideURL(err))
	}
	if o.Names == (Names{}) {
		o.Names = DefaultNames
	}
	if err := o.Names.Check(); err != nil {
		return nil, err
	}
	cfg.MaxConns = o.MaxConns
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 10
	}
	if o.Describe {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	cfg.MaxConnIdleTime = 2 * time.Minute
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	if o.AppName != "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = o.AppName
	}
	if _, pooled := Direct(o.URL); pooled || o.Pooled {
		onConnect = noTimeouts // a session there is shared with strangers; AsUser sets them for its transaction
	}
	names := o.Names
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		c.PgConn().CustomData()[namesKey] = names
		if onConnect == noTimeouts {
			return nil
		}
		_, err := c.Exec(ctx, onConnect)
		return err
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// KeepsStatements tells whether what is between here and the database keeps the prepared statements of
// its clients apart, as Neon's pooler does and PgBouncer before 1.21 does not. pool has Describe.
func KeepsStatements(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	const tries = 8 // a pooler that is busy may give the two clients different connections
	var clients [2]*pgconn.PgConn
	for n := range clients {
		c, err := pool.Acquire(ctx)
		if err != nil {
			return false, fmt.Errorf("look how statements are kept: %w", err)
		}
		defer c.Release()
		clients[n] = c.Conn().PgConn()
	}
	for range tries {
		name := "slipway_" + uuid.NewString()
		for _, c := range clients {
			_, err := c.Prepare(ctx, name, "SELECT", nil)
			if taken := (*pgconn.PgError)(nil); errors.As(err, &taken) && taken.Code == duplicateStatement {
				return false, clients[0].Deallocate(ctx, name)
			}
			if err != nil {
				return false, fmt.Errorf("look how statements are kept: %w", err)
			}
		}
		for _, c := range clients {
			if err := c.Deallocate(ctx, name); err != nil {
				return false, fmt.Errorf("look how statements are kept: %w", err)
			}
		}
	}
	return true, nil
}

const duplicateStatement = "42P05" // PostgreSQL, appendix A

// connectTimeout leaves a database that sleeps the time to wake up.
const connectTimeout = 10 * time.Second

// hideURL keeps a connection string, which holds a password, out of an error. What a parser says in
// parentheses may quote a part of it.
func hideURL(err error) error {
	_, reason, ok := strings.Cut(err.Error(), "`: ")
	if reason, _, _ = strings.Cut(reason, " ("); ok && reason != "" {
		return errors.New(reason + "; it is a postgres:// URL, where / # ? @ : in a password are written as %2F %23 %3F %40 %3A, or a list of key=value pairs")
	}
	return errors.New("not a postgres:// URL or a list of key=value pairs")
}

// Place is the host and the database that a URL names, as installation remembers them: sockets and
// loopback are "local", and Neon's pooled host is its direct one.
func Place(u string) (host, database string, err error) {
	cfg, err := pgx.ParseConfig(u)
	if err != nil {
		return "", "", fmt.Errorf("database URL: %w", hideURL(err))
	}
	host = strings.ToLower(cfg.Host)
	if ip := net.ParseIP(host); filepath.IsAbs(host) || host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "local"
	}
	if host, _ = unpooled(host); cfg.Database == "" {
		cfg.Database = cfg.User // as the server does
	}
	return host, cfg.Database, nil
}

// Direct returns the URL without Neon's pooler, and whether there was one: a transaction pooler
// carries neither LISTEN nor session state.
func Direct(u string) (string, bool) {
	cfg, err := pgx.ParseConfig(u)
	if err != nil {
		return u, false
	}
	host, pooled := unpooled(cfg.Host)
	at := strings.LastIndex(u, cfg.Host)
	if !pooled || at < 0 {
		return u, false
	}
	return u[:at] + host + u[at+len(cfg.Host):], true
}

// unpooled is the host beside a pooler of Neon's, whose first label ends in -pooler.
func unpooled(host string) (direct string, pooled bool) {
	name, rest, ok := strings.Cut(host, ".")
	if name, pooled = strings.CutSuffix(name, "-pooler"); ok && pooled && !filepath.IsAbs(host) {
		return name + "." + rest, true
	}
	return host, false
}
