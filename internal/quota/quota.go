// Package quota holds each user to what they may use, and all together to what there is room for.
package quota

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Quotas are what every user may use, counted in the database: any number of processes share them. A nil
// Quotas limits nothing.
type Quotas struct {
	pool   *pgxpool.Pool
	limits postgres.Limits
	log    *slog.Logger

	// Lease is how long room is held for an upload whose process has died; 2 min by default. It is longer
	// than a sender may be silent, and a file then takes to become durable.
	Lease time.Duration

	// Patience is how long a file whose length nobody knew waits for room in its middle, where all that has come
	// of it is lost if there is none; 10 s by default.
	Patience time.Duration

	// Disk is asked for room in staging, of which nobody may use more than there is; nil: nobody asks. Of what
	// it has, all users together may use Budget bytes; 0: all.
	Disk   Disk
	Budget int64

	rates   rates
	share   share
	written atomic.Int64 // bytes that are coming in, which the disk has less and the database does not know
}

// New returns quotas with these limits.
func New(pool *pgxpool.Pool, limits postgres.Limits, log *slog.Logger) *Quotas {
	return &Quotas{
		pool: pool, limits: limits, log: log, Lease: 2 * time.Minute, Patience: 10 * time.Second,
		rates: rates{store: postgres.RequestRates{DB: pool}, users: map[string]*allowance{}},
		share: share{id: upload.NewID()},
	}
}

// Limits are what a user may use to whom nothing else applies.
func (q *Quotas) Limits() postgres.Limits {
	if q == nil {
		return postgres.Limits{}
	}
	return q.limits
}

// uploads tells whether uploads are limited, in any way.
func (q *Quotas) uploads() bool {
	return q != nil && (q.limits.StagedBytes != nil || q.limits.StoredBytes != nil || q.limits.Uploads != nil || q.limits.Receiving != nil)
}

// Need is what is about to be used.
type Need struct {
	Staged, Stored     int64 // bytes
	Uploads, Receiving int64
}

// ToRetry is what sending a failed upload of so many bytes on its way again needs.
func ToRetry(size int64) Need { return Need{Stored: size} }

// ToSendDirectly is what an upload needs whose size its provider will tell.
func ToSendDirectly() Need { return Need{Stored: 1, Uploads: 1} }

// Allow refuses what a user may not use, and otherwise keeps everybody else from using it until tx ends.
// It comes before tx locks any of the user's uploads. Errors are coded: StagedQuota, StoredQuota,
// DailyQuota, ReceivingQuota, each with an Exceeded as its Cause, and TooLarge.
func (q *Quotas) Allow(ctx context.Context, tx pgx.Tx, user string, n Need) error {
	if !q.uploads() {
		return nil
	}
	u, err := postgres.LockUsage(ctx, tx, user, "", q.limits)
	if err != nil {
		return err
	}
	return n.within(u)
}

// Insert is postgres.InsertStaged within the user's limits, for an upload that h has held room for. Errors are
// those of Allow.
func (q *Quotas) Insert(ctx context.Context, tx pgx.Tx, u upload.Upload, deliverWithin time.Duration, h *Hold) error {
	switch {
	case q.uploads():
	case h != nil && h.row:
		return postgres.InsertHeld(ctx, tx, u, deliverWithin)
	default:
		return postgres.InsertStaged(ctx, tx, u, deliverWithin)
	}
	return postgres.InsertWithin(ctx, tx, u, deliverWithin, q.limits, Need{Staged: u.Size, Stored: u.Size, Uploads: 1}.within)
}

// Usage returns what a user uses and may use.
func (q *Quotas) Usage(ctx context.Context, tx pgx.Tx, user string) (postgres.Usage, error) {
	return postgres.ReadUsage(ctx, tx, user, "", q.Limits())
}

// within refuses what does not fit beside u.
func (n Need) within(u postgres.Usage) error {
	for _, s := range n.stands(u) {
		if err := s.refuse(); err != nil {
			return err
		}
	}
	return nil
}

// stand is how a need stands to one limit.
type stand struct {
	need, used int64
	limit      *int64
	policy     Policy
	code       upload.Code
	after      time.Duration
	message    string // of the limit; of what is left as well where it is bytes
	fixable    string
}

// When to try again what has no hour of its own.
const (
	stagedAfter    = time.Minute     // bytes leave staging as they are delivered
	storedAfter    = time.Hour       // somebody has to delete something
	receivingAfter = 5 * time.Second // small files come in quicker than that
)

func (n Need) stands(u postgres.Usage) []stand {
	l := u.Limits
	return []stand{
		{n.Uploads, u.Uploads + u.Receiving.Files - u.Begun, l.Uploads, Policy{Name: "uploads", Window: day},
			upload.DailyQuota, u.Resets, "You may begin %d uploads a day, and have begun as many. The day ends at midnight, UTC.", upload.ByYou},
		{n.Stored, u.Stored.Bytes + u.Pending.Bytes + u.Receiving.Bytes, l.StoredBytes, Policy{Name: "stored-bytes", Unit: contentBytes},
			upload.StoredQuota, storedAfter, "You may store %d bytes, of which %d are left. Delete files to make room.", upload.ByYou},
		{n.Staged, u.Staged.Bytes + u.Receiving.Bytes, l.StagedBytes, Policy{Name: "staged-bytes", Unit: contentBytes},
			upload.StagedQuota, stagedAfter, "You may have %d bytes on the way, of which %d are left. There is room again when files have been delivered.", upload.ByProvider},
		{n.Receiving, u.Receiving.Files, l.Receiving, Policy{Name: "receiving", Unit: concurrentRequests},
			upload.ReceivingQuota, receivingAfter, "You may send %d files at the same time, and are sending as many. Send the next one when one of them has arrived.", upload.ByYou},
	}
}

const day = 24 * time.Hour

func (s stand) left() int64 { return max(0, *s.limit-s.used) }

func (s stand) refuse() error {
	if s.limit == nil || s.need == 0 || s.need <= s.left() {
		return nil
	}
	s.policy.Quota = *s.limit
	if s.policy.Unit != contentBytes {
		return s.refusal(fmt.Sprintf(s.message, *s.limit))
	}
	if s.need > *s.limit {
		return &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByOperator,
			Message: fmt.Sprintf("The file is larger than %d bytes, all that you may use here (%s).", *s.limit, s.policy.Name)}
	}
	return s.refusal(fmt.Sprintf(s.message, *s.limit, s.left()))
}

func (s stand) refusal(message string) error {
	return &upload.Error{Code: s.code, Message: message, Retryable: true, FixableBy: s.fixable,
		Cause: &Exceeded{Policy: s.policy, Left: s.left(), After: s.after}}
}

// room is the most bytes that one file may have beside u, -1 where nothing bounds it.
func room(u postgres.Usage) int64 {
	most := int64(-1)
	for _, s := range (Need{Staged: 1, Stored: 1}).stands(u) {
		if s.need > 0 && s.limit != nil && (most < 0 || s.left() < most) {
			most = s.left()
		}
	}
	return most
}
