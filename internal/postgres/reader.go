package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Querier is what a question is put to.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Reader asks on behalf of a user. Every question is a transaction of its own that changes nothing and
// is bound as [AsUser] binds one; role, claims and question go in one round trip, and nobody else needs
// to be told of its end: statements that are sent together are one transaction.
type Reader struct {
	pool   *pgxpool.Pool
	claims string
}

var _ Querier = Reader{}

// ReadAs returns the reader for a user.
func ReadAs(pool *pgxpool.Pool, claims Claims) (Reader, error) {
	c, err := claims.encode()
	return Reader{pool, c}, err
}

// Query implements [Querier]. The rows hold a connection until they are closed. Where the connection turns
// out to be broken, so may the pool's others be; the question is put once more, to a new one.
func (r Reader) Query(ctx context.Context, sql string, a ...any) (pgx.Rows, error) {
	rows, err := r.query(ctx, sql, a...)
	if err != nil && ctx.Err() == nil && cut(err) {
		r.pool.Reset()
		return r.query(ctx, sql, a...)
	}
	return rows, err
}

func (r Reader) query(ctx context.Context, sql string, a ...any) (pgx.Rows, error) {
	b := &pgx.Batch{}
	b.Queue(`
		SELECT set_config('role', 'slipway_api', true),
		       set_config('request.jwt.claims', @claims, true),
		       set_config('lock_timeout', '3s', true),
		       set_config('transaction_read_only', 'on', true)`, args{"claims": r.claims})
	b.Queue(sql, a...)
	batch := r.pool.SendBatch(ctx, b)
	_, err := batch.Exec()
	if err != nil {
		_ = batch.Close() // says the same
		return nil, fmt.Errorf("read for a user: %w", err)
	}
	rows, err := batch.Query()
	if err != nil {
		_ = batch.Close()
		return nil, err
	}
	return batchRows{rows, batch}, nil
}

// batchRows are the last answer in a batch.
type batchRows struct {
	pgx.Rows
	batch pgx.BatchResults
}

func (r batchRows) Close() {
	r.Rows.Close()
	_ = r.batch.Close() // what went wrong is the rows' error
}
