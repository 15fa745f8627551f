package crc32c_test

import (
	"testing"

	"pgregory.net/rapid"

	"slipway/internal/crc32c"
)

func TestKnownSum(t *testing.T) {
	sum := crc32c.Update(0, []byte("123456789"))
	if sum != 0xe3069283 { // the check value of CRC-32C (RFC 3720, appendix B.4 names the polynomial)
		t.Errorf("sum of 123456789 = %#x, want 0xe3069283", sum)
	}
	if got := crc32c.Base64(sum); got != "4waSgw==" {
		t.Errorf("Base64 = %q, want 4waSgw==", got)
	}
}

func TestCombineIsTheSumOfTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "pieces")
		var combined, whole uint32
		for _, p := range pieces {
			combined = crc32c.Combine(combined, crc32c.Update(0, p), int64(len(p)))
			whole = crc32c.Update(whole, p)
		}
		if combined != whole {
			t.Fatalf("combined %#x, whole %#x", combined, whole)
		}
	})
}
