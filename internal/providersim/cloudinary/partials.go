package cloudinary

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"slipway/internal/providersim"
)

// partial is a chunked upload that is not complete.
type partial struct {
	Started  time.Time `json:"started"`
	Total    int64     `json:"total"`     // -1 until a chunk has told it
	PublicID string    `json:"public_id"` // drawn with the first chunk, for requests that name none
	Head     []byte    `json:"head"`      // the first bytes, once they are there
	Pieces   []piece   `json:"pieces"`    // by start, never overlapping
}

// piece is a chunk that has arrived.
type piece struct {
	Start int64            `json:"start"`
	Blob  providersim.Blob `json:"blob"`
	Sum   []byte           `json:"sum,omitempty"` // running MD5 up to the piece's end; nil while unknown
}

func (p piece) end() int64 { return p.Start + p.Blob.Size }

func (p partial) received() int64 {
	var n int64
	for _, piece := range p.Pieces {
		n += piece.Blob.Size
	}
	return n
}

func (p partial) blobs() []providersim.Blob {
	blobs := make([]providersim.Blob, len(p.Pieces))
	for i, piece := range p.Pieces {
		blobs[i] = piece.Blob
	}
	return blobs
}

// partials keeps the chunked uploads of the cloud by X-Unique-Upload-Id.
type partials struct {
	files *providersim.Files
	mu    sync.Mutex // held over a change of a row, never while a body is read
	rows  *providersim.Table[partial]
}

func openPartials(path string, files *providersim.Files) (*partials, error) {
	rows, err := providersim.OpenTable[partial](path)
	if err != nil {
		return nil, err
	}
	return &partials{files: files, rows: rows}, nil
}

func (ps *partials) Close() error { return ps.rows.Close() }

// forget drops every partial, or only the expired ones: those that began at or before the
// deadline.
func (ps *partials) forget(deadline time.Time) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for id, p := range ps.rows.All() {
		if p.Started.After(deadline) {
			continue
		}
		if err := errors.Join(ps.rows.Delete(id), ps.files.Remove(p.blobs()...)); err != nil {
			return err
		}
	}
	return nil
}

// sumBefore is the running MD5 of all bytes before start, nil when they are not there yet.
func (ps *partials) sumBefore(id string, start int64, deadline time.Time) []byte {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, ok := ps.rows.Get(id)
	if !ok || !p.Started.After(deadline) {
		p = partial{}
	}
	return p.sumBefore(start)
}

func (p partial) sumBefore(start int64) []byte {
	if start == 0 {
		return emptyMD5
	}
	for _, piece := range p.Pieces {
		if piece.end() == start {
			return piece.Sum
		}
	}
	return nil
}

var emptyMD5 = func() []byte {
	state, err := stateMD5(md5.New())
	if err != nil {
		panic(err) // crypto/md5 has no error to give
	}
	return state
}()

// terms are the rules that a chunk is held to.
type terms struct {
	now      time.Time
	deadline time.Time // a partial that began at or before it is forgotten
	minChunk int64
	limit    func(head []byte) int64 // most bytes of the whole, told by its first bytes
	inOrder  bool
}

// add takes a chunk in. The chunk that makes the upload complete, whichever it is, gets
// complete = true and takes the partial out: its blobs are the caller's.
func (ps *partials) add(f *form, t terms) (p partial, complete bool, err error) {
	if err := ps.forget(t.deadline); err != nil {
		return partial{}, false, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, ok := ps.rows.Get(f.uploadID)
	if !ok {
		p = partial{Started: t.now, Total: -1, PublicID: randomID()}
	}
	p, replaced, err := p.with(f, t)
	if err != nil {
		return partial{}, false, err
	}
	f.file.kept = true
	if p.Total >= 0 && p.received() == p.Total {
		err = ps.rows.Delete(f.uploadID)
		complete = true
	} else {
		err = ps.rows.Put(f.uploadID, p)
	}
	return p, complete, errors.Join(err, ps.files.Remove(replaced...))
}

// with is the partial with the form's chunk in it. The same range again replaces.
func (p partial) with(f *form, t terms) (partial, []providersim.Blob, error) {
	rng, size := f.chunk, f.file.blob.Size
	switch {
	case size != rng.size():
		return p, nil, fail(http.StatusBadRequest, fmt.Sprintf(
			"Content-Range of %d bytes does not match the %d bytes received", rng.size(), size))
	case !rng.last() && size <= t.minChunk:
		return p, nil, fail(http.StatusBadRequest, "All parts except EOF-chunk must be larger than 5mb")
	case p.Total >= 0 && rng.total >= 0 && p.Total != rng.total:
		return p, nil, fail(http.StatusBadRequest, "Content-Range total differs from the one of an earlier chunk")
	}
	p.Total = max(p.Total, rng.total)
	if rng.start == 0 {
		p.Head = f.file.head
	}
	added := piece{Start: rng.start, Blob: f.file.blob}
	if f.file.after != nil && string(p.sumBefore(rng.start)) == string(f.file.before) {
		added.Sum = f.file.after
	}
	pieces, replaced, err := p.place(added)
	if err != nil {
		return p, nil, err
	}
	if t.inOrder && !endsWith(pieces, added) {
		return p, nil, fail(http.StatusBadRequest, "Chunks must arrive in order")
	}
	p.Pieces = pieces
	if limit, n := t.limit(p.Head), p.received(); n > limit {
		return p, nil, tooLargeForPlan(n, limit)
	}
	return p, replaced, nil
}

// place puts a piece among the others, instead of one with the same start. When that
// changes bytes, the running MD5s behind it are no longer known.
func (p partial) place(added piece) (pieces []piece, replaced []providersim.Blob, err error) {
	pieces = []piece{added}
	changed := false
	for _, old := range p.Pieces {
		switch {
		case old.Start == added.Start:
			replaced = append(replaced, old.Blob)
			changed = string(old.Sum) != string(added.Sum)
		case old.Start < added.end() && added.Start < old.end():
			return nil, nil, fail(http.StatusBadRequest, "Content-Range overlaps another chunk")
		case p.Total >= 0 && old.end() > p.Total:
			return nil, nil, fail(http.StatusBadRequest, "Content-Range total is less than what has arrived")
		default:
			pieces = append(pieces, old)
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.Start, b.Start) })
	if changed {
		for i := range pieces {
			if pieces[i].Start > added.Start {
				pieces[i].Sum = nil
			}
		}
	}
	return pieces, replaced, nil
}

// endsWith is whether the piece is the last one and there is no gap before it.
func endsWith(pieces []piece, last piece) bool {
	n := len(pieces)
	if pieces[n-1].Start != last.Start {
		return false
	}
	return n == 1 && last.Start == 0 || n > 1 && pieces[n-2].end() == last.Start
}

// md5 is the lower-hex MD5 of a complete partial; only what came out of order is read again.
func (ps *partials) md5(p partial) (string, error) {
	state, from := emptyMD5, 0
	for i, piece := range p.Pieces {
		if piece.Sum != nil {
			state, from = piece.Sum, i+1
		}
	}
	running, err := resumeMD5(state)
	if err != nil {
		return "", err
	}
	rest := ps.files.Open(p.blobs()[from:]...)
	defer rest.Close()
	if _, err := io.Copy(running, rest); err != nil {
		return "", err
	}
	return hex.EncodeToString(running.Sum(nil)), nil
}
