package provider

import (
	"crypto/md5"
	"encoding"
	"fmt"
	"hash"
	"io"

	"slipway/internal/crc32c"
)

// Body is one range of a staged file on its way out. It sums the bytes as they leave, so that what
// was sent can be compared with what was staged and with what arrived. Each request, a replayed one
// too, takes a Body of its own.
type Body struct {
	r   io.Reader
	crc uint32
	md5 hash.Hash // nil: not wanted
	n   int64
}

// NewBody reads length bytes of src from offset.
func NewBody(src io.ReaderAt, offset, length int64) *Body {
	return &Body{r: io.NewSectionReader(src, offset, length)}
}

// WithMD5 makes b keep an MD5 as well. carry is the state an earlier Body left (Carry), or nil to begin.
func (b *Body) WithMD5(carry []byte) (*Body, error) {
	b.md5 = md5.New()
	if carry == nil {
		return b, nil
	}
	if err := b.md5.(encoding.BinaryUnmarshaler).UnmarshalBinary(carry); err != nil {
		return nil, fmt.Errorf("saved md5 state: %w", err)
	}
	return b, nil
}

func (b *Body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.crc = crc32c.Update(b.crc, p[:n])
	if b.md5 != nil {
		b.md5.Write(p[:n])
	}
	b.n += int64(n)
	return n, err
}

// Sent is how many bytes have left.
func (b *Body) Sent() int64 { return b.n }

// CRC32C is the Castagnoli sum of the bytes that have left.
func (b *Body) CRC32C() uint32 { return b.crc }

// MD5 is the sum since carry's beginning.
func (b *Body) MD5() []byte { return b.md5.Sum(nil) }

// Carry is the MD5's state, for the Body of the next part.
func (b *Body) Carry() ([]byte, error) {
	return b.md5.(encoding.BinaryMarshaler).MarshalBinary()
}
