package sweep

import (
	"cmp"
	"context"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Grace is for how long nothing must have been written to a file that no row names before it counts as left
// behind. Bytes that are coming in are written at least every 4 min (256 KiB at the slowest pace that a body may
// have); from the last one to the row it is at most 1 min for the text behind the file and 20 s for the
// database. It need not be certain: what turns out to be needed comes back from the trash.
const Grace = time.Hour

// clear takes out of staging what nobody needs, and brings back what somebody needs after all.
func (s *Sweeper) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clearLimit)
	defer cancel()
	if err := s.emptyTrash(ctx); err != nil && ctx.Err() == nil {
		s.Log.Warn("look through the trash of staging", "error", err)
	}
	err := Unneeded(ctx, s.Pool, s.Staging, cmp.Or(s.Grace, Grace), func(left []staging.Entry) error {
		return s.trash(ctx, left)
	})
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("look for files that nobody needs", "error", err)
	}
}

// Unneeded calls found with what is in use in staging that no row needs and nobody has written to for grace.
func Unneeded(ctx context.Context, db postgres.DB, store staging.Store, grace time.Duration, found func([]staging.Entry) error) error {
	return store.List(ctx, staging.InUse, func(page []staging.Entry) error {
		var old []staging.Entry
		for _, e := range page {
			if e.Idle >= grace {
				old = append(old, e)
			}
		}
		_, rest, err := part(ctx, db, old)
		if err != nil || len(rest) == 0 {
			return err
		}
		return found(rest)
	})
}

// InTrash calls found with what is in the trash of staging: what rows need, and the rest.
func InTrash(ctx context.Context, db postgres.DB, store staging.Store, found func(needed, rest []staging.Entry) error) error {
	return store.List(ctx, staging.InTrash, func(page []staging.Entry) error {
		needed, rest, err := part(ctx, db, page)
		if err != nil {
			return err
		}
		return found(needed, rest)
	})
}

// part tells what rows need from the rest.
func part(ctx context.Context, db postgres.DB, entries []staging.Entry) (needed, rest []staging.Entry, err error) {
	if len(entries) == 0 {
		return nil, nil, nil
	}
	ids := make([]upload.ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	wanted, err := postgres.Needed(ctx, db, ids)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if wanted[e.ID] {
			needed = append(needed, e)
		} else {
			rest = append(rest, e)
		}
	}
	return needed, rest, nil
}

// trash moves what nobody needs to the trash.
func (s *Sweeper) trash(ctx context.Context, left []staging.Entry) error {
	moved, err := Trash(ctx, s.Pool, s.Staging, left)
	for _, e := range moved {
		s.Log.Warn("a file that nobody needs is in the trash", "upload_id", e.ID, "bytes", e.Size, "idle", e.Idle.Round(time.Second))
	}
	return err
}

// Trash moves to the trash what nobody has touched since it was listed, and returns what is there in the end: a row
// that has come meanwhile has its bytes back.
func Trash(ctx context.Context, db postgres.DB, store staging.Store, left []staging.Entry) (moved []staging.Entry, err error) {
	for _, e := range left {
		ok, err := store.Trash(ctx, e)
		if err != nil {
			return moved, err
		}
		if ok {
			moved = append(moved, e)
		}
	}
	needed, moved, err := part(ctx, db, moved)
	if err != nil {
		return moved, err
	}
	for _, e := range needed {
		if _, err := store.Restore(ctx, e.ID); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (s *Sweeper) restore(ctx context.Context, needed []staging.Entry) error {
	for _, e := range needed {
		ok, err := s.Staging.Restore(ctx, e.ID)
		if err != nil {
			return err
		}
		if ok {
			s.Log.Warn("a file has come back from the trash, for an upload needs it", "upload_id", e.ID, "bytes", e.Size)
		}
	}
	return nil
}

// emptyTrash lets go what has been in the trash long enough, or all of it where room is short, and brings back
// what an upload needs.
func (s *Sweeper) emptyTrash(ctx context.Context) error {
	free, err := s.Staging.Free(ctx)
	if err != nil {
		return err
	}
	return InTrash(ctx, s.Pool, s.Staging, func(needed, rest []staging.Entry) error {
		if err := s.restore(ctx, needed); err != nil {
			return err
		}
		for _, e := range rest {
			if e.Idle < s.KeepTrash && free > 0 {
				continue
			}
			if err := s.Staging.Purge(ctx, e); err != nil {
				return err
			}
			s.Log.Info("a file has left the trash", "upload_id", e.ID, "bytes", e.Size)
		}
		return nil
	})
}
