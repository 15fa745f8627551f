package httpapi

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"slipway/internal/upload"
)

// Cursors seals places in lists, so that a client hands back only what it was given: a cursor is good for one
// user and one list.
type Cursors struct{ key []byte }

// NewCursors returns the cursors of an installation. Every process of it that has the same secret takes them.
func NewCursors(secret []byte, installation string) (*Cursors, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "slipway cursors of "+installation, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("the key of cursors: %w", err)
	}
	return &Cursors{key: key}, nil
}

const sealSize = 16 // bytes of the HMAC-SHA-256 that are kept (RFC 2104 §5)

func (k *Cursors) seal(user, list, place string) string {
	return base64.RawURLEncoding.EncodeToString(append(k.mac(user, list, place), place...))
}

// open returns the place that was sealed, or an error with InvalidCursor.
func (k *Cursors) open(user, list, cursor string) (string, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(text) < sealSize {
		return "", badCursor()
	}
	seal, place := text[:sealSize], string(text[sealSize:])
	if !hmac.Equal(seal, k.mac(user, list, place)) {
		return "", badCursor()
	}
	return place, nil
}

// mac is of texts of which only the last may hold a zero.
func (k *Cursors) mac(user, list, place string) []byte {
	m := hmac.New(sha256.New, k.key)
	fmt.Fprintf(m, "%s\x00%s\x00%s", list, user, place)
	return m.Sum(nil)[:sealSize]
}

func badCursor() error {
	return &upload.Error{Code: upload.InvalidCursor, FixableBy: upload.ByYou, Message: "cursor is none that this list has given you; take the link in next as it is, or begin again without one."}
}
