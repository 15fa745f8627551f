// Package crc32c sums bytes by Castagnoli's polynomial and combines the sums of pieces.
package crc32c

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Update adds p to a sum; 0 is the sum of nothing.
func Update(sum uint32, p []byte) uint32 { return crc32.Update(sum, table, p) }

// Base64 is the sum as HTTP and S3 write it: big-endian, in standard base64.
func Base64(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// Combine returns the sum of a followed by b, from the sum of each and the number of bytes in b.
//
// Appending a zero byte multiplies a sum by x^8 modulo the polynomial, so appending n of them
// multiplies it by x^(8n), which is found by squaring.
func Combine(a, b uint32, n int64) uint32 {
	shift := uint32(1 << 31) // x^0, lowest power first
	for square := uint32(1 << 23); n > 0; n >>= 1 {
		if n&1 == 1 {
			shift = multiply(shift, square)
		}
		square = multiply(square, square)
	}
	return multiply(a, shift) ^ b
}

// multiply multiplies two polynomials over GF(2) modulo Castagnoli's, in reflected bit order.
func multiply(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1 << 31); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
