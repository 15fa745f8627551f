package auth_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
)

// BenchmarkIdentify tells what each kind of token costs a request.
func BenchmarkIdentify(b *testing.B) {
	keys := []pair{rs256("rsa"), es256(b, "ec"), edDSA(b, "ed")}
	a := auth.New(auth.Options{KeySet: watch(b, newIssuer(b, keys...), nil), Secret: secret})
	tokens := map[string]string{
		"HS256":     sign(b, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}),
		"malformed": "abc",
	}
	for _, k := range keys {
		tokens[k.method.Alg()] = k.token(b)
	}
	for name, token := range tokens {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := a.Identify(b.Context(), auth.Shown{Authorization: "Bearer " + token})
				if (err == nil) != (name != "malformed") {
					b.Fatal(err)
				}
			}
		})
	}
}
