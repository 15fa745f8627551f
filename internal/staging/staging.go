// Package staging keeps an upload's bytes until its provider has confirmed them.
package staging

import (
	"context"
	"errors"
	"io"
	"time"

	"slipway/internal/upload"
)

var (
	// ErrNoRoom means that the bytes do not fit. What was written before is kept.
	ErrNoRoom = errors.New("no room in staging")
	// ErrMissing means that the store is reachable and has no such bytes.
	ErrMissing = errors.New("not in staging")
	// ErrForeign means that the store belongs to another installation.
	ErrForeign = errors.New("staging belongs to another installation")
)

// Store keeps bytes by upload, in one run or in segments. A Store is safe for concurrent use by several
// processes, as long as one run has one writer at a time.
type Store interface {
	// Append reads r to its end into id's bytes from offset on and makes them durable, the entry in
	// its directory included, before it returns. n bytes were read from r and are durable also when
	// err is not nil; sum is their crc32c. offset is at most the number of bytes that are there:
	// what was beyond it is cut off first. An error of r is returned as it is.
	Append(ctx context.Context, id upload.ID, offset int64, r io.Reader) (n int64, sum uint32, err error)

	// Extend opens a segment for bytes that come after its first seg.Size; what is beyond them is cut off. sum is
	// the crc32c of all that comes before, other segments included. A segment of no bytes need not be there
	// yet; segment 0 of an upload is what Append and Open have under its id. Otherwise it is ErrMissing.
	Extend(ctx context.Context, seg upload.Segment, sum uint32) (Writer, error)

	// Open gives access to id's bytes, or ErrMissing: to those in segments, in their order and each to its
	// size, where they are named.
	Open(ctx context.Context, id upload.ID, segments ...upload.Segment) (Reader, error)

	// Remove lets all bytes go that came in by id, those in the trash too; it is no error that there are none.
	Remove(ctx context.Context, id upload.ID) error

	// List calls page with what the store has, in use or in the trash, batch by batch and in no order,
	// and returns the error that page ends it with. Bytes that come or go meanwhile may be left out.
	List(ctx context.Context, in Shelf, page func([]Entry) error) error

	// Trash takes bytes out of use until Restore brings them back or Purge lets them go. It tells whether it
	// has: not when they have changed since they were listed, or are not there any more.
	Trash(ctx context.Context, e Entry) (bool, error)

	// Restore brings an upload's bytes back from the trash, and tells whether it has: not when there are none,
	// and never in the place of others that are in use.
	Restore(ctx context.Context, id upload.ID) (bool, error)

	// Purge lets bytes go that were listed in the trash; it is no error that they are not there any more.
	Purge(ctx context.Context, e Entry) error

	// Free is how many bytes there is room for, after the reserve.
	Free(ctx context.Context) (int64, error)

	// Claim makes the store installation's own, or fails with ErrForeign when it is another's.
	// A store without an owner is taken.
	Claim(ctx context.Context, installation string) error

	// ID is the store's own, made when it was claimed for the first time; "" before Claim.
	ID() string
}

// Shelf is where in a store bytes are.
type Shelf int

const (
	InUse Shelf = iota
	InTrash
)

// Entry is what a store has of one upload: its segment 0, or all others.
type Entry struct {
	ID      upload.ID
	Others  bool // not segment 0
	Size    int64
	Changed time.Time     // by the store's own clock: the last byte, or in the trash when it came there
	Idle    time.Duration // since then
}

// Writer adds bytes to a segment. Copy has one caller at a time; Sync may be called beside it.
type Writer interface {
	// Copy reads r to its end. What it has read is written also when it returns an error, which is r's as it
	// is, but durable only after Sync.
	Copy(ctx context.Context, r io.Reader) error

	// Sync makes durable what had been written when it was called, the entry in the directory included, and
	// says how far that is.
	Sync() (Mark, error)

	io.Closer
}

// Mark is how far a segment has come.
type Mark struct {
	Size   int64  // bytes of the segment
	CRC32C uint32 // of all bytes up to here, those of the segments before included
}

// Reader reads staged bytes at any offset, from several goroutines at once.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}
