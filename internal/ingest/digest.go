package ingest

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // tus 1.0.0 demands it; it guards against accidents only
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"io"

	"slipway/internal/upload"
)

// Digest is what a client says that a file's bytes sum to; nil is not said.
type Digest struct {
	SHA1   []byte // 20 bytes
	SHA256 []byte // 32 bytes
	CRC32C []byte // 4 bytes, big-endian, Castagnoli
}

// Declared reads body and ends with DigestMismatch, instead of its end, when the bytes were others
// than d says. Sums that nobody declared are not computed.
func Declared(body io.Reader, d Digest) io.Reader {
	r := &declared{body: body}
	if d.SHA1 != nil {
		r.sums = append(r.sums, sum{sha1.New(), d.SHA1}) //nolint:gosec // as above
	}
	if d.SHA256 != nil {
		r.sums = append(r.sums, sum{sha256.New(), d.SHA256})
	}
	if d.CRC32C != nil {
		r.sums = append(r.sums, sum{crc32.New(crc32.MakeTable(crc32.Castagnoli)), d.CRC32C})
	}
	if r.sums == nil {
		return body
	}
	return r
}

type declared struct {
	body io.Reader
	sums []sum
}

type sum struct {
	hash.Hash
	want []byte
}

func (r *declared) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	for _, s := range r.sums {
		s.Write(p[:n])
		if err == io.EOF && !bytes.Equal(s.Sum(nil), s.want) {
			return n, &upload.Error{Code: upload.DigestMismatch, Retryable: true, FixableBy: upload.ByYou,
				Message: "The bytes that arrived do not have the digest that was declared for them. Send the file again."}
		}
	}
	return n, err
}

// Set takes a digest by its algorithm's name in the registry of RFC 9530 (section 7.2), and tells whether
// it has that algorithm's length. Algorithms that are not known here are passed over, as section 2 allows.
func (d *Digest) Set(algorithm string, value []byte) (fits bool) {
	switch algorithm {
	case "sha":
		d.SHA1 = value
		return len(value) == sha1.Size
	case "sha-256":
		d.SHA256 = value
		return len(value) == sha256.Size
	case "crc32c":
		d.CRC32C = value
		return len(value) == crc32.Size
	}
	return true
}
