// Package forget erases what there is of a user.
package forget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Eraser forgets users. Somebody works the deletions that it begins: a worker of the installation, in this process or another.
type Eraser struct {
	Pool    *pgxpool.Pool
	Queue   *postgres.Queue
	Staging staging.Store
	Tell    func([]postgres.Leaving) // is told what providers have still, whenever that has changed; nil is fine
	Every   time.Duration            // how often that is looked at; 0: 500 ms
}

// Report is what was done.
type Report struct {
	User        string           `json:"user"`
	Done        bool             `json:"done"` // nothing is left
	Uploads     int64            `json:"uploads"`
	Events      int64            `json:"events"`
	Files       int64            `json:"files"` // deleted at their providers
	FileBytes   int64            `json:"file_bytes"`
	Staged      int64            `json:"staged"` // removed from staging
	StagedBytes int64            `json:"staged_bytes"`
	Rows        map[string]int64 `json:"rows"` // erased, by table
	Left        []Left           `json:"left"`
}

// Left is what could not be erased, or has not been yet.
type Left struct {
	What     string      `json:"what"`
	Provider string      `json:"provider"`
	Count    int         `json:"count"`
	Code     upload.Code `json:"code,omitempty"`
	Message  string      `json:"message,omitempty"`
	Again    *time.Time  `json:"again_at,omitempty"` // when it is tried again
}

// ErrUnknown means that there is nothing of the user.
var ErrUnknown = errors.New("nothing is known of this user")

const (
	batch = 200
	// outage is how long a database that does not answer is waited for.
	outage = time.Minute
)

// Erase removes what there is of a user: their assets at the providers, their bytes in staging, and then every row. What comes
// of the user meanwhile goes too, but for what comes last. It may be ended at any time, and begun again: it goes on where
// it was. The report says what was done also where there is an error; ErrUnknown is that there was nothing to do.
func (e *Eraser) Erase(ctx context.Context, user string) (Report, error) {
	r := Report{User: user, Rows: map[string]int64{}, Left: []Left{}}
	for first := true; ; first = false {
		var held postgres.Holding
		err := e.patiently(ctx, func(ctx context.Context) (err error) {
			held, err = postgres.HoldingOf(ctx, e.Pool, user)
			return err
		})
		if err != nil {
			return r, err
		}
		if first && len(held.Rows) == 0 {
			return r, ErrUnknown
		}
		done, err := e.round(ctx, user, held, &r)
		r.Events = r.Rows["slipway.upload_events"]
		r.Uploads = r.Rows["slipway.uploads"]
		if err != nil || done {
			r.Done = err == nil && len(r.Left) == 0
			return r, err
		}
	}
}

// round forgets what there is of a user now, and tells whether that is all.
func (e *Eraser) round(ctx context.Context, user string, held postgres.Holding, r *Report) (bool, error) {
	r.Left = []Left{}
	for {
		began, err := e.begin(ctx, user, r)
		if err != nil {
			return false, err
		}
		if err := e.await(ctx, user, r); err != nil {
			return false, err
		}
		if began == 0 {
			break
		}
	}
	r.Files += held.Files.Files - int64(len(r.Left))
	r.FileBytes += held.Files.Bytes
	r.Staged += held.Staged.Files
	r.StagedBytes += held.Staged.Bytes
	if err := e.eraseUploads(ctx, user, r.Rows); err != nil {
		return false, err
	}
	return e.eraseRest(ctx, user, r.Rows)
}

// begin has everything deleted of which that has not begun, and returns how much that was.
func (e *Eraser) begin(ctx context.Context, user string, r *Report) (began int, err error) {
	for {
		var ids []upload.ID
		if err := e.patiently(ctx, func(ctx context.Context) (err error) {
			ids, err = postgres.UploadsToForget(ctx, e.Pool, user, batch)
			return err
		}); err != nil {
			return began, err
		}
		for _, id := range ids {
			if err := e.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return postgres.ForgetUpload(ctx, tx, e.Queue, user, id) }); err != nil {
				return began, err
			}
		}
		if began += len(ids); len(ids) < batch {
			break
		}
	}
	var rows []postgres.FileRow
	if err := e.patiently(ctx, func(ctx context.Context) (err error) {
		rows, err = postgres.FileRowsToForget(ctx, e.Pool, user)
		return err
	}); err != nil {
		return began, err
	}
	r.Left = []Left{}
	for _, row := range rows {
		err := e.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return postgres.ForgetFileRow(ctx, tx, e.Queue, user, row) })
		var refused *upload.Error
		switch {
		case errors.As(err, &refused):
			r.Left = append(r.Left, Left{What: fmt.Sprintf("row %d of %s_files", row.ID, row.Provider), Provider: row.Provider, Count: 1, Code: refused.Code, Message: refused.Message})
		case err != nil:
			return began, err
		default:
			began++
		}
	}
	return began, nil
}

// await returns when nothing of the user is at a provider any more that is being deleted. Where it does not come to that,
// r says what is left.
func (e *Eraser) await(ctx context.Context, user string, r *Report) error {
	tick := time.NewTicker(cmp.Or(e.Every, 500*time.Millisecond))
	defer tick.Stop()
	var told []postgres.Leaving
	for {
		var leaving []postgres.Leaving
		err := e.patiently(ctx, func(ctx context.Context) (err error) {
			leaving, err = postgres.LeavingOf(ctx, e.Pool, user)
			return err
		})
		if err == nil {
			if len(leaving) == 0 {
				return nil
			}
			if e.Tell != nil && !slices.EqualFunc(leaving, told, alike) {
				e.Tell(leaving)
			}
			told = leaving
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		for _, l := range told {
			r.Left = append(r.Left, Left{What: "files and what may be left of uploads", Provider: l.Provider, Count: l.Count, Code: l.Code, Message: l.Message, Again: l.Again})
		}
		return err
	}
}

func alike(a, b postgres.Leaving) bool {
	return a.Provider == b.Provider && a.Count == b.Count && a.Code == b.Code && a.Message == b.Message && (a.Again == nil) == (b.Again == nil)
}

// eraseUploads removes the rows of deleted uploads. Their bytes have left staging, but for what was written there by somebody
// who had not heard of the end.
func (e *Eraser) eraseUploads(ctx context.Context, user string, erased map[string]int64) error {
	for {
		var ids []upload.ID
		if err := e.patiently(ctx, func(ctx context.Context) (err error) {
			ids, err = postgres.DeletedUploads(ctx, e.Pool, user, batch)
			return err
		}); err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := e.Staging.Remove(ctx, id); err != nil {
				return fmt.Errorf("remove %s from staging: %w", id, err)
			}
		}
		if err := e.count(ctx, erased, func(ctx context.Context, tx pgx.Tx, n map[string]int64) error {
			return postgres.EraseUploads(ctx, tx, user, ids, n)
		}); err != nil {
			return err
		}
	}
}

// settles is how often what is left of a user is looked at again: who adds up what users use may have been at it.
const settles = 3

// eraseRest removes what is left when there are no uploads, and tells whether that was so.
func (e *Eraser) eraseRest(ctx context.Context, user string, erased map[string]int64) (done bool, err error) {
	for range settles {
		before := maps.Clone(erased)
		err = e.count(ctx, erased, func(ctx context.Context, tx pgx.Tx, n map[string]int64) (err error) {
			done, err = postgres.EraseUser(ctx, tx, user, n)
			return err
		})
		if err != nil || !done || maps.Equal(before, erased) {
			return done, err
		}
	}
	return done, nil
}

// count runs a transaction, and adds what it has erased once that is committed.
func (e *Eraser) count(ctx context.Context, erased map[string]int64, do func(context.Context, pgx.Tx, map[string]int64) error) error {
	var n map[string]int64
	err := e.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n = map[string]int64{}
		return do(ctx, tx, n)
	})
	if err != nil {
		return err
	}
	for table, rows := range n {
		erased[table] += rows
	}
	return nil
}

func (e *Eraser) tx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return e.patiently(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, e.Pool, func(tx pgx.Tx) error { return do(ctx, tx) })
	})
}

// patiently repeats what is harmless when done twice for as long as the database is asleep or starting.
func (e *Eraser) patiently(ctx context.Context, do func(context.Context) error) error {
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, outage)
			defer cancel()
			return do(ctx)
		}()
		if err == nil || ctx.Err() != nil || !postgres.Unreachable(err) || time.Since(began) > outage {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Tables are the names of the tables of which a report has erased rows, those with most rows first.
func (r Report) Tables() []string {
	return slices.SortedFunc(maps.Keys(r.Rows), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Rows[b], r.Rows[a]), strings.Compare(a, b))
	})
}
