package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

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

// Options say how to open a pool.
type Options struct {
	URL      string
	MaxConns int32 // 0: 10
	Names    Names // zero: DefaultNames
	AppName  string
}

// Open makes a pool. It connects lazily, so a database that is asleep or down is no error here.
func Open(ctx context.Context, o Options) (*pgxpool.Pool, error) {
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
	cfg.MaxConnIdleTime = 2 * time.Minute
	cfg.ConnConfig.ConnectTimeout = 10 * time.Second
	if o.AppName != "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = o.AppName
	}
	names := o.Names
	cfg.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		c.PgConn().CustomData()[namesKey] = names
		return nil
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// hideURL keeps a connection string, which holds a password, out of an error.
func hideURL(err error) error {
	if _, reason, ok := strings.Cut(err.Error(), "`: "); ok {
		return errors.New(reason)
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
	host = cfg.Host
	if ip := net.ParseIP(host); filepath.IsAbs(host) || host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "local"
	}
	if name, rest, ok := strings.Cut(host, "."); ok {
		host = strings.TrimSuffix(name, "-pooler") + "." + rest
	}
	return host, cfg.Database, nil
}

// Direct returns the URL without Neon's pooler, and whether there was one: a transaction pooler
// carries neither LISTEN nor session state.
func Direct(u string) (string, bool) {
	p, err := url.Parse(u)
	if err != nil {
		return u, false
	}
	name, rest, ok := strings.Cut(p.Host, ".")
	if !ok || !strings.HasSuffix(name, "-pooler") {
		return u, false
	}
	p.Host = strings.TrimSuffix(name, "-pooler") + "." + rest
	return p.String(), true
}
